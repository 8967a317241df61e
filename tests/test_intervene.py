"""Steering compared: the same problems, the same decoding, only the attention differs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from filters.answers import is_correct
from flows.steer import SteerRun, parse_strengths, steering_remarks, steering_table
from schemas.errors import AttentionError, ConfigError
from schemas.shards import DatasetWriter
from tests.conftest import avar
from tests.tiny import make_row, new_student, student
from trainer.attention import is_prepared
from trainer.checkpoints import save_student
from trainer.intervene import SteeringComparison, compare_steering
from trainer.messages import encode, to_messages
from trainer.vas import measure_vas

ROWS = [make_row(index) for index in range(5)]
STRENGTHS = ((0.5, 0.0), (0.5, 0.6))


@cache
def comparison() -> SteeringComparison:
    model, processor = student()
    return compare_steering(model, processor, ROWS, STRENGTHS, max_new_tokens=8, batch_size=2)


def test_the_first_arm_is_the_model_as_it_is() -> None:
    model, processor = student()
    arm = comparison().arms[0]
    assert (arm.image, arm.system, arm.gain, arm.gain_interval) == (0, 0, 0, None)
    assert arm.vas.to_dict() == measure_vas(model, processor, ROWS, batch_size=2, gains=False).to_dict()
    for row, answer in zip(ROWS, arm.answers, strict=True):
        talk = to_messages(row, with_response=False)
        encoded = encode(processor, [talk], add_generation_prompt=True)
        with torch.no_grad():
            ids = model.generate(**encoded, max_new_tokens=8, do_sample=False)
        text = processor.decode(ids[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        assert (answer.id, answer.text) == (row["id"], text)
        assert answer.correct == is_correct(text, row["answer"])
    assert not is_prepared(model)


def test_every_arm_is_measured_under_its_own_steering() -> None:
    arms = comparison().arms
    assert [(arm.image, arm.system) for arm in arms] == [(0, 0), *STRENGTHS]
    assert [arm.vas.steering and arm.vas.steering["system"] for arm in arms] == [None, 0.0, 0.6]
    assert arms[0].vas.ratio_of_means < arms[1].vas.ratio_of_means < arms[2].vas.ratio_of_means
    assert all(len(arm.answers) == 5 and arm.finished == 0 for arm in arms)


def test_gains_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of five answers change from wrong to right under steering, none the other way."""
    model, processor = student()
    right = [f"<answer>{row['answer']}</answer>" for row in ROWS]
    batches = iter([["<answer>x</answer>"] * 5, right[:2] + ["I do not know"] * 3])
    monkeypatch.setattr(processor, "batch_decode", lambda ids, **_: next(batches), raising=False)
    arms = compare_steering(model, processor, ROWS, [(0.5, 0.5)], max_new_tokens=2, batch_size=5).arms
    assert [arm.accuracy for arm in arms] == [0, pytest.approx(0.4)]
    assert arms[1].gain == pytest.approx(0.4)
    assert arms[1].gain_interval is not None and arms[1].gain_interval[0] >= 0
    assert [arm.parsed for arm in arms] == [1, pytest.approx(0.4)]


def test_decoding_is_greedy_whatever_the_model_would_do() -> None:
    """A configuration that is passed to generate would inherit beams and penalties from the model's own."""
    model, processor = new_student()
    plain = compare_steering(model, processor, ROWS[:2], [], max_new_tokens=6)
    own = model.generation_config
    own.num_beams, own.repetition_penalty, own.do_sample, own.temperature = 3, 5.0, True, 9.0
    again = compare_steering(model, processor, ROWS[:2], [], max_new_tokens=6)
    assert [answer.text for answer in again.arms[0].answers] == [a.text for a in plain.arms[0].answers]
    assert model.generation_config is own
    own.eos_token_id = None
    with pytest.raises(AttentionError, match="names no eos_token_id"):
        compare_steering(model, processor, ROWS[:2], [], max_new_tokens=6)


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ([(0.1, 0.1), (0.1, 0.1)], "given twice"),
        ([(0.1, 1.0)], "need 0 <= system < 1"),
        ([(-1.0, 0.5)], "need a finite number of at least 0"),
    ],
)
def test_strengths_that_make_no_sense_are_refused_before_anything_runs(strengths: Any, message: str) -> None:
    model, processor = student()
    with pytest.raises(AttentionError, match=message):
        compare_steering(model, processor, ROWS, strengths, progress=lambda _: pytest.fail("ran"))
    with pytest.raises(AttentionError, match="no problems"):
        compare_steering(model, processor, [], [])


@pytest.mark.parametrize("text", ["", "0.15", "0.15:a", "1:2:3", "0.15:0,,"])
def test_strengths_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write for example 0.15:0,0.15:0.4"):
        parse_strengths(text)
    assert parse_strengths("0.15:0, 0.2:0.5") == ((0.15, 0.0), (0.2, 0.5))


def test_the_table_says_what_it_shows() -> None:
    table = steering_table(comparison())
    assert table.row_count == 3
    remarks = " ".join(steering_remarks(SteerRun("m", "d", "train", 9, comparison())))
    assert "5 of 9 train rows, greedy, at most 8 tokens" in remarks
    assert "No row is held out" in remarks
    assert "raise --max-new-tokens" in remarks, "no answer of the random student ends by itself"
    assert "do not show an effect" in remarks


def test_the_command_compares_and_keeps_every_answer(tmp_path: Path) -> None:
    model, processor = student()
    save_student(model, processor, tmp_path / "model")
    with DatasetWriter(tmp_path / "data") as writer:
        for row in ROWS:
            writer.write("train", row)
    out = tmp_path / "result"
    arguments = ("steer", tmp_path / "model", tmp_path / "data", "--max-new-tokens", "4", "--limit", "3")
    ran = avar(*arguments, "--strengths", "0.5:0.5", "--renormalise", "--out", out, "--json")
    assert ran.code == 0, ran.err
    stored = json.loads((out / "steer.json").read_text())
    assert {name: ran.last_json[name] for name in ("problems", "renormalise", "arms")} == {
        name: stored[name] for name in ("problems", "renormalise", "arms")
    }
    assert [len(arm["answers"]) for arm in stored["arms"]] == [3, 3]
    assert stored["arms"][1]["vas"]["steering"] == {"image": 0.5, "system": 0.5, "renormalise": True}
    taken = avar(*arguments, "--out", out)
    assert taken.code == 2
    assert taken.err.strip() == f"avar: {out}: not empty; choose another --out for the result"
    wrong = avar(*arguments, "--strengths", "0.5")
    assert wrong.code == 2 and len(wrong.err.strip().splitlines()) == 1
