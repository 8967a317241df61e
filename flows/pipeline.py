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
from schemas.config import EMBEDDED, Recipe, TeacherSettings
from schemas.errors import InterruptedRunError
from schemas.runs import claim_models, count_drafts, open_curation, open_run
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
    with _taken(recipe, out) as resolved:
        return _synthesize(resolved, out, total)


def curate_run(recipe: Recipe, run: Path, out: Path) -> Funnel:
    """Drafts in `run` -> dataset in `out`.

    Raises: AvarError: one line; a dataset that was there before is kept.
    """
    with open_curation(run, out, recipe), prefect_server(out / LOGS / "prefect.log"):
        return _curate(recipe, run, out, count_drafts(run))


def make_dataset(recipe: Recipe, out: Path) -> Funnel:
    """Problems -> drafts -> dataset, all in `out`.

    Raises: AvarError: as the two steps.
    """
    total = count_source(recipe.source)
    with _taken(recipe, out) as resolved:
        _synthesize(resolved, out, total)
        return _curate(recipe, out, out, total)


@contextmanager
def _taken(recipe: Recipe, out: Path) -> Iterator[Recipe]:
    """The run's folder and the servers it needs; what an interruption leaves is said with it."""
    check_keys(recipe)
    try:
        with open_run(out, recipe, prompt_hashes()), _servers(recipe, out) as resolved:
            yield resolved
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"stopped; finished partitions are kept in {out}, the same command goes on from there"
        ) from error


def _synthesize(recipe: Recipe, out: Path, total: int) -> int:
    from flows.synthesize import synthesize

    with step("synthesize", total):
        return asyncio.run(synthesize(recipe, out.absolute()))


def _curate(recipe: Recipe, run: Path, out: Path, total: int) -> Funnel:
    from flows.curate import curate

    with step("curate", total):
        return curate(recipe, run.absolute(), out.absolute())


@contextmanager
def _servers(recipe: Recipe, out: Path) -> Iterator[Recipe]:
    """A Prefect API and the embedded teacher, where the recipe wants it; yields the recipe with real URLs."""
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

    return recipe.with_teachers(teacher)
