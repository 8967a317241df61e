"""A change that is not meant to alter the method leaves every step of a training as it was."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.golden.regenerate import FILE, FORMS, LOSSES, SCORES, Trajectory, run, settings_of

# Relative and absolute tolerance. Rounding, as 1e-6 of each weight, moves a loss by less than 1e-6 of its
# value, the smallest of the terms by 1e-3; the first two steps, before any update, by less.
EARLY, LATE = (1e-4, 1e-5), {"loss": (1e-3, 0.0), "loss_lm": (1e-3, 0.0)}
LATE_TERM = (2e-2, 1e-4)
SCORE = {"vas": (5e-2, 0.0), "median": (5e-2, 0.0), "ratio_of_means": (1e-2, 0.0), "image_gain": (5e-2, 2e-4)}


@cache
def golden() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def departures(found: Trajectory, expected: Trajectory) -> list[str]:
    """Every figure that is not the expected one."""
    pairs = [
        (f"step {step} {name}", now[name], then[name], EARLY if step <= 2 else LATE.get(name, LATE_TERM))
        for step, (now, then) in enumerate(zip(found["steps"], expected["steps"], strict=True), start=1)
        for name in LOSSES
    ]
    pairs += [
        (f"{when} {name}", found[when][name], expected[when][name], SCORE[name])
        for when in ("before", "after")
        for name in SCORES
    ]
    return [
        f"{what}: {now:.6g}, golden {then:.6g}"
        for what, now, then, (relative, absolute) in pairs
        if abs(now - then) > max(relative * abs(then), absolute)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_the_trajectory_is_the_golden_one(form: str) -> None:
    found = departures(run(settings_of(form)), golden()["forms"][form])
    assert not found, f"{len(found)} figures moved; meant? python -m tests.golden.regenerate\n" + "\n".join(
        found
    )


@pytest.mark.parametrize(
    ("form", "change"),
    [("bounded", {"alpha": 0.165}), ("paper", {"beta": 0.165}), ("bounded", {"image_target": 0.55})],
)
def test_a_tenth_more_of_one_weight_is_noticed(form: str, change: dict[str, float]) -> None:
    found = departures(run(settings_of(form, **change)), golden()["forms"][form])
    assert len(found) >= 10
    assert any(line.startswith("step 1 ") for line in found)


def test_the_file_holds_the_training_that_is_run() -> None:
    assert golden()["made"]["train"] == settings_of("bounded").model_dump(mode="json")
