"""Arrow shards: written atomically, byte-identical for equal rows, opened by `datasets` and polars.

A shard is one Arrow *stream* file. A dataset is a folder with one sub-folder per split, laid out as
`datasets.DatasetDict.save_to_disk` does:

    DIR/dataset_dict.json                     written last: without it the dataset is not finished
    DIR/<split>/data-00000.arrow, state.json, dataset_info.json
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.errors import ShardError
from schemas.records import sample_features, sample_schema

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "validation", "rejected", "failed")
BATCH_ROWS = 64  # rows per record batch
BATCH_BYTES = 16 * 2**20  # of pictures per record batch: bounds the memory of writing and of reading rows
SHARD_BYTES = 512 * 2**20  # a split's file is closed after about this much
_CANNOT_WRITE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.EFBIG, errno.EIO, errno.EINVAL),
}
STAGING = ".staging"
INDEX_FILE = "dataset_dict.json"
STATE_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A finished shard: its file name, rows, size in bytes and SHA-256."""

    name: str
    rows: int
    bytes: int
    sha256: str


class ShardWriter:
    """Writes rows to one Arrow stream file that appears under its name only when it is whole.

    Use as a context manager; an exception inside leaves no file behind.

    Raises: ShardError: the disk is full, or a row does not fit the schema.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._pending: list[Mapping[str, Any]] = []
        self._pending_bytes = 0
        self.rows = 0

    def __enter__(self) -> ShardWriter:
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("wb")
            self._sink = pa.PythonFile(self._file, mode="w")
            self._stream = pa.ipc.new_stream(self._sink, self._schema)
        return self

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds one row; columns as in the schema."""
        self._pending.append(row)
        self._pending_bytes += sum(len(image.get("bytes") or b"") for image in row.get("images", ()))
        self.rows += 1
        if len(self._pending) >= BATCH_ROWS or self._pending_bytes >= BATCH_BYTES:
            self._flush()

    @property
    def bytes_written(self) -> int:
        return self._file.tell()

    def _flush(self) -> None:
        if not self._pending:
            return
        try:
            batch = pa.RecordBatch.from_pylist(self._pending, schema=self._schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
            ids = [row.get("id") for row in self._pending[:1]]
            raise ShardError(f"{self._path.name}: rows from {ids} do not fit the schema: {error}") from error
        with disk_errors(self._path):
            self._stream.write_batch(batch)
        self._pending, self._pending_bytes = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                with disk_errors(self._path):
                    self._stream.close()
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    self._file.close()
                    self._temporary.replace(self._path)
                    sync_folder(self._path.parent)
        finally:
            _close_quietly(self._file)
            self._temporary.unlink(missing_ok=True)


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> ShardInfo:
    """Writes `rows` to one shard, atomically.

    Raises: ShardError: the disk is full, or a row does not fit.
    """
    with ShardWriter(path, schema) as writer:
        for row in rows:
            writer.write(row)
    return describe_shard(path, len(rows))


def describe_shard(path: Path, rows: int) -> ShardInfo:
    """The manifest entry of a finished shard."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ShardInfo(name=path.name, rows=rows, bytes=path.stat().st_size, sha256=digest)


def read_shard(path: Path) -> pa.Table:
    """One shard as a memory-mapped table; images stay on disk until a row is looked at.

    Raises: ShardError: the file is missing or is not an Arrow stream.
    """
    try:
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{path}: not a readable Arrow stream ({_first_line(error)})") from error


def count_rows(path: Path) -> int:
    """Rows in a shard."""
    return read_shard(path).num_rows


def iterate_rows(path: Path) -> Iterator[dict[str, Any]]:
    """A shard's rows in order, one record batch in memory at a time."""
    try:
        with pa.memory_map(str(path)) as source:
            for batch in pa.ipc.open_stream(source):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{path}: not a readable Arrow stream ({_first_line(error)})") from error


# ------------------------------------------------------------------------------------------- datasets


class DatasetWriter:
    """Writes the splits of a dataset in one pass and puts them in place together at the end.

    Rows go to a staging folder first, so a full disk, or a kill while rows are written, leaves the dataset
    that was there before. A kill in the moment of the exchange leaves none, which opens nowhere and is mended
    by curating again.

    Raises: ShardError: a full disk, or a folder with a split's name that is not a dataset's.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = root / STAGING
        self._shards: dict[str, list[ShardInfo]] = {split: [] for split in SPLITS}
        self._open: dict[str, ShardWriter] = {}

    def __enter__(self) -> DatasetWriter:
        for split in SPLITS:
            folder = self._root / split
            if folder.exists() and not (folder / STATE_FILE).is_file():
                raise ShardError(f"{folder}: not a split that avar wrote; choose another --out")
        shutil.rmtree(self._staging, ignore_errors=True)
        try:
            for split in SPLITS:
                self._start_shard(split)
        except BaseException as error:  # `__exit__` is not called where this raises
            self._abandon(error)
            raise
        return self

    def write(self, split: str, row: Mapping[str, Any]) -> None:
        """Adds one row of `sample_schema` to a split."""
        writer = self._open[split]
        writer.write(row)
        if writer.bytes_written > SHARD_BYTES:
            self._finish_shard(split)
            self._start_shard(split)

    def _start_shard(self, split: str) -> None:
        name = f"data-{len(self._shards[split]):05d}.arrow"
        writer = ShardWriter(self._staging / split / name, sample_schema())
        self._open[split] = writer.__enter__()

    def _finish_shard(self, split: str) -> None:
        writer = self._open.pop(split)
        writer.__exit__(None, None, None)
        path = self._staging / split / f"data-{len(self._shards[split]):05d}.arrow"
        self._shards[split].append(describe_shard(path, writer.rows))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                for split in SPLITS:
                    self._finish_shard(split)
                    _write_split_index(self._staging / split, split, self._shards[split])
                self._put_in_place()
            finally:
                self._abandon(error)
        else:
            self._abandon(error)

    def _abandon(self, error: BaseException | None) -> None:
        for writer in self._open.values():
            writer.__exit__(type(error) if error else KeyboardInterrupt, error, None)
        self._open.clear()
        shutil.rmtree(self._staging, ignore_errors=True)

    def _put_in_place(self) -> None:
        with disk_errors(self._root):
            (self._root / INDEX_FILE).unlink(missing_ok=True)
            for split in SPLITS:
                shutil.rmtree(self._root / split, ignore_errors=True)
                (self._staging / split).rename(self._root / split)
            write_json(self._root / INDEX_FILE, {"splits": list(SPLITS)})

    @property
    def shards(self) -> dict[str, list[ShardInfo]]:
        """The finished shards of each split."""
        return self._shards


def _write_split_index(folder: Path, split: str, shards: Sequence[ShardInfo]) -> None:
    fingerprint = hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()[:16]
    state = {
        "_data_files": [{"filename": shard.name} for shard in shards],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    info = {
        "citation": "",
        "description": "",
        "features": sample_features().to_dict(),
        "homepage": "",
        "license": "",
    }
    write_json(folder / STATE_FILE, state)
    write_json(folder / "dataset_info.json", info)


def load_dataset_dict(root: Path) -> datasets.DatasetDict:
    """A finished dataset with typed features; images decode to PIL.

    Raises: ShardError: `root` holds no finished dataset.
    """
    from datasets import DatasetDict

    require_dataset(root)
    loaded = DatasetDict.load_from_disk(str(root))
    assert isinstance(loaded, DatasetDict)
    return loaded


def require_dataset(root: Path) -> None:
    """Raises: ShardError: `root` holds no finished dataset, with what to run."""
    if not root.is_dir():
        raise ShardError(f"{root}: no such folder")
    if not (root / INDEX_FILE).is_file():
        if (root / "drafts").is_dir():
            raise ShardError(f"{root}: synthesis was run but not curation; run `avar curate {root}`")
        raise ShardError(
            f"{root}: no dataset here ({INDEX_FILE} is missing); `avar run RECIPE --out {root}` makes one"
        )


def scan(root: Path) -> pa.Table:
    """Every row of a dataset as one memory-mapped table, with a `split` column.

    For polars: `pl.from_arrow(scan(root)).lazy()`; for DuckDB: register the table.

    Raises: ShardError: no finished dataset at `root`, or a damaged shard.
    """
    require_dataset(root)
    return pa.concat_tables([_scan_split(root, split) for split in SPLITS])


def _scan_split(root: Path, split: str) -> pa.Table:
    table = pa.concat_tables([read_shard(path) for path in _split_files(root / split)])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), [split])
    return table.append_column("split", column.cast(pa.string()))


def _split_files(folder: Path) -> list[Path]:
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        return [folder / file["filename"] for file in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{folder}: no readable {STATE_FILE}; run `avar curate {folder.parent}`") from error


# -------------------------------------------------------------------------------------------- files


def finite_json(value: Any) -> Any:
    """NaN and infinity as null, which JSON has no words for; tuples as lists, keys as strings."""
    if isinstance(value, Mapping):
        return {str(key): finite_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: object) -> None:
    """Writes JSON atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically.

    Raises: ShardError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what a disk refuses into a ShardError: full, read-only, a name that is too long."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            free = shutil.disk_usage(path.parent if path.parent.exists() else "/").free
            raise ShardError(
                f"{path}: the disk is full ({free // 2**20} MiB free); free some space and run the same "
                "command again: finished partitions are kept"
            ) from error
        if error.errno in _CANNOT_WRITE:
            raise ShardError(f"{path}: cannot write here ({error.strerror}); choose another --out") from error
        raise


def _close_quietly(file: Any) -> None:
    """Closes a file whose write already failed: the first error is the one that is reported."""
    try:
        file.close()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
