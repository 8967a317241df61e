"""The ladder's little world: grids of coloured discs, questions about them, and exact answers.

A cell is 28 pixels wide, which is one image token of the student: what is hard here is to look at the right
cells and to reckon with what was seen, not to make out shapes. Each place has one word and a paper of its own
shade, since a student this small does not learn within hundreds of steps to tell rows and columns by their
numbers and rotary positions. Two thirds of the pictures that a student learns to see by are ordered (of one
colour, or a colour to each row), without which it does not begin to see. All others are mixed.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import PIL.Image
import PIL.ImageDraw

Family = Literal["count", "where", "more"]
Order = Literal["mixed", "rows", "uniform"]
FAMILIES: tuple[Family, ...] = ("count", "where", "more")
SIDE = 3  # cells each way
CELL = 28  # pixels
PLACES = (
    *("northwest", "north", "northeast"),
    *("west", "centre", "east"),
    *("southwest", "south", "southeast"),
)
NOTHING = "nothing"
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "blue": (40, 80, 210),
    "green": (40, 150, 70),
}
_ROW_PAPERS = ((252, 226, 226), (226, 250, 226), (228, 228, 252))
_COLUMN_SHADES = (0.0, 0.12, 0.24)  # shares of grey mixed in
_GREY = (128, 128, 128)
EASY, HARD = 0.5, 0.8  # shares of the cells that hold a disc


@dataclass(frozen=True)
class Grid:
    """A picture's cells: a colour's name or `nothing` for each of `PLACES`. `png`: the picture."""

    cells: tuple[str, ...]
    png: bytes

    def at(self, place: str) -> str:
        """What is in a place."""
        return self.cells[PLACES.index(place)]


@dataclass(frozen=True)
class Puzzle:
    """A question about a grid.

    Attributes:
        subject: the colours asked for (count: one, more: two), or the place (where).
    """

    grid: Grid
    family: Family
    question: str
    answer: str
    choices: tuple[str, ...]
    subject: tuple[str, ...]


def draw_puzzles(
    seed: str, count: int, *, hard: bool = False, orders: tuple[Order, ...] = ("mixed",)
) -> Iterator[Puzzle]:
    """`count` puzzles; puzzle i is a function of the arguments and i alone, and families take turns.

    Args:
        hard: fuller grids, smaller and paler discs than the students are trained on.
        orders: what the grids are drawn from, with equal chances.
    """
    for index in range(count):
        dice = random.Random(_number(f"ladder/{seed}/{index}/{hard}"))
        yield _ask(dice, _draw(dice, dice.choice(orders), hard), FAMILIES[index % len(FAMILIES)])


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def _draw(dice: random.Random, order: Order, hard: bool) -> Grid:
    cells = _ORDERS[order](dice, HARD if hard else EASY)
    return Grid(cells, _paint(dice, cells, hard))


def _mixed(dice: random.Random, share: float) -> tuple[str, ...]:
    """Colours are not equally frequent, so that counts spread."""
    weights = [dice.uniform(0.3, 1.0) for _ in COLOURS]
    colours = tuple(COLOURS)
    return tuple(
        dice.choices(colours, weights)[0] if dice.random() < share else NOTHING for _ in range(SIDE * SIDE)
    )


def _rows(dice: random.Random, share: float) -> tuple[str, ...]:
    return tuple(name for _ in range(SIDE) for name in (dice.choice((*COLOURS, NOTHING)),) * SIDE)


def _uniform(dice: random.Random, share: float) -> tuple[str, ...]:
    return (dice.choice((*COLOURS, NOTHING)),) * (SIDE * SIDE)


_ORDERS: dict[Order, Callable[[random.Random, float], tuple[str, ...]]] = {
    "mixed": _mixed,
    "rows": _rows,
    "uniform": _uniform,
}


def grey_picture() -> bytes:
    """A picture that shows nothing, of the same size."""
    return _png(PIL.Image.new("RGB", (SIDE * CELL, SIDE * CELL), _GREY))


def _paint(dice: random.Random, cells: tuple[str, ...], hard: bool) -> bytes:
    image = PIL.Image.new("RGB", (SIDE * CELL, SIDE * CELL))
    draw = PIL.ImageDraw.Draw(image)
    for place, name in enumerate(cells):
        row, column = divmod(place, SIDE)
        paper = _mix(_ROW_PAPERS[row], _GREY, _COLUMN_SHADES[column])
        draw.rectangle([column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL], fill=paper)
        if name == NOTHING:
            continue
        radius = dice.uniform(5.0, 8.0) if hard else dice.uniform(8.0, 12.0)
        room = CELL / 2 - radius - 1
        x = (column + 0.5) * CELL + dice.uniform(-room, room)
        y = (row + 0.5) * CELL + dice.uniform(-room, room)
        paleness = dice.uniform(0.1, 0.35) if hard else dice.uniform(0.0, 0.15)
        draw.ellipse(
            [x - radius, y - radius, x + radius, y + radius], fill=_mix(COLOURS[name], paper, paleness)
        )
    return _png(image)


def _png(image: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _mix(colour: tuple[int, int, int], other: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _ask(dice: random.Random, grid: Grid, family: Family) -> Puzzle:
    if family == "where":
        place = dice.choice(PLACES)
        return Puzzle(grid, family, f"What is in the {place}?", grid.at(place), (), (place,))
    if family == "count":
        colour = dice.choice(tuple(COLOURS))
        question = f"How many {colour} discs are there?"
        return Puzzle(grid, family, question, str(grid.cells.count(colour)), (), (colour,))
    first, second = dice.sample(tuple(COLOURS), 2)
    ones, others = grid.cells.count(first), grid.cells.count(second)
    answer = first if ones > others else second if others > ones else "equal"
    return Puzzle(grid, family, f"More {first} or more {second} discs?", answer, (), (first, second))
