"""What was seen, in plain English, and back again.

`write_description` says both readings of a picture in words; `parse_description` recovers them from the
words alone, so that a stage which is given only the text knows exactly what the text says.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from synth.seeing.vision import Bar, Cell, Chart, Element, Grid, Look, Reading, Scatter
from synth.vocabulary import COLOURS, SHAPES, article, plural

CLOSE_HEADING = "Looking closely, element by element:"

_COLOUR = f"(?P<colour>{'|'.join(COLOURS)})"
_SHAPE = f"(?P<shape>{'|'.join(SHAPES)})"
_NUMBER = r"\d{1,4}(?:\.\d{1,3})?"
_POINT = rf"\((?P<x>{_NUMBER}), (?P<y>{_NUMBER})\)"
_SIZE = rf"(?P<width>{_NUMBER}) wide and (?P<height>{_NUMBER}) high"
_GLANCED = re.compile(rf"\ban? {_COLOUR} {_SHAPE} near {_POINT}, about {_SIZE}")
_ELEMENT = re.compile(
    rf"^Element \d+ is an? {_COLOUR} {_SHAPE} at the [a-z ]+, centred at {_POINT}, {_SIZE}, "
    rf"covering (?P<area>{_NUMBER}) percent of the picture\.(?P<rest>.*)$",
    re.MULTILINE,
)
_OTHER_COLOUR = re.compile(rf"Its colour could also be {_COLOUR}\.")
_UNCLEAR = "Its outline is hard to make out, so the shape is a guess."
_GLANCED_BAR = re.compile(rf"\b{_COLOUR} up to about gridline (?P<line>\d{{1,2}})\b")
_BAR = re.compile(
    rf"^Bar \d+ from the left is {_COLOUR}; its top lies (?P<height>{_NUMBER}) gridline spacings",
    re.MULTILINE,
)
_LABELS = re.compile(r"carries the labels (?P<labels>[\w, ]{1,400}) from bottom to top")
_GRID = re.compile(r"a grid of (?P<rows>\d) rows and (?P<columns>\d) columns")
_CELL = re.compile(
    rf"\brow (?P<row>\d), column (?P<column>\d) (?:holds )?an? {_COLOUR} {_SHAPE}", re.IGNORECASE
)
_HOLE = re.compile(r"Row (?P<row>\d), column (?P<column>\d) holds the question mark")


def place_words(x: float, y: float) -> str:
    """Where a point lies, in words: "upper left", "centre", "lower right"; x and y in percent."""
    across = "left" if x < 36 else "right" if x > 64 else ""
    down = "upper" if y < 36 else "lower" if y > 64 else ""
    if down and across:
        return f"{down} {across}"
    if down:
        return {"upper": "top centre", "lower": "bottom centre"}[down]
    return f"middle {across}" if across else "centre"


def listed(names: Iterable[str]) -> str:
    """A count of names in words: "2 red circles, 1 orange star"."""
    counts = Counter(names)
    return ", ".join(f"{count} {name if count == 1 else plural(name)}" for name, count in counts.items())


def write_description(look: Look, seed: int) -> str:
    """Both readings: the glance, then the elements one by one, their relations, and the whole.

    Args:
        seed: chooses among phrasings, never what is said.
    """
    rng = random.Random(seed)
    if isinstance(look.close, Chart) and isinstance(look.glance, Chart):
        parts = _chart_parts(look.glance, look.close)
    elif isinstance(look.close, Grid) and isinstance(look.glance, Grid):
        parts = _grid_parts(look.glance, look.close)
    else:
        parts = _scatter_parts(_elements(look.glance), _elements(look.close))
    glance, close, relations, whole = parts
    ending = rng.choice(("Taken together: ", "As one scene: ", "All in all: "))
    return "\n\n".join(
        (f"At first glance {glance}", f"{CLOSE_HEADING}\n{close}", f"Relations: {relations}", ending + whole)
    )


def parse_description(text: str) -> Look | None:
    """The two readings that a description holds; None where it holds none of the known kinds."""
    glance_text, heading, close_text = text.partition(CLOSE_HEADING)
    if not heading:
        return None
    grid = _GRID.search(glance_text)
    if grid is not None:
        return _parsed_grid(int(grid["rows"]), int(grid["columns"]), glance_text, close_text)
    if _BAR.search(close_text):
        return _parsed_chart(glance_text, close_text)
    close = tuple(_parsed_element(match) for match in _ELEMENT.finditer(close_text))
    glance = tuple(_parsed_glance(match) for match in _GLANCED.finditer(glance_text))
    return Look(Scatter(glance), Scatter(close)) if close else None


# ------------------------------------------------------------------------------------ writing

Parts = tuple[str, str, str, str]


def _elements(reading: Reading) -> tuple[Element, ...]:
    return reading.elements if isinstance(reading, Scatter) else ()


def _scatter_parts(glance: Sequence[Element], close: Sequence[Element]) -> Parts:
    seen = "; ".join(
        f"{article(one.name)} near ({one.x:.0f}, {one.y:.0f}), about {one.width:.0f} wide and "
        f"{one.height:.0f} high"
        for one in glance
    )
    first = f"there are {len(glance)} coloured shapes on a plain light ground: {seen}." if glance else ""
    first = first or "hardly anything stands out from the plain light ground."
    first += " Positions and sizes are in percent of the picture, from its upper left corner."
    lines = "\n".join(_element_line(number, one) for number, one in enumerate(close, start=1))
    whole = f"{len(close)} shapes lie on a plain ground: {listed(one.name for one in close)}."
    return first, lines, _scatter_relations(close), whole


def _element_line(number: int, one: Element) -> str:
    line = (
        f"Element {number} is {article(one.name)} at the {place_words(one.x, one.y)}, centred at "
        f"({one.x:.1f}, {one.y:.1f}), {one.width:.1f} wide and {one.height:.1f} high, "
        f"covering {one.area:.2f} percent of the picture."
    )
    if one.other_colour:
        line += f" Its colour could also be {one.other_colour}."
    return f"{line} {_UNCLEAR}" if one.unclear else line


def _scatter_relations(close: Sequence[Element]) -> str:
    numbered = list(enumerate(close, start=1))

    def order(key: str, *, reverse: bool = False) -> str:
        ranked = sorted(numbered, key=lambda entry: getattr(entry[1], key), reverse=reverse)
        return ", ".join(str(number) for number, _ in ranked)

    touching = [f"{i} and {j}" for i, one in numbered for j, two in numbered if i < j and _touch(one, two)]
    close_by = f" The boxes of elements {', '.join(touching)} meet." if touching else ""
    return (
        f"from the largest to the smallest the elements are {order('area', reverse=True)}; from left to "
        f"right {order('x')}; from top to bottom {order('y')}.{close_by}"
    )


def _touch(one: Element, two: Element) -> bool:
    across = abs(one.x - two.x) < (one.width + two.width) / 2
    return across and abs(one.y - two.y) < (one.height + two.height) / 2


def _chart_parts(glance: Chart, close: Chart) -> Parts:
    seen = ", ".join(f"{bar.colour} up to about gridline {max(0, round(bar.height))}" for bar in glance.bars)
    first = f"this is a bar chart; from left to right: {seen or 'no bar stands out'}."
    labels = ", ".join("unreadable" if label is None else str(label) for label in close.labels)
    lines = [f"The vertical axis carries the labels {labels} from bottom to top, one at each gridline."]
    lines += [
        f"Bar {number} from the left is {bar.colour}; its top lies {max(0.0, bar.height):.2f} gridline "
        "spacings above the baseline."
        for number, bar in enumerate(close.bars, start=1)
    ]
    ranked = sorted(close.bars, key=lambda bar: -bar.height)
    relations = f"from the tallest to the shortest the bars are {', '.join(bar.colour for bar in ranked)}."
    whole = f"a chart of {len(close.bars)} bars over an axis with {len(close.labels)} labels."
    return first, "\n".join(lines), relations, whole


def _grid_parts(glance: Grid, close: Grid) -> Parts:
    seen = "; ".join(
        f"row {row + 1}, column {column + 1} {article(name)}"
        for (row, column), name in sorted(glance.cells.items())
    )
    first = (
        f"this is a grid of {close.rows} rows and {close.columns} columns with one cell marked by a question "
        f"mark. In a quick look: {seen or 'nothing clear'}."
    )
    cells = [(row, column) for row in range(close.rows) for column in range(close.columns)]
    lines = "\n".join(
        f"Row {row + 1}, column {column + 1} holds {_held(close, (row, column))}." for row, column in cells
    )
    colours = sorted({name.split()[0] for name in close.cells.values()})
    shapes = sorted({name.split()[-1] for name in close.cells.values()})
    relations = (
        f"the colours {', '.join(colours)} and the shapes {', '.join(shapes)} come back across the grid."
    )
    whole = f"a pattern of {len(close.cells)} shapes in {close.rows} rows, and one open cell."
    return first, lines, relations, whole


def _held(grid: Grid, cell: Cell) -> str:
    if cell == grid.hole:
        return "the question mark"
    return article(grid.cells[cell]) if cell in grid.cells else "something that I cannot make out"


# ------------------------------------------------------------------------------------ reading back


def _parsed_glance(match: re.Match[str]) -> Element:
    width, height = float(match["width"]), float(match["height"])
    return Element(
        match["colour"],
        match["shape"],
        float(match["x"]),
        float(match["y"]),
        width,
        height,
        width * height / 100,
    )


def _parsed_element(match: re.Match[str]) -> Element:
    other = _OTHER_COLOUR.search(match["rest"])
    return Element(
        match["colour"],
        match["shape"],
        *(float(match[key]) for key in ("x", "y", "width", "height", "area")),
        other_colour=other["colour"] if other else "",
        unclear=_UNCLEAR in match["rest"],
    )


def _parsed_chart(glance_text: str, close_text: str) -> Look:
    labels = _LABELS.search(close_text)
    words = labels["labels"].split(", ") if labels else []
    values = tuple(int(word) if word.isdecimal() and len(word) <= 6 else None for word in words)
    seen = tuple(Bar(match["colour"], float(match["line"])) for match in _GLANCED_BAR.finditer(glance_text))
    bars = tuple(Bar(match["colour"], float(match["height"])) for match in _BAR.finditer(close_text))
    return Look(Chart(seen, values), Chart(bars, values))


def _parsed_grid(rows: int, columns: int, glance_text: str, close_text: str) -> Look | None:
    hole = _HOLE.search(close_text)
    if hole is None or not rows or not columns:
        return None
    cell = int(hole["row"]) - 1, int(hole["column"]) - 1
    glance, close = (_parsed_cells(text, rows, columns) for text in (glance_text, close_text))
    if cell not in {(row, column) for row in range(rows) for column in range(columns)}:
        return None
    glance.pop(cell, None)
    close.pop(cell, None)
    return Look(Grid(rows, columns, glance, cell), Grid(rows, columns, close, cell))


def _parsed_cells(text: str, rows: int, columns: int) -> dict[Cell, str]:
    cells = {}
    for match in _CELL.finditer(text):
        row, column = int(match["row"]) - 1, int(match["column"]) - 1
        if 0 <= row < rows and 0 <= column < columns:
            cells[row, column] = f"{match['colour'].lower()} {match['shape'].lower()}"
    return cells
