"""Judges the drafts of a run, in several processes where there are many: the filters are pure functions.

A process judges a shard at a time and hands back its verdicts; what a draft gets does not depend on how many
processes there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from filters.verdicts import judge
from flows.children import interrupts_held_back, stay_with_parent, usable_cores
from flows.student_scores import Scores, with_score
from schemas.config import FilterSettings
from schemas.errors import FlowError
from schemas.records import Draft, VerdictRow, draft_from_row
from schemas.shards import count_rows, iterate_rows

Verdicts = tuple[VerdictRow, ...]
_FEW = 500  # drafts that are judged before other processes would have started
_MOST_PROCESSES = 32


def judge_drafts(
    paths: Sequence[Path], settings: FilterSettings, scores: Scores | None = None
) -> Iterator[tuple[Draft, Verdicts]]:
    """Every draft of some shards in order, with the verdicts of its own filters; none where it failed.

    Args:
        scores: a student's, by problem (`flows.student_scores`).
    Raises: ShardError: a damaged shard. FlowError: a process was killed.
    """
    scores = scores or {}
    processes = min(usable_cores(), len(paths), _MOST_PROCESSES)
    if processes < 2 or sum(count_rows(path) for path in paths) < _FEW:
        for path in paths:
            yield from ((draft, _judge(draft, settings)) for draft in read_drafts(path, scores))
        return
    judged = _judge_elsewhere(paths, settings, scores, processes)
    for path, verdicts in zip(paths, judged, strict=True):
        yield from zip(read_drafts(path, scores), verdicts, strict=True)


def read_drafts(path: Path, scores: Scores) -> Iterator[Draft]:
    """The drafts of a shard with their student's scores."""
    return (with_score(draft_from_row(row), scores) for row in iterate_rows(path))


def _judge(draft: Draft, settings: FilterSettings) -> Verdicts:
    return judge(draft, settings).verdicts


def judge_shard(path: Path, settings: FilterSettings, scores: Scores) -> list[Verdicts]:
    """The verdicts on each draft of a shard, in order."""
    return [_judge(draft, settings) for draft in read_drafts(path, scores)]


def _judge_elsewhere(
    paths: Sequence[Path], settings: FilterSettings, scores: Scores, processes: int
) -> Iterator[list[Verdicts]]:
    """As `judge_shard` for each path in order, with a few shards ahead."""
    pool = ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=stay_with_parent, initargs=(os.getpid(),)
    )
    ahead: deque[Future[list[Verdicts]]] = deque()
    try:
        for path in paths:
            with interrupts_held_back():
                ahead.append(pool.submit(judge_shard, path, settings, scores))
            if len(ahead) > 2 * processes:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except BrokenProcessPool as error:
        raise FlowError(
            "a process that judges drafts was killed, perhaps for want of memory; run the command again"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
