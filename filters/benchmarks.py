"""Benchmarks as decontamination targets, read from their public datasets or from local files.

A column that is missing is an error that names it, never an item without a question or a picture.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filters.benchmark_table import BENCHMARKS, SEVEN_IMAGES, Benchmark
from filters.decontaminate import Index
from schemas.config import DecontaminateSettings
from schemas.errors import SourceError

if TYPE_CHECKING:
    import datasets


def load_benchmark(name_or_path: str | Path) -> Iterator[dict[str, Any]]:
    """The items of a benchmark as mappings that `filters.decontaminate.Index` reads.

    Args:
        name_or_path: a name of `BENCHMARKS`, or a local folder or file: what `datasets` saved to disk,
            Parquet, Arrow, JSON lines. Local rows are read with the columns of the benchmark whose name the
            file or folder has, else with avar's own: `question`, `answer`, `choices` or `options`, `image`
            or `images`, `id`.
    Raises: SourceError: no such name or file, no network and no copy in the cache, or a missing column.
    """
    path = Path(name_or_path)
    if str(name_or_path) in BENCHMARKS:
        return _load_published(str(name_or_path))
    if path.exists():
        return _load_local(path, BENCHMARKS.get(path.stem))
    raise SourceError(
        f"{name_or_path}: neither a file nor a benchmark; known: {', '.join(sorted(BENCHMARKS))}"
    )


def open_index(settings: DecontaminateSettings) -> Index | None:
    """The index that settings ask for: from its file, or built from benchmarks; None where they name none.

    Raises:
        ShardError: the file is not an index of this version.
        SourceError: a benchmark cannot be read.
    """
    if settings.index is not None:
        return Index.load(settings.index, settings)
    if not settings.benchmarks:
        return None
    return Index((item for name in settings.benchmarks for item in _some_items(name)), settings)


def _some_items(name: str) -> Iterator[dict[str, Any]]:
    """Raises: SourceError: there is none, which nobody should take for a benchmark that was looked into."""
    count = 0
    for count, item in enumerate(load_benchmark(name), start=1):  # noqa: B007
        yield item
    if not count:
        raise SourceError(f"decontaminate.benchmarks: {name} holds no item")


def _load_published(name: str) -> Iterator[dict[str, Any]]:
    benchmark = BENCHMARKS[name]
    for config in benchmark.configs:
        for split in benchmark.splits:
            rows = _load_split(name, benchmark.dataset, config, split)
            yield from _read_table(rows, benchmark, name, f"{name} {config}/{split}".replace(" /", " "))


def _load_split(name: str, dataset: str, config: str, split: str) -> datasets.Dataset:
    import datasets

    try:
        loaded = datasets.load_dataset(dataset, config or None, split=split)
    # The hub's client raises its own kinds of ConnectionError, ValueError and OSError by turns.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{name}: {dataset} ({config or 'default'}, {split}) cannot be loaded: {reason}; without "
            "network, give the path of a local copy instead of the name"
        ) from error
    assert isinstance(loaded, datasets.Dataset)
    return loaded


def _load_local(path: Path, benchmark: Benchmark | None) -> Iterator[dict[str, Any]]:
    if path.is_dir() and _is_saved_dataset(path):
        for split, table in _saved_splits(path):
            yield from _read_table(table, benchmark, path.stem, f"{path} {split}")
        return
    files = [path] if path.is_file() else _tables(path)
    for file in files:
        yield from _read_file(file, benchmark, path.stem)


def _is_saved_dataset(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _saved_splits(path: Path) -> Iterator[tuple[str, datasets.Dataset]]:
    import datasets

    loaded = datasets.load_from_disk(str(path))
    splits = loaded.items() if isinstance(loaded, datasets.DatasetDict) else [("", loaded)]
    for split, table in splits:
        yield str(split), table


_FORMATS = {".parquet": "parquet", ".arrow": "arrow"}


def _tables(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.rglob("*") if file.suffix in {*_FORMATS, ".jsonl"})
    if not found:
        raise SourceError(
            f"{folder}: no Parquet, Arrow or JSON-lines file, nor a dataset saved by `datasets`"
        )
    return found


def _read_file(file: Path, benchmark: Benchmark | None, name: str) -> Iterator[dict[str, Any]]:
    if file.suffix == ".jsonl":
        yield from _read_lines(file, benchmark, name)
    elif file.suffix in _FORMATS:
        import datasets

        try:
            table = datasets.load_dataset(_FORMATS[file.suffix], data_files=str(file), split="train")
        except Exception as error:
            raise SourceError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}") from error
        assert isinstance(table, datasets.Dataset)
        yield from _read_table(table, benchmark, name, str(file))
    else:
        raise SourceError(f"{file}: a Parquet, Arrow or JSON-lines file is expected")


def _read_lines(file: Path, benchmark: Benchmark | None, name: str) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file} line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise SourceError(f"{where}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise SourceError(f"{where}: a mapping is expected, found {type(row).__name__}")
            yield from _item(row, benchmark or _own_columns(row), name, where, file.parent)


def _read_table(
    table: datasets.Dataset, benchmark: Benchmark | None, name: str, where: str
) -> Iterator[dict[str, Any]]:
    """The items of a table, their pictures as the bytes that the file holds."""
    for position, row in enumerate(_undecoded(table)):
        assert isinstance(row, dict)
        yield from _item(row, benchmark or _own_columns(row), name, f"{where} row {position}", None)


def _undecoded(table: datasets.Dataset) -> datasets.Dataset:
    """The table with its pictures as bytes: decoded and encoded again, none would keep its MD5."""
    from datasets import Image, List

    for name, feature in table.features.items():
        if isinstance(feature, Image):
            table = table.cast_column(name, Image(decode=False))
        elif isinstance(feature, List) and isinstance(feature.feature, Image):
            table = table.cast_column(name, List(Image(decode=False)))
    return table


def _own_columns(row: Mapping[str, Any]) -> Benchmark:
    def first(*names: str) -> str:
        return next((name for name in names if name in row), names[0])

    return Benchmark(
        dataset="",
        splits=(),
        id=first("id", "pid", "index"),
        question=("question",),
        choices=next((name for name in ("choices", "options") if name in row), ""),
        images=tuple(name for name in ("images", "image", "decoded_image", *SEVEN_IMAGES) if name in row),
    )


def _item(
    row: Mapping[str, Any], columns: Benchmark, name: str, where: str, folder: Path | None
) -> Iterator[dict[str, Any]]:
    if columns.keep is not None and str(_column(row, columns.keep[0], where)) not in columns.keep[1]:
        return
    questions = [_column(row, column, where) for column in columns.question]
    images = [image for column in columns.images for image in _listed(_column(row, column, where))]
    yield {
        "source": name,
        "row": where,
        "id": str(row.get(columns.id, where)),
        "question": next((str(question) for question in questions if question), ""),
        "choices": _options(_column(row, columns.choices, where) if columns.choices else None),
        "answer": _answer(row, columns, where),
        "images": list(dict.fromkeys(_bytes(image, folder, where) for image in images)),
    }


def _answer(row: Mapping[str, Any], columns: Benchmark, where: str) -> str:
    """The gold answer; a published benchmark has the column, a local table of avar's own may leave it out."""
    value = _column(row, columns.answer, where) if columns.dataset else row.get(columns.answer)
    return "" if value is None else str(value)


def _column(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise SourceError(f"{where}: no column `{column}`; found: {', '.join(sorted(row))}")
    return row[column]


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
