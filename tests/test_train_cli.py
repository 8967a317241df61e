"""`avar train sft` as a person meets it: Ctrl-C and --resume, --report-to, and mistakes in one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flows.commands import split_names
from flows.interrupts import stop_after_step
from flows.recipes import load_recipe
from flows.train import TRAINING_FILE, train_run
from schemas.errors import AvarError, CheckpointError, ConfigError
from tests.conftest import avar
from tests.folder_run import start_avar
from tests.test_processes import wait_for
from tests.train_folder import train_command, write_dataset, write_student
from trainer.arguments import RunOptions, find_reporters
from trainer.checkpoints import load_model

STEPS = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Name -> step -> value, from every event file in the folder."""
    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file)).Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, {}).update({event.step: event.value for event in events.Scalars(name)})
    return found


@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on(data: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    model = write_student(tmp_path / "student")
    settings = {"steps": STEPS, "save_every": 4, "watch_every": 10, "watch_rows": 4, "diagnostics_every": 5}
    command = train_command(data, model, out, "--report-to", "tensorboard", "--json", **settings)
    process = start_avar(command, log, own_prefect=True)
    try:
        wait_for(lambda: (out / "checkpoint-4").is_dir() or process.poll() is not None, 60)
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    finally:
        process.kill()
    said = [line for line in log.read_text().splitlines() if line.startswith("avar: ")]
    assert code == 130, log.read_text()
    assert said[0] == "avar: stopping after this step, with a checkpoint; Ctrl-C again stops at once"
    assert len(said) == 2 and f"of {STEPS}; {out}/checkpoint-" in said[1]
    assert "the same command with --resume goes on from it" in said[1]
    assert "Traceback" not in log.read_text()
    stopped = int(said[1].split("after step ")[1].split(" of ")[0])
    assert 4 <= stopped < STEPS and not (out / TRAINING_FILE).exists()

    ran = avar(*command, "--resume", own_prefect=True)
    assert ran.code == 0, ran.err
    assert f"train: {STEPS}/{STEPS} in " in ran.err
    report, kept = ran.last_json, json.loads((out / TRAINING_FILE).read_text())
    assert len(ran.out.strip().splitlines()) == 1
    assert kept["history"] == report["history"] and kept["watch"] == report["watch"]
    assert [entry["step"] for entry in report["history"]] == list(range(1, STEPS + 1))
    assert [point["step"] for point in report["watch"]] == [0, 10, STEPS]
    load_model(out)

    told = scalars(out)
    for name in ("loss_lm", "enhance", "suppress", "image_share", "system_share", "sequences"):
        assert told[f"train/{name}"] == pytest.approx(
            {int(entry["step"]): entry[name] for entry in report["history"]}, rel=1e-5
        ), name
    assert told["train/held_out_image_gain"].keys() == {0, 10, STEPS}
    assert told["train/grad_norm_enhance"].keys() == {1, 5, 10, 15, STEPS}


def refused(data: Path, out: Path, *sets: str, **options: Any) -> str:
    """The one line that a training is refused with, before its model is loaded."""
    recipe = load_recipe("demo", ["train.model=/no/such/model", *sets])
    with pytest.raises(AvarError) as error:
        train_run(recipe, data, out, **options)
    assert "/no/such/model" not in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("wandb",), "--report-to wandb: not installed: pip install wandb"),
        (("tensorboard", "mlflow"), "--report-to mlflow: not installed: pip install mlflow"),
        (("azure_ml",), "not installed: pip install azureml-mlflow"),
        (("tensorbord",), "--report-to tensorbord: unknown; transformers knows azure_ml, "),
        (("none", "tensorboard"), "--report-to none: stands alone"),
    ],
)
def test_what_cannot_be_reported_to_is_said_before_the_model_is_loaded(
    data: Path, tmp_path: Path, names: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = "transformers.integrations.integration_utils.get_available_reporting_integrations"
    monkeypatch.setattr(installed, lambda: ["tensorboard"])
    assert words in refused(data, tmp_path / "out", report_to=names)


@pytest.mark.parametrize(
    ("names", "reporters"),
    [
        ((), ["none"]),
        (("none",), ["none"]),
        (("tensorboard", "tensorboard"), ["tensorboard"]),
        (("all",), ["all"]),
    ],
)
def test_names_are_transformers_own(names: tuple[str, ...], reporters: list[str]) -> None:
    assert find_reporters(names) == reporters


def test_names_come_one_by_one_or_in_lists() -> None:
    assert split_names(("tensorboard, wandb", "mlflow")) == ("tensorboard", "wandb", "mlflow")
    assert split_names(()) == ()
    assert RunOptions().report_to == ()


def test_a_folder_that_is_taken_names_resume(data: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("")
    said = refused(data, tmp_path)
    assert said.startswith(
        f"{tmp_path}: not empty; choose another --out for the model; --resume goes on from"
    )


def test_a_folder_that_cannot_be_made_is_said_before_the_model_is_loaded(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "out: cannot be made in " in refused(data, tmp_path / "file" / "deep" / "out")


@pytest.mark.parametrize("empty", [True, False])
def test_resume_without_a_checkpoint_fails(data: Path, tmp_path: Path, empty: bool) -> None:
    out = tmp_path / "out"
    if not empty:
        out.mkdir()
        (out / "checkpoint-abc").mkdir()
    recipe = load_recipe("demo", ["train.model=/no/such/model"])
    with pytest.raises(CheckpointError, match="no checkpoint to go on from") as error:
        train_run(recipe, data, out, resume=True)
    assert error.value.exit_code == 1


def test_adapters_without_peft_are_said_before_the_model_is_loaded(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert "pip install 'avar[lora]'" in refused(data, tmp_path / "out", "train.lora={rank: 4}")


def test_a_model_that_is_not_there_is_the_last_thing_said(data: Path, tmp_path: Path) -> None:
    """So that the tests above say something."""
    with pytest.raises(ConfigError, match="/no/such/model"):
        train_run(load_recipe("demo", ["train.model=/no/such/model"]), data, tmp_path / "out")


@pytest.fixture
def by_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.interrupts.runs_by_command", lambda: True)


@pytest.mark.usefixtures("by_command")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_asks_and_a_second_one_stops(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop_after_step("with a checkpoint") as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        signal.raise_signal(number)
    assert signal.getsignal(number) is before
    assert capfd.readouterr().err.count("stopping after this step, with a checkpoint") == 1


@pytest.mark.usefixtures("by_command")
def test_a_launcher_that_passes_a_signal_on_is_one_press(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with stop_after_step("keeping nothing") as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop()
    monkeypatch.setattr("flows.interrupts._ONE_PRESS_S", -1.0)
    with pytest.raises(KeyboardInterrupt), stop_after_step("keeping nothing"):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_on_a_schedule_the_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_after_step("keeping nothing") as stop:
        assert signal.getsignal(signal.SIGINT) is before
        assert not stop()


def test_help_shows_how_to_go_on() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "train", "sft", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for words in ("--set train.save_every=20 --resume", "--report-to tensorboard", "train.lora.rank=16"):
        assert words in done.stdout
