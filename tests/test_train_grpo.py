"""`avar train grpo`, as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from click.testing import CliRunner

from flows.cli import avar
from flows.train_grpo import once_each
from schemas.errors import AvarError, ConfigError
from tests.conftest import avar as run_avar
from tests.tiny import make_dataset, new_student
from trainer.checkpoints import load_model, save_student

SHORT = ("--set", "grpo.steps=2", "--set", "grpo.max_new_tokens=8")


@pytest.fixture(scope="module", name="data")
def save_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "run"
    datasets.DatasetDict({"train": make_dataset(4), "validation": make_dataset(1)}).save_to_disk(str(folder))
    return folder


def test_the_command_trains_a_saved_model_and_says_how(data: Path, tmp_path: Path) -> None:
    start = save_student(*new_student(), tmp_path / "start")
    out = tmp_path / "out"
    ran = run_avar(
        *("train", "grpo", "demo", "--data", data, "--model", start, "--out", out, "--json", *SHORT),
        environment={"OMP_NUM_THREADS": "1"},
        own_prefect=True,  # which training has no use for
    )
    assert ran.code == 0, ran.err
    assert "train: 2/2" in ran.err and "Traceback" not in ran.err
    result = ran.last_json
    assert result["steps"] == 2 and result["model_path"] == str(out)
    assert [entry["step"] for entry in result["history"]] == [1, 2]
    training = json.loads((out / "training.json").read_text())
    assert training["grpo"]["model"] == str(start) and training["grpo"]["rewards"]["visual"] == "bounded"
    assert training["history"] == result["history"]
    assert {"rewards/visual/mean", "groups_without_spread", "reward"} <= training["history"][0].keys()
    load_model(out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "grpo.batch_size=6"], "no whole groups of 8: set grpo.batch_size=8"),
        (["--set", "grpo.gradient_accumulation=8"], "4 rows for 8 prompts a step"),
        (["--set", "grpo.generatons=4"], "did you mean `generations`"),
        (["--model", "/no/such/model"], "cannot be loaded"),
        (["--model", "/no/such/model", "--resume"], "no checkpoint to go on from"),
        (["--model", "/no/such/model", "--report-to", "none,tensorbord"], "--report-to none: stands alone"),
        (["--model", "/no/such/model", "--report-to", "tensorbord"], "unknown; transformers knows"),
        (["--set", "grpo.lora={targets: [nope]}"], "lora.targets: Target modules"),
    ],
)
def test_a_mistake_is_one_line_with_the_mend(
    arguments: list[str], message: str, data: Path, tmp_path: Path
) -> None:
    given = ["train", "grpo", "demo", "--data", str(data), "--out", str(tmp_path / "out"), *SHORT, *arguments]
    failed = CliRunner().invoke(avar, given).exception
    assert isinstance(failed, AvarError) and message in str(failed)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_and_a_missing_dataset_are_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    taken = CliRunner().invoke(avar, ["train", "grpo", "demo", "--data", str(data), "--out", str(tmp_path)])
    assert isinstance(taken.exception, ConfigError) and "not empty" in str(taken.exception)
    nowhere = CliRunner().invoke(avar, ["train", "grpo", "demo", "--out", str(tmp_path / "x")])
    assert isinstance(nowhere.exception, ConfigError) and "--data DIR" in str(nowhere.exception)


def test_a_problem_with_several_traces_is_asked_once() -> None:
    rows = make_dataset(3)
    several = datasets.concatenate_datasets([rows, rows.select([1, 1])])
    assert once_each(several)["id"] == rows["id"]
