"""Reads a picture of shapes, a bar chart or a pattern grid: at a glance, and closely.

Classical vision on the pixels alone. The glance sees a small copy with coarse colours; the close look sees
every pixel. Overlaps, neighbouring colours and grain make both wrong at times. A picture of another kind is
refused with a reason. Arrays: C = 3 channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from synth.seeing.layout import Frame, Lines, find_lines, read_labels
from synth.seeing.regions import (
    PROTOTYPES,
    Region,
    Sheet,
    even_out,
    find_regions,
    label_areas,
    name_colour,
    name_colours,
    name_shape,
)

Cell = tuple[int, int]

_LARGEST_SIDE = 768  # larger pictures are read from a copy of this side, pixels
_SMALLEST_SIDE = 96
_GLANCE_SIDE = 60
_GLANCE_LEVELS = 5  # levels per channel
_GLANCE_CHROMA = 60  # grey levels
_GLANCE_AREA = 6  # smaller areas are missed at a glance, pixels of the small copy
_LEAST_AREA = 0.0009  # share of the picture: smaller specks are no elements
_FIT = 0.8  # overlap with a shape's outline from which a shape is named without doubt


class UnreadableImage(Exception):  # noqa: N818 (it says what the picture is)
    """The picture is none of the kinds this reader knows; the message says why."""


@dataclass(frozen=True)
class Element:
    """One shape as it was seen.

    Attributes:
        x, y: centre, percent of the width from the left and of the height from the top.
        width, height: percent of the picture's width and height.
        area: percent of the picture.
        other_colour: a second colour it might have, "" where the colour is clear.
        unclear: True where its outline fits no shape well.
    """

    colour: str
    shape: str
    x: float
    y: float
    width: float
    height: float
    area: float
    other_colour: str = ""
    unclear: bool = False

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Bar:
    """One bar; `height` in gridline spacings above the baseline."""

    colour: str
    height: float


@dataclass(frozen=True)
class Scatter:
    """Shapes on a plain ground; a close look numbers them from 1, from top to bottom."""

    elements: tuple[Element, ...]


@dataclass(frozen=True)
class Chart:
    """Bars from left to right, and the axis labels from bottom to top (None: unreadable)."""

    bars: tuple[Bar, ...]
    labels: tuple[int | None, ...]


@dataclass(frozen=True)
class Grid:
    """Names by (row, column) from 0; a cell that could not be made out is left out."""

    rows: int
    columns: int
    cells: dict[Cell, str]
    hole: Cell


Reading = Scatter | Chart | Grid


@dataclass(frozen=True)
class Look:
    """Both readings, always of one kind."""

    glance: Reading
    close: Reading


def look(pixels_HWC: np.ndarray) -> Look:
    """Reads a picture at a glance and closely.

    Args:
        pixels_HWC: uint8, any size.
    Raises: UnreadableImage: it is no picture of shapes, bar chart or pattern grid.
    """
    pixels_HWC = _bounded(pixels_HWC)
    sheet = even_out(pixels_HWC)
    _require_plain_ground(sheet)
    lines = find_lines(sheet)
    regions = find_regions(sheet, _LEAST_AREA * sheet.ground.size)
    small_HW = _coarse_names(pixels_HWC)
    if lines.grid is not None:
        return _look_at_grid(sheet, lines.grid, regions, small_HW)
    if lines.axis is not None:
        return _look_at_chart(sheet, lines, regions, small_HW)
    return _look_at_scatter(sheet, lines, regions, small_HW)


# ------------------------------------------------------------------------------------ refusals


def _bounded(pixels_HWC: np.ndarray) -> np.ndarray:
    height, width = pixels_HWC.shape[:2]
    if min(height, width) < _SMALLEST_SIDE:
        raise UnreadableImage(f"{width} x {height} pixels: too small to make out, need {_SMALLEST_SIDE}")
    if max(height, width) <= _LARGEST_SIDE:
        return pixels_HWC
    share = _LARGEST_SIDE / max(height, width)
    size = max(_SMALLEST_SIDE, round(width * share)), max(_SMALLEST_SIDE, round(height * share))
    return np.asarray(Image.fromarray(pixels_HWC).resize(size, Image.Resampling.BOX, reducing_gap=2))


def _require_plain_ground(sheet: Sheet) -> None:
    if sheet.background.mean() < 130:
        raise UnreadableImage("the background is dark")
    if sheet.noise > 20:
        raise UnreadableImage(f"grain of {sheet.noise:.0f} grey levels hides everything, the limit is 20")
    ground = float(sheet.ground.mean())
    if ground < 0.2:
        raise UnreadableImage(f"only {ground:.0%} of the picture is plain background, need 20%")
    if float(sheet.coloured.mean()) < 0.005:
        raise UnreadableImage("there are no coloured areas in it")


def _require_clear_shapes(sheet: Sheet, regions: list[Region], elements: list[Element]) -> None:
    if not 1 <= len(elements) <= 40:
        raise UnreadableImage(f"{len(elements)} coloured areas where 1 to 40 shapes are expected")
    unclear = sum(one.area for one in elements if one.unclear) / sum(one.area for one in elements)
    if unclear > 0.5:
        raise UnreadableImage(f"{unclear:.0%} of what is coloured has no outline that I know")
    covered = sum(region.area for region in regions) / max(1, np.count_nonzero(sheet.coloured))
    if covered < 0.75:
        raise UnreadableImage(f"only {covered:.0%} of the coloured pixels belong to plain shapes")


# ------------------------------------------------------------------------------------ scattered shapes


def _look_at_scatter(sheet: Sheet, lines: Lines, regions: list[Region], small_HW: np.ndarray) -> Look:
    if lines.stray_ink > 0.005 or lines.largest_stray > 0.0004:
        raise UnreadableImage(f"{lines.stray_ink:.2%} of it is grey or black drawing that I cannot place")
    elements = [_element(region, sheet.ground.shape) for region in regions]
    _require_clear_shapes(sheet, regions, elements)
    seen = [_element(region, small_HW.shape) for region in _coarse_regions(small_HW)]
    return Look(Scatter(_ordered(seen)), Scatter(_ordered(elements)))


def _ordered(elements: list[Element]) -> tuple[Element, ...]:
    """From top to bottom in bands, within a band from left to right."""
    return tuple(sorted(elements, key=lambda element: (round(element.y / 20), element.x, element.y)))


def _element(region: Region, shape_HW: tuple[int, ...]) -> Element:
    height, width = shape_HW[:2]
    colour, other = name_colour(region.colour)
    shape, fit = name_shape(region.mask)
    x, y = region.centre
    return Element(
        colour=colour,
        shape=shape,
        x=100 * x / width,
        y=100 * y / height,
        width=100 * region.mask.shape[1] / width,
        height=100 * region.mask.shape[0] / height,
        area=100 * region.area / (height * width),
        other_colour=other,
        unclear=fit < _FIT,
    )


# ------------------------------------------------------------------------------------ charts


def _look_at_chart(sheet: Sheet, lines: Lines, regions: list[Region], small_HW: np.ndarray) -> Look:
    axis = lines.axis or 0
    labels = read_labels(sheet, axis)
    if len(labels) < 3:
        raise UnreadableImage(f"a vertical line with {len(labels)} labels beside it: no axis that I can read")
    rows = [row for row, _ in labels]
    spacing = (rows[0] - rows[-1]) / (len(rows) - 1)
    if max(abs(rows[0] - place * spacing - row) for place, row in enumerate(rows)) > 0.12 * spacing:
        raise UnreadableImage("the labels beside the axis are not evenly spaced")
    values = tuple(value for _, value in labels)
    close = _bars(regions, rows[0], spacing, sheet.ground.shape, axis)
    if not 2 <= len(close) <= 20:
        raise UnreadableImage(f"{len(close)} bars beside an axis, expected 2 to 20")
    ratio = small_HW.shape[0] / sheet.ground.shape[0]
    coarse = _coarse_regions(small_HW)
    seen = _bars(coarse, rows[0] * ratio, spacing * ratio, small_HW.shape, axis * ratio)
    glance = tuple(Bar(bar.colour, float(round(bar.height))) for bar in seen)
    return Look(Chart(glance, values), Chart(close, values))


def _bars(
    regions: list[Region], baseline: float, spacing: float, shape_HW: tuple[int, ...], axis: float
) -> tuple[Bar, ...]:
    """The regions right of the axis that stand on the baseline and fill their box."""
    bars = []
    for region in sorted(regions, key=lambda region: region.left):
        height, width = region.mask.shape
        full = region.area > 0.8 * height * width
        stands = abs(region.top + height - baseline) < 0.03 * shape_HW[0] + 1
        if full and stands and region.centre[0] > axis and width > 0.03 * shape_HW[1]:
            bars.append(Bar(name_colour(region.colour)[0], (baseline - region.top) / spacing))
    return tuple(bars)


# ------------------------------------------------------------------------------------ grids


def _look_at_grid(sheet: Sheet, frame: Frame, regions: list[Region], small_HW: np.ndarray) -> Look:
    if frame.stray_ink > 0.03:
        raise UnreadableImage(f"{frame.stray_ink:.1%} of the grid is drawing that I cannot place")
    close = _cells(regions, frame, sheet.ground.shape, _FIT)
    empty = sorted(set(frame.cells) - {frame.cell_of(*region.centre) for region in regions})
    marked = [cell for cell in empty if frame.ink_in(sheet.ink, cell) > 0.01]
    if len(marked) != 1:
        raise UnreadableImage(f"a grid with {len(marked)} marked cells, expected one question mark")
    if len(close) < 0.5 * (len(frame.cells) - 1):
        raise UnreadableImage(f"only {len(close)} of {len(frame.cells)} cells hold a shape that I know")
    small = frame.scaled(small_HW.shape[0] / sheet.ground.shape[0])
    glance = _cells(_coarse_regions(small_HW), small, small_HW.shape, 0.0)
    glance.pop(marked[0], None)
    return Look(
        Grid(frame.rows, frame.columns, glance, marked[0]), Grid(frame.rows, frame.columns, close, marked[0])
    )


def _cells(
    regions: list[Region], frame: Frame, shape_HW: tuple[int, ...], least_fit: float
) -> dict[Cell, str]:
    """The name of the largest region in each cell, left out where its outline fits no shape."""
    named: dict[Cell, str] = {}
    for region in sorted(regions, key=lambda region: -region.area):
        cell = frame.cell_of(*region.centre)
        shape, fit = name_shape(region.mask)
        if cell is not None and cell not in named and fit >= least_fit:
            named[cell] = f"{name_colour(region.colour)[0]} {shape}"
    return named


# ------------------------------------------------------------------------------------ the glance


def _coarse_names(pixels_HWC: np.ndarray) -> np.ndarray:
    """A small copy with coarse colours, int [h, w]: indices of PROTOTYPES, -1 where nothing is coloured."""
    height, width = pixels_HWC.shape[:2]
    share = _GLANCE_SIDE / max(height, width)
    size = max(1, round(width * share)), max(1, round(height * share))
    small_HWC = np.asarray(Image.fromarray(pixels_HWC).resize(size, Image.Resampling.BOX), np.float32)
    step = 256 / _GLANCE_LEVELS
    coarse_NC = ((small_HWC // step + 0.5) * step).reshape(-1, 3)
    names_N = name_colours(coarse_NC)
    names_N[np.ptp(small_HWC.reshape(-1, 3), axis=1) < _GLANCE_CHROMA] = -1
    return names_N.reshape(small_HWC.shape[:2])


def _coarse_regions(small_HW: np.ndarray) -> list[Region]:
    """Connected pixels of one coarse colour."""
    prototypes = np.array(list(PROTOTYPES.values()), np.float64)
    found = []
    for number in np.unique(small_HW[small_HW >= 0]):
        for top, left, mask in label_areas(small_HW == number):
            if np.count_nonzero(mask) >= _GLANCE_AREA:
                found.append(Region(top, left, mask, prototypes[number]))
    return found
