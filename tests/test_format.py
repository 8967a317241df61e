"""Form of a trace: blocks, endings of the stages, length."""

from __future__ import annotations

import time

import pytest

from filters.format import (
    CHARS_PER_TOKEN,
    check_final_answers,
    check_finish,
    check_format,
    check_length,
    count_tokens,
    split_trace,
    think_part,
)
from filters.reasons import Reason
from schemas.config import FilterSettings
from schemas.records import StageCall
from tests.test_answers import draft_of

SETTINGS = FilterSettings(min_tokens=5, max_tokens=50)


def call(stage: str, finish_reason: str) -> StageCall:
    return StageCall(
        stage=stage,
        model="m",
        prompt_hash="0" * 16,
        temperature=0.7,
        top_p=0.95,
        max_tokens=64,
        seed=0,
        finish_reason=finish_reason,
        prompt_tokens=1,
        completion_tokens=64,
    )


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        ("<think>a</think><answer>b</answer>", None),
        ("\n<think>\na\n</think>\n\n<answer>\nb\n</answer>\n", None),
        ("<think>a < b > c </ d></think><answer>b</answer>", None),
        ("", Reason.BAD_FORMAT),
        ("b", Reason.BAD_FORMAT),
        ("<answer>b</answer>", Reason.BAD_FORMAT),
        ("<think>a</think>", Reason.BAD_FORMAT),
        ("<think>a<answer>b</answer>", Reason.BAD_FORMAT),
        ("<think>a</think><answer>b", Reason.BAD_FORMAT),
        ("<think> </think><answer>b</answer>", Reason.BAD_FORMAT),
        ("<answer>b</answer><think>a</think>", Reason.BAD_FORMAT),
        ("<think>a<answer>b</answer></think>", Reason.BAD_FORMAT),
        ("so: <think>a</think><answer>b</answer>", Reason.BAD_FORMAT),
        ("<think>a</think><answer>b</answer> done", Reason.BAD_FORMAT),
        ("<think>a</think> then <answer>b</answer>", Reason.BAD_FORMAT),
        ("<think>a</think><think>a</think><answer>b</answer>", Reason.BAD_FORMAT),
        ("</think>a<think><answer>b</answer>", Reason.BAD_FORMAT),
        ("<think>a</think></answer>b<answer>", Reason.BAD_FORMAT),
        ("<THINK>a</THINK><answer>b</answer>", Reason.BAD_FORMAT),
        ("<think>a</think><answer></answer>", Reason.NO_ANSWER),
        ("<think>a</think><answer> \n </answer>", Reason.NO_ANSWER),
        ("<think>a</think><answer>b</answer><answer>c</answer>", Reason.SEVERAL_ANSWERS),
        ("<think>a <answer>b</answer></think><answer>b</answer>", Reason.SEVERAL_ANSWERS),
    ],
)
def test_check_format(trace: str, reason: Reason | None) -> None:
    verdict = check_format(draft_of(trace, "b"), SETTINGS)
    assert (verdict.reason, verdict.keep, verdict.score) == (reason, reason is None, float(reason is None))


@pytest.mark.parametrize(
    ("reasons", "reason", "score", "named"),
    [
        ((), None, 1.0, ""),
        (("stop", "stop", "stop"), None, 1.0, ""),
        (("stop", "length", "stop"), Reason.TRUNCATED, 2 / 3, "stage reason"),
        (("length", "length", "repetition"), Reason.TRUNCATED, 0.0, "stage describe"),
        (("stop", "stop", "content_filter"), Reason.TRUNCATED, 2 / 3, "stage anchor"),
        (("stop", "repetition"), Reason.REPETITIVE, 0.5, "stage reason"),
    ],
)
def test_check_finish(reasons: tuple[str, ...], reason: Reason | None, score: float, named: str) -> None:
    from dataclasses import replace

    stages = ("describe", "reason", "anchor")
    calls = tuple(call(stage, ending) for stage, ending in zip(stages, reasons, strict=False))
    verdict = check_finish(replace(draft_of("", "b"), calls=calls), SETTINGS)
    assert (verdict.reason, verdict.score) == (reason, pytest.approx(score))
    assert named in verdict.detail


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("one two", 2),
        ("It's 3.5 cm.", 8),
        ("snake_case42", 1),
        ("\n\t ", 0),
        ("中文字", 3),
        ("三个bars", 3),
        ("naïve café", 2),
        ("<think>", 3),
    ],
)
def test_count_tokens(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


@pytest.mark.parametrize(
    ("words", "reason", "score"),
    [
        (4, Reason.TOO_SHORT, 4 / 5),
        (5, None, 1.0),
        (50, None, 1.0),
        (51, Reason.TOO_LONG, 50 / 51),
        (100, Reason.TOO_LONG, 0.5),
        (0, Reason.TOO_SHORT, 0.0),
    ],
)
def test_check_length(words: int, reason: Reason | None, score: float) -> None:
    verdict = check_length(draft_of("w " * words, "b"), SETTINGS)
    assert (verdict.reason, verdict.score) == (reason, pytest.approx(score))


def test_a_huge_text_is_refused_by_its_characters() -> None:
    trace = "<think>" + "a" * 50_000_000 + "</think><answer>b</answer>"
    started = time.monotonic()
    verdict = check_length(draft_of(trace, "b"), SETTINGS)
    assert time.monotonic() - started < 1
    assert verdict.reason is Reason.TOO_LONG
    assert str(50 * CHARS_PER_TOKEN) in verdict.detail


@pytest.mark.parametrize(
    ("trace", "parts"),
    [
        ("<think> a </think>\n<answer> b </answer>", ("a", "b")),
        ("<think>a</think><answer></answer>", ("a", "")),
        ("a <answer>b</answer>", None),
    ],
)
def test_split_trace(trace: str, parts: tuple[str, str] | None) -> None:
    assert split_trace(trace) == parts


@pytest.mark.parametrize(
    ("trace", "think"),
    [
        ("<think>abc</think><answer>d</answer>", "abc"),
        ("abc<answer>d</answer>", "abc"),
        ("<think>abc", "abc"),
        ("<think>abcdefgh", "abcdef"),
        ("", ""),
    ],
)
def test_think_part(trace: str, think: str) -> None:
    assert think_part(trace, limit=6) == think


@pytest.mark.parametrize(
    ("think", "answers"),
    [
        ("So the answer would be 4. No, it is 5.", 0),
        ("Final answer: 4", 1),
        ("Final answer: 4\nI check it.\nFinal answer: 4.", 1),
        ("**Final answer:** 4\nNo.\n**Final answer:** 5\n", 2),
        ("Final answer: 4\nWait.\nThe final answer is 5.\nFinal answer: 6\n", 3),
        ("It is \\boxed{4}, that is \\boxed{4}.", 1),
        ("It is \\boxed{\\frac{1}{2}} or \\boxed{\\frac{1}{3}}.", 2),
    ],
)
def test_several_final_answers(think: str, answers: int) -> None:
    verdict = check_final_answers(draft_of(f"<think>{think}</think><answer>4</answer>", "4"), SETTINGS)
    several = answers > 1
    assert verdict.reason is (Reason.SEVERAL_ANSWERS if several else None)
    assert verdict.score == pytest.approx(1 / answers if several else 1)


@pytest.mark.parametrize(
    "piece", ["final answer ", "final answer: ", "\\boxed{", "\\boxed{1", "*", "final answer: 3\n"]
)
def test_final_answers_are_found_in_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.monotonic()
    check_final_answers(draft_of(f"<think>{text}</think>", "4"), SETTINGS)
    assert time.monotonic() - started < 2
