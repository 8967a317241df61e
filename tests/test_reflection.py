"""A chain that checks itself, and one that only says so."""

from __future__ import annotations

import time

import pytest

from filters.anchors import MAX_CHARS
from filters.reasons import Reason
from filters.reflection import check_reflection, find_checks, find_reflections
from schemas.config import FilterSettings
from tests.rows import draft

BEFORE = (
    "In the image I count the red circles: there are 3, and the blue bar reaches 12. So the total is 15. "
)


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        ("Wait, a fourth red circle hides behind the bar, so there are 4, not 3.", "corrected"),
        ("I first thought there were 3 red circles, but the corner holds another one: 4.", "corrected"),
        ("Wait, the bar is blue, not 12 but 14 high.", "corrected"),
        ("Let me verify: 3 red circles and a bar of 12 together give 15.", "re-derived"),
        ("To be sure, I count the circles by rows: 2 above, 1 below, 3 in all.", "re-derived"),
        ("Let me double-check the bar by its gridlines: it passes 10 and ends at 12.", "re-derived"),
        ("Let me double-check. Yes, everything looks right.", "hollow"),
        ("Wait, let me check again. The answer is correct, and I am confident.", "hollow"),
        ("Let me verify my reasoning once more. 15 is correct.", "hollow"),
        ("Hold on. Let me think about this carefully.", "hollow"),
        (f"Let me re-check. {BEFORE}", "hollow"),
    ],
)  # fmt: skip
def test_what_comes_of_a_check(check: str, kind: str) -> None:
    found = find_checks(BEFORE + check)
    assert [one.kind for one in found] == [kind]


def test_a_sentence_said_before_checks_nothing() -> None:
    text = BEFORE + "Let me double-check. So the total is 15."
    assert [one.kind for one in find_checks(text)] == ["hollow"]


@pytest.mark.parametrize(
    ("think", "reason", "score"),
    [
        ("There are 3 circles.", Reason.NO_REFLECTION, 0.0),
        (BEFORE + "Wait, let me double-check. Yes, that is right.", Reason.HOLLOW_REFLECTION, 0.0),
        (BEFORE + "Let me verify: 3 red circles and a bar of 12 together give 15.", None, 0.5),
        (
            BEFORE + "Let me verify: 3 red circles and a bar of 12 together give 15. The question asks no "
            "more than that of me. Wait, a fourth red circle hides behind the bar, so there are 4, not 3.",
            None,
            2 / 3,
        ),
    ],
)
def test_the_verdict(think: str, reason: Reason | None, score: float) -> None:
    verdict = check_reflection(draft(trace=f"<think>{think}</think><answer>15</answer>"), FilterSettings())
    assert (verdict.reason, verdict.score) == (reason, pytest.approx(score))


def test_how_many_checks_are_needed_is_a_setting() -> None:
    trace = f"<think>{BEFORE}Let me verify: 3 red circles and a bar of 12 together give 15.</think>"
    assert check_reflection(draft(trace=trace), FilterSettings(min_reflections=1)).keep
    assert check_reflection(draft(trace=trace), FilterSettings(min_reflections=2)).reason is (
        Reason.HOLLOW_REFLECTION
    )
    assert check_reflection(draft(trace="<think>3.</think>"), FilterSettings(min_reflections=0)).keep


@pytest.mark.parametrize(
    "piece", ["wait, ", "Let me verify 3 circles. ", "to be sure ", "x ", "3 ", "A ", "Wait, no 4. "]
)
def test_time_is_linear(piece: str) -> None:
    text = (piece * (MAX_CHARS // len(piece)))[:MAX_CHARS]
    started = time.perf_counter()
    find_checks(text)
    find_reflections(text)
    assert time.perf_counter() - started < 4
