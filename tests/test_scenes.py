"""Procedural scenes: the same seed draws the same bytes, and every answer follows from the facts."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pytest
from PIL import Image

from schemas.config import SceneFamily, ScenesSource
from schemas.records import AnswerType, Problem, problem_id
from synth.scenes import draw_problem, draw_problems
from synth.vocabulary import COLOURS, SHAPES, area

FAMILIES: tuple[SceneFamily, ...] = ("count", "compare", "chart", "pattern")


def _drawn(family: SceneFamily, count: int = 24, seed: int = 11) -> list[tuple[Problem, dict[str, Any]]]:
    source = ScenesSource(count=count, families=(family,))
    return [(problem, json.loads(problem.facts)) for problem in draw_problems(source, seed)]


def test_the_same_seed_draws_the_same_bytes():
    source = ScenesSource(count=8)
    first, second = list(draw_problems(source, 3)), list(draw_problems(source, 3))
    assert first == second
    assert [one.images[0].sha256 for one in first] == [one.images[0].sha256 for one in second]


def test_another_seed_draws_other_problems():
    source = ScenesSource(count=8)
    ids = {problem.id for seed in (0, 1) for problem in draw_problems(source, seed)}
    assert len(ids) == 16


def test_a_problem_does_not_depend_on_the_count_or_on_its_turn():
    long = list(draw_problems(ScenesSource(count=12), 5))
    assert draw_problem(ScenesSource(count=1), 5, 9) == long[9]
    assert [problem.index for problem in long] == list(range(12))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_problem_is_filled_in(family: SceneFamily):
    for problem, facts in _drawn(family, count=6):
        picture = Image.open(io.BytesIO(problem.images[0].bytes))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (facts["side"],) * 2)
        assert problem.images[0].path == f"scene_{problem.index:06d}.png"
        assert (problem.source, problem.row, problem.category) == (
            "scenes",
            f"scenes/{problem.index}",
            family,
        )
        assert problem.licence == "Apache-2.0"
        assert problem.id == problem_id(problem.question, problem.choices, problem.answer, problem.images)
        assert (problem.answer in problem.choices) == bool(problem.choices)
        assert (problem.answer_type is AnswerType.CHOICE) == bool(problem.choices)
        assert len(set(problem.choices)) == len(problem.choices)


@pytest.mark.parametrize(
    ("difficulty", "size"), [((0.0, 0.0), (224, 224)), ((1.0, 1.0), (448, 448)), ((0.2, 0.9), (112, 112))]
)
def test_the_source_sets_difficulty_and_size(difficulty: tuple[float, float], size: tuple[int, int]):
    source = ScenesSource(count=8, difficulty=difficulty, size=size)
    for problem in draw_problems(source, 0):
        facts = json.loads(problem.facts)
        assert difficulty[0] <= facts["difficulty"] <= difficulty[1]
        assert size[0] <= facts["side"] <= size[1]


def test_families_take_turns():
    source = ScenesSource(count=9, families=("chart", "count", "pattern"))
    assert [problem.category for problem in draw_problems(source, 0)] == ["chart", "count", "pattern"] * 3


# ------------------------------------------------------------------------------------ answers recounted


def test_counted_shapes_are_there_and_seen():
    for problem, facts in _drawn("count"):
        colour, shape = facts["query"]["colour"], facts["query"]["shape"]
        kinds = Counter((one["colour"], one["shape"]) for one in facts["objects"])
        expected = sum(
            count
            for (c, s), count in kinds.items()
            if (not colour or c == colour) and (not shape or s == shape)
        )
        assert problem.answer == str(expected)
        assert not colour or colour in problem.question
        assert not shape or shape in problem.question
        assert min(one["visible"] for one in facts["objects"]) >= 0.6


def _size(one: dict[str, Any]) -> float:
    return area(one["shape"]) * one["radius"] ** 2


def _compared(facts: dict[str, Any]) -> str:
    """The answer of a comparison, worked out again from where things are."""
    query, things = facts["query"], {f"{one['colour']} {one['shape']}": one for one in facts["objects"]}
    if "relation" in query:
        one, other = (things[name] for name in query["pair"])
        holds = {
            "to the left of": one["x"] < other["x"],
            "to the right of": one["x"] > other["x"],
            "above": one["y"] < other["y"],
            "below": one["y"] > other["y"],
        }
        return "yes" if holds[query["relation"]] else "no"
    if "pair" in query:
        ranked = sorted(query["pair"], key=lambda name: _size(things[name]))
        return ranked[-1] if query["larger"] else ranked[0]
    keys = {"leftmost": ("x", 1), "rightmost": ("x", -1), "topmost": ("y", 1), "lowest": ("y", -1)}
    if query["extreme"] in keys:
        key, sign = keys[query["extreme"]]
        return min(things, key=lambda name: sign * things[name][key])
    sign = -1 if query["extreme"] == "largest" else 1
    return min(things, key=lambda name: sign * _size(things[name]))


def test_comparisons_have_one_clear_answer():
    asked = Counter()
    for problem, facts in _drawn("compare", count=40):
        expected = _compared(facts)
        asked["colour" if "colour" in problem.question else problem.answer_type.value] += 1
        assert problem.answer == (expected.split()[0] if "colour" in problem.question else expected)
        if facts["query"].get("extreme") in ("largest", "smallest"):
            sizes = sorted(map(_size, facts["objects"]), reverse=facts["query"]["extreme"] == "largest")
            assert max(sizes[0], sizes[1]) >= 1.29 * min(sizes[0], sizes[1])
    assert len(asked) == 3, asked


def _charted(kind: str, named: Any, values: dict[str, int]) -> str:
    """The answer of a chart question, worked out again from the bars."""
    if kind == "value":
        return str(values[named])
    if kind == "difference":
        return str(abs(values[named[0]] - values[named[1]]))
    if kind == "above":
        return str(sum(value > values[named] for value in values.values()))
    wanted = max(values.values()) if named == "tallest" else min(values.values())
    (only,) = (colour for colour, value in values.items() if value == wanted)
    return only


def test_charts_are_read_off_their_bars():
    kinds = Counter()
    for problem, facts in _drawn("chart", count=32):
        values = {bar["colour"]: bar["value"] for bar in facts["bars"]}
        ((kind, named),) = facts["query"].items()
        kinds[kind] += 1
        assert problem.answer == _charted(kind, named, values)
        assert len(values) == len(facts["bars"]), "a colour names one bar"
        assert 0 < min(values.values()) <= max(values.values()) <= facts["ticks"] * facts["step"]
    assert set(kinds) == {"value", "difference", "above", "extreme"}


def test_the_missing_cell_follows_from_every_simple_rule_that_fits():
    for problem, facts in _drawn("pattern", count=24):
        cells, (row, column) = facts["cells"], facts["missing"]
        assert cells[row][column] == problem.answer
        for part, expected in enumerate(problem.answer.split()):
            seen = {
                (r, c): name.split()[part]
                for r, names in enumerate(cells)
                for c, name in enumerate(names)
                if (r, c) != (row, column)
            }
            assert _predictions(seen, row, column, len(cells), len(cells[0])) == {expected}


def _predictions(
    seen: dict[tuple[int, int], str], row: int, column: int, rows: int, columns: int
) -> set[str]:
    """What all row, column and diagonal cycles without a contradiction say about one cell."""
    found = set()
    for down, across in ((1, 0), (0, 1), (1, 1), (1, -1)):
        longest = {(1, 0): rows, (0, 1): columns}.get((down, across), min(rows, columns))
        for period in range(1, longest + 1):
            groups: dict[int, set[str]] = {}
            for (r, c), value in seen.items():
                groups.setdefault((down * r + across * c) % period, set()).add(value)
            if all(len(values) == 1 for values in groups.values()):
                found |= groups.get((down * row + across * column) % period, set())
    return found


def test_names_are_of_the_vocabulary():
    for problem, facts in _drawn("count", count=5):
        assert all(one["colour"] in COLOURS and one["shape"] in SHAPES for one in facts["objects"])
        assert problem.question.endswith("?")
