"""A training that was stopped and goes on ends as one that was not: weights, history, watch."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from schemas.config import GrpoSettings
from schemas.errors import CheckpointError, InterruptedRunError
from tests.test_sft import settings_with
from tests.tiny import make_dataset, make_row, new_student
from trainer.arguments import RunOptions
from trainer.checkpointing import CheckpointingTrainer
from trainer.checkpoints import IMAGE_FILE, VIDEO_FILE, load_model
from trainer.grpo import GrpoReport, describe_grpo, train_grpo
from trainer.resuming import STATE_FILE, describe_run, find_checkpoint, latest_checkpoint
from trainer.rewards import AccuracyReward
from trainer.sft import SftReport, train_sft

STEPS = 6  # epochs of four steps: a checkpoint lies within one, another at its end
BASE: dict[str, Any] = {
    "steps": STEPS,
    "save_every": 2,
    "watch_every": 2,
    "watch_rows": 4,
    "diagnostics_every": 3,
    "learning_rate": 2e-3,
}
HELD_OUT = [make_row(100 + index) for index in range(4)]


def train(
    out: Path, *, resume: bool = False, stop_after: int | None = None, guided: bool = True, **changes: Any
) -> tuple[Any, SftReport]:
    """A new student after a training; after `stop_after` steps somebody asks it to stop."""
    model, processor = new_student()
    asked = iter(range(1, 100))

    def stop() -> bool:
        return next(asked) == stop_after

    report = train_sft(
        model,
        processor,
        make_dataset(16),
        settings_with(**BASE | changes),
        seed=3,
        out_dir=out,
        guided=guided,
        held_out=HELD_OUT,
        options=RunOptions(resume=resume, stop=stop),
    )
    return model, report


@dataclass(frozen=True)
class Whole:
    """A training that nobody stopped."""

    out: Path
    weights: dict[str, Any]
    report: SftReport


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out = tmp_path_factory.mktemp("whole") / "model"
    model, report = train(out)
    return Whole(out, model.state_dict(), report)


def assert_same(model: Any, report: SftReport, weights: dict[str, Any], expected: SftReport) -> None:
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-5, atol=1e-7, msg=name)
    assert [entry["step"] for entry in report.history] == list(range(1, STEPS + 1))
    for found, entry in zip(report.history, expected.history, strict=True):
        assert found == pytest.approx(entry, rel=1e-5, abs=1e-7)
    assert report.watch == expected.watch and report.warnings == expected.warnings


@pytest.mark.parametrize(
    ("stopped", "changes"),
    [
        (3, {}),  # within an epoch, after a step that no checkpoint was due at
        (4, {}),  # at the end of an epoch
        (3, {"guided": False, "gradient_accumulation": 2, "batch_size": 2}),
        (3, {"lora": {"rank": 4, "dropout": 0.1}}),  # dropout: the random numbers go on, too
    ],
    ids=str,
)
def test_a_stopped_training_ends_as_a_whole_one(
    whole: Whole, tmp_path: Path, stopped: int, changes: dict[str, Any]
) -> None:
    weights, expected = whole.weights, whole.report
    if changes:
        model, expected = train(tmp_path / "whole", **changes)
        weights = model.state_dict()
    out = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError) as error:
        train(out, stop_after=stopped, **changes)
    assert str(error.value).startswith(
        f"stopped after step {stopped} of {STEPS}; {out}/checkpoint-{stopped} is kept"
    )
    assert not (out / "config.json").exists(), "half a training is no model"
    model, report = train(out, resume=True, **changes)
    assert_same(model, report, weights, expected)
    assert len(report.watch) == 4 and [point.step for point in report.watch] == [0, 2, 4, 6]
    assert report.history[-1]["num_tokens"] == expected.history[-1]["num_tokens"] > 16 * 50
    saved, _ = load_model(out)
    for name, weight in model.state_dict().items():
        assert torch.equal(saved.state_dict()[name], weight), name


def test_without_the_mend_the_weights_are_lost(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers 5.23 does by itself. Where this fails, its Trainer has learnt to load them."""
    shutil.copytree(whole.out, tmp_path / "out", ignore=shutil.ignore_patterns("checkpoint-6"))
    monkeypatch.setattr(CheckpointingTrainer, "_load_from_checkpoint", Trainer._load_from_checkpoint)
    model, _ = train(tmp_path / "out", resume=True)
    far = [
        name
        for name, weight in model.state_dict().items()
        if not torch.allclose(weight, whole.weights[name], rtol=1e-2, atol=1e-3)
    ]
    assert len(far) > len(whole.weights) / 2


def test_a_checkpoint_of_the_last_step_trains_no_further(whole: Whole, tmp_path: Path) -> None:
    """As after a kill between the last checkpoint and the model."""
    out = tmp_path / "out"
    out.mkdir()
    shutil.copytree(whole.out / "checkpoint-6", out / "checkpoint-6")
    model, report = train(out, resume=True)
    assert_same(model, report, whole.weights, whole.report)
    assert report.steps == STEPS


def test_a_checkpoint_that_was_cut_off_is_passed_over(
    whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole.out, tmp_path / "out")
    last = tmp_path / "out" / "checkpoint-6"
    (last / STATE_FILE).unlink()
    with caplog.at_level(logging.WARNING, logger="trainer.resuming"):
        assert latest_checkpoint(tmp_path / "out").step == 4
    assert caplog.messages == ["checkpoint-6 was cut off while it was written: going on from checkpoint-4"]
    model, report = train(tmp_path / "out", resume=True)
    assert_same(model, report, whole.weights, whole.report)
    assert latest_checkpoint(tmp_path / "out").step == 6


def test_the_latest_checkpoints_stay(whole: Whole) -> None:
    assert sorted(path.name for path in whole.out.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


def test_a_checkpoint_opens_like_any_model(whole: Whole) -> None:
    model, processor = load_model(whole.out / "checkpoint-6")
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, whole.weights[name]), name
    files = ("config.json", "generation_config.json", "processor_config.json", "tokenizer.json")
    for name in (*files, "chat_template.jinja", IMAGE_FILE, VIDEO_FILE):
        assert (whole.out / "checkpoint-6" / name).read_bytes() == (whole.out / name).read_bytes(), name
    assert type(processor).__name__ == "Qwen2_5_VLProcessor"


def rename_record(out: Path) -> None:
    """As a checkpoint that another trainer has written."""
    file = out / "checkpoint-6" / STATE_FILE
    state = json.loads(file.read_text())
    state["stateful_callbacks"].pop("RunRecord")
    file.write_text(json.dumps(state))


def cut_all(out: Path) -> None:
    for file in out.glob(f"*/{STATE_FILE}"):
        file.write_text("{")


def lose_weights(out: Path) -> None:
    (out / "checkpoint-6" / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shutil.rmtree, "no checkpoint to go on from: train without --resume"),
        (cut_all, "no whole checkpoint to go on from"),
        (rename_record, "checkpoint-6: was not made by `avar train`"),
        (lose_weights, "checkpoint-6: its weights cannot be loaded"),
    ],
)
def test_nothing_to_go_on_from_is_one_line(
    whole: Whole, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    shutil.copytree(whole.out, tmp_path / "out")
    change(tmp_path / "out")
    with pytest.raises(CheckpointError, match=words) as error:
        train(tmp_path / "out", resume=True)
    assert "\n" not in str(error.value) and error.value.exit_code == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 0.5}, "train.learning_rate was 0.002, is 0.5"),
        ({"steps": 9}, "train.steps was 6, is 9"),
        ({"guided": False}, "method was sft, is sft --plain"),
        ({"lora": {"rank": 4}}, "train.lora.alpha was None, is 32.0"),
        ({"guided_loss": {"form": "paper"}}, "train.guided.form was bounded, is paper"),
    ],
    ids=str,
)
def test_another_training_is_refused(whole: Whole, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match="of another training") as error:
        train(whole.out, resume=True, **changes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_other_rows_are_another_training(whole: Whole) -> None:
    model, processor = new_student()
    with pytest.raises(CheckpointError, match=r"rows was .*, is "):
        train_sft(
            model,
            processor,
            make_dataset(15),
            settings_with(**BASE),
            seed=3,
            out_dir=whole.out,
            guided=True,
            held_out=HELD_OUT,
            options=RunOptions(resume=True),
        )


def test_another_number_of_processes_is_another_training(monkeypatch: pytest.MonkeyPatch) -> None:
    one = describe_run("sft", settings_with(), 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    two = describe_run("sft", settings_with(save_every=7, gradient_checkpointing=True), 0)
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert one == two, "how often it is kept is no part of it"


def test_a_vllm_server_may_have_moved_and_settings_have_the_recipe_s_names(tmp_path: Path) -> None:
    def described(**changes: Any) -> dict[str, Any]:
        return describe_grpo(GrpoSettings.model_validate(changes), HELD_OUT, seed=0)

    one = described(vllm="http://one:8000")
    assert one == described(vllm="http://two:8000") != described()
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    kept = {"attributes": {"run": one, "tokens": 1.0, "parts": {}}}
    (folder / STATE_FILE).write_text(
        json.dumps({"global_step": 1, "stateful_callbacks": {"RunRecord": kept}})
    )
    with pytest.raises(CheckpointError, match=r"grpo\.beta was 0\.0, is 0\.5; grpo\.vllm was True, is False"):
        find_checkpoint(tmp_path, described(beta=0.5))


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        InterruptedRunError, match=r"stopped after step 1 of 6; nothing is kept: .*save_every"
    ):
        train(tmp_path / "out", stop_after=1, save_every=0, watch_every=0, diagnostics_every=0)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


# ------------------------------------------------------------------------------------------------ GRPO

TIMES = {"step_time"}


def train_policy(
    out: Path, *, resume: bool = False, stop: bool = False, **changes: Any
) -> tuple[Any, GrpoReport]:
    """A new student after four steps of GRPO that samples itself; `stop` asks for an end at once."""
    model, processor = new_student()
    given = {"steps": 4, "batch_size": 4, "generations": 4, "max_new_tokens": 6, "learning_rate": 1e-3}
    settings = GrpoSettings.model_validate(given | {"save_every": 2} | changes)
    options = RunOptions(resume=resume, stop=lambda: stop)
    report = train_grpo(model, processor, make_dataset(6), settings, seed=3, out_dir=out, options=options)
    return model, report


@pytest.mark.parametrize(
    ("changes", "stopped"),
    [
        ({}, 1),
        ({"iterations": 2}, 2),  # two updates on the same completions stay together
        ({"lora": {"rank": 4}, "beta": 0.1}, 1),
    ],
    ids=str,
)
def test_a_stopped_grpo_ends_as_a_whole_one(
    tmp_path: Path, changes: dict[str, Any], stopped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_chance(self: Any, completions: Any, **columns: Any) -> list[float]:
        """What a random student says is right half of the time, so that there is something to learn."""
        return [float(sum(map(ord, completion[0]["content"])) % 2) for completion in completions]

    monkeypatch.setattr(AccuracyReward, "__call__", by_chance)
    whole, expected = train_policy(tmp_path / "whole", **changes)
    with pytest.raises(InterruptedRunError, match=f"stopped after step {stopped} of 4; .*-{stopped} is kept"):
        train_policy(tmp_path / "out", stop=True, **changes)
    model, report = train_policy(tmp_path / "out", resume=True, **changes)
    assert [entry["step"] for entry in report.history] == [1, 2, 3, 4]
    for found, entry in zip(report.history, expected.history, strict=True):
        assert found.keys() == entry.keys() and "loss_lm" not in found
        for name in entry.keys() - TIMES:
            assert found[name] == pytest.approx(entry[name], rel=1e-4, abs=1e-6), name
    start = new_student()[0].state_dict()
    assert any(not torch.equal(start[name], value) for name, value in whole.state_dict().items())
    saved = load_model(tmp_path / "out")[0].state_dict()
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, rtol=1e-5, atol=1e-7, msg=name)
        assert torch.equal(saved[name], model.state_dict()[name]), name
    assert (tmp_path / "out" / "adapter").is_dir() == ("lora" in changes)
