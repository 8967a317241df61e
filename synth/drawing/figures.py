"""Bar charts and pattern grids: the families `chart` and `pattern`.

A bar ends on a gridline or exactly half-way between two, on a scale that starts at 0. A pattern is
asked only where every simple rule that fits the visible cells agrees on the missing one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from schemas.records import AnswerType
from synth.drawing.canvas import RGB, Canvas
from synth.drawing.scatter import Scene, Setting
from synth.patterns import Rule, agreed_value, rules
from synth.vocabulary import COLOURS, SHAPES, outline

Cell = tuple[int, int]

_INK: RGB = (52, 54, 60)


# ------------------------------------------------------------------------------------ charts


@dataclass(frozen=True)
class Axes:
    """The plot's frame in pixels and its scale: `ticks` gridlines, `step` units apart, above 0.

    `parts` is how finely bars end: 1 on gridlines, 2 also half-way, 5 on the four minor ticks in between.
    """

    left: float
    right: float
    top: float
    bottom: float
    ticks: int
    step: int
    parts: int

    def height(self, value: float) -> float:
        """Pixel row of a value."""
        return self.bottom - (self.bottom - self.top) * value / (self.ticks * self.step)


def draw_chart(setting: Setting) -> Scene:
    """A bar chart read off its gridlines."""
    rng, side, hard = setting.rng, setting.side, setting.difficulty
    step = rng.choice((1, 2, 4, 5, 10, 20))
    parts = 5 if hard > 0.5 and step % 5 == 0 else 2 if hard > 0.3 and step % 2 == 0 else 1
    ticks = 4 if parts == 5 else rng.randint(4, 6)
    axes = Axes(0.15 * side, 0.96 * side, 0.07 * side, 0.93 * side, ticks, step, parts)
    colours = setting.colours(rng.randint(3, 4 + round(3 * hard)))
    values = _bar_values(axes, len(colours), setting)
    canvas = Canvas(side, setting.background())
    _draw_axes(canvas, axes, setting)
    _draw_bars(canvas, axes, colours, values, setting)
    question, answer, answer_type, query = _ask_chart(dict(zip(colours, values, strict=True)), rng)
    bars = [{"colour": colour, "value": value} for colour, value in zip(colours, values, strict=True)]
    facts = {"bars": bars, "step": axes.step, "ticks": axes.ticks, "query": query}
    return Scene(canvas, question, answer, answer_type, facts)


def _bar_values(axes: Axes, count: int, setting: Setting) -> list[int]:
    """Distinct values on gridlines; in harder charts half-way between them, or on the axis's minor ticks."""
    unit = axes.step // axes.parts
    levels = range(unit, axes.ticks * axes.step + 1, unit)
    if len(levels) >= count:
        return setting.rng.sample(levels, count)
    return [setting.rng.choice(levels) for _ in range(count)]


def _draw_axes(canvas: Canvas, axes: Axes, setting: Setting) -> None:
    scale = max(1, round(setting.side / 224 - 0.4 * setting.difficulty))
    ink = setting.rng.randint(40, 60 + round(60 * setting.difficulty))
    line = max(1.0, setting.side / 300)
    grey = 188 + round(18 * setting.difficulty)
    for tick in range(axes.ticks + 1):
        y = axes.height(tick * axes.step)
        canvas.box(axes.left, y - line / 2, axes.right, y + line / 2, (grey, grey, grey + 4))
        canvas.text(str(tick * axes.step), axes.left - 3 * scale, y, scale, (ink, ink, ink))
    if axes.parts == 5:
        for minor in range(5 * axes.ticks):
            y = axes.height(minor * axes.step / 5)
            canvas.box(axes.left, y - line / 2, axes.left + 0.02 * setting.side, y + line / 2, _INK)
    canvas.box(axes.left - line, axes.top - line, axes.left + line / 2, axes.bottom + line, _INK)
    canvas.box(axes.left - line, axes.bottom - line / 2, axes.right, axes.bottom + line, _INK)


def _draw_bars(canvas: Canvas, axes: Axes, colours: list[str], values: list[int], setting: Setting) -> None:
    slot = (axes.right - axes.left) / len(colours)
    gap = slot * max(0.0, 0.3 - 0.3 * setting.difficulty) / 2
    for position, (colour, value) in enumerate(zip(colours, values, strict=True)):
        left, right = axes.left + position * slot + gap, axes.left + (position + 1) * slot - gap
        if position == 0:
            left += 0.025 * setting.side
        top, bottom = axes.height(value), axes.bottom - 1
        setting.draw(canvas, [(left, top), (right, top), (right, bottom), (left, bottom)], colour, 1.0)


Asked = tuple[str, str, AnswerType, dict[str, object]]


def _ask_chart(values: dict[str, int], rng: random.Random) -> Asked:
    ways = ["value", "value", "difference", "above"]
    ranked = sorted(values, key=lambda colour: values[colour])
    if values[ranked[-1]] > values[ranked[-2]]:
        ways += ["tallest"]
    if values[ranked[0]] < values[ranked[1]]:
        ways += ["shortest"]
    way = rng.choice(ways)
    if way in ("tallest", "shortest"):
        word = rng.choice(("tallest", "highest")) if way == "tallest" else "shortest"
        question = rng.choice((f"What colour is the {word} bar?", f"Name the colour of the {word} bar."))
        return question, ranked[-1 if way == "tallest" else 0], AnswerType.TEXT, {"extreme": way}
    return _ask_number(way, values, rng)


def _ask_number(way: str, values: dict[str, int], rng: random.Random) -> Asked:
    colour, other = rng.sample(list(values), 2)
    if way == "value":
        question = rng.choice(
            (
                f"What is the value of the {colour} bar?",
                f"Read off the value of the {colour} bar.",
                f"Which value does the {colour} bar reach?",
            )
        )
        return question, str(values[colour]), AnswerType.NUMBER, {"value": colour}
    if way == "above":
        question = f"How many bars are higher than the {colour} bar?"
        answer = sum(value > values[colour] for value in values.values())
        return question, str(answer), AnswerType.NUMBER, {"above": colour}
    question = rng.choice(
        (
            f"What is the difference between the {colour} bar and the {other} bar?",
            f"By how much do the {colour} bar and the {other} bar differ?",
        )
    )
    answer = abs(values[colour] - values[other])
    return question, str(answer), AnswerType.NUMBER, {"difference": [colour, other]}


# ------------------------------------------------------------------------------------ patterns


def draw_pattern(setting: Setting) -> Scene:
    """A grid of shapes that follows a rule, with one cell left open."""
    rng, hard = setting.rng, setting.difficulty
    rows = rng.randint(3, 3 + round(2 * hard))
    columns = rng.randint(3, 3 + round(2 * hard))
    colours, shapes, hole = _patterned(rows, columns, setting)
    canvas = Canvas(setting.side, setting.background())
    _draw_grid(canvas, rows, columns, colours, shapes, hole, setting)
    answer = f"{colours[hole]} {shapes[hole]}"
    choices = _wrong_options(colours, shapes, hole, rng)
    choices.insert(rng.randint(0, len(choices)), answer)
    question = rng.choice(
        (
            "Which shape belongs in the cell with the question mark?",
            "The grid follows a rule. What should replace the question mark?",
            "Complete the pattern: which shape is missing in the marked cell?",
        )
    )
    cells = [
        [f"{colours[row, column]} {shapes[row, column]}" for column in range(columns)] for row in range(rows)
    ]
    facts = {"cells": cells, "missing": list(hole)}
    return Scene(canvas, question, answer, AnswerType.CHOICE, facts, tuple(choices))


def _patterned(rows: int, columns: int, setting: Setting) -> tuple[dict[Cell, str], dict[Cell, str], Cell]:
    """Colours and shapes by rule, and a hole on which all simple rules agree."""
    rng = setting.rng
    while True:
        colours = _by_rule(rng.choice(rules(rows, columns)), rows, columns, setting.colours(5))
        shapes = _by_rule(rng.choice(rules(rows, columns)), rows, columns, rng.sample(SHAPES, 5))
        hole = rng.randrange(rows), rng.randrange(columns)
        kinds = len(set(colours.values())) * len(set(shapes.values()))
        if kinds >= 3 and all(
            agreed_value({cell: value for cell, value in values.items() if cell != hole}, hole, rows, columns)
            == values[hole]
            for values in (colours, shapes)
        ):
            return colours, shapes, hole


def _by_rule(rule: Rule, rows: int, columns: int, values: list[str]) -> dict[Cell, str]:
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    return {cell: values[rule.group(cell)] for cell in cells}


def _wrong_options(
    colours: dict[Cell, str], shapes: dict[Cell, str], hole: Cell, rng: random.Random
) -> list[str]:
    """Three options that differ from the right one, from the grid's own colours and shapes first."""
    near = {f"{colour} {shape}" for colour in colours.values() for shape in shapes.values()}
    far = [f"{colour} {shape}" for colour in COLOURS for shape in set(shapes.values())]
    right = f"{colours[hole]} {shapes[hole]}"
    options = sorted(near - {right})
    rng.shuffle(options)
    extra = [name for name in far if name not in near]
    return (options + rng.sample(sorted(extra), 3))[:3]


def _draw_grid(
    canvas: Canvas,
    rows: int,
    columns: int,
    colours: dict[Cell, str],
    shapes: dict[Cell, str],
    hole: Cell,
    setting: Setting,
) -> None:
    rng, side = setting.rng, setting.side
    size = 0.92 * side / max(rows, columns)
    left, top = (side - size * columns) / 2, (side - size * rows) / 2
    line = max(1.0, side / 280)
    for row in range(rows + 1):
        y = top + row * size
        canvas.box(
            left - line / 2, y - line / 2, left + columns * size + line / 2, y + line / 2, (150, 152, 158)
        )
    for column in range(columns + 1):
        x = left + column * size
        canvas.box(x - line / 2, top - line / 2, x + line / 2, top + rows * size + line / 2, (150, 152, 158))
    for row, column in colours:
        wobble = 0.05 * setting.difficulty * size
        centre = (
            left + (column + 0.5) * size + rng.uniform(-wobble, wobble),
            top + (row + 0.5) * size + rng.uniform(-wobble, wobble),
        )
        if (row, column) == hole:
            scale = max(1, round(size / 14))
            canvas.text("?", centre[0] + 2.5 * scale, centre[1], scale, (70, 72, 78))
            continue
        radius = size * (0.36 - 0.1 * setting.difficulty * rng.random())
        turned = outline(shapes[row, column], rng.uniform(-1, 1) * 10 * setting.difficulty)
        corners = [(centre[0] + radius * dx, centre[1] + radius * dy) for dx, dy in turned]
        setting.draw(canvas, corners, colours[row, column], setting.edge_width)
