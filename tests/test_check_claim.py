"""A claim against a description: prose, logic forms, tables and states, in several renderings."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from filters.descriptions import render_json, render_lines, render_rows, render_scene
from filters.facts.values import Judgement
from filters.grounding import check_claim
from filters.verdicts import run_filters
from schemas.config import FilterSettings
from tests.bench.filters_grounding import measure_claims, read_scenes
from tests.bench.scene_renderings import RENDERINGS
from tests.conftest import SHARED_DATA
from tests.rows import draft

needs_data = pytest.mark.skipif(
    not (SHARED_DATA / "grounding_claims.jsonl").exists(),
    reason="the shared data sets are not beside the project",
)

CHART = (
    'The image shows a bar chart titled "Monthly sales". There are four bars. The red bar is on the far left '
    "and reaches 12. The blue bar reaches 7. The green bar, third from the left, has a height of 9, and the "
    'yellow bar on the right ends at 15. The vertical axis is labelled "Units sold" and runs from 0 to 20.'
)
SHAPES = (
    "There is a red circle on the left and a blue square in the upper right corner. Two green triangles lie "
    "at the bottom. A small black dot sits in the centre of the red circle. In all there are 4 large shapes."
)
TRIANGLE = (
    "The figure is a triangle ABC. Point D lies on side BC. AB = 5 cm, AC = 8, and angle BAC is 60°. AD is "
    "perpendicular to BC. Points A and B lie on circle O. The length of side BC is marked as x + 3."
)
SCORES = 'A table with two columns, "Name" and "Score".\nOlga | 58\nPiet | 91\nUma | 73'
STREET = (
    "The table lists prices: apples cost $1.20 per kilogram, pears cost $2.50 per kilogram. The clock on the "
    'wall shows 3:45. A man in a blue shirt holds a sign reading "STOP".'
)
GRID = "\n".join(
    (
        "Row 1, column 1 holds a red star.",
        "Row 1, column 2 holds a blue cross.",
        "Row 2, column 1 holds a pink star.",
    )
)
ELEMENT = (
    "Element 1 is a red triangle at the middle left, centred at (12.7, 57.3), 14.9 wide and 13.4 high, "
    "covering 1.18 percent of the picture. Element 2 is a brown triangle at the lower left, centred at "
    "(21.1, 78.5), 19.9 wide and 17.6 high, covering 1.97 percent of the picture."
)


@pytest.mark.parametrize(
    ("description", "claim", "expected"),
    [
        (CHART, "The blue bar reaches 7.", "supported"),
        (CHART, "The blue bar reaches 9.", "contradicted"),
        (CHART, "The green bar has a height of 9.", "supported"),
        (CHART, "There are four bars in the chart.", "supported"),
        (CHART, "I see five bars in the chart.", "contradicted"),
        (CHART, "The purple bar is the tallest.", "contradicted"),
        (CHART, "Looking back at the yellow bar in the image: it ends at 15.", "supported"),
        (CHART, "Looking again at the yellow bar in the figure: it ends at 14.", "contradicted"),
        (CHART, "The red bar reaches 12 and the blue bar reaches 7.", "supported"),
        (CHART, "The red bar reaches 7 and the blue bar reaches 12.", "contradicted"),
        (CHART, "The red bar is on the left.", "supported"),
        (CHART, "The red bar is on the right.", "contradicted"),
        (CHART, 'The chart is titled "Monthly sales".', "supported"),
        (CHART, 'The chart is titled "Monthly costs".', "contradicted"),
        (CHART, "The vertical axis runs from 0 to 20.", "supported"),
        (CHART, "So the difference is 15 - 7 = 8.", "unknown"),
        (CHART, "The yellow bar is 8 higher than the blue bar.", "unknown"),
        (CHART, "These two bars are close.", "unknown"),
        (CHART, "If the blue bar were 9, the sum would be 21.", "unknown"),
        (CHART, "The weather is nice.", "unknown"),
        (SHAPES, "There is a red circle on the left.", "supported"),
        (SHAPES, "The circle is red.", "supported"),
        (SHAPES, "The circle is blue.", "contradicted"),
        (SHAPES, "The square is in the lower left.", "contradicted"),
        (SHAPES, "I can see two green triangles.", "supported"),
        (SHAPES, "I can see three green triangles.", "unknown"),  # two lie at the bottom: there may be more
        (SHAPES, "There are five large shapes.", "contradicted"),
        (SHAPES, "There are two triangles at the bottom.", "supported"),
        (SHAPES, "The red square is in the upper right corner.", "contradicted"),
        (SHAPES, "There is a yellow star.", "unknown"),
        (SHAPES, "I first thought there were three green triangles.", "unknown"),
        (SHAPES, "At first glance the square looked red.", "unknown"),
        (SHAPES, "There is no red triangle.", "unknown"),
        (SHAPES, "The red square does not count.", "contradicted"),
        (TRIANGLE, "AB = 5", "supported"),
        (TRIANGLE, "AB is 5 cm", "supported"),
        (TRIANGLE, "BA = 6", "contradicted"),
        (TRIANGLE, "∠BAC = 60°", "supported"),
        (TRIANGLE, "angle CAB = 60 degrees", "supported"),
        (TRIANGLE, "angle CAB = 50 degrees", "contradicted"),
        (TRIANGLE, "D lies on BC", "supported"),
        (TRIANGLE, "D lies on AB", "unknown"),
        (TRIANGLE, "Point B is on circle O", "supported"),
        (TRIANGLE, "BC ⊥ AD", "supported"),
        (TRIANGLE, "The figure shows triangle BCA.", "supported"),
        (TRIANGLE, "The figure shows triangle AXY.", "contradicted"),
        (TRIANGLE, "BC = 3 + x", "supported"),
        (TRIANGLE, "Since BC = 7, we get x = 4.", "unknown"),
        (TRIANGLE, "AB + AC = 13", "unknown"),
        (TRIANGLE, "2·AB = 10", "unknown"),
        (TRIANGLE, "Side AC is 9.", "contradicted"),
        (SCORES, "Piet scored 91.", "supported"),
        (SCORES, "Piet's score is 73.", "contradicted"),
        (SCORES, 'In the table, the "Score" value for Uma is 73', "supported"),
        (SCORES, 'In the table, the "Score" value for Uma is 58', "contradicted"),
        (SCORES, "Piet scored 18 more than Uma.", "unknown"),
        (SCORES, "Piet and Uma scored 164 in all.", "unknown"),
        (STREET, "Pears cost $2.50 per kilogram.", "supported"),
        (STREET, "The clock shows 3:45.", "supported"),
        (STREET, "The clock shows 4:45.", "contradicted"),
        (STREET, 'The sign reads "STOP".', "supported"),
        (STREET, 'The sign reads "YIELD".', "contradicted"),
        (STREET, "The man's shirt is red.", "contradicted"),
        (GRID, "Row 1, column 2 holds a blue cross.", "supported"),
        (GRID, "Row 1 holds, from left to right: red star, blue cross.", "supported"),
        (GRID, "Row 1 holds, from left to right: blue cross, red star.", "contradicted"),
        (GRID, "Looking back at row 2, column 1 in the image: it holds a red star.", "contradicted"),
        (GRID, "By this rule row 2, column 1 should hold a red star.", "unknown"),
        (ELEMENT, "The red triangle covers 1.18 percent of the picture.", "supported"),
        (ELEMENT, "The red triangle covers 1.97 percent of the picture.", "contradicted"),
        (ELEMENT, "The brown triangle has its centre at 78.5 percent from the top.", "supported"),
        (ELEMENT, "The brown triangle has its centre at 57.3 percent from the top.", "contradicted"),
        (ELEMENT, "The red triangle is at the lower right.", "contradicted"),
        (ELEMENT, "The red circle at the middle left is small.", "contradicted"),
        ("", "The bar is red.", "unknown"),
        (CHART, "", "unknown"),
    ],
)
def test_prose(description: str, claim: str, expected: Judgement) -> None:
    assert check_claim(claim, description) == expected


FORMS = {
    "diagram_logic_form": [
        "Equals(LengthOf(Line(B, C)), 11)",
        "Equals(MeasureOf(Angle(C, B, A)), 2x-8)",
        "Equals(MeasureOf(Angle(B, A, C)), MeasureOf(Angle(B, D, C)))",
        "PointLiesOnLine(D, Line(B, C))",
        "PointLiesOnCircle(A, Circle(O, radius_4_0))",
        "Parallel(Line(A, D), Line(C, E))",
    ],
    "line_instances": ["AB", "AC", "BC", "AD", "CE"],
    "point_positions": {"A": [1.0, 2.0], "B": [3.0, 4.5], "C": [7.0, 8.0], "D": [5.0, 6.0], "E": [9.0, 1.0]},
}
TABLE = {
    "title": "Prices",
    "table": "Ware | Price per kg\nrye bread | $5.20\nrolls, brown | $7\nleeks | ",
    "table_for_pd": {"Ware": ["rye bread", "rolls, brown", "leeks"], "Price per kg": ["$5.20", "$7", ""]},
}
CLOCK = {"current_hour": 3, "current_minute": 7, "subtract_hour": 1, "subtract_minute": 40}
JUGS = {"capacities": [9, 4, 2], "start": [8, 0, 1], "end": [4, 4, 1], "steps": [[8, 0, 1], [4, 4, 1]]}
STATED = [
    ("geometry3k", FORMS, "CB = 11", True),
    ("geometry3k", FORMS, "BC = 13", False),
    ("geometry3k", FORMS, "angle ABC = 2x-8 degrees", True),
    ("geometry3k", FORMS, "angle BDC = angle CAB", False),  # the forms give it the other way round: unknown
    ("geometry3k", FORMS, "angle BAC = MeasureOf(Angle(B, D, C)) degrees", True),
    ("geometry3k", FORMS, "Point D lies on line CB", True),
    ("geometry3k", FORMS, "Point E lies on line CB", False),
    ("geometry3k", FORMS, "Point A lies on circle O", True),
    ("geometry3k", FORMS, "CE is parallel to DA", True),
    ("geometry3k", FORMS, "CE is perpendicular to DA", False),
    ("geometry3k", FORMS, "The diagram shows triangle BAC", True),
    ("geometry3k", FORMS, "The diagram shows triangle BXY", False),
    ("tabmwp", TABLE, 'In the table, the "Price per kg" value for rye bread is $5.20', True),
    ("tabmwp", TABLE, 'In the table, the "Price per kg" value for rye bread is $7', False),
    ("tabmwp", TABLE, 'In the table, the "Price per kg" value for rolls, brown is $7.00', True),
    ("tabmwp", TABLE, 'In the table, the "Price per kg" value for leeks is ', True),
    ("tabmwp", TABLE, 'In the table, the "Price per kg" value for leeks is $7', False),
    ("algopuzzlevqa", CLOCK, "The clock shows 3:07", True),
    ("algopuzzlevqa", CLOCK, "The clock shows 1:40", False),
    ("algopuzzlevqa", CLOCK, "The clock shows 7:03", False),
    ("algopuzzlevqa", JUGS, "The jugs initially contain 8, 0, 1 litres from left to right", True),
    ("algopuzzlevqa", JUGS, "The jugs initially contain 4, 4, 1 litres from left to right", False),
    ("algopuzzlevqa", JUGS, "The jugs initially contain 8, 1, 0 litres from left to right", False),
]


@pytest.mark.parametrize("rendering", RENDERINGS)
@pytest.mark.parametrize(("dataset", "scene", "claim", "true"), STATED, ids=lambda value: str(value)[:40])
def test_every_rendering_of_an_annotation_is_read(
    dataset: str, scene: dict[str, object], claim: str, true: bool, rendering: str
) -> None:
    if rendering in ("own notation", "markdown") and "triangle BAC" in claim:
        pytest.skip("this rendering leaves the drawn lines out")
    description = RENDERINGS[rendering](dataset, scene)
    assert (check_claim(claim, description) == "supported") is true


def test_a_table_without_a_header_has_numbered_columns() -> None:
    text = "oat bread | $3 per kilogram\nplums | $8 per kilogram"
    assert check_claim('In the table, the "Column 2" value for plums is $8/kilogram', text) == "supported"
    assert (
        check_claim('In the table, the "Column 2" value for plums is $3 per kilogram', text) == "contradicted"
    )
    assert check_claim('In the table, the "Column 3" value for plums is $3 per kilogram', text) == "unknown"


def test_rounding_is_the_claims_own() -> None:
    text = "The blue bar reaches 3.52."
    assert check_claim("The blue bar reaches 3.5.", text) == "supported"
    assert check_claim("The blue bar reaches about 4.", text) != "contradicted"
    assert check_claim("The blue bar reaches 4.", text) == "contradicted"


# ------------------------------------------------------------------------------------------ real annotations


@needs_data
def test_the_bar_on_real_claims_is_met_by_both_halves_under_every_rendering() -> None:
    measured = list(measure_claims(SHARED_DATA, ["all"]))
    assert {(row["rendering"], row["half"]) for row in measured} == set(
        product(RENDERINGS, ("built", "held out", "both"))
    )
    assert min(row["balanced_accuracy"] for row in measured) >= 0.97, measured


@needs_data
def test_no_sentence_of_a_right_solution_is_contradicted() -> None:
    """The sources' own solutions are true: what they say of their pictures may not be held against them."""
    counts: Counter[Judgement] = Counter()
    for text, sentence in right_sentences():
        verdict = check_claim(sentence, text)
        assert verdict != "contradicted", (sentence, text)
        counts[verdict] += 1
    assert counts.total() > 2_000
    assert counts["supported"] > 50


def right_sentences() -> Iterator[tuple[str, str]]:
    """(description, sentence) for the worked solutions of the tables and the pattern puzzles."""
    for dataset, fields in (("tabmwp", ("solution",)), ("puzzlevqa", ("explanation", "deduction"))):
        path = SHARED_DATA / dataset / "items.jsonl"
        scenes = read_scenes(path)
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            scene = scenes[row["id"]]
            texts = (
                render_scene(dataset, scene),
                render_json(scene),
                render_rows(scene),
                render_lines(scene),
            )
            for field, text in product(fields, texts):
                for sentence in filter(None, re.split(r"(?<=[.!?])\s+|\n+", row[field] or "")):
                    yield text, sentence


# ------------------------------------------------------------------------------------------- hostile texts


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "(",
            "[",
            "[[",
            "{'a': [",
            '"a',
            "'a' ",
            "| a | b \n",
            "Equals(LengthOf(Line(A, B)), 5) ",
            "AB = 5, ",
        ),
        *("angle ABC is ", "Point A lies on line BC and ", "1, 2, 3, ", "5 and ", "a: b\n", "hour minute "),
        *("row 1, column 2 a red star ", "there are 3 red circles ", "the red bar reaches 7. ", "is is is "),
        *('In the table, the "a" value for b is ', "0" * 50 + " ", "\ud800", "\x00", "图", " ", "\\", "-"),
    ],
)
def test_a_megabyte_of_anything_is_judged_in_bounded_time(piece: str) -> None:
    text = (piece * (1_000_000 // len(piece) + 1))[:1_000_000]
    started = time.perf_counter()
    assert check_claim(text, text) in ("supported", "contradicted", "unknown")
    assert check_claim("The red bar reaches 7.", text) in ("supported", "contradicted", "unknown")
    assert time.perf_counter() - started < 4


def test_judging_is_the_same_every_time() -> None:
    claims = [claim for *_, claim, _ in STATED]
    first = [check_claim(claim, CHART + SHAPES) for claim in claims]
    assert first == [check_claim(claim, CHART + SHAPES) for claim in claims]


ATOMS = [
    *(
        "row ",
        "column ",
        "1",
        "3.5",
        "1,000",
        ", ",
        ": ",
        "; ",
        ". ",
        "? ",
        "|",
        "\n",
        "\r",
        "\t",
        "\v",
        "\x85",
    ),
    *(
        '"',
        "'",
        "“",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "=",
        "-",
        "%",
        "$",
        "*",
        "\\u00b0",
        "\\n",
        "\x00",
        "\ud800",
    ),
    *(
        "is ",
        "the ",
        "red ",
        "bar ",
        "circle ",
        "AB",
        "ABC",
        "angle ",
        "Point ",
        "lies on ",
        "line ",
        "of ",
        "not ",
    ),
    *(
        "value for ",
        "about ",
        "there are ",
        "three ",
        "Equals(",
        "LengthOf(",
        "Line(",
        "hour ",
        "minute ",
        "7:30",
    ),
    *(
        "start ",
        "reads ",
        "first ",
        "Column 1",
        "图",
        "<think>",
        "<answer>",
        "wait ",
        "let me check ",
        "\\boxed{",
    ),
]


def test_no_text_is_too_odd() -> None:
    rng = random.Random(11)
    for number in range(1_000):
        claim = "".join(rng.choices(ATOMS, k=rng.randint(1, 25)))
        description = "".join(rng.choices(ATOMS, k=rng.randint(1, 80)))
        assert check_claim(claim, description) in ("supported", "contradicted", "unknown")
        if number % 10 == 0:
            made = draft(trace=claim + description, description=description)
            assert all(0 <= verdict.score <= 1 for verdict in run_filters(made, FilterSettings()))
