"""What the commands do: synthesize, curate, both. Servers are started here and stopped here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.children import serve_child
from flows.orchestra import prefect_server
from flows.progress import step
from schemas.config import EMBEDDED, Recipe, StageSettings, TeacherSettings
from schemas.runs import claim_models, count_drafts, open_run, read_manifest
from synth.prompts import prompt_hashes
from synth.sources import count_source

if TYPE_CHECKING:
    from flows.curate import Funnel

LOGS = "logs"


def synthesize_run(recipe: Recipe, out: Path) -> int:
    """Problems -> drafts in `out`. Returns: the rows of all draft shards.

    Raises: AvarError: one line; finished partitions are kept and a rerun goes on from them.
    """
    total = count_source(recipe.source)
    with open_run(out, recipe, prompt_hashes()), _servers(recipe, out) as resolved:
        from flows.synthesize import synthesize

        with step("synthesize", total):
            return asyncio.run(synthesize(resolved, out.absolute()))


def curate_run(recipe: Recipe, run: Path, out: Path) -> Funnel:
    """Drafts in `run` -> dataset in `out`.

    Raises: AvarError: one line; a dataset that was there before is kept.
    """
    total = count_drafts(run)
    with prefect_server(out / LOGS / "prefect.log"):
        return _curate(recipe, run, out, total)


def make_dataset(recipe: Recipe, out: Path) -> Funnel:
    """Problems -> drafts -> dataset, all in `out`.

    Raises: AvarError: as the two steps.
    """
    total = count_source(recipe.source)
    with open_run(out, recipe, prompt_hashes()), _servers(recipe, out) as resolved:
        from flows.synthesize import synthesize

        with step("synthesize", total):
            asyncio.run(synthesize(resolved, out.absolute()))
        return _curate(recipe, out, out, total)


def _curate(recipe: Recipe, run: Path, out: Path, total: int) -> Funnel:
    from flows.curate import curate

    with step("curate", total):
        return curate(recipe, run.absolute(), out.absolute())


def synthesis_finished(run: Path) -> bool:
    """True where every partition of the run's source is drafted."""
    return "drafts" in read_manifest(run)


@contextmanager
def _servers(recipe: Recipe, out: Path) -> Iterator[Recipe]:
    """A Prefect API and the embedded teacher, where the recipe wants it; yields the recipe with real URLs."""
    check_keys(recipe)
    with ExitStack() as stack:
        resolved = recipe
        if any(teacher.url == EMBEDDED for teacher in recipe.teachers.values()):
            url = stack.enter_context(serve_child("embedded", out / LOGS / "teacher.log"))
            resolved = _with_url(recipe, url)
        claim_models(out, asyncio.run(served_models(resolved)))
        stack.enter_context(prefect_server(out / LOGS / "prefect.log"))
        yield resolved


async def served_models(recipe: Recipe) -> dict[str, str]:
    """The model that will answer for each stage, asked of the teachers before anything else is started.

    Raises: TeacherError: one is down, or does not serve the recipe's model.
    """
    from synth.engine import open_teachers

    async with open_teachers(recipe) as stager:
        return {str(stage): teacher.model for stage, teacher in stager.teachers.items()}


def check_keys(recipe: Recipe) -> None:
    """Raises: ConfigError: a teacher's key is not in the environment."""
    from synth.teacher import Teacher

    for settings in recipe.teachers.values():
        Teacher(settings)


def _with_url(recipe: Recipe, url: str) -> Recipe:
    def teacher(settings: TeacherSettings) -> TeacherSettings:
        return settings.model_copy(update={"url": url}) if settings.url == EMBEDDED else settings

    def stage(settings: StageSettings) -> StageSettings:
        return settings.model_copy(update={"teacher": settings.teacher and teacher(settings.teacher)})

    stages = {name: stage(getattr(recipe, name)) for name in ("describe", "reason", "anchor")}
    return recipe.model_copy(update={"teacher": teacher(recipe.teacher), **stages})
