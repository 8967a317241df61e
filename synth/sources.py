"""Where problems come from: procedural scenes or a local folder.

`read_source` yields one item per row of the source, in its order: a `Problem`, or the failed `Draft` that
stands for a row which cannot become one. Nothing is skipped, nothing is read ahead, and of a row that has
been yielded only its content id is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from schemas.config import FolderSource, ScenesSource, Source
from schemas.errors import RowError
from schemas.records import Draft, Problem, SourceFault, rejected_at_source
from synth.folders import find_table, read_lines
from synth.rows import parse_problem
from synth.scenes import draw_problems
from synth.seen import FirstSeen


def read_source(source: Source, seed: int) -> Iterator[Problem | Draft]:
    """The rows of a source in order; a second row with the same content is a failed row.

    Args:
        seed: the run's seed; only procedural sources use it.
    Raises: SourceError: the source as a whole cannot be read.
    """
    items = draw_problems(source, seed) if isinstance(source, ScenesSource) else _read_folder(source)
    seen = FirstSeen()
    for item in items:
        if isinstance(item, Draft):
            yield item
            continue
        first = seen.setdefault(item.id, item.index)
        yield item if first == item.index else _duplicate(item, first)


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


def _read_folder(source: FolderSource) -> Iterator[Problem | Draft]:
    table = find_table(source)
    name = source.name or source.path.resolve().name
    for index, line in enumerate(islice(read_lines(table), source.limit)):
        row = f"{table.name}:{index + 1}"
        try:
            yield parse_problem(line, index, name, row, source)
        except RowError as fault:
            yield rejected_at_source(
                index=index, source=name, row=row, reason=SourceFault(fault.reason), detail=str(fault)
            )
