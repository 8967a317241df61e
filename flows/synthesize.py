"""The synthesis flow: problems -> draft shards. One Prefect task is one partition.

Partitions run as async tasks in one event loop and share one engine, one journal and one budget of calls in
flight. A partition's shard appears when the partition is finished; what was answered before that is in the
journal, so a run that was stopped asks nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from filters.claims import find_claims
from filters.verdicts import judge
from flows.accounts import PublishedProgress, publish_accounts
from flows.interrupts import graceful_interrupts
from flows.orchestra import hear_termination
from flows.progress import advance, note
from schemas.config import Recipe
from schemas.records import Draft, Problem, Status, problem_of
from schemas.runs import (
    discard_failed,
    finish_synthesis,
    journal_path,
    partition_done,
    partition_fingerprint,
    read_manifest,
    read_partition,
    reopen_synthesis,
    update_manifest,
    write_partition,
)
from synth.concurrency import telling_error
from synth.engine import Engine, UnfinishedError, open_engine, partitions_at_once
from synth.journal import Journal
from synth.ledger import Cost, Usage, cost, merged, read_usage
from synth.sources import read_source

Item = Problem | Draft


@dataclass(frozen=True)
class Plan:
    """What one go at a run is to do.

    Attributes:
        stamp: what its drafts are made with (`schemas.runs.synthesis_stamp`).
        models: question -> model, those of earlier goes included.
        total: problems of the source, for the progress.
        asked: the questions that are put to teachers this time; None: all.
        retry_failed: ask again what teachers refused for good, and draft rows anew that failed at them.
    """

    stamp: str
    models: Mapping[str, str]
    total: int
    asked: Collection[str] | None = None
    retry_failed: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one go ended.

    Attributes:
        drafts: rows in finished partitions.
        waiting: rows that wait for an answer that was not asked for, by its question.
        stopped: rows that the interruption left.
        usage: of this go alone.
    """

    drafts: int
    waiting: dict[str, int]
    stopped: int
    usage: Usage

    def costs(self, recipe: Recipe) -> dict[str, Cost | None]:
        """What this go cost, by question, where the recipe knows the price."""
        return cost(self.usage, {name: teacher.prices for name, teacher in recipe.teachers.items()})

    @property
    def finished(self) -> bool:
        """True where every row of the source has its drafts."""
        return not self.waiting and not self.stopped


@dataclass
class _Synthesis:
    """What every partition task of one go shares."""

    root: Path
    plan: Plan
    engine: Engine
    published: PublishedProgress
    rows: dict[int, int] = field(default_factory=dict)
    done: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    stopped: int = 0

    def say_progress(self, drafts: Sequence[Draft]) -> None:
        """One problem has its drafts."""
        note(self.load())
        advance()

    def load(self, *, with_urls: bool = True) -> str:
        """How busy the teachers are, in words; what Prefect keeps names no address."""
        engine = self.engine
        names = ", ".join(engine.away) if with_urls else f"{len(engine.away)} servers"
        away = f", no answer from {names}" if engine.away else ""
        return f"{engine.in_flight} of {engine.level} in flight, {engine.ledger.retries} retries{away}"


@flow(name="avar-synthesize", persist_result=False, validate_parameters=False)
async def synthesize(recipe: Recipe, root: Path, plan: Plan) -> Outcome:
    """Writes the draft shards of a run.

    Args:
        recipe: its teachers' URLs are real ones by now.
        root: the run's folder, taken by `schemas.runs.open_run`.
    Raises: TeacherError, SourceError, ShardError: the run stops; what was answered is kept.
    """
    hear_termination()
    with Journal(journal_path(root, recipe)) as journal:
        if plan.retry_failed:
            journal.forget_refusals()
            discard_failed(root)
        async with open_engine(
            recipe,
            journal,
            asked=plan.asked,
            models=plan.models,
            accepts=lambda draft: judge(draft, recipe.filters).status is Status.ACCEPTED,
            claims=find_claims,
        ) as engine:
            published = PublishedProgress(plan.total)
            outcome = await _run(recipe, _Synthesis(root, plan, engine, published))
    return outcome


async def _run(recipe: Recipe, synthesis: _Synthesis) -> Outcome:
    engine = synthesis.engine
    saying = asyncio.create_task(_say_load(synthesis))
    try:
        with graceful_interrupts(engine.stop, lambda: engine.in_flight):
            await _run_partitions(recipe, synthesis)
    finally:
        saying.cancel()
        usage = engine.ledger.to_dict()
        before = read_usage(read_manifest(synthesis.root).get("usage", {}), where="manifest.json")
        update_manifest(synthesis.root, usage=merged([before, usage]))
    rows = [synthesis.rows[number] for number in sorted(synthesis.rows)]
    outcome = Outcome(sum(rows), dict(synthesis.waiting), synthesis.stopped, usage)
    if outcome.finished:
        finish_synthesis(synthesis.root, rows)
    ended = {"drafts": outcome.drafts, "stopped": outcome.stopped, **outcome.waiting}
    await publish_accounts(ended, usage, outcome.costs(recipe))
    return outcome


async def _say_load(synthesis: _Synthesis) -> None:
    """Once a second, so that a person sees a teacher that takes long or is away."""
    while True:
        note(synthesis.load())
        await asyncio.sleep(1)


async def _run_partitions(recipe: Recipe, synthesis: _Synthesis) -> None:
    """Runs every partition of the source, as many at once as keep the teachers busy."""
    engine = synthesis.engine
    limit = asyncio.Semaphore(partitions_at_once(recipe))
    begun = 0
    try:
        async with asyncio.TaskGroup() as group:
            async for number, items in _partitions(recipe, engine):
                await limit.acquire()
                if engine.stopped or engine.tally.beyond(problem_of(items[0]).index):
                    break
                begun += len(items)
                running = group.create_task(_run_partition(number, items, synthesis))
                running.add_done_callback(lambda _: limit.release())
    except BaseExceptionGroup as errors:
        raise telling_error(errors) from errors
    if engine.stopped and engine.tally.cut is None:
        synthesis.stopped += synthesis.plan.total - begun  # what is not begun is not even read


async def _partitions(recipe: Recipe, engine: Engine) -> AsyncIterator[tuple[int, list[Item]]]:
    """The source in order, cut into partitions; read in a thread, since it opens every image."""
    source: Iterator[Item] = read_source(recipe.source, recipe.seed)
    source = takewhile(lambda _: not engine.stopped, source)
    number = 0
    while items := await asyncio.to_thread(lambda: list(islice(source, recipe.partition_size))):
        yield number, items
        number += 1


async def _run_partition(number: int, items: list[Item], synthesis: _Synthesis) -> None:
    fingerprint = partition_fingerprint(items)
    if partition_done(synthesis.root, number, fingerprint):
        drafts = await asyncio.to_thread(read_partition, synthesis.root, number)
        await synthesis.engine.count_drafts([problem_of(item).index for item in items], drafts)
        synthesis.rows[number] = len(drafts)
        advance(len(items), "already drafted", earlier=True)
    else:
        reopen_synthesis(synthesis.root)
        name = f"partition-{number:05d}"
        await synthesize_partition.with_options(task_run_name=name)(number, fingerprint, items, synthesis)
    synthesis.done += len(items)
    await synthesis.published.publish(synthesis.done, synthesis.load(with_urls=False))


@task(name="synthesize-partition", cache_policy=NO_CACHE, persist_result=False)
async def synthesize_partition(
    number: int, fingerprint: str, items: list[Item], synthesis: _Synthesis
) -> None:
    """Drafts one partition and writes its shard; of one that is stopped, the rows that are finished."""
    root, stamp = synthesis.root, synthesis.plan.stamp
    try:
        drafts, whole = await synthesis.engine.draft(items, synthesis.say_progress), True
    except UnfinishedError as unfinished:
        synthesis.waiting.update(unfinished.waiting)
        synthesis.stopped += unfinished.stopped
        drafts, whole = unfinished.drafts, False
        if unfinished.waiting or synthesis.engine.recipe.samples.until is not None:
            return
    if drafts:
        synthesis.rows[number] = len(drafts)
        await asyncio.to_thread(write_partition, root, number, fingerprint, drafts, stamp, whole=whole)
