"""Reads a source ahead of the engine: in order, by a few threads, never far.

Opening and decoding the pictures of a row takes from a fifth of a millisecond to a second, so rows are dealt
to the threads in chunks that grow and shrink with what they take.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from schemas.config import Source
from schemas.records import Item
from synth.sources import RowMaker, mark_duplicates, open_source

_THREADS = min(4, os.cpu_count() or 1)
_CHUNKS = _THREADS + 1  # ahead of the row that is waited for
_SHORT_S, _LONG_S = 0.02, 0.1  # what a chunk should take
_MOST_ROWS = 32  # in a chunk; beyond it handing over costs nothing any more


async def read_ahead(source: Source, seed: int) -> AsyncGenerator[Item]:
    """The rows of a source, as `synth.sources.read_source` gives them.

    Close it (`contextlib.aclosing`) where it is not read to its end: that ends its threads.

    Raises: SourceError: as `read_source`.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="source")
    try:
        async for chunk in _read_chunks(pool, *open_source(source, seed)):
            for item in chunk:
                yield item
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


async def _read_chunks(
    pool: ThreadPoolExecutor, lines: Iterator[tuple[int, bytes]], make: RowMaker
) -> AsyncIterator[list[Item]]:
    duplicates = mark_duplicates()
    ahead: deque[Future[tuple[list[Item], float]]] = deque()
    size, ended = 1, False
    while True:
        while not ended and len(ahead) < _CHUNKS:
            taken = await asyncio.to_thread(lambda rows=size: list(islice(lines, rows)))
            ended = len(taken) < size
            if taken:
                ahead.append(pool.submit(_make_all, make, taken))
        if not ahead:
            return
        made, seconds = await asyncio.wrap_future(ahead.popleft())
        size = _next_size(size, seconds)
        yield [duplicates(item) for item in made]


def _make_all(make: RowMaker, taken: Sequence[tuple[int, bytes]]) -> tuple[list[Item], float]:
    started = time.monotonic()
    return [make(index, line) for index, line in taken], time.monotonic() - started


def _next_size(size: int, seconds: float) -> int:
    if seconds < _SHORT_S:
        return min(_MOST_ROWS, 2 * size)
    return max(1, size // 2) if seconds > _LONG_S else size
