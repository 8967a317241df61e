"""What all figures share: colours, cleaned names, and a figure as PNG bytes that are always the same.

Only matplotlib's object-oriented interface is used: no pyplot, no window, and no figure that stays behind.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from flows.text import one_line

# Okabe and Ito's colours, which people with colour-blindness tell apart.
ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
)
GREY, PALE = "#8C8C8C", "#E6E6E6"
REGION_COLOURS = {"image": RED, "system": BLUE, "user": GREEN, "response": PINK, "other": PALE}
_MODEL_COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, "#000000")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 130,
    "figure.dpi": 130,
}
_LONGEST_NAME = 26
WIDTH = 9.0  # of most figures, inches


def render(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    """PNG bytes of what `draw` puts on a figure of that size in inches; equal data give equal bytes."""
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # shown as a box
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        buffer = io.BytesIO()
        canvas.print_png(buffer, metadata={"Software": None})  # no version and no date in the file
    return buffer.getvalue()


def name_label(name: str) -> str:
    """A model's name as a figure can show it: one line, not too long, no formula, not hidden by a legend."""
    line = one_line(name)
    if len(line) > _LONGEST_NAME:
        half = _LONGEST_NAME // 2
        line = f"{line[:half]}…{line[-half + 1 :]}"
    return (" " if line.startswith("_") else "") + line.replace("$", r"\$")


def model_looks(count: int) -> list[dict[str, Any]]:
    """A colour and a dash for each of `count` models; the pairs repeat after 28."""
    looks = [{"color": colour, "linestyle": dash} for dash in _DASHES for colour in _MODEL_COLOURS]
    return list(islice(cycle(looks), count))


def finite(values: Iterable[float | None]) -> np.ndarray:
    """The numbers among `values`."""
    return np.array([value for value in values if value is not None and math.isfinite(value)], dtype=float)


def plain_log_ticks(axis: Axis) -> None:
    """Numbers such as 0.5 and 20 on a logarithmic axis, instead of powers of ten."""
    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if 0 < low < high else 9.0
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
