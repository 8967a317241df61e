"""VAS against accuracy, one point per model: the paper's figure 1 for models of one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from flows.vas.canvas import BLUE, GREY, name_label

if TYPE_CHECKING:
    from flows.vas.correlation import Correlation

Interval = tuple[float, float]
_BAND_EDGES = (10.0, 15.0)
_BAND_COLOURS = {"narrow": "#F4F4F4", "wide": "#E3EEF6", "panoramic": "#F7E8DC"}
_NEAR = ((6, 7), (6, -13), (-6, 7), (-6, -13))  # places for a name around its point, in points of 1/72 inch
_FAR = ((6, 19), (-6, 19), (6, -25), (-6, -25), (30, 19), (-30, 19), (30, -25), (-30, -25), (6, 33), (-6, 33))
_LEADER = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0.0, "shrinkB": 2.0}


def draw_correlation(figure: Figure, found: Correlation, intervals: Mapping[str, Interval | None]) -> None:
    """The points with names, intervals of VAS, the line of least squares and the paper's bands."""
    axes = figure.subplots()
    axes.set(xlabel="VAS (mean of ratios), with its 95% interval", ylabel="accuracy, percent")
    axes.set_title(_title(found))
    kept = [name for name, score in found.vas.items() if math.isfinite(score)]
    if not kept:
        return
    vas = np.array([found.vas[name] for name in kept])
    accuracy = np.array([found.accuracy[name] for name in kept])
    ends = np.array([_ends(found.vas[name], intervals.get(name)) for name in kept])
    away = np.abs(ends.T - vas)
    axes.errorbar(vas, accuracy, xerr=away, fmt="o", color=BLUE, ecolor=GREY, elinewidth=1.2, capsize=2.5)
    _set_limits(axes, ends.ravel(), accuracy)
    _line_of_least_squares(axes, found, vas, accuracy)
    _bands(axes)
    _name_points(figure, axes, [name_label(name) for name in kept], np.column_stack([vas, accuracy]), ends)


def _ends(score: float, interval: Interval | None) -> Interval:
    """Where a point's bar reaches: nowhere without a finite interval."""
    return interval if interval and all(map(math.isfinite, interval)) else (score, score)


def _title(found: Correlation) -> str:
    def show(value: float | None, digits: str) -> str:
        return "not defined" if value is None else format(value, digits)

    r, p, rho = (found.pearson_r, ".3f"), (found.pearson_p, ".2g"), (found.spearman_rho, ".3f")
    return f"{found.models} models: Pearson's r = {show(*r)} (p = {show(*p)}), Spearman's rho = {show(*rho)}"


def _set_limits(axes: Axes, ends: np.ndarray, accuracy: np.ndarray) -> None:
    width = max(np.ptp(ends), 1e-6)
    axes.set_xlim(ends.min() - 0.08 * width, ends.max() + 0.16 * width)
    height = max(np.ptp(accuracy), 1e-6)
    axes.set_ylim(accuracy.min() - 0.18 * height, accuracy.max() + 0.2 * height)


def _line_of_least_squares(axes: Axes, found: Correlation, vas: np.ndarray, accuracy: np.ndarray) -> None:
    if found.pearson_r is None:
        return
    slope, start = np.polyfit(vas, accuracy, 1)
    ends = np.array(axes.get_xlim())
    axes.plot(
        ends,
        start + slope * ends,
        color=GREY,
        linestyle="--",
        linewidth=1,
        zorder=1,
        scalex=False,
        scaley=False,
    )


def _bands(axes: Axes) -> None:
    """The paper's bands as far as they are in sight, each with its name."""
    low, high = axes.get_xlim()
    starts, stops = (-math.inf, *_BAND_EDGES), (*_BAND_EDGES, math.inf)
    for (name, colour), start, stop in zip(_BAND_COLOURS.items(), starts, stops, strict=True):
        left, right = max(start, low), min(stop, high)
        if left < right:
            axes.axvspan(left, right, color=colour, linewidth=0, zorder=0)
            if right - left > 0.12 * (high - low):
                axes.text(
                    (left + right) / 2,
                    0.01,
                    name,
                    transform=axes.get_xaxis_transform(),
                    ha="center",
                    color=GREY,
                )
    axes.set_xlim(low, high)


def _name_points(
    figure: Figure, axes: Axes, names: Sequence[str], points: np.ndarray, ends: np.ndarray
) -> None:
    """Each name where it covers no point, no bar and no other name, as far as there is such a place.

    Args:
        points: [N, 2], where the names belong. ends: [N, 2], from where to where their bars reach.
    """
    canvas: Any = figure.canvas
    canvas.draw()
    figure.set_layout_engine("none")  # what was measured stays where it is
    to_pixels = axes.transData.transform
    along = np.linspace(ends[:, 0], ends[:, 1], 15)
    bars = to_pixels(np.column_stack([along.ravel(), np.tile(points[:, 1], 15)]))
    spots, taken = to_pixels(points), []
    for number, (name, point, (left, right)) in enumerate(zip(names, points, ends, strict=True)):
        label = axes.annotate(
            name, point, xytext=(0, 0), textcoords="offset points", fontsize=8, arrowprops=_LEADER
        )
        reach = (to_pixels([[right, 0], [left, 0]]) - to_pixels([[point[0], 0]]))[:, 0] * 72 / figure.dpi
        beside = [(reach[0] + 5, -3.0), (reach[1] - 5, -3.0)]
        offsets = [*_NEAR, *beside, *_FAR]
        boxes = [_place(label, offset, canvas.get_renderer()) for offset in offsets]
        frame = axes.get_window_extent()
        best = int(np.argmin([_crowding(box, frame, spots, number, bars, taken) for box in boxes]))
        taken.append(_place(label, offsets[best], canvas.get_renderer()))


def _crowding(
    box: Any, frame: Any, spots: np.ndarray, own: int, bars: np.ndarray, taken: Sequence[Any]
) -> int:
    """How bad a place for the name of the point number `own` is, 0 for a free one. All in pixels."""
    outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    around = box.padded(4)  # points and the ends of bars have a size
    on_bar = bool(around.count_contains(bars))
    beyond = np.maximum(0, np.maximum(box.min - spots, spots - box.max))
    away = np.hypot(*beyond.T)
    at_another = int(np.argmin(away)) != own
    covered = int(around.count_contains(spots))
    return 4 * outside + 3 * box.count_overlaps(taken) + 2 * covered + on_bar + at_another


def _place(label: Annotation, offset: tuple[float, float], renderer: Any) -> Any:
    """Puts a name there; the box of its text, without the line to its point."""
    label.set_position(offset)
    label.set_horizontalalignment("left" if offset[0] > 0 else "right")
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)
