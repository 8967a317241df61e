"""Where problems come from: procedural scenes or a local folder.

`read_source` yields one item per row of the source, in its order: a `Problem`, or the failed `Draft` that
stands for a row which cannot become one. Nothing is skipped, nothing is read ahead, and of a row that has
been yielded only its content id is kept. `synth.reading` does the same in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat

from schemas.config import FolderSource, ScenesSource, Source
from schemas.errors import RowError
from schemas.records import Draft, Item, Problem, SourceFault, rejected_at_source
from synth.folders import find_table, read_lines
from synth.rows import parse_problem
from synth.scenes import draw_problem
from synth.seen import FirstSeen

RowMaker = Callable[[int, bytes], Item]


def read_source(source: Source, seed: int) -> Iterator[Item]:
    """The rows of a source in order; a second row with the same content is a failed row.

    Args:
        seed: the run's seed; only procedural sources use it.
    Raises: SourceError: the source as a whole cannot be read.
    """
    lines, make = open_source(source, seed)
    duplicates = mark_duplicates()
    return (duplicates(make(index, line)) for index, line in lines)


def open_source(source: Source, seed: int) -> tuple[Iterator[tuple[int, bytes]], RowMaker]:
    """The rows of a source before anything is made of them, and what makes an item of one, in any thread.

    Returns: index and line of each row, the line empty where the source has none; index, line -> item.
    Raises: SourceError: the source as a whole cannot be read.
    """
    if isinstance(source, ScenesSource):
        blanks = zip(range(source.count), repeat(b""), strict=False)
        return blanks, lambda index, _: draw_problem(source, seed, index)
    table = find_table(source)
    name = source.name or source.path.resolve().name
    return enumerate(islice(read_lines(table), source.limit)), partial(_make_row, source, table.name, name)


def mark_duplicates() -> Callable[[Item], Item]:
    """A function for every item of a source, in order: a problem met before becomes a failed row."""
    seen = FirstSeen()

    def mark(item: Item) -> Item:
        if isinstance(item, Draft):
            return item
        first = seen.setdefault(item.id, item.index)
        return item if first == item.index else _duplicate(item, first)

    return mark


def count_source(source: Source) -> int:
    """How many rows `read_source` will yield.

    Raises: SourceError: as `read_source`.
    """
    if isinstance(source, ScenesSource):
        return source.count
    return sum(1 for _ in islice(read_lines(find_table(source)), source.limit))


def _duplicate(problem: Problem, first: int) -> Draft:
    return rejected_at_source(
        index=problem.index,
        source=problem.source,
        row=problem.row,
        reason=SourceFault.DUPLICATE,
        detail=f"same question, answer and images as row {first} (counted from 0)",
        question=problem.question,
    )


def _make_row(source: FolderSource, table: str, name: str, index: int, line: bytes) -> Item:
    row = f"{table}:{index + 1}"
    try:
        return parse_problem(line, index, name, row, source)
    except RowError as fault:
        return rejected_at_source(
            index=index, source=name, row=row, reason=SourceFault(fault.reason), detail=str(fault)
        )
