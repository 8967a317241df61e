"""The verdicts of a curation's first pass, on disk until the second one writes them with their drafts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from schemas.records import VerdictRow
from schemas.shards import disk_errors

_BATCH = 256
_SCHEMA = pa.schema(
    [
        (
            "verdicts",
            pa.list_(
                pa.struct(
                    [
                        ("filter", pa.string()),
                        ("keep", pa.bool_()),
                        ("reason", pa.string()),
                        ("score", pa.float64()),
                        ("detail", pa.string()),
                    ]
                )
            ),
        )
    ]
)


class VerdictStore:
    """Lists of verdicts, written in order and then read in order. Use as a context manager.

    Args:
        path: of its file, which is gone afterwards; a kill leaves it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[list[dict[str, object]]] = []

    def __enter__(self) -> VerdictStore:
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_stream(self._file, _SCHEMA)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, verdicts: Sequence[VerdictRow]) -> None:
        """Adds the verdicts of the next draft.

        Raises: ShardError: the disk is full.
        """
        self._pending.append([asdict(verdict) for verdict in verdicts])
        if len(self._pending) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        with disk_errors(self._path):
            self._writer.write_batch(pa.record_batch([pa.array(self._pending, _SCHEMA[0].type)], _SCHEMA))
        self._pending = []

    def read(self) -> Iterator[tuple[VerdictRow, ...]]:
        """The verdicts of each draft, in order; nothing is written any more."""
        if self._pending:
            self._flush()
        with disk_errors(self._path):
            self._writer.close()
            self._file.close()
        with pa.memory_map(str(self._path)) as source:
            for batch in pa.ipc.open_stream(source):
                for row in batch.to_pylist():
                    yield tuple(VerdictRow(**verdict) for verdict in row["verdicts"])
