"""The claims of a trace: which sentences are some, and in which form."""

from __future__ import annotations

import time

import pytest

from filters.claims import LONGEST, find_claims
from filters.grounding import MAX_CHARS
from tests.rows import draft


def claims(reasoning: str) -> tuple[str, ...]:
    return find_claims(draft(trace=f"<think>{reasoning}</think><answer>The bar is 7.</answer>"))


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        ("The third bar is 3.5 units high.", ("The third bar is 3.5 units high.",)),
        ("Looking back at the hat, it has a feather.", ("Looking back at the hat, it has a feather.",)),
        ('The corner is labelled "A".', ('The corner is labelled "A".',)),
        (
            "There is a blue circle. There is a red square.",
            ("There is a blue circle.", "There is a red square."),
        ),
        ("- Row 1 has 3 cells\n- Row 2 has 4 cells", ("Row 1 has 3 cells", "Row 2 has 4 cells")),
        ("Wait, the   line\tis dashed!", ("the line is dashed!",)),
        ("First row: the cell is red.", ("First row: the cell is red.",)),
        ("图中有 3 个红色的 circle。Angle A is 40°。", ("图中有 3 个红色的 circle。", "Angle A is 40°。")),
        ("The bar is 3. THE BAR IS 3. The bar is 4.", ("The bar is 3.", "The bar is 4.")),
    ],
)
def test_statements_about_the_image_are_claims(reasoning: str, expected: tuple[str, ...]) -> None:
    assert claims(reasoning) == expected


@pytest.mark.parametrize(
    "reasoning",
    [
        "",
        "So x is 4.",  # nothing of the image is named
        "Let me look at the picture once more.",  # states nothing
        "Is the third bar 3 units high?",
        "The bars are as follows:",
        "The bar is " + "very " * LONGEST + "high.",
    ],
)
def test_other_sentences_are_none(reasoning: str) -> None:
    assert claims(reasoning) == ()


def test_the_answer_is_no_claim_and_a_trace_without_blocks_is_read() -> None:
    assert find_claims(draft(trace="The bar is 3. <answer>The bar is 4.</answer>")) == ("The bar is 3.",)


@pytest.mark.parametrize(
    "text",
    [
        " \n",
        "- ",
        "wait, ",
        ". ",
        "。",
        "the red bar is 3. ",
        "looking back at ",
        "." + " " * 1000,
        "!" * 1000,
    ],
)
def test_reading_is_bounded_and_linear(text: str) -> None:
    started = time.perf_counter()
    found = claims(text * (MAX_CHARS // len(text)) + " The bar is 5." * 3)
    assert time.perf_counter() - started < 3
    assert all(len(claim) <= LONGEST for claim in found)


def test_only_the_beginning_of_a_long_trace_is_read() -> None:
    assert claims("x. " * (MAX_CHARS // 3 + 1) + "The bar is 5.") == ()
