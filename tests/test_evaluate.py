"""Scores: what counts as right, and shares and intervals against hand-made ones."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from tests.public_rows import HALLUSION
from trainer.evaluate import Scored, evaluate, hallusion_figures, score_answer


def row(answer: str = "12", **changes: Any) -> dict[str, Any]:
    return {"id": "1", "source": "s", "choices": [], "answer": answer} | changes


def score(text: str, answer: str = "12", **changes: Any) -> Scored:
    return score_answer(row(answer, **changes), text, finished=True, tokens=4)


@pytest.mark.parametrize(
    ("text", "answer", "changes", "verdict", "read"),
    [
        ("<think>a</think><answer>12</answer>", "12", {}, "equal", "12"),
        (r"So \boxed{12}.", "12", {}, "equal", "12"),
        ("The answer is 12.", "12", {}, "equal", "12"),
        ("<think>a</think><answer>13</answer>", "12", {}, "different", "13"),
        ("B", "12", {"choices": ["10", "12"]}, "equal", "B"),
        ("B", "12", {"options": ["10", "12"]}, "equal", "B"),
        ("3,5", "3.5", {}, "undecided", "3,5"),
        ("1.2", "1.24", {"decimals": 1}, "equal", "1.2"),
        ("0.5", "1/2", {"answers": ["7", "1/2"]}, "equal", "0.5"),
        ("I see a picture of it all.", "12", {}, "undecided", None),
        ("", "12", {}, "different", None),
        ("<think>It is 12. So it is 12.", "12", {}, "different", None),
        ("<think>It is 12.</think>", "12", {}, "different", None),
        ("It is 12.</think>13", "12", {}, "different", "13"),
        (r"<think>\boxed{13}? No.</think>The answer is 12.", "12", {}, "equal", "12"),
        ("<think><answer>13</answer>?</think>The answer is 12.", "12", {}, "equal", "12"),
        ("<think>a</think>It is 12.<think>Or 13", "12", {}, "different", None),
        ("<think>a</think><answer>12", "12", {}, "different", None),
        ("<answer>13</answer><answer>12</answer>", "12", {}, "equal", "12"),
        ("Yes, it is larger.", "Yes", {}, "equal", "Yes"),
        ("The answer is no.", "No", {}, "equal", "No"),
        ("The answer is **No**, because it is red.", "No", {}, "equal", "No"),
        ("**Answer:** No", "Yes", {}, "different", "No"),
        ("They are equal. So, no.", "No", {}, "equal", "No"),
        ("In the image, yes, it is.", "Yes", {}, "equal", "Yes"),
        ("To answer yes or no: yes", "Yes", {}, "equal", "Yes"),
        ("The answer is yes or no.", "Yes", {}, "undecided", None),
        ("It is, yes, or, no, not.", "Yes", {}, "undecided", None),
        ("There is no image.", "No", {}, "undecided", None),
        ("I see discs on the left, right, and below.", "Yes", {}, "undecided", None),
        ("<think>The answer is no.</think>The answer is yes.", "No", {}, "different", "Yes"),
    ],
)
def test_an_answer_is_right_only_where_the_checker_says_so(
    text: str, answer: str, changes: dict[str, Any], verdict: str, read: str | None
) -> None:
    scored = score(text, answer, **changes)
    assert (scored.verdict, scored.answer) == (verdict, read)
    assert scored.correct == (verdict == "equal") and scored.text == text


def test_a_rule_s_form_is_read_and_judged() -> None:
    for text, correct, obeyed in (
        ('{"answer": "12"}', True, True),
        ('<think>It is 12.</think>{"answer": 13}', False, True),
        ("<answer>12</answer>", True, False),
    ):
        scored = score(text, rule="json")
        assert (scored.correct, scored.obeyed, scored.rule) == (correct, obeyed, "json")
    assert score("12").obeyed is None


def make(count: int, seed: int = 0, **changes: Any) -> list[Scored]:
    dice = random.Random(seed)
    plain = score("12")
    return [
        replace(
            plain,
            id=str(number),
            verdict=dice.choice(["equal", "equal", "different", "undecided"]),
            answer=dice.choice(["1", None]),
            finished=dice.random() < 0.7,
            tokens=dice.randint(1, 9),
            category=dice.choice("ab"),
            **changes,
        )
        for number in range(count)
    ]


def test_shares_are_counts_over_rows() -> None:
    first, second = make(7, source="one"), make(5, 1, source="two")
    result = evaluate([*first, *second])
    assert list(result.sources) == ["one", "two"]
    for name, rows in (("one", first), ("two", second)):
        share = result.sources[name]
        assert share.rows == len(rows)
        assert share.accuracy == pytest.approx(sum(one.verdict == "equal" for one in rows) / len(rows))
        assert share.parsed == pytest.approx(sum(one.answer == "1" for one in rows) / len(rows))
        assert share.truncated == pytest.approx(sum(not one.finished for one in rows) / len(rows))
        assert share.undecided == sum(one.verdict == "undecided" for one in rows)
        assert share.tokens == pytest.approx(sum(one.tokens for one in rows) / len(rows))
        assert sum(part.rows for part in result.categories[name].values()) == len(rows)
    right = sum(one.correct for one in (*first, *second))
    assert result.overall.accuracy == pytest.approx(right / 12)
    assert result.mean == pytest.approx((result.sources["one"].accuracy + result.sources["two"].accuracy) / 2)
    assert json.loads(json.dumps(result.to_dict()))["sources"]["two"]["rows"] == 5


def test_intervals_are_the_bootstrap_s() -> None:
    """Against rows drawn one by one, the slow way, with other random numbers."""
    rows = make(40)
    right = [one.correct for one in rows]
    dice = random.Random(7)
    means = sorted(sum(dice.choices(right, k=40)) / 40 for _ in range(4000))
    interval = evaluate(rows).overall.interval
    assert interval is not None
    assert interval == pytest.approx((means[100], means[3899]), abs=0.026), "a step of the mean is 0.025"
    assert evaluate(rows[:1]).overall.interval is None
    with pytest.raises(ValueError, match="no answers"):
        evaluate([])


def test_a_refused_row_counts_as_wrong_and_as_failed() -> None:
    refused = score_answer(row(), "", finished=False, tokens=-1, error="prompt_too_long: no")
    share = evaluate([score("12"), refused]).overall
    assert (share.accuracy, share.failed, share.truncated, share.tokens) == (0.5, 1, 0.0, 4.0)


def test_refusals_count_for_obedience_alone() -> None:
    refusal = "I am sorry, but I cannot help with this question."
    result = evaluate([score('{"answer": "12"}', rule="json"), score(refusal, rule="refuse")])
    assert (result.overall.rows, result.overall.accuracy) == (1, 1.0)
    assert result.obedience is not None and result.obedience.overall.share == 1.0
    assert {name: one.share for name, one in result.obedience.kinds.items()} == {"format": 1, "refusal": 1}
    alone = evaluate([score(refusal, rule="refuse")])
    assert (alone.overall.rows, alone.overall.accuracy) == (1, 0.0)
    assert evaluate([score("12")]).obedience is None


def test_hallusionbench_s_own_figures() -> None:
    """By hand: VD's question is wrong for one of two figures, VS's first is right twice, its second once."""
    names = [(values[0], values[1], values[2], values[3], values[4]) for values in HALLUSION]
    wrong = {("VD", "illusion", "0", "1", "0"), ("VS", "chart", "0", "1", "1")}
    scored = [
        replace(score("Yes", "No" if group in wrong else "Yes"), id=str(number), group=group)
        for number, group in enumerate(names)
    ]
    figures = hallusion_figures(scored)
    assert {name: (one["groups"], one["accuracy"]) for name, one in figures.items()} == {
        "aAcc": (6, pytest.approx(4 / 6)),
        "fAcc": (3, pytest.approx(1 / 3)),  # figures VD 0, VD 1 and VS 1; VS 0 is none
        "qAcc": (3, pytest.approx(1 / 3)),
    }
    second = replace(scored[0], id="7", group=("VD", "illusion", "1", "0", "0"))
    more = hallusion_figures([*scored, second])
    assert [more[name]["groups"] for name in ("aAcc", "fAcc", "qAcc")] == [7, 4, 4], (
        "sets count questions anew"
    )
    renamed = [replace(one, source="hallusionbench") for one in scored]
    assert evaluate(renamed).official["hallusionbench"]["qAcc"] == figures["qAcc"]
    assert evaluate(scored).official == {}
