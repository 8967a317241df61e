"""Curation decides again and never writes over what is not its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from schemas.shards import load_dataset_dict
from tests.conftest import avar
from tests.test_cli import assert_one_line

SMALL = ("--set", "source.count=12", "--set", "partition_size=4", "--json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three partitions."""
    folder = tmp_path_factory.mktemp("curate") / "run"
    ran = avar("run", "demo", "--out", folder, *SMALL)
    assert ran.code == 0, ran.err
    return folder


def test_the_recipe_is_saved_with_the_dataset_it_made(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "strict"
    ran = avar("curate", run, "--json", "--out", out, "--set", "filters.min_anchors=99")
    assert ran.code == 0, ran.err
    assert ran.last_json["accepted"] == 0
    assert yaml.safe_load((out / "recipe.yaml").read_text())["filters"]["min_anchors"] == 99
    assert yaml.safe_load((run / "recipe.yaml").read_text())["filters"]["min_anchors"] == 2
    again = avar("curate", run, "--json", "--out", out)
    assert again.code == 0, again.err
    assert again.last_json["accepted"] > 0


@pytest.mark.parametrize("precious", ["train/keep.txt", "thesis.tex"])
def test_foreign_files_survive(run: Path, tmp_path: Path, precious: str) -> None:
    path = tmp_path / "mine" / precious
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    assert_one_line(avar("curate", run, "--out", tmp_path / "mine"), 2, "choose another --out")
    assert path.read_text() == "precious"


def test_another_run_is_never_written_over(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert avar("run", "demo", "--out", other, "--set", "seed=5", *SMALL).code == 0
    ids = load_dataset_dict(other)["train"]["id"][:]
    assert_one_line(avar("curate", run, "--out", other), 2, "choose another --out")
    assert load_dataset_dict(other)["train"]["id"][:] == ids


def test_a_run_does_not_move_into_a_curated_dataset(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert avar("curate", run, "--out", out, "--json").code == 0
    assert_one_line(avar("run", "demo", "--out", out, *SMALL), 2, "curated from another run")


@pytest.mark.parametrize("assignment", ["source.count=3", "seed=9", "teacher.model=other"])
def test_what_synthesis_decided_cannot_be_overridden(run: Path, assignment: str) -> None:
    ran = avar("curate", run, "--set", assignment)
    assert_one_line(ran, 2, assignment.split("=")[0])


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_lost_or_damaged_draft_shard_is_noticed(run: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shard = folder / "drafts" / "part-00001.arrow"
    content = shard.read_bytes()
    shard.unlink()
    if damage != "missing":
        shard.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    words = "2 of 3 draft shards" if damage == "missing" else "part-00001.arrow: not a readable Arrow stream"
    assert_one_line(avar("curate", folder), 1, words)
    if damage == "missing":
        assert avar("synth", "demo", "--out", folder, *SMALL).code == 0
        assert shard.read_bytes() == content
        assert avar("curate", folder, "--json").last_json["problems"] == 12


@pytest.mark.parametrize(
    ("name", "words"), [("manifest.json", "manifest.json: not JSON"), ("train/state.json", "avar curate")]
)
def test_a_damaged_index_is_named(run: Path, tmp_path: Path, name: str, words: str) -> None:
    out = tmp_path / "out"
    assert avar("curate", run, "--out", out, "--json").code == 0
    (out / name).write_text("{")
    assert_one_line(avar("inspect", out), 1, words)
