"""Scattered shapes: the families `count` and `compare`.

Every question has one answer for a careful person: a counted thing is seen to more than half, a largest
thing is larger by a visible margin, a leftmost one lies clearly to the left.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.records import AnswerType
from synth.drawing.canvas import RGB, Canvas, visible_shares
from synth.vocabulary import COLOURS, SHAPES, Point, area, outline, plural

PAINTS: dict[str, RGB] = {
    "red": (214, 42, 44),
    "orange": (240, 132, 32),
    "yellow": (246, 212, 54),
    "green": (52, 160, 76),
    "cyan": (46, 190, 200),
    "blue": (46, 98, 204),
    "purple": (128, 62, 178),
    "pink": (240, 132, 186),
    "brown": (132, 84, 46),
}
# Colours that lie near each other: a hard scene holds such neighbours, each bent a little to the other.
NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "red": ("orange", "pink", "brown"),
    "orange": ("red", "yellow", "brown"),
    "yellow": ("orange",),
    "green": ("cyan",),
    "cyan": ("green", "blue"),
    "blue": ("purple", "cyan"),
    "purple": ("blue", "pink"),
    "pink": ("purple", "red"),
    "brown": ("orange", "red"),
}
_BACKGROUNDS: tuple[RGB, ...] = ((255, 255, 255), (250, 246, 236), (238, 241, 244), (244, 240, 248))
_LEAST_VISIBLE = 0.6
_ATTEMPTS = 400


@dataclass(frozen=True)
class Setting:
    """What one problem is drawn from: its random stream, its side in pixels, its difficulty in [0, 1]."""

    rng: random.Random
    side: int
    difficulty: float

    @property
    def edge_width(self) -> float:
        """Width of a shape's edge, pixels."""
        return max(1.2, self.side / 190)

    def background(self) -> RGB:
        return self.rng.choice(_BACKGROUNDS)

    def paint(self, colour: str) -> tuple[RGB, RGB]:
        """Fill and edge of a named colour, bent towards a neighbour by less than a third of the way."""
        bend = self.rng.uniform(0, 0.3 * self.difficulty)
        fill = _mix(PAINTS[colour], PAINTS[self.rng.choice(NEIGHBOURS[colour])], bend)
        return fill, _mix(fill, (20, 20, 30), 0.45 - 0.25 * self.difficulty)

    def draw(self, canvas: Canvas, points: Sequence[Point], colour: str, edge_width: float) -> None:
        """A polygon in a named colour; in hard scenes now and then in two tones of it."""
        fill, edge = self.paint(colour)
        if self.rng.random() < 0.45 * (self.difficulty - 0.2):
            tones = fill, _mix(fill, (20, 20, 30), 0.3)
            canvas.striped(points, tones, edge, edge_width, self.rng.uniform(0.018, 0.026) * self.side)
        else:
            canvas.polygon(points, fill, edge, edge_width)

    def colours(self, count: int) -> list[str]:
        """`count` colours; the harder the scene, the more of them are neighbours."""
        chosen = [self.rng.choice(COLOURS)]
        while len(chosen) < count:
            near = [name for name in NEIGHBOURS[chosen[-1]] if name not in chosen]
            far = [name for name in COLOURS if name not in chosen]
            chosen.append(self.rng.choice(near if near and self.rng.random() < self.difficulty else far))
        return chosen


@dataclass(frozen=True)
class Scene:
    """What a family draws: the canvas, the question, its answer and the truth about the picture."""

    canvas: Canvas
    question: str
    answer: str
    answer_type: AnswerType
    facts: dict[str, Any]
    choices: tuple[str, ...] = ()


@dataclass
class Item:
    """One shape; position and radius as shares of the picture's side, `visible` in [0, 1]."""

    shape: str
    colour: str
    radius: float
    x: float = 0.5
    y: float = 0.5
    degrees: float = 0.0
    visible: float = field(default=1.0)

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def area(self) -> float:
        """Share of the picture that the whole shape covers."""
        return area(self.shape) * self.radius**2

    def corners(self) -> list[tuple[float, float]]:
        turned = outline(self.shape, self.degrees)
        return [(self.x + self.radius * dx, self.y + self.radius * dy) for dx, dy in turned]

    def facts(self) -> dict[str, Any]:
        numbers = {name: round(getattr(self, name), 4) for name in ("x", "y", "radius", "degrees", "visible")}
        return {"shape": self.shape, "colour": self.colour, **numbers}


def draw_count(setting: Setting) -> Scene:
    """ "How many red circles are there?" """
    rng, hard = setting.rng, setting.difficulty
    number = 4 + round(9 * hard) + rng.randint(0, 2)
    colours = setting.colours(rng.randint(2, 3 + round(2 * hard)))
    shapes = rng.sample(SHAPES, rng.randint(2, 3 + round(2 * hard)))
    items = [
        Item(rng.choice(shapes), rng.choice(colours), rng.uniform(0.055 - 0.008 * hard, 0.1 - 0.015 * hard))
        for _ in range(number)
    ]
    items = _place(items, setting, overlap=0.5 * hard)
    colour, shape = _counted_kind(items, rng)
    answer = sum((colour in ("", item.colour)) and (shape in ("", item.shape)) for item in items)
    kind = f"{colour} {plural(shape or 'shape')}".strip()
    wording = rng.choice(
        (
            f"How many {kind} are there in the picture?",
            f"Count the {kind}. How many are there?",
            f"How many {kind} can be seen in the image?",
            f"What is the number of {kind} in this picture?",
        )
    )
    facts = {"query": {"colour": colour, "shape": shape}}
    return _finish(items, setting, wording, str(answer), AnswerType.NUMBER, facts)


def draw_compare(setting: Setting) -> Scene:
    """Which is the largest, the leftmost; which of two is bigger; is one to the left of another?"""
    rng = setting.rng
    items = _distinct_items(setting)
    kinds = {"size": _ask_size, "place": _ask_place, "pair": _ask_pair, "relation": _ask_relation}
    for _ in range(_ATTEMPTS):
        placed = _place(items, setting, overlap=0.5 * setting.difficulty)
        if len(placed) < 2:
            continue
        asked = kinds[rng.choice(tuple(kinds))](placed, rng)
        if asked is not None:
            question, answer, choices, facts = asked
            answer_type = AnswerType.CHOICE if choices else AnswerType.TEXT
            return _finish(placed, setting, question, answer, answer_type, facts, choices)
    raise AssertionError("no clear comparison in 400 placements: the margins leave no room")


# ------------------------------------------------------------------------------------ placing


def _place(items: Sequence[Item], setting: Setting, overlap: float) -> list[Item]:
    """The items at random places, each seen to more than half; what finds no room is left out."""
    placed: list[Item] = []
    for item in items:
        for _ in range(60):
            spot = _spot(item, placed, setting, overlap)
            if spot is not None:
                placed = spot
                break
    return placed


def _spot(item: Item, placed: list[Item], setting: Setting, overlap: float) -> list[Item] | None:
    rng = setting.rng
    edge = 1.15 * item.radius + 0.02
    x, y = rng.uniform(edge, 1 - edge), rng.uniform(edge, 1 - edge)
    if placed and rng.random() < overlap:
        x, y = _beside(rng.choice(placed), item, rng)
    candidate = Item(item.shape, item.colour, item.radius, x, y, rng.uniform(-10, 10) * setting.difficulty)
    if not (edge <= x <= 1 - edge and edge <= y <= 1 - edge):
        return None
    if all(_distance(candidate, one) > candidate.radius + one.radius + 0.025 for one in placed):
        return [*placed, candidate]
    touched = [*placed, candidate]
    shares = visible_shares([one.corners() for one in touched]) if overlap else [0.0]
    if min(shares) < _LEAST_VISIBLE:
        return None
    return [_seen(one, share) for one, share in zip(touched, shares, strict=True)]


def _beside(one: Item, item: Item, rng: random.Random) -> tuple[float, float]:
    """A place for `item` where it overlaps `one` a little."""
    angle = rng.uniform(0, 2 * math.pi)
    reach = rng.uniform(0.6, 0.95) * (one.radius + item.radius)
    return one.x + reach * math.cos(angle), one.y + reach * math.sin(angle)


def _seen(item: Item, share: float) -> Item:
    return Item(item.shape, item.colour, item.radius, item.x, item.y, item.degrees, share)


def _distance(one: Item, other: Item) -> float:
    return ((one.x - other.x) ** 2 + (one.y - other.y) ** 2) ** 0.5


def _distinct_items(setting: Setting) -> list[Item]:
    """Items of different names whose sizes climb a ladder with visible steps."""
    rng, hard = setting.rng, setting.difficulty
    number = rng.randint(3, 4 + round(2 * hard))
    colours = setting.colours(min(len(COLOURS), number))
    shapes = rng.sample(SHAPES, rng.randint(2, 4))
    ratio = 1.32 - 0.12 * hard  # between the radii of neighbours on the ladder
    largest = rng.uniform(0.13, 0.16)
    radii = [largest / ratio**step for step in range(number)]
    items = [
        Item(rng.choice(shapes), colour, max(radius, 0.05))
        for colour, radius in zip(colours, radii, strict=True)
    ]
    rng.shuffle(items)
    return items


# ------------------------------------------------------------------------------------ asking

Asked = tuple[str, str, tuple[str, ...], dict[str, Any]]


def _counted_kind(items: Sequence[Item], rng: random.Random) -> tuple[str, str]:
    """The (colour, shape) asked for; "" for any. Now and then nothing of the kind is there."""
    item = rng.choice(items)
    way = rng.choice(("colour", "shape", "both", "both"))
    if way == "both" and rng.random() < 0.15:
        return item.colour, rng.choice(items).shape
    return (item.colour if way != "shape" else ""), (item.shape if way != "colour" else "")


def _options(items: Sequence[Item], right: Item, rng: random.Random) -> tuple[str, ...]:
    others = [item.name for item in items if item is not right]
    chosen = [right.name, *rng.sample(others, min(3, len(others)))]
    rng.shuffle(chosen)
    return tuple(chosen)


def _ask_size(items: Sequence[Item], rng: random.Random) -> Asked | None:
    largest = rng.random() < 0.5
    ranked = sorted(items, key=lambda item: item.area, reverse=largest)
    if not all(
        _clearly_larger(*((ranked[0], other) if largest else (other, ranked[0]))) for other in ranked[1:]
    ):
        return None
    word = rng.choice(("largest", "biggest")) if largest else "smallest"
    facts = {"query": {"extreme": "largest" if largest else "smallest"}}
    return _ask_extreme(word, ranked[0], items, rng, facts)


def _clearly_larger(one: Item, other: Item) -> bool:
    """True where both the area and the reach of `one` are larger by a visible margin."""
    return one.area >= 1.3 * other.area and one.radius >= 1.08 * other.radius


def _ask_place(items: Sequence[Item], rng: random.Random) -> Asked | None:
    word, axis, sign = rng.choice(
        (("leftmost", "x", 1), ("rightmost", "x", -1), ("topmost", "y", 1), ("lowest", "y", -1))
    )
    ranked = sorted(items, key=lambda item: sign * getattr(item, axis))
    first, second = ranked[:2]
    centres = sign * (getattr(second, axis) - getattr(first, axis))
    edges = centres + first.radius - second.radius
    if centres < 0.06 or edges < 0.03:
        return None
    return _ask_extreme(word, first, items, rng, {"query": {"extreme": word}})


def _ask_extreme(
    word: str, right: Item, items: Sequence[Item], rng: random.Random, facts: dict[str, Any]
) -> Asked:
    if rng.random() < 0.35:
        question = rng.choice((f"What colour is the {word} shape?", f"Name the colour of the {word} shape."))
        return question, right.colour, (), facts
    question = rng.choice(
        (f"Which shape is the {word}?", f"Which of these is the {word} shape in the picture?")
    )
    return question, right.name, _options(items, right, rng), facts


def _ask_pair(items: Sequence[Item], rng: random.Random) -> Asked | None:
    one, other = rng.sample(list(items), 2)
    bigger, smaller = sorted((one, other), key=lambda item: item.area, reverse=True)
    if not _clearly_larger(bigger, smaller):
        return None
    larger = rng.random() < 0.6
    word = rng.choice(("larger", "bigger")) if larger else "smaller"
    question = f"Which is {word}, the {one.name} or the {other.name}?"
    facts = {"query": {"pair": [one.name, other.name], "larger": larger}}
    answer = bigger if larger else smaller
    return question, answer.name, (one.name, other.name), facts


def _ask_relation(items: Sequence[Item], rng: random.Random) -> Asked | None:
    one, other = rng.sample(list(items), 2)
    axis, words = rng.choice((("x", ("to the left of", "to the right of")), ("y", ("above", "below"))))
    gap = getattr(other, axis) - getattr(one, axis)
    if abs(gap) < 0.1:
        return None
    word = rng.choice(words)
    answer = "yes" if (gap > 0) == (word == words[0]) else "no"
    question = f"Is the {one.name} {word} the {other.name}? Answer yes or no."
    facts = {"query": {"relation": word, "pair": [one.name, other.name]}}
    return question, answer, (), facts


def _finish(
    items: Sequence[Item],
    setting: Setting,
    question: str,
    answer: str,
    answer_type: AnswerType,
    facts: dict[str, Any],
    choices: tuple[str, ...] = (),
) -> Scene:
    canvas = Canvas(setting.side, setting.background())
    for item in items:
        corners = [(x * setting.side, y * setting.side) for x, y in item.corners()]
        setting.draw(canvas, corners, item.colour, setting.edge_width)
    truth = {"objects": [item.facts() for item in items], **facts}
    return Scene(canvas, question, answer, answer_type, truth, choices)


def _mix(one: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
