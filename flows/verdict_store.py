"""The verdicts of a curation's first pass, on disk until the second one writes them with their drafts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from schemas.records import VerdictRow, sample_schema
from schemas.shards import ShardWriter, iterate_rows


class VerdictStore:
    """Lists of verdicts, written in order and then read in order. Use as a context manager.

    Args:
        path: of its file, which is gone afterwards; a kill leaves it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> VerdictStore:
        self._writer = ShardWriter(self._path, pa.schema([sample_schema().field("verdicts")])).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._writer.__exit__(kind, error, trace)
        self._path.unlink(missing_ok=True)

    def write(self, verdicts: Sequence[VerdictRow]) -> None:
        """Adds the verdicts of the next draft.

        Raises: ShardError: the disk is full.
        """
        self._writer.write({"verdicts": [asdict(verdict) for verdict in verdicts]})

    def read(self) -> Iterator[tuple[VerdictRow, ...]]:
        """The verdicts of each draft, in order; nothing is written any more."""
        self._writer.__exit__(None, None, None)
        for row in iterate_rows(self._path):
            yield tuple(VerdictRow(**verdict) for verdict in row["verdicts"])
