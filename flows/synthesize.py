"""The synthesis flow: problems -> draft shards. One Prefect task is one partition.

Partitions run as async tasks in one event loop and share one set of teachers and one in-flight budget. A
partition's shard appears when the partition is finished, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.orchestra import hear_termination
from flows.progress import advance
from schemas.config import Recipe
from schemas.records import Draft, Problem
from schemas.runs import (
    finish_synthesis,
    partition_done,
    partition_fingerprint,
    write_partition,
)
from synth.engine import draft_partition, open_teachers
from synth.sources import read_source
from synth.stages import Stager

Item = Problem | Draft


@dataclass(frozen=True)
class Synthesis:
    """What every partition task of one run shares."""

    root: Path
    stager: Stager


@flow(name="avar-synthesize", persist_result=False)
async def synthesize(recipe: Recipe, root: Path) -> int:
    """Writes the draft shards of a run and returns how many rows they hold.

    Args:
        recipe: its teachers' URLs are real ones by now.
        root: the run's folder, taken by `schemas.runs.open_run`.
    Raises: TeacherError, SourceError, ShardError: the run stops; finished partitions are kept.
    """
    hear_termination()
    async with open_teachers(recipe) as stager:
        rows = await _run_partitions(recipe, Synthesis(root, stager))
    finish_synthesis(root, rows)
    return sum(rows)


async def _run_partitions(recipe: Recipe, synthesis: Synthesis) -> list[int]:
    """Runs every partition of the source. Returns: the rows of each."""
    rows: list[int] = []
    limit = asyncio.Semaphore(_partitions_at_once(recipe))
    try:
        async with asyncio.TaskGroup() as group:
            async for number, items in _partitions(recipe):
                await limit.acquire()
                rows.append(len(items))
                running = group.create_task(_run_partition(number, items, synthesis))
                running.add_done_callback(lambda _: limit.release())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return rows


def _partitions_at_once(recipe: Recipe) -> int:
    """Enough partitions to keep the budget full while one of them ends, and no more in memory."""
    return math.ceil(recipe.teacher.max_in_flight / recipe.partition_size) + 1


async def _partitions(recipe: Recipe) -> AsyncIterator[tuple[int, list[Item]]]:
    """The source in order, cut into partitions; read in a thread, since it opens every image."""
    source: Iterator[Item] = read_source(recipe.source, recipe.seed)
    number = 0
    while items := await asyncio.to_thread(lambda: list(islice(source, recipe.partition_size))):
        yield number, items
        number += 1


async def _run_partition(number: int, items: list[Item], synthesis: Synthesis) -> None:
    fingerprint = partition_fingerprint(items)
    if partition_done(synthesis.root, number, fingerprint):
        advance(len(items), "already drafted")
        return
    name = f"partition-{number:05d}"
    await synthesize_partition.with_options(task_run_name=name)(number, fingerprint, items, synthesis)


@task(name="synthesize-partition", cache_policy=NO_CACHE, persist_result=False)
async def synthesize_partition(
    number: int, fingerprint: str, items: list[Item], synthesis: Synthesis
) -> None:
    """Drafts one partition and writes its shard."""
    drafts = await draft_partition(items, synthesis.stager, lambda draft: advance())
    await asyncio.to_thread(write_partition, synthesis.root, number, fingerprint, drafts)
