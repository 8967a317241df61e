"""The readers of facts one by one: values, lists in a text, tables, times, and the renderings of scenes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from filters.descriptions import render_lines, render_scene
from filters.facts.geometry import read_figure
from filters.facts.literals import find_listings
from filters.facts.readings import read_times
from filters.facts.tables import read_tables
from filters.facts.values import Judgement, number_of, same_cell, same_name, same_value
from filters.facts.words import find_mentions
from filters.grounding import check_claim
from tests.bench.filters_grounding import make_drafts, measure_scenes
from tests.bench.scene_truth import says_wrong
from tests.bench.trace_faults import CHANGES, FAULTS


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3.5", 3.5),
        ("about 3.5 cm", 3.5),
        ("$1,200", 1200),
        ("−4°", -4),
        ("twelve", 12),
        ("45 degrees", 45),
        ("12 %", 12),
        ("x", None),
        ("2x+3", None),
        ("3 to 4", None),
        ("", None),
    ],
)
def test_numbers(text: str, number: float | None) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("claimed", "known", "expected"),
    [
        ("45 degrees", "45", "supported"),
        ("45", "44", "contradicted"),
        ("2x+3", "3 + 2x", "supported"),
        ("7x-8", "5x", "unknown"),
        ("7", "x", "unknown"),
        ("4", "4.4", "contradicted"),
        ("4.4", "4.43", "supported"),
        ("about 4", "4.4", "supported"),
        ("angle ABC", "angle  abc", "supported"),
        ("red", "blue", "contradicted"),
    ],
)
def test_values(claimed: str, known: str, expected: Judgement) -> None:
    assert same_value(claimed, known) == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("$6 per kilogram", "$6/kilogram", True),
        ("6,500", "6500", True),
        ("", "empty", True),
        ("0, 6", "0, 6, 8", False),
        ("5", "5%", False),
        ("12 years", "12", True),
        ("13 years", "12", False),
        ("2:45 P.M.", "2:45 p.m.", True),
        ("2:45 P.M.", "2:54 P.M.", False),
    ],
)
def test_cells(one: str, other: str, same: bool) -> None:
    assert same_cell(one, other) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Temperature", "temperatures", True), ("colour", "color", True), ("row 1", "row 2", False),
     ("angle A", "angle B", False), ("red", "rod", False)],
)  # fmt: skip
def test_names(one: str, other: str, same: bool) -> None:
    assert same_name(one, other) is same


# ------------------------------------------------------------------------------------- lists in a text


def innermost(value: Any) -> list[tuple[str, ...]]:
    """The lists of scalars in a JSON value, in the order in which they end."""
    if isinstance(value, dict):
        return [found for inner in value.values() for found in innermost(inner)]
    if not isinstance(value, list) or not value:
        return []
    if any(isinstance(entry, list | dict) for entry in value):
        return [found for entry in value for found in innermost(entry)]
    return [tuple(map(str, value))]


def a_value(rng: random.Random, depth: int) -> Any:
    kind = rng.choice(("list", "dict", "scalars")) if depth else "scalars"
    if kind == "list":
        return [a_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    if kind == "dict":
        return {f"key {place}": a_value(rng, depth - 1) for place in range(rng.randint(0, 3))}
    words = ["red", "two words", "it's", "a, b", "(x)", "[y]", 'say "hi"', "7:30", "", "-4.5"]
    return [rng.choice((rng.choice(words), rng.randint(-99, 99))) for _ in range(rng.randint(0, 4))]


def test_lists_are_those_that_a_json_parser_finds() -> None:
    rng = random.Random(5)
    for _ in range(300):
        value = a_value(rng, 3)
        found = [listing.values for listing in find_listings(json.dumps(value))]
        assert found == innermost(json.loads(json.dumps(value)))


def test_lists_in_prose_have_their_words_as_key() -> None:
    text = "There are 3 squares. The widths along the row are ['thin', 'wide']; the sizes are [1, 2]."
    first, second = find_listings(text)
    assert (first.values, second.values) == (("thin", "wide"), ("1", "2"))
    assert first.key.endswith("along the row are")
    assert second.key == "the sizes are"


@pytest.mark.parametrize(
    "text", ["[", "]", "[1, (2]", "{'a': [1,", "[" * 500 + "1" + "]" * 500, "(((", "'", '"']
)
def test_brackets_that_do_not_match_are_no_list(text: str) -> None:
    assert all(listing.values for listing in find_listings(text))


# ---------------------------------------------------------------------------------------------- tables

ROWS = (("Name", "Steps"), ("Ines", "812"), ("Karl", "1,310"))


@pytest.mark.parametrize(
    "text",
    [
        "Name | Steps\nInes | 812\nKarl | 1,310",
        "| Name | Steps |\n|---|---|\n| Ines | 812 |\n| Karl | 1,310 |",
        "Name | Steps; Ines | 812; Karl | 1,310",
        "Name\tSteps\nInes\t812\nKarl\t1,310",
        'Name,Steps\nInes,812\nKarl,"1,310"',
        '{"table": "Name | Steps\\nInes | 812\\nKarl | 1,310"}',
        "{'Name': ['Ines', 'Karl'], 'Steps': ['812', '1,310']}",
        "Name: ['Ines', 'Karl']\nSteps: ['812', '1,310']",
        "Name:\n- Ines\n- Karl\nSteps:\n- 812\n- 1,310",
        "Name: Ines; Steps: 812\nName: Karl; Steps: 1,310",
        "Row 1: Name is Ines, Steps is 812\nRow 2: Name is Karl, Steps is 1,310",
        '[{"Name": "Ines", "Steps": "812"}, {"Name": "Karl", "Steps": "1,310"}]',
    ],
)
def test_a_table_is_read_however_it_is_told(text: str) -> None:
    found = [((*([table.header] if table.header else []), *table.rows)) for table in read_tables(text)]
    assert ROWS in found
    assert check_claim('the "Steps" value for Karl is 1,310', text) == "supported"
    assert check_claim('the "Steps" value for Karl is 812', text) == "contradicted"


@pytest.mark.parametrize(
    "text",
    ["The Steps of Karl is 1,310.", "Karl: Age = 30, Steps = 1,310", "Karl has 1,310 in Steps.",
     "Steps -> Karl -> 1,310"],
)  # fmt: skip
def test_a_sentence_can_tell_a_cell(text: str) -> None:
    assert check_claim('the "Steps" value for Karl is 1,310', text) == "supported"
    assert check_claim('the "Steps" value for Karl is 812', text) == "contradicted"
    assert check_claim('the "Steps" value for Ines is 1,310', text) == "unknown"


# -------------------------------------------------------------------------------- geometry, times, things


def test_a_figure_is_read_from_forms_and_from_prose() -> None:
    forms = read_figure("Equals(LengthOf(Line(A, B)), 5)\nParallel(Line(A, B), Line(C, D))")
    prose = read_figure("Segment BA has length 5. AB ∥ CD")
    assert forms.measures == prose.measures == {("length", frozenset("AB")): ["5"]}
    assert forms.relations == prose.relations
    assert not read_figure("The sum AB + BC = 12 and 3·AB = 15, sin ∠ABC = 0.5.")
    assert not read_figure("The triangle covers a square that looks red.")


@pytest.mark.parametrize(
    ("text", "when"),
    [("The clock shows 3:07.", ""), ("current_hour: 3, current_minute: 7", "start"),
     ("add hour 3, add minute 7", "other"), ('{"current_hour": 3, "current_minute": 7}', "start"),
     ("Hour hand: 3, minute: 7", "")],
)  # fmt: skip
def test_times(text: str, when: str) -> None:
    assert [(time.hour, time.minute, time.when) for time in read_times(text)] == [(3, 7, when)]


def test_things_are_named_by_colour_and_kind() -> None:
    found = [
        (one.colour, one.kind, one.number)
        for one in find_mentions("Two grey boxes, a violet star, 3 vertices, the man")
    ]
    assert found == [
        ("grey", "box", 2),
        ("purple", "star", None),
        ("", "man", None),
    ]  # a vertex is no usual thing


def test_renderings_keep_what_the_annotation_says() -> None:
    scene = {"cells": [["red star", "blue cross"]], "missing": [0, 1], "family": "pattern"}
    assert render_scene("scenes", scene) == (
        "Row 1, column 1 holds a red star.\nRow 1, column 2 holds the question mark."
    )
    assert render_lines({"a_b": {"c": [1, 2]}, "d": "x"}) == "a b c: [1, 2]\nd: x"
    bars = {"bars": [{"colour": "red", "value": 6}], "step": 4}
    assert check_claim(
        "The red bar ends 1.50 gridline spacings above the baseline.", render_scene("scenes", bars)
    ) == ("supported")
    objects = {"objects": [{"colour": "red", "shape": "star", "x": 0.2, "y": 0.1}] * 2}
    assert check_claim("There are 2 red stars.", render_scene("scenes", objects)) == "supported"
    assert check_claim("There are 3 red stars.", render_scene("scenes", objects)) == "contradicted"


# ------------------------------------------------------------------------------------- the bench's oracle


def test_the_bench_measures_every_filter_on_known_truth() -> None:
    drafts = make_drafts(28)
    assert 2 <= sum(map(says_wrong, drafts)) <= 14
    rows = list(measure_scenes("scenes", drafts))
    assert {row["source"] for row in rows} >= {f"scenes, changed {name}" for name in CHANGES}
    assert {row["source"] for row in rows} >= {f"scenes, with {name}" for name in FAULTS}
    for row in rows:
        if row["filter"] == "claims" and "changed" in row["source"] and row["wrong"]:
            assert row["precision"] == 1.0, row
            assert row["recall"] >= 0.7, row
        if "with" in row["source"]:
            assert row["recall"] >= 0.95, row
