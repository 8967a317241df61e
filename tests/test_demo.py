"""The whole loop as a person runs it: `avar demo`, then what it leaves."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import datasets
import polars as pl
from PIL import Image as PillowImage

from flows.curate import choose_split
from schemas.records import Status
from schemas.runs import read_manifest
from schemas.shards import scan
from tests.conftest import Demo, avar
from tests.rows import sample

FROM_MISREADING = {"answer_wrong", "no_answer", "answer_undecided"}


def rows_of(demo: Demo, split: str) -> list[dict[str, Any]]:
    """A split's rows without their pictures."""
    frame = pl.from_arrow(scan(Path(demo.result["dataset"])).drop_columns(["images"]))
    assert isinstance(frame, pl.DataFrame)
    return frame.filter(pl.col("split") == split).to_dicts()


def test_problems_are_accounted_for(demo: Demo) -> None:
    result = demo.result
    assert result["problems"] == 200
    assert result["problems"] == result["accepted"] + result["rejected"] + result["failed"]
    assert sum(result["reasons"].values()) == result["rejected"] + result["failed"]


def test_most_are_accepted_and_honest_mistakes_are_not(demo: Demo) -> None:
    assert demo.result["accepted"] >= 100
    rejected = {row["reason"] for row in rows_of(demo, "rejected")}
    assert len(FROM_MISREADING & rejected) >= 2


def test_the_student_learns_and_every_score_is_reported(demo: Demo) -> None:
    result = demo.result
    assert result["loss_last"] < 0.8 * result["loss_first"]
    for name in ("vas_before", "vas_after", "vas_control", "image_gain_after", "image_gain_control"):
        assert math.isfinite(result[name]), name
    assert result["vas_after"] != result["vas_control"]
    assert 0 < result["seconds"] < 300


def test_every_long_step_reports_progress(demo: Demo) -> None:
    for title in (
        "synthesize",
        "curate",
        "SFT guided",
        "SFT control",
        "VAS before",
        "VAS guided",
        "VAS control",
    ):
        assert re.search(rf"^{title}: (\d+)/\1 in ", demo.err, re.M), title


def test_the_dataset_opens_in_datasets_and_polars(demo: Demo) -> None:
    loaded = datasets.load_from_disk(demo.result["dataset"])
    assert isinstance(loaded, datasets.DatasetDict)
    assert len(loaded["train"]) + len(loaded["validation"]) == demo.result["accepted"]
    assert len(loaded["rejected"]) == demo.result["rejected"]
    assert len(loaded["failed"]) == demo.result["failed"]
    picture = loaded["train"][0]["images"][0]
    assert isinstance(picture, PillowImage.Image)
    assert 224 <= picture.size[0] <= 448

    frame = pl.from_arrow(scan(Path(demo.result["dataset"])))
    assert isinstance(frame, pl.DataFrame)
    assert frame.height == 200
    assert frame["id"].n_unique() == 200
    assert frame["index"].sort().to_list() == list(range(200))


def test_accepted_traces_look_at_the_image_and_answer_right(demo: Demo) -> None:
    for row in rows_of(demo, "train"):
        assert re.fullmatch(r"\s*<think>.+</think>\s*<answer>.+</answer>\s*", row["trace"], re.S)
        assert not re.search(r"\b(the|this) (description|caption)\b", row["trace"], re.I)
        assert all(verdict["keep"] for verdict in row["verdicts"])
        assert row["reason"] == ""


def test_rejected_rows_keep_their_texts_and_their_reason(demo: Demo) -> None:
    for row in rows_of(demo, "rejected"):
        assert row["trace"]
        assert row["description"]
        dropped = [verdict["reason"] for verdict in row["verdicts"] if not verdict["keep"]]
        assert row["reason"] == dropped[0]


def test_the_run_saves_what_it_was_made_with(demo: Demo) -> None:
    manifest = read_manifest(demo.root)
    assert manifest["funnel"]["accepted"] == demo.result["accepted"]
    assert manifest["models"] == dict.fromkeys(("describe", "reason", "anchor"), "avar-embedded")
    assert len(manifest["prompts"]) == 3
    assert (demo.root / "recipe.yaml").is_file()


def test_the_same_seed_gives_the_same_bytes(demo: Demo, tmp_path: Path) -> None:
    """`avar run demo` makes the dataset of `avar demo` again, elsewhere."""
    ran = avar("run", "demo", "--out", tmp_path / "again", "--json")
    assert ran.code == 0, ran.err
    first, second = (
        {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.arrow"))}
        for root in (demo.root, tmp_path / "again")
    )
    assert len(first) >= 8
    assert first == second
    for name in ("dataset_dict.json", "train/state.json", "train/dataset_info.json", "recipe.yaml"):
        assert (demo.root / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_inspect_tells_what_the_demo_told(demo: Demo) -> None:
    told = avar("inspect", demo.root, "--json").last_json
    for name in ("problems", "accepted", "rejected", "failed", "reasons"):
        assert told[name] == demo.result[name]
    shown = avar("inspect", demo.root, "--samples", "2", environment={"COLUMNS": "120"}).out
    assert f"{demo.result['accepted']} accepted" in shown
    assert shown.count("accepted ·") == 2
    assert "<think>" in shown


def test_curating_again_asks_no_teacher_and_changes_only_the_verdicts(demo: Demo, tmp_path: Path) -> None:
    strict = tmp_path / "strict"
    ran = avar("curate", demo.root, "--set", "filters.min_anchors=50", "--out", strict, "--json")
    assert ran.code == 0, ran.err
    assert ran.last_json["accepted"] == 0
    assert ran.last_json["problems"] == 200
    assert ran.last_json["reasons"]["too_few_anchors"] > 100
    assert len(datasets.load_from_disk(str(strict))["train"]) == 0
    assert not (strict / "logs" / "teacher.log").exists()


def test_held_out_rows_are_decided_by_id_alone() -> None:
    splits = [choose_split(sample(index), 0.25) for index in range(400)]
    assert splits == [choose_split(sample(index), 0.25) for index in range(400)]
    assert 60 <= splits.count("validation") <= 140
    assert choose_split(sample(0, Status.REJECTED), 0.25) == "rejected"
    assert {choose_split(sample(index), 0.0) for index in range(50)} == {"train"}
