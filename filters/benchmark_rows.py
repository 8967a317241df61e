"""A row of a benchmark's table: its question, options, answer and pictures, by the names of its columns.

A column that is missing is an error that names it, never an item without a question or a picture.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filters.benchmark_table import Benchmark
from schemas.errors import SourceError


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRow:
    """A row as it stands in a table, and how to read it.

    Attributes:
        source: the benchmark's name, for a local table that of its file or folder.
        where: the row's place, for messages.
        folder: what names of pictures are relative to, None where a table holds the pictures.
    """

    values: Mapping[str, Any]
    columns: Benchmark
    source: str
    where: str
    folder: Path | None

    def value(self, column: str) -> Any:
        """Raises: SourceError: there is no such column."""
        if column not in self.values:
            raise SourceError(f"{self.where}: no column `{column}`; found: {', '.join(sorted(self.values))}")
        return self.values[column]

    @property
    def question(self) -> str:
        """The first question that is not empty; "" where none is."""
        return next((str(text) for text in map(self.value, self.columns.question) if text), "")

    @property
    def choices(self) -> list[str]:
        """The options of the column for them."""
        return _options(self.value(self.columns.choices) if self.columns.choices else None)

    @property
    def answer(self) -> str:
        """The gold answer; a published benchmark has the column, a table of avar's own may leave it out."""
        columns = self.columns
        value = self.value(columns.answer) if columns.dataset else self.values.get(columns.answer)
        return "" if value is None else str(value)

    @property
    def images(self) -> list[bytes]:
        """The pictures as they are encoded, each once.

        Raises: SourceError: one cannot be read.
        """
        return list(
            dict.fromkeys(image for column in self.columns.images for image in self.images_in(column))
        )

    def images_in(self, column: str) -> list[bytes]:
        """The pictures of a column.

        Raises: SourceError: there is no such column, or one cannot be read.
        """
        return [_bytes(image, self.folder, self.where) for image in _listed(self.value(column))]


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _options(value: Any) -> list[str]:
    """Options as a list; MMMU writes them as the text of a Python list."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [value]
    return [str(option) for option in value] if isinstance(value, Sequence) else []


def _bytes(image: Any, folder: Path | None, where: str) -> bytes:
    if isinstance(image, Mapping):
        if image.get("bytes") is not None:
            return image["bytes"]
        image = image.get("path")
    if isinstance(image, bytes):
        return image
    if isinstance(image, str):
        return _read_inside(image, folder, where)
    raise SourceError(f"{where}: an image is {type(image).__name__}; bytes or a file's name is expected")


def _read_inside(name: str, folder: Path | None, where: str) -> bytes:
    path = (folder or Path()) / name.replace("\\", os.sep)
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise SourceError(f"{where}: image {name} is outside of {folder}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{where}: image {name} cannot be read: {error.strerror}") from error
