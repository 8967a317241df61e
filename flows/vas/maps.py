"""Maps of VAS and of shares on the image, layers down and heads across."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from flows.vas.canvas import PALE, WIDTH, finite, name_label, render

if TYPE_CHECKING:
    from trainer.scores import VasReport

Reports = Mapping[str, "VasReport"]


def render_heads(reports: Reports) -> bytes:
    """VAS, and the image share of U and T; one line of maps per model, on common scales."""
    ratios = {name: _grid(report.heads.vas) for name, report in reports.items()}
    users = {name: _grid(report.heads.user_image) for name, report in reports.items()}
    responses = {
        name: _grid(
            report.heads.response_image if report.response else [[None] * len(row) for row in users[name]]
        )
        for name, report in reports.items()
    }
    top = max(_highest(grid) for grid in (*users.values(), *responses.values())) or 1.0
    columns = (
        ("VAS", ratios, _log_norm(list(ratios.values()))),
        ("share on the image, question (U)", users, Normalize(0, top)),
        ("share on the image, response (T)", responses, Normalize(0, top)),
    )
    tallest = 5.0 if len(reports) == 1 else 2.8
    heights = [min(max(0.22 * len(grid), 1.4), tallest) for grid in ratios.values()]

    def draw(figure: Figure) -> None:
        places = figure.add_gridspec(len(reports) + 1, 3, height_ratios=[*heights, 0.13])
        images: list[Any] = []
        for column, (title, grids, norm) in enumerate(columns):
            for row, (name, report) in enumerate(reports.items()):
                axes = figure.add_subplot(places[row, column])
                images.append(_map(axes, grids[name], report.layers, norm))
                named = len(reports) > 1 and column == 0
                axes.set_title(f"{name_label(name)}: {title}" if named else title)
                if row == len(reports) - 1:
                    axes.set_xlabel("head")
                if column == 0:
                    axes.set_ylabel("layer")
        _colour_bar(figure, places[-1, 0], images[0], "VAS (logarithmic)")
        bar = _colour_bar(figure, places[-1, 1:], images[-1], "share of attention")
        bar.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))

    return render(draw, WIDTH, 1.2 + sum(heights))


def _colour_bar(figure: Figure, place: Any, image: Any, label: str) -> Axes:
    bar = figure.add_subplot(place)
    figure.colorbar(image, cax=bar, orientation="horizontal", label=label)
    return bar


def _grid(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    """[L, H]; NaN where there is no figure."""
    widest = max((len(row) for row in rows), default=1)
    grid = np.full((max(len(rows), 1), widest), np.nan)
    for place, row in enumerate(rows):
        grid[place, : len(row)] = [np.nan if value is None else value for value in row]
    return grid


def _highest(grid: np.ndarray) -> float:
    values = finite(grid.ravel())
    return float(values.max()) if len(values) else 0.0


def _log_norm(grids: Sequence[np.ndarray]) -> Normalize:
    values = finite(np.concatenate([grid.ravel() for grid in grids]))
    values = values[values > 0]
    if not len(values):
        return Normalize(0, 1)
    low, high = values.min(), values.max()
    return LogNorm(low, high) if high > low * 1.01 else LogNorm(low / 1.5, high * 1.5)


def _map(axes: Axes, grid: np.ndarray, layers: Sequence[int], norm: Normalize) -> Any:
    """Layers down, heads across; what is not a number, or zero on a logarithmic scale, stays pale."""
    axes.set_facecolor(PALE)
    kept = np.ma.masked_where(~np.isfinite(grid) | ((grid <= 0) & isinstance(norm, LogNorm)), grid)
    image = axes.imshow(kept, norm=norm, cmap="viridis", aspect="auto", interpolation="nearest")
    step = max(1, math.ceil(len(layers) / 14))
    axes.set_yticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
    step = max(1, math.ceil(grid.shape[1] / 8))
    axes.set_xticks(range(0, grid.shape[1], step))
    return image
