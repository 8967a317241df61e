"""The synthesis flow: problems -> draft shards. One Prefect task is one partition.

Partitions run as async tasks in one event loop and share one engine, one journal and one budget of calls in
flight. A partition's shard appears when the partition is finished; what was answered before that is in the
journal, so a run that was stopped asks nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
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
from schemas.records import Draft, Status, problem_of
from schemas.runs import (
    count_all_drafts,
    count_partition,
    discard_failed,
    discard_misfit,
    finish_synthesis,
    finished_as,
    iterate_partition,
    journal_path,
    partition_fingerprint,
    read_manifest,
    reopen_synthesis,
    update_manifest,
    write_partition,
)
from synth.concurrency import telling_error
from synth.engine import Engine, UnfinishedError, open_engine
from synth.journal import Journal
from synth.ledger import Cost, Usage, cost, merged, read_usage
from synth.partitions import OpenPartitions, Partition, cut_partitions
from synth.reading import Reader, ReadingStoppedError


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
    reader: Reader
    rows: dict[int, int] = field(default_factory=dict)
    done: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    stopped: int = 0

    def stop(self) -> None:
        """Begins nothing more; what is in flight comes to its end."""
        self.engine.stop()
        self.reader.stop()

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
            accepts=lambda draft: judge(draft, recipe.filters.before_evidence).status is Status.ACCEPTED,
            claims=find_claims,
        ) as engine:
            published = PublishedProgress(plan.total)
            with Reader(recipe.source, recipe.seed) as reader:
                outcome = await _run(recipe, _Synthesis(root, plan, engine, published, reader))
    return outcome


async def _run(recipe: Recipe, synthesis: _Synthesis) -> Outcome:
    engine = synthesis.engine
    saying = asyncio.create_task(_say_load(synthesis))
    try:
        with graceful_interrupts(synthesis.stop, lambda: engine.in_flight):
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
    elif synthesis.stopped:  # shards that were not come to are there as well
        outcome = replace(outcome, drafts=count_all_drafts(synthesis.root))
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
    engine, opened, read = synthesis.engine, OpenPartitions(recipe), 0
    try:
        async with asyncio.TaskGroup() as group:
            with suppress(ReadingStoppedError):
                async for partition in cut_partitions(synthesis.reader, recipe.partition_size):
                    await opened.room()
                    if engine.stopped or engine.tally.beyond(problem_of(partition.items[0]).index):
                        break
                    if await _is_done(partition, synthesis):
                        # At once: it may show that no other is needed.
                        await _count_done(partition, synthesis)
                    else:
                        opened.add(partition, group.create_task(_run_partition(partition, synthesis)))
                        await partition.reading_ended()
                    read += len(partition.items)
    except BaseExceptionGroup as errors:
        raise telling_error(errors) from errors
    if engine.stopped and engine.tally.cut is None:
        synthesis.stopped += synthesis.plan.total - read


async def _run_partition(partition: Partition, synthesis: _Synthesis) -> None:
    try:
        if synthesis.engine.stopped:
            synthesis.stopped += len(partition.items)
            return
        reopen_synthesis(synthesis.root)
        name = f"partition-{partition.number:05d}"
        await synthesize_partition.with_options(task_run_name=name)(partition, synthesis)
    finally:
        partition.let_go()
    await _publish(partition, synthesis)


async def _publish(partition: Partition, synthesis: _Synthesis) -> None:
    synthesis.done += len(partition.items)
    await synthesis.published.publish(synthesis.done, synthesis.load(with_urls=False))


async def _is_done(partition: Partition, synthesis: _Synthesis) -> bool:
    """Whether the partition's shard is there and holds its rows, all of which are read to tell."""
    finished = finished_as(synthesis.root, partition.number)
    if not finished:
        return False
    await partition.read_through()
    return partition_fingerprint(partition.items) == finished


async def _count_done(partition: Partition, synthesis: _Synthesis) -> None:
    root, number, engine = synthesis.root, partition.number, synthesis.engine
    if engine.recipe.samples.until is not None:
        indices = [problem_of(item).index for item in partition.items]
        await engine.count_drafts(indices, iterate_partition(root, number))
    synthesis.rows[number] = count_partition(root, number)
    advance(len(partition.items), "already drafted", earlier=True)
    await _publish(partition, synthesis)


@task(name="synthesize-partition", cache_policy=NO_CACHE, persist_result=False)
async def synthesize_partition(partition: Partition, synthesis: _Synthesis) -> None:
    """Drafts one partition and writes its shard; of one that is stopped, the rows that are finished."""
    engine, number = synthesis.engine, partition.number
    try:
        drafts, whole = await engine.draft(partition, synthesis.say_progress), True
        await partition.read_through()  # rows beyond `samples.until`: the fingerprint is of all
    except UnfinishedError as unfinished:
        synthesis.waiting.update(unfinished.waiting)
        synthesis.stopped += unfinished.stopped
        drafts, whole = unfinished.drafts, False
        if unfinished.waiting or engine.recipe.samples.until is not None:
            return
    except ReadingStoppedError:
        return
    if not drafts or (not whole and len(drafts) <= count_partition(synthesis.root, number)):
        return  # what an earlier go has left is more
    synthesis.rows[number] = len(drafts)
    fingerprint, stamp = partition_fingerprint(partition.items), synthesis.plan.stamp
    write = partial(write_partition, synthesis.root, number, fingerprint, drafts, stamp, whole=whole)
    await asyncio.to_thread(write)
    discard_misfit(synthesis.root, number, problem_of(partition.items[-1]).index, whole=whole)
