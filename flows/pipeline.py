"""What the commands do: synthesize, curate, both. Servers are started here and stopped here."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Collection, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flows.children import serve_child
from flows.orchestra import prefect_server
from flows.progress import step
from schemas.config import EMBEDDED, Recipe, TeacherSettings
from schemas.errors import ConfigError, InterruptedRunError
from schemas.runs import (
    begin_synthesis,
    count_drafts,
    note_models,
    open_curation,
    open_run,
    synthesis_stamp,
)
from synth.prompts import prompt_hashes
from synth.sources import count_source

if TYPE_CHECKING:
    from flows.curate import Funnel
    from flows.synthesize import Outcome, Plan

T = TypeVar("T")
LOGS = "logs"


@dataclass(frozen=True)
class SynthesisOptions:
    """How one go at a run's synthesis differs from a plain one.

    Attributes:
        stage: ask this stage's teacher alone (`evidence`: its parts'); the earlier answers must be there.
        retry_failed: ask again what teachers refused for good.
    """

    stage: str | None = None
    retry_failed: bool = False

    def asked(self, recipe: Recipe) -> list[str] | None:
        """The questions that are put to teachers; None: all.

        Raises: ConfigError: the recipe asks for no evidence.
        """
        if self.stage is None:
            return None
        names = [name for name in recipe.questions if name.split(".")[0] == self.stage]
        if not names:
            raise ConfigError(f"--stage {self.stage}: the recipe asks for none; name a part of `evidence`")
        return names


def synthesize_run(recipe: Recipe, out: Path, options: SynthesisOptions | None = None) -> Outcome:
    """Problems -> drafts in `out`.

    Raises: AvarError: one line; what was answered is kept and a rerun goes on from it.
    """
    options = options or SynthesisOptions()
    total = count_source(recipe.source)
    with _taken(recipe, out, options, total) as (resolved, plan):
        outcome = _synthesize(resolved, out, plan)
    if options.stage is None or outcome.stopped:
        _require_finished(outcome, out)
    return outcome


def curate_run(recipe: Recipe, run: Path, out: Path) -> Funnel:
    """Drafts in `run` -> dataset in `out`.

    Raises: AvarError: one line; a dataset that was there before is kept.
    """
    with open_curation(run, out, recipe), prefect_server(out / LOGS / "prefect.log"):
        return _curate(recipe, run, out, count_drafts(run))


def make_dataset(recipe: Recipe, out: Path) -> tuple[Outcome, Funnel]:
    """Problems -> drafts -> dataset, all in `out`.

    Raises: AvarError: as the two steps.
    """
    total = count_source(recipe.source)
    with _taken(recipe, out, SynthesisOptions(), total) as (resolved, plan):
        outcome = _synthesize(resolved, out, plan)
        _require_finished(outcome, out)
        return outcome, _curate(recipe, out, out, outcome.drafts)


def _require_finished(outcome: Outcome, out: Path) -> None:
    if not outcome.stopped:
        return
    curate = f"; `avar curate {out}` makes a dataset of what is done" if outcome.drafts else ""
    raise InterruptedRunError(
        f"stopped: {outcome.drafts} drafts are in {out} and every answer is kept, the same command goes on "
        f"from there{curate}"
    )


@contextmanager
def _taken(recipe: Recipe, out: Path, options: SynthesisOptions, total: int) -> Iterator[tuple[Recipe, Plan]]:
    """The run's folder and the servers it needs; what an interruption leaves is said with it."""
    asked = options.asked(recipe)
    check_keys(recipe, asked)
    prompts = prompt_hashes(recipe.questions)
    try:
        with open_run(out, recipe, prompts), _servers(recipe, out, asked) as (resolved, models):
            stamp = synthesis_stamp(recipe, prompts, models)
            begin_synthesis(out, recipe, stamp)
            yield resolved, _plan(stamp, models, total, asked, options)
    except (KeyboardInterrupt, CancelledError) as error:
        raise InterruptedRunError(
            f"stopped; every answer is kept in {out}, the same command goes on from there"
        ) from error


def _plan(
    stamp: str,
    models: Mapping[str, str],
    total: int,
    asked: list[str] | None,
    options: SynthesisOptions,
) -> Plan:
    from flows.synthesize import Plan

    return Plan(stamp=stamp, models=models, total=total, asked=asked, retry_failed=options.retry_failed)


def _synthesize(recipe: Recipe, out: Path, plan: Plan) -> Outcome:
    from flows.synthesize import synthesize

    with step("synthesize", plan.total):
        return run_async(synthesize(recipe, out.absolute(), plan))


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on uvloop, which does a teacher's many connections at half the price."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _curate(recipe: Recipe, run: Path, out: Path, total: int) -> Funnel:
    from flows.curate import curate

    with step("curate", total):
        return curate(recipe, run.absolute(), out.absolute())


@contextmanager
def _servers(
    recipe: Recipe, out: Path, asked: list[str] | None
) -> Iterator[tuple[Recipe, Mapping[str, str]]]:
    """A Prefect API and the embedded teacher, where the recipe wants it.

    Yields: the recipe with real URLs, and the model of each question as far as known.
    """
    from synth.teachers import find_models

    with ExitStack() as stack:
        resolved = recipe
        if any(EMBEDDED in teacher.urls for teacher in recipe.teachers.values()):
            url = stack.enter_context(serve_child("embedded", out / LOGS / "teacher.log"))
            resolved = _with_url(recipe, url)
        named = {name: teacher.model for name, teacher in resolved.teachers.items() if teacher.model}
        models = note_models(out, named | run_async(find_models(resolved, asked)))
        stack.enter_context(prefect_server(out / LOGS / "prefect.log"))
        yield resolved, models


def check_keys(recipe: Recipe, asked: Collection[str] | None) -> None:
    """Raises: ConfigError: the key of a teacher that is asked is not in the environment."""
    from synth.server import Server

    for name, settings in recipe.teachers.items():
        if asked is None or name in asked:
            Server(settings.urls[0], settings)


def _with_url(recipe: Recipe, url: str) -> Recipe:
    def teacher(settings: TeacherSettings) -> TeacherSettings:
        return settings.model_copy(update={"url": url}) if settings.url == EMBEDDED else settings

    return recipe.with_teachers(teacher)
