"""Benchmarks as decontamination targets, read from their public datasets or from local files.

A column that is missing is an error that names it, never an item without a question or a picture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filters.benchmark_rows import BenchmarkRow
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
        return map(_item, _load_published(str(name_or_path)))
    if path.exists():
        return map(_item, _load_local(path, BENCHMARKS.get(path.stem), path.stem))
    raise SourceError(
        f"{name_or_path}: neither a file nor a benchmark; known: {', '.join(sorted(BENCHMARKS))}"
    )


def load_evaluated(name: str, path: Path | None = None) -> Iterator[BenchmarkRow]:
    """The rows that an evaluation asks: of a local copy, too, only the configurations and splits that count.

    Args:
        name: of `BENCHMARKS`, or what a table of avar's own is called.
        path: a local copy, None for the published one. In a copy that names no configuration or split, all
            rows count.
    Raises: as `load_benchmark`.
    """
    benchmark = BENCHMARKS.get(name)
    if path is None:
        return _load_published(name, evaluated=True)
    return _load_local(path, benchmark, name, evaluated=True)


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


def _load_published(name: str, *, evaluated: bool = False) -> Iterator[BenchmarkRow]:
    benchmark = BENCHMARKS[name]
    for config in (evaluated and benchmark.evaluated) or benchmark.configs:
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


def _load_local(
    path: Path, benchmark: Benchmark | None, name: str, *, evaluated: bool = False
) -> Iterator[BenchmarkRow]:
    counted = benchmark if evaluated else None
    if path.is_dir() and _is_saved_dataset(path):
        tables = dict(_saved_splits(path))
        splits = [split for split in counted.splits if split in tables] if counted else []
        for split in splits or tables:
            yield from _read_table(tables[split], benchmark, name, f"{path} {split}")
        return
    files = [path] if path.is_file() else _tables(path)
    for file in _counted(files, path, counted) if counted else files:
        yield from _read_file(file, benchmark, name)


def _counted(files: Sequence[Path], folder: Path, benchmark: Benchmark) -> list[Path]:
    """The files of a benchmark's configurations and splits, as far as folders and files name any."""
    below = {file: file.relative_to(folder) for file in files if file != folder}
    configs = {config for config in benchmark.evaluated or benchmark.configs if config}
    named = [file for file in files if configs & set(below[file].parts[:-1])] if below else []
    files = named or list(files)
    # data/testmini-00000-of-00001.parquet, as the hub names them
    of_split = [file for file in files if re.split(r"[-.]", file.name)[0] in benchmark.splits]
    return of_split or files


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


def _read_file(file: Path, benchmark: Benchmark | None, name: str) -> Iterator[BenchmarkRow]:
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


def _read_lines(file: Path, benchmark: Benchmark | None, name: str) -> Iterator[BenchmarkRow]:
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
            yield from _kept(row, benchmark, name, where, file.parent)


def _read_table(
    table: datasets.Dataset, benchmark: Benchmark | None, name: str, where: str
) -> Iterator[BenchmarkRow]:
    """The rows of a table, their pictures as the bytes that the file holds."""
    for position, row in enumerate(undecoded(table)):
        assert isinstance(row, dict)
        yield from _kept(row, benchmark, name, f"{where} row {position}", None)


def undecoded(table: datasets.Dataset) -> datasets.Dataset:
    """The table with its pictures as bytes: decoded and encoded again, none would keep its MD5.

    Only what the columns are called changes: `cast_column` would write a copy of all pictures into the folder
    of the dataset.
    """
    from datasets import Dataset, Image, List

    features = table.features.copy()
    for name, feature in features.items():
        if isinstance(feature, Image):
            features[name] = Image(decode=False)
        elif isinstance(feature, List) and isinstance(feature.feature, Image):
            features[name] = List(Image(decode=False))
    info = table.info.copy()
    info.features = features
    return Dataset(table.data, info=info, split=table.split, indices_table=table._indices)


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


def _kept(
    row: Mapping[str, Any], benchmark: Benchmark | None, name: str, where: str, folder: Path | None
) -> Iterator[BenchmarkRow]:
    """The row, if it belongs to the benchmark."""
    columns = benchmark or _own_columns(row)
    found = BenchmarkRow(values=row, columns=columns, source=name, where=where, folder=folder)
    if columns.keep is None or str(found.value(columns.keep[0])) in columns.keep[1]:
        yield found


def _item(row: BenchmarkRow) -> dict[str, Any]:
    question, images = row.question, row.images
    return {
        "source": row.source,
        "row": row.where,
        "id": str(row.values.get(row.columns.id, row.where)),
        "question": question,
        "choices": row.choices,
        "answer": row.answer,
        "images": images,
    }
