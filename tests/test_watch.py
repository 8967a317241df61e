"""When attention rises while the gain falls: the rule on tables, and a student it happens to."""

from __future__ import annotations

import io
import json
import logging
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import PIL.Image
import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from flows.recipes import load_recipe
from flows.train import TRAINING_FILE, train_run
from schemas.config import TrainSettings
from schemas.errors import AttentionError
from schemas.records import sample_features
from tests.test_sft import settings_with, trained
from tests.tiny import COLOURS, SETTINGS, make_dataset, make_row, texts
from trainer.sft import train_sft
from trainer.student import build_student
from trainer.watch import LOG, GainWatch, WatchPoint, blind_spot, gain_change, looks_more_uses_less

STEADY = (0.10, 0.12, 0.08, 0.11)


def point(step: int, share: float, gains: tuple[float | None, ...] = STEADY, **changes: Any) -> WatchPoint:
    known = [gain for gain in gains if gain is not None]
    values: dict[str, Any] = {
        "step": step,
        "image_gain": sum(known) / len(known) if known else None,
        "image_share": share,
        "vas_median": 1.0,
        "row_gains": gains,
    }
    return WatchPoint(**(values | changes))


def moved(by: float, spread: float = 0.0) -> tuple[float, ...]:
    """The steady gains, each changed by `by`, half of them a little more and half a little less."""
    return tuple(gain + by + spread * (-1) ** row for row, gain in enumerate(STEADY))


@pytest.mark.parametrize(
    ("points", "warns"),
    [
        ([point(0, 0.30)], False),
        ([point(0, 0.30), point(50, 0.60)], False),  # looks more, uses as much
        ([point(0, 0.30), point(50, 0.60, moved(0.05))], False),  # looks more, uses more
        ([point(0, 0.30), point(50, 0.30, moved(-0.05))], False),  # forgets, but looks no more
        ([point(0, 0.30), point(50, 0.319, moved(-0.05))], False),  # the rise is below the threshold
        ([point(0, 0.30), point(50, 0.33, moved(-0.05, 0.01))], True),
        ([point(0, 0.30), point(50, 0.33, moved(-0.02, 0.05))], False),  # a fall within noise
        ([point(0, 0.30), point(50, 0.33, moved(-0.07, 0.05))], True),  # 2.4 standard errors
        # The measure is the best point so far, not the first and not the last one.
        ([point(0, 0.30, moved(-0.08)), point(50, 0.40), point(100, 0.60, moved(-0.05))], True),
        ([point(0, 0.30), point(50, 0.50, moved(0.2)), point(100, 0.51, moved(0.0))], False),
        # Rows without a gain are left out in pairs; too few that are left say nothing.
        ([point(0, 0.30, (*STEADY, None)), point(50, 0.60, (*moved(-0.05), 0.3))], True),
        ([point(0, 0.30, STEADY[:3]), point(50, 0.60, moved(-0.05)[:3])], False),
        ([point(0, 0.30, (None,) * 4), point(50, 0.60, (None,) * 4)], False),
    ],
)
def test_a_warning_needs_a_rise_of_attention_and_a_fall_of_the_gain(
    points: list[WatchPoint], warns: bool
) -> None:
    assert (looks_more_uses_less(points) is not None) == warns


def test_the_warning_says_since_when_how_much_and_what_to_do() -> None:
    warning = looks_more_uses_less(
        [point(0, 0.3, moved(-0.08)), point(50, 0.4), point(100, 0.6, moved(-0.05))]
    )
    assert warning is not None and "\n" not in warning
    for part in ("step 100", "since step 50", "0.400 to 0.600", "fell by 0.0500", "train.guided.alpha"):
        assert part in warning


def test_the_change_of_the_gain_is_paired() -> None:
    """Rows differ far more than they change: unpaired, this fall would drown."""
    before = point(0, 0.3, (0.0, 1.0, 2.0, 3.0))
    after = point(1, 0.3, (-0.1, 0.8, 1.9, 2.8))
    assert gain_change(before, after) == pytest.approx((-0.15, 0.028868), rel=1e-4)


@pytest.mark.parametrize(
    ("gains", "blind"), [((0.1,) * 4, False), ((0.1, None, 0.1, 0.1), True), ((None,) * 8, True)]
)
def test_rows_that_can_never_warn_are_told(gains: tuple[float | None, ...], blind: bool) -> None:
    assert (blind_spot(point(0, 0.3, gains)) is not None) == blind


class Script:
    """Measurements made beforehand, in the shape of a `VasReport`."""

    def __init__(self, *points: WatchPoint) -> None:
        self.points = list(points)

    def __call__(self) -> Any:
        now = self.points.pop(0)
        return SimpleNamespace(
            image_gain=now.image_gain,
            user_shares={"image": now.image_share},
            median=now.vas_median,
            row_gain=now.row_gains,
        )


def run_watch(watch: GainWatch, steps: int, max_steps: int, tmp_path: Path) -> None:
    state = TrainerState(max_steps=max_steps)
    arguments, control = TrainingArguments(str(tmp_path)), TrainerControl()
    watch.on_train_begin(arguments, state, control)
    for step in range(1, steps + 1):
        state.global_step = step
        watch.on_step_end(arguments, state, control)


def test_it_measures_before_the_first_step_every_few_and_after_the_last(tmp_path: Path) -> None:
    heard: list[int] = []
    watch = GainWatch(Script(*[point(0, 0.3)] * 4), 3, lambda now: heard.append(now.step))
    run_watch(watch, 7, 7, tmp_path)
    assert heard == [now.step for now in watch.points] == [0, 3, 6, 7]
    assert watch.warnings == []


def test_a_spell_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = point(0, 0.5, moved(-0.05)), point(0, 0.5, moved(0.1))
    watch = GainWatch(Script(point(0, 0.3), bad, bad, good, point(0, 0.6)), 1, lambda now: None)
    with caplog.at_level(logging.WARNING, logger="trainer.watch"):
        run_watch(watch, 4, 4, tmp_path)
    assert [line.split(":")[0] for line in watch.warnings] == ["step 1", "step 4"]
    assert [record.getMessage() for record in caplog.records] == watch.warnings


# -------------------------------------------------------------------------------------- in a training


def colour_row(index: int, shown: str | None = None) -> dict[str, Any]:
    """Only the image tells the answer; `shown` is a colour that is not it, perhaps."""
    colour = random.Random(index).choice(list(COLOURS))
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (112, 112), COLOURS[shown or colour]).save(buffer, "PNG")
    images = [{"bytes": buffer.getvalue(), "path": "colour.png"}]
    return make_row(index, question="Which colour?", answer=colour, trace=colour, images=images)


def colour_rows(count: int, shuffled: bool = False) -> datasets.Dataset:
    dice = random.Random(1)
    shown = [dice.choice(list(COLOURS)) if shuffled else None for _ in range(count)]
    rows = [colour_row(index, colour) for index, colour in enumerate(shown)]
    return datasets.Dataset.from_list(rows, features=sample_features())


@pytest.mark.slow
def test_a_student_that_looks_more_and_uses_less_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It learns to read a colour off the image; then come images that say nothing, and a strong pull."""
    model, processor = build_student(SETTINGS, texts(), 0)
    base = {"learning_rate": 1e-2, "batch_size": 8, "watch_rows": 8, "diagnostics_every": 0}
    held_out = [colour_row(1000 + index) for index in range(8)]

    def train(rows: datasets.Dataset, settings: TrainSettings, guided: bool) -> Any:
        return train_sft(
            model, processor, rows, settings, seed=3, out_dir=tmp_path, guided=guided, held_out=held_out
        )

    learned = train(colour_rows(32), settings_with(steps=24, watch_every=12, **base), guided=True)
    assert [now.step for now in learned.watch] == [0, 12, 24]
    assert learned.watch[-1].image_gain > 0.5 and learned.warnings == ()
    assert learned.history[11]["held_out_image_gain"] == pytest.approx(learned.watch[1].image_gain)

    pull = {"form": "paper", "alpha": 1.0, "beta": 1.0}
    with caplog.at_level(logging.WARNING, logger="trainer.watch"):
        spoilt = train(
            colour_rows(32, shuffled=True), settings_with(pull, steps=8, watch_every=4, **base), guided=True
        )
    assert spoilt.watch[-1].image_share > spoilt.watch[0].image_share + 0.1
    assert len(spoilt.warnings) == 1 and spoilt.warnings[0].startswith("step 4: since step 0 ")
    assert caplog.messages == list(spoilt.warnings)
    assert spoilt.to_dict()["warnings"] == spoilt.warnings


def test_watching_changes_no_step(tmp_path: Path) -> None:
    held_out = [make_row(100 + index) for index in range(4)]
    plain, _ = trained(tmp_path / "a", guided=True, steps=2)
    watched, report = trained(tmp_path / "b", guided=True, steps=2, held_out=held_out, watch_every=1)
    assert len(report.watch) == 3
    for name, value in plain.state_dict().items():
        assert value.equal(watched.state_dict()[name])


def test_nothing_held_out_is_a_warning_and_not_asked_for_is_none(tmp_path: Path) -> None:
    _, empty = trained(tmp_path, guided=False, steps=1, held_out=[])
    assert len(empty.warnings) == 1 and "no row is held out" in empty.warnings[0]
    for changes in ({}, {"held_out": make_dataset(4), "watch_every": 0}):
        _, report = trained(tmp_path, guided=False, steps=1, **changes)
        assert (report.watch, report.warnings) == ((), ())


def test_rows_that_cannot_be_scored_say_how_to_train_without_a_watch(tmp_path: Path) -> None:
    blind = [make_row(0, images=[])]
    with pytest.raises(AttentionError, match=r"no row can be scored.*train\.watch_every=0"):
        trained(tmp_path, guided=False, steps=1, held_out=blind)


def test_a_warning_of_a_command_is_one_line_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = {"train": make_dataset(8), "validation": make_dataset(2)}
    monkeypatch.setattr("flows.train.load_dataset_dict", lambda data: splits)
    recipe = load_recipe("demo", ["train.steps=1", "train.batch_size=2", "train.student.layers=1"])
    report = train_run(recipe, tmp_path, tmp_path / "out")
    (warning,) = report.warnings
    assert "2 of 2 held-out rows have a gain, need at least 4" in warning
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("avar: ")]
    assert said == [f"avar: train: {warning}"]
    kept = json.loads((tmp_path / "out" / TRAINING_FILE).read_text())
    assert kept["warnings"] == [warning] and len(kept["watch"]) == 2
    assert LOG.propagate and len(LOG.handlers) == 1
