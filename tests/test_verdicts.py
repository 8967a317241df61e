"""All filters together: order, scores, and what becomes of a draft."""

from __future__ import annotations

from dataclasses import replace

import pytest

from filters.reasons import Reason, Verdict, dropped, kept
from filters.verdicts import FILTERS, decide, judge, run_filters
from schemas.config import FilterSettings
from schemas.records import Draft, Failure, Stage, Status, sample_from_row, sample_to_row
from tests.test_answers import draft_of
from tests.test_format import call

SETTINGS = FilterSettings(min_tokens=5, max_tokens=200, min_anchors=2)
THINK = (
    "Looking at the image, I see three red bars. Wait, let me re-check the left bar in the figure: it is red "
    "as well, so there are four."
)
# Five claims about things that a description may leave out.
MANY = f"{THINK} The title is blue. The legend is green. The axis is black. The label is white."
GOOD = f"<think>{THINK}</think><answer>4</answer>"


BUNCHED = (
    "Looking at the image, I see three red bars; let me re-check the left bar in the figure. Wait, it is "
    f"red, so there are four. {' '.join(f'{number} and one makes {number + 1}.' for number in range(1, 12))}"
)


def drafted(trace: str, finish: str = "stop", description: str = "") -> Draft:
    calls = (call("describe", "stop"), call("anchor", finish))
    return replace(draft_of(trace, "4"), calls=calls, description=description)


def test_a_good_draft_is_accepted_with_every_score() -> None:
    sample = judge(drafted(GOOD), SETTINGS)
    assert (sample.status, sample.stage, sample.reason, sample.detail) == (Status.ACCEPTED, None, "", "")
    assert [verdict.filter for verdict in sample.verdicts] == list(FILTERS)
    assert all(verdict.keep and verdict.reason == "" for verdict in sample.verdicts)


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        # every later fault is there as well: the first in order decides
        (drafted("<think>It is", "length"), Reason.TRUNCATED),
        (drafted("the the the the", "repetition"), Reason.REPETITIVE),
        (drafted("<think>It is 5.</think>"), Reason.BAD_FORMAT),
        (drafted("<think>a</think><answer>4</answer><answer>5</answer>"), Reason.SEVERAL_ANSWERS),
        (drafted("<think>a</think><answer></answer>"), Reason.NO_ANSWER),
        (drafted(f"<think>{'so ' * 300}</think><answer>5</answer>"), Reason.TOO_LONG),
        (drafted("<think>It is 5, so 5.</think><answer>5</answer>"), Reason.ANSWER_WRONG),
        (
            drafted("<think>It is 4, or so.</think><answer>4 or 5, hard to say</answer>"),
            Reason.ANSWER_UNDECIDED,
        ),
        (drafted(GOOD.replace("Wait", "The description says 4. Wait")), Reason.MENTIONS_DESCRIPTION),
        (drafted("<think>Two and two make four.</think><answer>4</answer>"), Reason.TOO_FEW_ANCHORS),
        (
            drafted("<think>The image shows two bars. The chart shows two more.</think><answer>4</answer>"),
            Reason.NO_REFLECTION,
        ),
        (drafted(GOOD.replace("three", f"{'so it is as it was ' * 9} three")), Reason.REPETITIVE),
        (drafted(GOOD.replace("Wait", "You must answer the question below. Wait")), Reason.LEAKED_PROMPT),
        (drafted(GOOD.replace("Wait", "所以答案是四，我再检查一遍。 Wait")), Reason.MIXED_LANGUAGE),
        (drafted(GOOD.replace("Wait", "Final answer: 3\nFinal answer: 4\nWait")), Reason.SEVERAL_ANSWERS),
        (drafted(GOOD, description="Three red bars stand beside a fourth bar."), None),
        (drafted(GOOD, description="There are five red dots on the left."), Reason.ANCHORS_UNNAMED),
        (drafted(f"<think>{BUNCHED}</think><answer>4</answer>"), Reason.ANCHORS_BUNCHED),
        (
            drafted(GOOD, description="There are two red bars, one left and one right."),
            Reason.CLAIM_CONTRADICTED,
        ),
        (
            drafted(
                f"<think>{MANY}</think><answer>4</answer>", description="Bars, some of them bars in red."
            ),
            Reason.CLAIMS_UNSUPPORTED,
        ),
        (drafted(GOOD.replace("it is red as well, so there are four", "yes")), Reason.HOLLOW_REFLECTION),
    ],
    ids=lambda value: value if isinstance(value, Reason) else "",
)
def test_the_deciding_reason(draft: Draft, reason: Reason | None) -> None:
    sample = judge(draft, SETTINGS)
    if reason is None:
        assert (sample.status, sample.reason) == (Status.ACCEPTED, "")
        return
    assert (sample.status, sample.stage, sample.reason) == (Status.REJECTED, Stage.FILTER, reason)
    assert len(sample.verdicts) == len(FILTERS)
    assert sample.detail
    assert "\n" not in sample.detail


def test_a_short_trace() -> None:
    settings = FilterSettings(min_tokens=100)
    assert judge(drafted(GOOD), settings).reason == Reason.TOO_SHORT


def test_a_failed_draft_stays_failed() -> None:
    failure = Failure(stage=Stage.REASON, reason="teacher_timeout", detail="no answer within 600 s")
    sample = judge(replace(drafted(GOOD), failure=failure), SETTINGS)
    assert (sample.status, sample.stage, sample.reason, sample.detail, sample.verdicts) == (
        Status.FAILED,
        Stage.REASON,
        "teacher_timeout",
        "no answer within 600 s",
        (),
    )


def test_verdicts_are_the_same_every_time_and_survive_a_row() -> None:
    draft = drafted(GOOD.replace("4</answer>", "5</answer>"))
    assert run_filters(draft, SETTINGS) == run_filters(draft, SETTINGS)
    sample = judge(draft, SETTINGS)
    assert sample_from_row(sample_to_row(sample)) == sample


def test_scores_and_names_keep_their_promise() -> None:
    for trace in ("", GOOD, "<think>", "<answer>" * 9, "\x00\ud800", "a" * 100_000):
        for name, verdict in zip(FILTERS, run_filters(drafted(trace), SETTINGS), strict=True):
            assert verdict.filter == name
            assert 0 <= verdict.score <= 1
            assert verdict.keep is (verdict.reason is None)


def test_decide_takes_the_first_that_drops() -> None:
    keep, first = kept("a", 1.0), dropped("b", Reason.TOO_LONG, 0.0, "x")
    assert decide([keep, first, dropped("c", Reason.BAD_FORMAT, 0.0, "y")]) is first
    assert decide([keep]) is None
    assert decide([]) is None


def test_a_detail_is_one_short_line() -> None:
    verdict = dropped("a", Reason.BAD_FORMAT, 0.0, "one\ntwo  three" * 1_000)
    assert verdict.detail.startswith("one two three")
    assert len(verdict.detail) <= 300
    assert isinstance(verdict, Verdict)
    assert verdict.to_row().reason == "bad_format"
