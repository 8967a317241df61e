"""Reads a source ahead of the engine: in order, by a few threads, never far.

Opening and decoding the pictures of a row takes from a fifth of a millisecond to a second, and fetching one
up to twenty. So rows are dealt to the threads in chunks that grow and shrink with what they take, and a chunk
that takes long is handed back in parts.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from schemas.config import Source
from schemas.records import Item
from synth.sources import RowMaker, mark_duplicates, open_source

_CHUNKS = min(4, os.cpu_count() or 1) + 1  # that are read at one time
_SHORT_S, _LONG_S = 0.02, 0.1  # what a chunk should take; after the latter it is handed back as far as it is
_MOST_ROWS = 32  # in a chunk; beyond it handing over costs nothing any more

Lines = Sequence[tuple[int, bytes]]


class ReadingStoppedError(Exception):
    """No further row is read, since the run is being ended; the source has not come to its end."""


@dataclass(frozen=True, slots=True)
class _Made:
    items: list[Item]
    left: Lines
    seconds: float


class Reader:
    """The rows of a source, as `synth.sources.read_source` gives them. Use as a context manager.

    Raises: SourceError: as `read_source`; `next` raises it as well.
    """

    def __init__(self, source: Source, seed: int) -> None:
        self._lines, self._make = open_source(source, seed)
        self._mark = mark_duplicates()
        self._ahead: deque[asyncio.Future[_Made]] = deque()
        self._ready: deque[Item] = deque()
        self._size, self._ended = 1, False
        self._closed = threading.Event()
        self._stopped = asyncio.Event()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Reads nothing more: whoever waits for a row, now or later, hears of it at once."""
        self._closed.set()
        self._stopped.set()

    async def next(self) -> Item | None:
        """The next row, None behind the last one. One caller at a time.

        Raises: ReadingStoppedError: `stop` was called. SourceError: the source cannot be read on.
        """
        while not self._ready and not self._stopped.is_set():
            await self._deal_out()
            if not self._ahead:
                return None
            self._take(await self._first_chunk())
        if self._stopped.is_set():
            raise ReadingStoppedError
        return self._mark(self._ready.popleft())

    async def _deal_out(self) -> None:
        while not self._ended and len(self._ahead) < _CHUNKS:
            taken = await asyncio.to_thread(lambda: list(islice(self._lines, self._size)))
            self._ended = len(taken) < self._size
            if taken:
                self._ahead.append(self._start(taken))

    async def _first_chunk(self) -> _Made:
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((self._ahead[0], stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if self._stopped.is_set():
            raise ReadingStoppedError
        return self._ahead.popleft().result()

    def _take(self, made: _Made) -> None:
        self._ready.extend(made.items)
        self._size = _next_size(self._size, made.seconds)
        if made.left:
            self._ahead.appendleft(self._start(made.left))

    def _start(self, lines: Lines) -> asyncio.Future[_Made]:
        """Makes rows in a thread, a daemon: a fetch that hangs must not hold up the end of the process."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Made] = loop.create_future()

        def settle(made: _Made | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
                future.exception()  # nobody may be left to ask for it
            elif made is not None:
                future.set_result(made)

        def work() -> None:
            made, error = None, None
            try:
                made = _make_some(self._make, lines, self._closed)
            except BaseException as caught:  # noqa: BLE001 - it is raised where the rows are asked for
                error = caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, made, error)

        threading.Thread(target=work, daemon=True, name="source").start()
        return future


def _make_some(make: RowMaker, lines: Lines, closed: threading.Event) -> _Made:
    """Rows one after the other, until they have taken long or nobody wants them any more; one at least."""
    started = time.monotonic()
    items: list[Item] = []
    for index, line in lines:
        items.append(make(index, line))
        if closed.is_set() or time.monotonic() - started > _LONG_S:
            break
    return _Made(items, lines[len(items) :], time.monotonic() - started)


def _next_size(size: int, seconds: float) -> int:
    if seconds < _SHORT_S:
        return min(_MOST_ROWS, 2 * size)
    return max(1, size // 2) if seconds > _LONG_S else size
