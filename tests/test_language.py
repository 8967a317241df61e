"""Loops, second scripts and prompt text in a trace."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from filters.format import TOKEN
from filters.language import (
    NGRAM,
    check_language,
    check_prompt,
    check_repetition,
    find_prompt,
    measure_foreign,
    measure_repetition,
)
from filters.reasons import Reason
from schemas.config import FilterSettings
from synth.prompts import anchor_prompt, reason_prompt
from tests.bench.filters_grounding import make_drafts
from tests.conftest import ROOT
from tests.rows import draft, problem

SETTINGS = FilterSettings()


# ------------------------------------------------------------------------------------------------ loops


def slow_repetition(text: str) -> float:
    """Share of words that end an 8-gram seen before, by comparing every pair."""
    words = [match[0] for match in TOKEN.finditer(text.lower())]
    grams = [words[start : start + NGRAM] for start in range(len(words) - NGRAM + 1)]
    repeated = sum(any(gram == other for other in grams[:place]) for place, gram in enumerate(grams))
    return repeated / len(words) if words else 0.0


def test_repetition_is_what_comparing_all_pairs_gives() -> None:
    rng = random.Random(3)
    for _ in range(40):
        phrases = [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=11)) for _ in range(6)]
        text = ". ".join(rng.choices(phrases, k=9))
        if measure_repetition(text) < 1:  # a loop is counted whole
            assert measure_repetition(text) == pytest.approx(slow_repetition(text))


@pytest.mark.parametrize(
    ("think", "kept"),
    [
        ("The red bar is 3 high, the blue bar 5, and the green one 7, so the sum is 15.", True),
        ("So " * 40, False),
        ("I see 3 bars here. " * 3, True),
        ("I see 3 bars here. " * 9, False),
        ("One two three four. " + "So the answer to the question must be the red bar. " * 6, False),
        (" ".join(f"Bar {place} ends at {place * 7 % 13} gridlines." for place in range(30)), True),
        ("图中有三个红色的圆形。" * 12, False),
    ],
)  # fmt: skip
def test_loops_are_found(think: str, kept: bool) -> None:
    verdict = check_repetition(draft(trace=f"<think>{think}</think><answer>3</answer>"), SETTINGS)
    assert verdict.keep is kept
    assert verdict.reason is (None if kept else Reason.REPETITIVE)


def test_a_loop_at_the_end_of_a_long_trace_is_found() -> None:
    rng = random.Random(0)
    words = " ".join(f"w{rng.randrange(10**6)}" for _ in range(3_000))
    assert measure_repetition(words) < 0.1
    assert measure_repetition(f"{words} {'and so on and so forth ' * 6}") == 1.0


# ---------------------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The angle α is 30°, so β = 60°.", True),
        ("The red bar is higher. Поэтому ответ три, и это правильно.", False),
        ("The red bar is higher. 所以答案是三，我再检查一遍图中的形状。", False),
        ("图中有三个红色的圆形，所以答案是 3 (three)。", True),
        ("Le café est à gauche, déjà vu.", True),
        ("3 + 4 = 7", True),
        ("", True),
    ],
)
def test_a_second_script_is_found(text: str, kept: bool) -> None:
    verdict = check_language(draft(trace=f"<think>{text}</think><answer>3</answer>"), SETTINGS)
    assert verdict.keep is kept
    assert verdict.reason is (None if kept else Reason.MIXED_LANGUAGE)


def test_words_of_the_question_and_the_description_may_be_quoted() -> None:
    think = "The sign reads 出口 and 入口, and the label says 出口 again."
    trace = f"<think>{think}</think><answer>3</answer>"
    assert check_language(draft(trace=trace), SETTINGS).reason is Reason.MIXED_LANGUAGE
    assert check_language(draft(trace=trace, description="Signs: 出口, 入口."), SETTINGS).keep
    asked = problem(question="Which sign is left, 出口 or 入口?")
    assert check_language(draft(trace=trace, problem=asked), SETTINGS).keep


def test_the_share_is_of_letters() -> None:
    share, script = measure_foreign("abcdefgh" + "я" * 2)
    assert (share, script) == (pytest.approx(0.2), "Cyrillic")
    assert measure_foreign("123 !?") == (0.0, "")


# ---------------------------------------------------------------------------------------------- prompts

PROMPTS = sorted((ROOT / "synth" / "prompts").glob("*.jinja"))


def instructions(path: Path) -> list[str]:
    """The lines of a prompt that tell its reader something, as they are rendered for one image."""
    text = re.sub(r"\{\{[^}]*\"the image\"[^}]*\}\}", "the image", path.read_text(encoding="utf-8"))
    lines = (re.sub(r"\{[{%].*?[%}]\}", "", line) for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if len(line.split()) >= 12]


def test_there_are_prompts() -> None:
    assert len(PROMPTS) >= 6
    assert sum(len(instructions(path)) for path in PROMPTS) >= 20


@pytest.mark.parametrize("path", PROMPTS, ids=lambda path: path.stem)
def test_every_line_of_the_projects_own_prompts_is_known(path: Path) -> None:
    for line in instructions(path):
        assert find_prompt(f"So I think. {line} Then I look."), line


def test_a_prompt_as_it_is_sent_is_found() -> None:
    for prompt in (anchor_prompt(problem(), "It is 4."), reason_prompt(problem(), "Four circles.")):
        trace = f"<think>I look at it. {prompt} It is 4.</think><answer>4</answer>"
        verdict = check_prompt(draft(trace=trace), SETTINGS)
        assert (verdict.reason, verdict.score) == (Reason.LEAKED_PROMPT, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>assistant It is 4.",
        "It is 4.<|eot_id|>",
        "[INST] Look at the picture [/INST]",
        "{{ question }} is what I was asked.",
        "As an AI language model I cannot be sure.",
        "Here is the rewritten reasoning: the bar is red.",
        "<question>How many?</question>",
        "You are a helpful assistant that answers questions.",
    ],
)
def test_marks_of_templates_and_roles_are_found(text: str) -> None:
    assert find_prompt(text)


@pytest.mark.parametrize(
    "text",
    [
        "Let me answer the question: the bar is red.",
        "I go through the bars one by one and keep every value in mind.",
        "If a < b and b > c, then {x | x > 0} is the set.",
        "The sign says: you should not park here.",
        "I write the sum as 3 + 4 and read the result.",
        "The question asks for the answer in centimetres.",
        "You can see that the angle is right.",
    ],
)
def test_a_chains_own_words_are_none(text: str) -> None:
    assert find_prompt(text) is None


def test_right_traces_hold_no_prompt_text_and_no_loops() -> None:
    for made in make_drafts(40):
        assert check_prompt(made, SETTINGS).keep
        assert check_repetition(made, SETTINGS).keep
        assert check_language(made, SETTINGS).keep


@pytest.mark.parametrize(
    "piece",
    ["you ", "you cannot ", "{{ a ", "<|a", "write the your ", "so ", "a b ", "я", "图", "\ud800", "</"],
)
def test_time_is_linear(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    made = draft(trace=f"<think>{text}</think><answer>3</answer>")
    started = time.perf_counter()
    for check in (check_repetition, check_language, check_prompt):
        check(made, SETTINGS)
    assert time.perf_counter() - started < 5
