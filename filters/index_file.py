"""The file of a decontamination index: one Arrow stream with a row per item, words and hashes made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from filters.entries import Entry
from filters.image_hash import ImagePrint
from filters.ngrams import question_words
from schemas.errors import ShardError
from schemas.shards import read_shard, write_shard

VERSION = b"1"
_KEY = b"avar.decontamination_index"
_PRINT = pa.struct(
    [("md5", pa.binary(16)), ("phash", pa.uint64()), ("trimmed", pa.uint64()), ("thumbs", pa.binary())]
)
_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("row", pa.string()),
        ("id", pa.string()),
        ("question", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("images", pa.list_(_PRINT)),
    ],
    metadata={_KEY: VERSION},
)


def write_entries(path: Path, entries: tuple[Entry, ...]) -> None:
    """Writes entries atomically, the same bytes for the same entries.

    Raises: ShardError: the disk is full, the folder cannot be written, or a text is no Unicode.
    """
    write_shard(path, [_row(entry) for entry in entries], _SCHEMA)


def read_entries(path: Path) -> tuple[Entry, ...]:
    """The entries of a file that `write_entries` wrote.

    Raises: ShardError: no such file, no Arrow stream, or not an index of this version.
    """
    table = read_shard(path)
    version = (table.schema.metadata or {}).get(_KEY)
    if version is None:
        raise ShardError(f"{path}: not a decontamination index; write one with `Index(problems).save(path)`")
    if version != VERSION or table.schema != _SCHEMA:
        raise ShardError(
            f"{path}: an index of version {version.decode(errors='replace')}, this avar reads "
            f"{VERSION.decode()}; build it again from its benchmarks"
        )
    return tuple(_entry(row) for batch in table.to_batches() for row in batch.to_pylist())


def _row(entry: Entry) -> dict[str, Any]:
    images = [
        {"md5": image.md5, "phash": image.phash, "trimmed": image.trimmed, "thumbs": image.thumbs}
        for image in entry.prints
    ]
    names = ("source", "row", "id", "question", "answer")
    row: dict[str, Any] = {name: getattr(entry, name) for name in names}
    return row | {"choices": list(entry.choices), "images": images}


def _entry(row: dict[str, Any]) -> Entry:
    prints = tuple(ImagePrint(**image) for image in row.pop("images"))
    choices = tuple(row.pop("choices"))
    return Entry(**row, choices=choices, words=tuple(question_words(row["question"])), prints=prints)
