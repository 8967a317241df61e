"""Datasets open where people open them, appear whole or not at all, and repeat byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import datasets
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from schemas.errors import ShardError
from schemas.records import (
    SCHEMA_VERSION,
    Status,
    draft_from_row,
    draft_schema,
    draft_to_row,
    sample_from_row,
    sample_schema,
    sample_to_row,
)
from schemas.shards import (
    SPLITS,
    DatasetWriter,
    ShardWriter,
    iterate_rows,
    load_dataset_dict,
    read_shard,
    scan,
)
from tests.rows import draft, failed_draft, sample


def write(root: Path, rows: int = 5) -> None:
    with DatasetWriter(root) as writer:
        for index in range(rows):
            writer.write("train", sample_to_row(sample(index)))
        writer.write("rejected", sample_to_row(sample(90, Status.REJECTED)))
        writer.write("failed", sample_to_row(sample(91, Status.FAILED)))


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("original", [draft(3), failed_draft(4), draft(1, problem=draft().problem)])
def test_a_draft_survives_its_row(original: object) -> None:
    assert draft_from_row(draft_to_row(original)) == original  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.REJECTED, Status.FAILED])
def test_a_sample_survives_its_row(status: Status) -> None:
    assert sample_from_row(sample_to_row(sample(1, status))) == sample(1, status)


def test_datasets_opens_the_folder_with_types_and_pictures(tmp_path: Path) -> None:
    write(tmp_path)
    loaded = datasets.load_from_disk(str(tmp_path))
    assert isinstance(loaded, datasets.DatasetDict)
    assert {split: len(loaded[split]) for split in loaded} == {
        "train": 5,
        "validation": 0,
        "rejected": 1,
        "failed": 1,
    }
    row = loaded["train"][0]
    assert isinstance(row["images"][0], PillowImage.Image)
    assert row["images"][0].size == (32, 32)
    assert row["calls"][0]["stage"] == "describe"
    assert row["verdicts"][0]["keep"] is True
    assert loaded["train"].features["images"] == datasets.List(datasets.Image())


def test_load_dataset_reads_the_shards_alone(tmp_path: Path) -> None:
    write(tmp_path / "run")
    files = [str(path) for path in (tmp_path / "run" / "train").glob("*.arrow")]
    loaded = datasets.load_dataset(
        "arrow", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 5
    assert isinstance(loaded[0]["images"][0], PillowImage.Image)


def test_polars_scans_every_split(tmp_path: Path) -> None:
    write(tmp_path)
    frame = pl.from_arrow(scan(tmp_path))
    assert isinstance(frame, pl.DataFrame)
    counts = frame.lazy().group_by("split").len().collect()
    assert dict(counts.iter_rows()) == {"train": 5, "rejected": 1, "failed": 1}
    assert frame.filter(pl.col("status") == "failed")["reason"].to_list() == ["teacher_refused"]


def test_two_writes_are_byte_identical(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_the_schema_says_its_version(tmp_path: Path) -> None:
    write(tmp_path)
    table = read_shard(tmp_path / "train" / "data-00000.arrow")
    assert table.schema.metadata[b"avar"] == str(SCHEMA_VERSION).encode()
    assert table.schema == sample_schema()


def test_an_interrupted_rewrite_leaves_the_old_dataset(tmp_path: Path) -> None:
    write(tmp_path)
    before = digests(tmp_path)
    with pytest.raises(KeyboardInterrupt), DatasetWriter(tmp_path) as writer:
        writer.write("train", sample_to_row(sample(1)))
        raise KeyboardInterrupt
    assert digests(tmp_path) == before


def test_a_rewrite_replaces_every_split(tmp_path: Path) -> None:
    write(tmp_path, rows=5)
    write(tmp_path, rows=2)
    assert len(load_dataset_dict(tmp_path)["train"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*SPLITS, "dataset_dict.json"])


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "x.arrow", draft_schema()) as writer:
        writer.write(draft_to_row(draft()))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_does_not_fit_names_itself(tmp_path: Path) -> None:
    row = draft_to_row(draft()) | {"sample_index": "many"}
    with (
        pytest.raises(ShardError, match=str(row["id"])),
        ShardWriter(tmp_path / "x.arrow", draft_schema()) as writer,
    ):
        writer.write(row)
    assert list(tmp_path.iterdir()) == []


def test_a_long_shard_keeps_order(tmp_path: Path) -> None:
    rows = [draft_to_row(draft(index)) for index in range(150)]
    with ShardWriter(tmp_path / "x.arrow", draft_schema()) as writer:
        for row in rows:
            writer.write(row)
    assert [row["index"] for row in iterate_rows(tmp_path / "x.arrow")] == list(range(150))


@pytest.mark.parametrize("damage", [b"", b"not arrow at all", None])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "x.arrow"
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(ShardError, match=r"x\.arrow: not a readable Arrow stream"):
        read_shard(path)
    with pytest.raises(ShardError, match=r"x\.arrow: not a readable Arrow stream"):
        list(iterate_rows(path))


@pytest.mark.parametrize(
    ("folder", "message"),
    [("nowhere", "no such folder"), ("", "no dataset here"), ("drafted", "avar curate")],
)
def test_a_folder_without_a_dataset_says_what_to_run(tmp_path: Path, folder: str, message: str) -> None:
    (tmp_path / "drafted" / "drafts").mkdir(parents=True)
    with pytest.raises(ShardError, match=message):
        scan(tmp_path / folder)


def test_scan_is_memory_mapped(tmp_path: Path) -> None:
    write(tmp_path)
    before = pa.total_allocated_bytes()
    table = scan(tmp_path)
    assert table.nbytes > 0
    # The split column and chunk bookkeeping are all that is allocated; pictures stay on disk.
    assert pa.total_allocated_bytes() - before < 64 * 1024
