"""Cuts a source into partitions, each of which becomes one shard, while it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from schemas.config import Recipe
from schemas.records import Item, Problem

MOST_BYTES = 64 * 2**20  # of a partition's pictures: it holds them until its shard is written
_OPEN_BYTES = 8 * MOST_BYTES  # of all open partitions' pictures, unless more are needed to keep teachers busy


class Rows(Protocol):
    """Where rows come from, one after the other (`synth.reading.Reader`)."""

    async def next(self) -> Item | None:
        """The next row, None behind the last one."""
        ...


class Partition:
    """Rows that become one shard. They are handed out as they are read, and known as a whole in the end.

    Where a partition ends is decided by its rows alone: at `size` of them, or at the first with which their
    pictures come to `MOST_BYTES`.

    Attributes:
        number: from 0.
        items: the rows that have been read.
        nbytes: of their pictures.
        is_whole: True once all of its rows have been read.
    """

    def __init__(self, number: int, first: Item, rest: Rows, size: int) -> None:
        self.number = number
        self.items: list[Item] = []
        self.nbytes = 0
        self.is_whole = False
        self._rest = rest
        self._size = size
        self._let_go = asyncio.Event()
        self._add(first)

    def _add(self, item: Item) -> None:
        self.items.append(item)
        if isinstance(item, Problem):
            self.nbytes += sum(len(image.bytes) for image in item.images)
        if len(self.items) >= self._size or self.nbytes >= MOST_BYTES:
            self._end()

    def _end(self) -> None:
        self.is_whole = True
        self._let_go.set()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Its rows from the first on. One reader at a time reads further ones."""
        position = 0
        while position < len(self.items) or await self.read_one():
            yield self.items[position]
            position += 1

    async def read_one(self) -> bool:
        """Reads a further row. Returns: False where there is none.

        Raises:
            SourceError: the source cannot be read on.
            ReadingStoppedError: the run is being ended.
        """
        if self.is_whole:
            return False
        item = await self._rest.next()
        if item is None:
            self._end()
            return False
        self._add(item)
        return True

    async def read_through(self) -> None:
        """Reads what is left of it."""
        while await self.read_one():
            pass

    def let_go(self) -> None:
        """Says that no further row of it will be read."""
        self._let_go.set()

    async def reading_ended(self) -> None:
        """Waits until the source's next rows are another partition's: all are read, or it was let go."""
        await self._let_go.wait()


async def cut_partitions(rows: Rows, size: int) -> AsyncIterator[Partition]:
    """The partitions of a source in order. The next one is given once the one before is no longer read.

    Args:
        size: rows of a partition, at most.
    """
    number = 0
    while (first := await rows.next()) is not None:
        partition = Partition(number, first, rows, size)
        yield partition
        await partition.reading_ended()
        if not partition.is_whole:
            return
        number += 1


class OpenPartitions:
    """Partitions that are being drafted: enough to keep the teachers busy while the slowest rows of some hold
    these up, and few, since their pictures are in memory."""

    def __init__(self, recipe: Recipe) -> None:
        teachers = set(recipe.teachers.values())
        self._rows = 2 * sum(teacher.max_in_flight * len(teacher.urls) for teacher in teachers)
        self._most = -(-self._rows // recipe.partition_size) + 2
        self._open: dict[asyncio.Task[None], Partition] = {}

    async def room(self) -> None:
        """Waits until a further partition may be opened."""
        while self._full():
            await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)

    def _full(self) -> bool:
        """True at twice the calls that may be in flight, and besides many partitions or much in them."""
        opened = self._open.values()
        if sum(len(partition.items) for partition in opened) < self._rows:
            return False
        return len(opened) >= self._most or sum(partition.nbytes for partition in opened) >= _OPEN_BYTES

    def add(self, partition: Partition, drafting: asyncio.Task[None]) -> None:
        """Counts a partition until its drafting has ended."""
        self._open[drafting] = partition
        drafting.add_done_callback(self._open.pop)


async def each(rows: Sequence[Item] | Partition) -> AsyncIterator[Item]:
    """Rows that are at hand, or that are still being read."""
    if isinstance(rows, Partition):
        async for item in rows:
            yield item
    else:
        for item in rows:
            yield item


async def read_all(rows: Sequence[Item] | Partition) -> None:
    """Reads what has not been read."""
    if isinstance(rows, Partition):
        await rows.read_through()


def known_rows(rows: Sequence[Item] | Partition) -> Sequence[Item]:
    """The rows that have been read."""
    return rows.items if isinstance(rows, Partition) else rows
