"""Judges the drafts of a run, in several processes where there are many: the filters are pure functions.

A process judges a shard at a time and hands back its verdicts; what a draft gets does not depend on how many
processes there are.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from filters.verdicts import judge
from schemas.config import FilterSettings
from schemas.records import Draft, VerdictRow, draft_from_row
from schemas.runs import count_drafts, draft_shards
from schemas.shards import iterate_rows

Verdicts = tuple[VerdictRow, ...]
_FEW = 500  # drafts that are judged before other processes would have started
_MOST_PROCESSES = 32
_WATCH_S = 0.5


def judge_drafts(root: Path, settings: FilterSettings) -> Iterator[tuple[Draft, Verdicts]]:
    """Every draft of a run in source order, with the verdicts of its own filters; none where it failed.

    Raises: ShardError: no drafts, or a damaged shard.
    """
    paths = draft_shards(root)
    processes = min(_cores(), len(paths), _MOST_PROCESSES)
    if processes < 2 or count_drafts(root) < _FEW:
        for path in paths:
            yield from ((draft, _judge(draft, settings)) for draft in _read(path))
        return
    for path, verdicts in zip(paths, _judge_elsewhere(paths, settings, processes), strict=True):
        yield from zip(_read(path), verdicts, strict=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(path: Path) -> Iterator[Draft]:
    return map(draft_from_row, iterate_rows(path))


def _judge(draft: Draft, settings: FilterSettings) -> Verdicts:
    return judge(draft, settings).verdicts


def judge_shard(path: Path, settings: FilterSettings) -> list[Verdicts]:
    """The verdicts on each draft of a shard, in order."""
    return [_judge(draft, settings) for draft in _read(path)]


def _judge_elsewhere(
    paths: Sequence[Path], settings: FilterSettings, processes: int
) -> Iterator[list[Verdicts]]:
    """As `judge_shard` for each path in order, with a few shards ahead."""
    pool = ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=_stay_with_parent, initargs=(os.getpid(),)
    )
    ahead: deque[Future[list[Verdicts]]] = deque()
    try:
        for path in paths:
            ahead.append(pool.submit(judge_shard, path, settings))
            if len(ahead) > 2 * processes:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _stay_with_parent(parent: int) -> None:
    """In a process of the pool: Ctrl-C is its parent's business, and it never outlives that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
