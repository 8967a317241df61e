"""Benchmarks as targets: datasets of the published shapes, local files of every kind, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from filters.benchmark_table import BENCHMARKS, Benchmark
from filters.benchmarks import load_benchmark, open_index, undecoded
from filters.decontaminate import HitReason, Index
from schemas.config import DecontaminateSettings
from schemas.errors import SourceError
from tests.problems import drawing, problem
from tests.tiny import make_dataset, make_row

LONG = "Amelia folds a paper lantern with 24 edges and paints every second edge with copper. How many stay?"
PICTURES = [drawing(1), drawing(2, "JPEG"), drawing(3)]


def published(benchmark: Benchmark) -> datasets.Dataset:
    """Three rows in the shape of a benchmark; the first two belong to it where it keeps only some."""
    count = len(PICTURES)
    columns: dict[str, list[Any]] = {benchmark.id: [f"id{row}" for row in range(count)]}
    columns |= {name: [f"{LONG} {row}" for row in range(count)] for name in benchmark.question}
    columns[benchmark.answer] = ["B", "A", "B"]
    if benchmark.choices:
        columns[benchmark.choices] = ["['1', '2']"] * count
    if benchmark.keep is not None:
        columns[benchmark.keep[0]] = [benchmark.keep[1][0]] * 2 + ["Text Only"]
    for place, name in enumerate(benchmark.images):
        columns[name] = [{"bytes": encoded, "path": None} if not place else None for encoded in PICTURES]
    table = datasets.Dataset.from_dict(columns)
    for name in benchmark.images:
        table = table.cast_column(name, datasets.Image())
    return table


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_published_benchmarks_become_items(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark, asked = BENCHMARKS[name], []

    def load_dataset(path: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((path, config or "", split))
        return published(benchmark)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    items = list(load_benchmark(name))
    tables = [
        (benchmark.dataset, config, split) for config in benchmark.configs for split in benchmark.splits
    ]
    assert asked == tables
    rows = 2 if benchmark.keep else 3
    assert len(items) == rows * len(tables)
    first = items[0]
    assert first["source"] == name
    assert first["images"] == [PICTURES[0]], "the bytes of the file, not a picture encoded again"
    assert first["question"] == (f"{LONG} 0" if benchmark.question else "")
    assert first["choices"] == (["1", "2"] if benchmark.choices else [])
    hits = Index(items).hits(problem("Something else entirely?", PICTURES[1]))
    assert hits[0].reason is HitReason.IMAGE_BYTES
    assert hits[0].id == "id1"


@pytest.mark.parametrize("kind", ["saved", "saved_splits", "parquet", "arrow", "folder", "named"])
def test_local_copies_are_read(kind: str, tmp_path: Path) -> None:
    table = published(BENCHMARKS["mathvision"])
    path = tmp_path / "mine"
    if kind == "saved":
        table.save_to_disk(path)
    elif kind == "saved_splits":
        datasets.DatasetDict({"test": table}).save_to_disk(path)
    elif kind == "folder":
        (path / "data").mkdir(parents=True)
        table.to_parquet(path / "data" / "test.parquet")
    elif kind == "named":
        path = tmp_path / "mathvision.parquet"
        table.to_parquet(path)
    elif kind == "arrow":
        table.save_to_disk(tmp_path / "saved")
        path = next((tmp_path / "saved").glob("*.arrow"))
    else:
        path = tmp_path / "mine.parquet"
        table.to_parquet(path)
    items = list(load_benchmark(path))
    assert [item["images"] for item in items] == [[encoded] for encoded in PICTURES]
    assert [item["question"] for item in items] == [f"{LONG} {row}" for row in range(3)]
    assert [item["choices"] for item in items] == [["1", "2"]] * 3
    assert [item["id"] for item in items] == ["id0", "id1", "id2"]


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_json_lines_with_pictures_beside_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURES[0])
    row = {"id": 1, "question": LONG, "answer": 3, "choices": ["3", "4"], "image": "a.png"}
    (item,) = load_benchmark(write_lines(tmp_path / "bench.jsonl", row))
    assert item["images"] == [PICTURES[0]]
    assert (item["answer"], item["choices"], item["source"]) == ("3", ["3", "4"], "bench")
    assert item["row"].endswith("bench.jsonl line 1")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1}, "line 1: no column `question`; found: id"),
        ({"question": LONG, "image": "gone.png"}, "line 1: image gone.png cannot be read"),
        ({"question": LONG, "image": "../gone.png"}, "line 1: image ../gone.png is outside"),
        ({"question": LONG, "image": 5}, "line 1: an image is int"),
        ([1], "line 1: a mapping is expected, found list"),
    ],
)
def test_wrong_lines_are_named(row: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        list(load_benchmark(write_lines(tmp_path / "bench.jsonl", row)))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"nowhere: neither a file nor a benchmark; known: hallusionbench, "
    ):
        load_benchmark("nowhere")
    with pytest.raises(SourceError, match="no Parquet, Arrow or JSON-lines file"):
        list(load_benchmark(tmp_path))
    for name, content in (("a.jsonl", "{"), ("b.parquet", "no parquet"), ("c.txt", "text")):
        (tmp_path / name).write_text(content)
        with pytest.raises(SourceError, match=name):
            list(load_benchmark(tmp_path / name))


def test_a_column_that_is_missing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "hallusionbench.parquet"
    datasets.Dataset.from_dict({"question": [LONG], "answer": ["1"]}).to_parquet(path)
    with pytest.raises(SourceError, match="no column `image`; found: answer, question"):
        list(load_benchmark(path))
    datasets.Dataset.from_dict({"question": [LONG], "image": [None]}).to_parquet(path)
    with pytest.raises(SourceError, match="no column `gt_answer`; found: image, question"):
        list(load_benchmark(path))


def test_without_network_the_mend_is_named() -> None:
    with pytest.raises(SourceError, match=r"mathvista: AI4Math/MathVista .* give the path of a local copy"):
        list(load_benchmark("mathvista"))


def test_settings_name_the_targets(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "bench.jsonl", {"question": LONG, "answer": "4"})
    assert open_index(DecontaminateSettings()) is None
    built = open_index(DecontaminateSettings(benchmarks=(str(path), str(path))))
    assert built is not None
    assert len(built) == 2
    built.save(tmp_path / "index.arrow")
    loaded = open_index(DecontaminateSettings(index=tmp_path / "index.arrow"))
    assert loaded is not None
    assert loaded.hits(problem(LONG)) == built.hits(problem(LONG)) != []
    with pytest.raises(ValueError, match="give either of them"):
        DecontaminateSettings(index=tmp_path / "index.arrow", benchmarks=("mmstar",))


def test_pictures_are_left_encoded_without_a_copy_of_them(tmp_path: Path) -> None:
    """`datasets` would write one into the dataset's own folder, which belongs to somebody else."""
    make_dataset(3).save_to_disk(str(tmp_path / "saved"))
    before = sorted(tmp_path.rglob("*"))
    table = datasets.Dataset.load_from_disk(str(tmp_path / "saved"))
    kept = undecoded(table)
    assert kept[1]["images"][0]["bytes"] == make_row(1)["images"][0]["bytes"]
    some = undecoded(table.select([2, 0], keep_in_memory=True))
    assert some["id"] == [make_row(2)["id"], make_row(0)["id"]]
    assert sorted(tmp_path.rglob("*")) == before
