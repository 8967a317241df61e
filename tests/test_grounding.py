"""Anchors, give-aways and reflections, by phrase."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from filters.anchors import check_anchors, find_elements, measure_spread, name_element
from filters.claims import find_claims
from filters.grounding import (
    MAX_CHARS,
    check_claims,
    check_reflection,
    check_trace,
    find_anchors,
    find_giveaways,
    find_reflections,
)
from filters.reasons import Reason
from schemas.config import FilterSettings
from schemas.records import Draft
from tests.test_answers import draft_of

SETTINGS = FilterSettings(min_anchors=2)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Looking back at the image, the bar is red.", 1),
        ("Looking back at the red circle in the image, it is large.", 1),
        ("Let me re-check the third bar in the figure: it ends at 4.", 1),
        ("In the picture I see four dogs.", 1),
        ("I can see two red circles in the image.", 1),
        ("Let me look again at the left corner.", 1),
        ("The figure shows a triangle.", 1),
        ("As shown in the diagram, AB = 3.", 1),
        ("Returning to the chart, the top bar is 5.", 1),
        ("Taking a closer look at the blue square, it is split.", 1),
        ("I count the red dots in the picture once more.", 1),
        ("Zooming in on the figure, and then re-examining the picture.", 2),
        ("From the chart, we read 5. The graph clearly indicates a rise.", 2),
        ("I glance at the top row of the image.", 1),
        ("We solve for x and get 5.", 0),
        ("The graph of f is a parabola, so its vertex is at 2.", 0),
        ("Draw a figure and call its corners A, B, C.", 0),
        ("On closer inspection the count is 4.", 0),
        ("Let me look at the equation again.", 0),
        ("", 0),
    ],
)
def test_find_anchors(text: str, count: int) -> None:
    spans = find_anchors(text)
    assert len(spans) == count
    assert all(text[span.start : span.end] == span.text for span in spans)


@pytest.mark.parametrize(
    "text",
    [
        "The description says there are 3 bars.",
        "According to the caption, the sky is blue.",
        "The circle is large, as described.",
        "The text mentions the image has four bars.",
        "Based on the given description, there are 4.",
        "The image description states that it is red.",
        "I cannot see the image, so I assume 4.",
        "I don't have access to the image.",
        "The description of the image mentions a dog.",
        "The picture is described as dark.",
        "Wait, the description only mentions two.",
        "The description doesn't mention the colour.",
        "Looking back at the description, the bar is red.",
        "It was described in the text that the bar is red.",
    ],
)
def test_giveaways_are_found(text: str) -> None:
    assert find_giveaways(text)
    trace = f"<think>Looking at the image, I see in the figure. {text}</think><answer>3</answer>"
    assert check_trace(draft_of(trace, "3"), SETTINGS).reason is Reason.MENTIONS_DESCRIPTION


@pytest.mark.parametrize(
    "text",
    [
        "The function describes a parabola.",
        "The path is a circle, as described by the equation.",
        "As described in the problem, the ball rolls.",
        "From the problem description, x is positive.",
        "In this description of the game, two players move.",
        "The text on the sign says STOP.",
        "We can describe the set by an inequality.",
        "I can't see the bottom of the figure clearly.",
        "A better description of the trend is linear growth.",
        "The label reads 12.",
    ],
)
def test_innocent_sentences_are_left_alone(text: str) -> None:
    assert not find_giveaways(text)


def test_a_question_about_captions_may_be_answered_in_its_own_words() -> None:
    text = "Based on the caption, B fits best."
    assert find_giveaways(text)
    assert not find_giveaways(text, question="Which caption fits the cartoon?")
    assert find_giveaways("The image description says B.", question="Which caption fits the cartoon?")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Wait, that is wrong.", 1),
        ("Let me re-check.", 1),
        ("On a closer look, it has five sides.", 1),
        ("I first thought it was 5, but it is 6.", 1),
        ("Let me double-check this.", 1),
        ("We verify the result.", 1),
        ("Recounting the dots gives 4.", 1),
        ("Actually, it is 5.", 1),
        ("My first count missed one.", 1),
        ("That can't be right.", 1),
        ("The waiter brings the bill.", 0),
        ("The wait time is 5 minutes.", 0),
        ("We compute x = 2.", 0),
        ("I recall the formula.", 0),
    ],
)
def test_find_reflections(text: str, count: int) -> None:
    assert len(find_reflections(text)) == count


ANCHOR = "Looking back at the image, the bar is red. "


PAD = "So I go on and add up what I have, and that is it. "


@pytest.mark.parametrize(
    ("think", "reason", "score"),
    [
        ("It is 3.", Reason.TOO_FEW_ANCHORS, 0.0),
        (ANCHOR, Reason.TOO_FEW_ANCHORS, 0.25 / 3),
        (ANCHOR * 2, None, 0.5 * 0.5),
        (ANCHOR * 8, None, 0.8),
        (ANCHOR * 2 + PAD * 6, Reason.ANCHORS_BUNCHED, 0.25 * 0.5),
        (ANCHOR + PAD * 6 + ANCHOR, None, 0.5 * 0.5),
        (PAD * 6 + ANCHOR * 2, Reason.ANCHORS_BUNCHED, 0.25 * 0.5),
        (ANCHOR.replace(" ", "\n"), Reason.TOO_FEW_ANCHORS, 0.25 / 3),
    ],
)
def test_check_anchors(think: str, reason: Reason | None, score: float) -> None:
    verdict = check_anchors(draft_of(f"<think>{think}</think><answer>3</answer>", "3"), SETTINGS)
    assert (verdict.reason, verdict.score) == (reason, pytest.approx(score))


@pytest.mark.parametrize(
    ("looked_at", "description", "named"),
    [
        ("the red bar", "A red bar and a blue one.", True),
        ("the bar", "A red bar and a blue one.", True),
        ("the redd bar", "A red bar and a blue one.", True),
        ("the purple hexagon", "A red bar and a blue one.", False),
        ("the red hexagon", "A red bar and a blue one.", False),
        ("what is red", "A red bar and a blue one.", False),
        ("the man's hat", "A man in a coat holds the hat.", True),
        ("angle ABC", "Angle ABC is 30 degrees.", True),
        ("row 2, column 3", "Row 2, column 3 holds a star.", True),
        ("the image", "The image shows an image.", False),
    ],
)
def test_an_anchor_names_what_the_description_has(looked_at: str, description: str, named: bool) -> None:
    found = name_element(f"Looking back at {looked_at} in the image:", find_elements(description))
    assert (found is not None) is named
    trace = f"<think>{f'Looking back at {looked_at} in the image, I think again. {PAD}' * 2}</think>"
    verdict = check_anchors(replace(draft_of(trace, "3"), description=description), SETTINGS)
    assert verdict.reason is (None if named else Reason.ANCHORS_UNNAMED)


def test_spread_is_the_share_of_quarters() -> None:
    spans = find_anchors("the image shows " * 8)
    assert measure_spread(spans, 16 * 8) == 1
    assert measure_spread(spans[:1], 16 * 8) == 0.25
    assert measure_spread([], 0) == 0


def grounded(statement: str, description: str) -> Draft:
    """A draft that looks back often enough, and states something."""
    think = f"{statement} {ANCHOR} {PAD} Looking back at the bar in the image again, I go on."
    return replace(draft_of(f"<think>{think}</think><answer>3</answer>", "3"), description=description)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("The red bar reaches 7.", None),
        ("The red bar reaches 8.", Reason.CLAIM_CONTRADICTED),
        ("The red bar seemed to reach 8.", None),
        ("So the bars are 3 apart.", None),
    ],
)
def test_a_contradicted_claim_drops(statement: str, reason: Reason | None) -> None:
    draft = grounded(statement, "The red bar reaches 7. The blue bar reaches 4.")
    assert check_claims(draft, SETTINGS).reason is reason
    assert check_trace(draft, SETTINGS).reason is reason
    assert check_trace(draft).reason is reason
    assert check_trace(draft).filter == "grounding"
    assert check_claims(draft, FilterSettings(max_contradicted=1)).keep


def test_the_score_of_claims_is_the_share_supported() -> None:
    draft = grounded("The red bar reaches 7. The bar of the mayor is open.", "The red bar reaches 7.")
    verdict = check_claims(draft, SETTINGS)
    assert (verdict.keep, verdict.score) == (True, pytest.approx(2 / 3))


def test_only_a_trace_with_enough_claims_must_have_some_supported() -> None:
    claims = [f"The bar of mayor {name} is open." for name in ("Ada", "Bo", "Cy", "Di", "Ed", "Flo")]
    strict = FilterSettings(min_supported=0.9)
    long = grounded(" ".join(claims), "The red bar reaches 7.")
    assert check_claims(long, strict).reason is Reason.CLAIMS_UNSUPPORTED
    short = grounded(" ".join(claims[:2]), "The red bar reaches 7.")
    assert check_claims(short, strict).keep
    assert check_claims(grounded("It is 3.", "A dog."), SETTINGS).keep


def test_a_sentence_with_a_fact_is_a_claim_without_a_word_for_an_element() -> None:
    wrong = grounded("Now AB = 15 cm. So it goes on.", "The figure shows AB = 12 cm and BC = 5 cm.")
    assert "Now AB = 15 cm." in find_claims(wrong)
    assert "So it goes on." not in find_claims(wrong)
    assert check_claims(wrong, SETTINGS).reason is Reason.CLAIM_CONTRADICTED


def test_without_a_description_the_verdict_says_that_nothing_was_compared() -> None:
    verdict = check_trace(grounded("The red bar reaches 7.", ""), SETTINGS)
    assert verdict.keep
    assert "no description" in verdict.detail


def test_no_anchor_is_needed_where_none_is_asked_for() -> None:
    verdict = check_trace(draft_of("<think>It is 3.</think>", "3"), FilterSettings(min_anchors=0))
    assert verdict.keep


def test_only_the_reasoning_counts() -> None:
    assert not check_trace(draft_of(f"<think>x</think><answer>{ANCHOR * 2}</answer>", "3"), SETTINGS).keep
    assert not check_reflection(draft_of("<think>x</think><answer>Wait, no.</answer>", "3"), SETTINGS).keep


def test_the_choices_may_speak_of_a_description() -> None:
    draft = draft_of(f"<think>{ANCHOR * 2} By the description B fits.</think>", "3", ("3", "a description"))
    assert check_trace(draft, SETTINGS).keep
    plain = replace(draft, problem=replace(draft.problem, choices=()))
    assert check_trace(plain, SETTINGS).reason is Reason.MENTIONS_DESCRIPTION


@pytest.mark.parametrize(
    "piece", ["look at the ", "I see a ", "check find ", "in the image ", "the text ", "x"]
)
def test_time_is_linear(piece: str) -> None:
    text = (piece * (MAX_CHARS // len(piece)))[:MAX_CHARS]
    started = time.monotonic()
    find_anchors(text)
    find_reflections(text)
    assert time.monotonic() - started < 10
