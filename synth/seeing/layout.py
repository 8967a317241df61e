"""The lines of a picture: a chart's axis and labels, a grid's frame, and ink that belongs to neither.

Arrays: H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from synth.seeing.regions import Sheet, label_areas, largest_area
from synth.vocabulary import GLYPHS

Cell = tuple[int, int]

_COVERAGE = 0.75  # share of a line's pale pixels that carry ink


@dataclass(frozen=True)
class Frame:
    """A grid of square cells: positions of its lines in pixels, and the share of stray ink inside."""

    row_lines: tuple[float, ...]
    column_lines: tuple[float, ...]
    stray_ink: float = 0.0

    @property
    def rows(self) -> int:
        return len(self.row_lines) - 1

    @property
    def columns(self) -> int:
        return len(self.column_lines) - 1

    @property
    def cells(self) -> list[Cell]:
        return [(row, column) for row in range(self.rows) for column in range(self.columns)]

    def cell_of(self, x: float, y: float) -> Cell | None:
        """The cell at a point, None outside."""
        row = int(np.searchsorted(self.row_lines, y)) - 1
        column = int(np.searchsorted(self.column_lines, x)) - 1
        return (row, column) if 0 <= row < self.rows and 0 <= column < self.columns else None

    def inside(self, cell: Cell) -> tuple[slice, slice]:
        """The middle of a cell, clear of its lines."""
        spans = []
        for lines, place in ((self.row_lines, cell[0]), (self.column_lines, cell[1])):
            margin = 0.1 * (lines[place + 1] - lines[place])
            spans.append(slice(round(lines[place] + margin), round(lines[place + 1] - margin)))
        return spans[0], spans[1]

    def ink_in(self, ink_HW: np.ndarray, cell: Cell) -> float:
        """Share of dark pixels in the middle of a cell."""
        return float((ink_HW[self.inside(cell)] > 60).mean())

    def scaled(self, factor: float) -> Frame:
        rows = tuple(line * factor for line in self.row_lines)
        return Frame(rows, tuple(line * factor for line in self.column_lines), self.stray_ink)


@dataclass(frozen=True)
class Lines:
    """What the lines of a picture are.

    Attributes:
        grid: the frame of a pattern grid, or None.
        axis: column of a chart's vertical axis, pixels, or None.
        stray_ink: share of the picture that is neither background nor coloured.
        largest_stray: share of the picture that the largest connected piece of it covers.
    """

    grid: Frame | None
    axis: float | None
    stray_ink: float
    largest_stray: float


def find_lines(sheet: Sheet) -> Lines:
    """Long straight grey lines, by the inked share of rows and columns away from coloured areas."""
    pale_HW = ~_widened(sheet.coloured, 4)
    stray_HW = pale_HW & ~sheet.ground
    stray = float(stray_HW.mean()), largest_area(stray_HW) / stray_HW.size
    box = _box(stray_HW)
    columns = _lines(stray_HW[box], pale_HW[box], axis=0, start=box[1].start)
    rows = _lines(stray_HW[box], pale_HW[box], axis=1, start=box[0].start)
    frame = _frame(rows, columns, stray_HW)
    if frame is not None:
        return Lines(frame, None, *stray)
    left = [column for column in columns if column < 0.35 * pale_HW.shape[1]]
    single = len(left) == 1 and len(columns) == 1
    return Lines(None, left[0] if single else None, *stray)


def read_labels(sheet: Sheet, axis: float) -> list[tuple[float, int | None]]:
    """The numbers left of an axis from bottom to top: (row of the middle in pixels, value or None)."""
    strip_HW = sheet.ink[:, : max(1, int(axis) - 2)]
    dark = float(np.percentile(strip_HW, 99.5)) / 2
    if dark < 20:
        return []
    glyphs = [area for area in label_areas(strip_HW > dark, diagonal=True) if area[2].shape[0] >= 5]
    if not glyphs:
        return []
    tall = float(np.median([mask.shape[0] for _, _, mask in glyphs]))
    labels = []
    for row in _in_rows([glyph for glyph in glyphs if 0.7 * tall <= glyph[2].shape[0] <= 1.3 * tall], tall):
        middle = float(np.mean([top + mask.shape[0] / 2 for top, _, mask in row]))
        labels.append((middle, _number([_digit(strip_HW, glyph) for glyph in row])))
    return sorted(labels, key=lambda label: -label[0])


# ------------------------------------------------------------------------------------ lines


def _widened(mask_HW: np.ndarray, reach: int) -> np.ndarray:
    """A mask and everything within `reach` pixels along rows, columns and diagonals."""
    wide = mask_HW.copy()
    wide[reach:] |= mask_HW[:-reach]
    wide[:-reach] |= mask_HW[reach:]
    across = wide.copy()
    across[:, reach:] |= wide[:, :-reach]
    across[:, :-reach] |= wide[:, reach:]
    return across


def _box(stray_HW: np.ndarray) -> tuple[slice, slice]:
    """The smallest window that holds all rows and columns with more than a speck of stray ink."""
    rows, columns = (np.flatnonzero(stray_HW.sum(axis) > 4) for axis in (1, 0))
    if not rows.size or not columns.size:
        return np.s_[0:0, 0:0]
    return np.s_[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]


def _lines(stray_HW: np.ndarray, pale_HW: np.ndarray, axis: int, start: int) -> list[float]:
    """Middles of the columns (axis 0) or rows (axis 1) that are inked wherever they are not coloured."""
    if not pale_HW.size:
        return []
    length = pale_HW.shape[axis]
    inked, pale = stray_HW.sum(axis), pale_HW.sum(axis)
    marked = np.flatnonzero((pale > 0.12 * length) & (inked > _COVERAGE * pale))
    if not marked.size:
        return []
    runs = np.split(marked, np.flatnonzero(np.diff(marked) > 2) + 1)
    narrow = [run for run in runs if len(run) <= 4 + 0.015 * pale_HW.shape[1 - axis]]
    return [start + float(run.mean()) + 0.5 for run in narrow]


def _frame(rows: list[float], columns: list[float], stray_HW: np.ndarray) -> Frame | None:
    """A frame where both sets of lines are evenly spaced and the cells are square."""
    if not (4 <= len(rows) <= 9 and 4 <= len(columns) <= 9):
        return None
    down, across = np.diff(rows), np.diff(columns)
    size = float(np.median(np.concatenate([down, across])))
    if max(np.abs(down - size).max(), np.abs(across - size).max()) > 0.12 * size:
        return None
    frame = Frame(tuple(rows), tuple(columns))
    shares = sorted(float(stray_HW[frame.inside(cell)].mean()) for cell in frame.cells)
    outside = _outside(frame, stray_HW)
    return Frame(frame.row_lines, frame.column_lines, float(np.mean(shares[:-1])) + outside)


def _outside(frame: Frame, stray_HW: np.ndarray) -> float:
    """Share of the picture that is stray ink outside the frame."""
    away = stray_HW.copy()
    top, bottom = round(frame.row_lines[0]) - 3, round(frame.row_lines[-1]) + 4
    left, right = round(frame.column_lines[0]) - 3, round(frame.column_lines[-1]) + 4
    away[max(0, top) : bottom, max(0, left) : right] = False
    return float(away.mean())


# ------------------------------------------------------------------------------------ digits

Glyph = tuple[int, int, np.ndarray]


def _in_rows(glyphs: list[Glyph], tall: float) -> list[list[Glyph]]:
    """Glyphs whose middles lie at one height, each row from left to right."""
    rows: list[list[Glyph]] = []
    for glyph in sorted(glyphs, key=lambda glyph: glyph[0]):
        if rows and abs(rows[-1][0][0] - glyph[0]) < 0.5 * tall:
            rows[-1].append(glyph)
        else:
            rows.append([glyph])
    return [sorted(row, key=lambda glyph: glyph[1]) for row in rows]


def _digit(strip_HW: np.ndarray, glyph: Glyph) -> str:
    """The digit that a glyph looks most like, "" where it is like none."""
    top, left, mask = glyph
    height, width = mask.shape
    ink = strip_HW[top : top + height, left : left + width]
    names, templates_NP, widths_N = _digit_templates()
    patch_P = _patch(np.clip(ink, 0, None))
    likeness_N = templates_NP @ patch_P - 0.5 * np.abs(widths_N - 5 * width / max(width, 5 * height / 7)) / 5
    best = int(likeness_N.argmax())
    return names[best] if likeness_N[best] > 0.5 else ""


def _number(digits: list[str]) -> int | None:
    text = "".join(digits)
    return int(text) if all(digits) and 0 < len(text) <= 6 else None


@cache
def _digit_templates() -> tuple[list[str], np.ndarray, np.ndarray]:
    names = [name for name in GLYPHS if name.isdigit()]
    patches, widths = [], []
    for name in names:
        bits = np.array([[int(bit) for bit in row] for row in GLYPHS[name]], np.float32)
        used = np.flatnonzero(bits.any(0))
        patches.append(_patch(bits[:, used[0] : used[-1] + 1]))
        widths.append(used[-1] - used[0] + 1)
    return names, np.stack(patches), np.array(widths, np.float32)


def _patch(ink: np.ndarray) -> np.ndarray:
    """Ink stretched to 10 by 14 pixels, mean 0 and norm 1."""
    picture = Image.fromarray(ink.astype(np.float32)).resize((10, 14), Image.Resampling.BILINEAR)
    patch = np.asarray(picture, np.float32).ravel()
    patch = patch - patch.mean()
    return patch / max(float(np.linalg.norm(patch)), 1e-6)
