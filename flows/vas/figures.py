"""The figures of `avar vas` as PNG bytes; each takes one model or several, by name.

U: question tokens, T: response tokens, as in `trainer.scores.VasReport`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flows.vas.canvas import (
    BLUE,
    GREY,
    PALE,
    RED,
    REGION_COLOURS,
    WIDTH,
    finite,
    model_looks,
    name_label,
    plain_log_ticks,
    render,
)
from flows.vas.maps import render_heads
from flows.vas.scatter import draw_correlation
from flows.vas.words import show_gain, show_ratio

if TYPE_CHECKING:
    from flows.vas.correlation import Correlation
    from trainer.scores import VasReport

Reports = Mapping[str, "VasReport"]
_REGION_NAMES = {
    "image": "image",
    "system": "system prompt",
    "user": "question",
    "response": "response",
    "other": "elsewhere",
}
_CENTRES = {  # of the ratio: name -> colour, dash
    "vas": ("VAS (mean of ratios)", RED, "-"),
    "ratio_of_means": ("ratio of means", BLUE, (0, (5, 2))),
    "median": ("median of all pairs", "#000000", (0, (1, 1.5))),
    "geometric_mean": ("geometric mean", "#009E73", (0, (5, 1, 1, 1))),
}


def draw_figures(reports: Reports, correlation: Correlation | None = None) -> dict[str, bytes]:
    """PNG bytes by file name without its ending; a figure without data is left out.

    Returns: `shares`, `along_response`, `heads`, `rows`, `gain`, `correlation`, in this order.
    """
    figures = {"shares": _render_shares(reports)}
    if any(report.along_response for report in reports.values()):
        figures["along_response"] = _render_along(reports)
    figures["heads"] = render_heads(reports)
    figures["rows"] = _render_rows(reports)
    gains = [gain for report in reports.values() for gain in (report.image_gain, report.blank_gain)]
    if any(gain is not None for gain in gains):
        figures["gain"] = _render_gains(reports)
    if correlation is not None:
        intervals = {name: report.intervals.get("vas") for name, report in reports.items()}
        figures["correlation"] = render(lambda figure: draw_correlation(figure, correlation, intervals), 7, 5)
    return figures


# --------------------------------------------------------------------------------------------- shares


def _render_shares(reports: Reports) -> bytes:
    users = [(report.user_shares, report.user_share_per_image_token) for report in reports.values()]
    responses = [
        (report.response_shares, report.response_share_per_image_token) for report in reports.values()
    ]
    bars = [bar for pair in zip(users, responses, strict=True) for bar in pair]
    places = _places(len(reports))

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1], gridspec_kw={"wspace": 0.08})
        for place, (shares, _) in zip(places, bars, strict=True):
            _stack(left, place, shares)
        _name_lines(left, places, reports, ("question (U)", "response (T)"))
        left.set(xlim=(0, 1), xlabel="share of attention", title="Where attention goes")
        handles = [
            left.bar(0, 0, color=REGION_COLOURS[name], label=text) for name, text in _REGION_NAMES.items()
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
        widths = [0.0 if math.isnan(per_token) else per_token for _, per_token in bars]
        drawn = right.barh(places, widths, color=RED, height=0.75)
        right.bar_label(drawn, [f" {width:.2%}" if width else "" for width in widths])
        right.set(xlim=(0, max([*widths, 1e-9]) * 1.4), xlabel="share on the image\nper image token")
        right.xaxis.set_major_locator(MaxNLocator(3))
        for axes in (left, right):
            axes.xaxis.set_major_formatter(PercentFormatter(1))

    return render(draw, WIDTH, 1.3 + 0.4 * (places[-1] + 1))


def _places(models: int) -> list[float]:
    """Where two lines for each model stand, models a little apart."""
    return [2.5 * model + line for model in range(models) for line in (0, 1)]


def _name_lines(axes: Axes, places: Sequence[float], reports: Reports, lines: tuple[str, str]) -> None:
    """Names beside the places, from the top down; of several models each before its first line."""
    names = [f"{name_label(name)}   " if len(reports) > 1 else "" for name in reports]
    axes.set_yticks(places, [text for name in names for text in (name + lines[0], lines[1])])
    axes.set_ylim(places[-1] + 0.6, -0.6)


def _stack(axes: Axes, place: float, shares: Mapping[str, float]) -> None:
    """One bar of shares that sum to 1, written on where there is room."""
    if any(math.isnan(share) for share in shares.values()):
        axes.text(0.01, place, "no response", va="center", color=GREY)
        return
    start = 0.0
    for region in _REGION_NAMES:
        width = shares[region] if region in shares else max(0.0, 1 - math.fsum(shares.values()))
        axes.barh(place, width, left=start, color=REGION_COLOURS[region], height=0.75)
        if width >= 0.045:
            colour = "black" if region in {"other", "response"} else "white"
            axes.text(start + width / 2, place, f"{width:.0%}", ha="center", va="center", color=colour)
        start += width


# ------------------------------------------------------------------------------------ along the response


def _render_along(reports: Reports) -> bytes:
    def draw(figure: Figure) -> None:
        shares, ratios, queries = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.3])
        for (name, report), look in zip(reports.items(), model_looks(len(reports)), strict=True):
            if not report.along_response:
                continue
            label = name_label(name)
            if len(reports) == 1:
                _line(shares, report, "image", color=RED, label="on the image")
                _line(shares, report, "system", color=BLUE, linestyle="--", label="on the system prompt")
                look = look | {"color": RED}
            else:
                _line(shares, report, "image", label=label, **look)
            _line(ratios, report, "vas", **look)
            _line(queries, report, "queries", **look)
        shares.set(
            ylabel="share of attention",
            ylim=(0, None),
            title="Attention along the response (visual forgetting)",
        )
        if len(reports) > 1:
            shares.set_ylabel("share on the image")
        shares.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        shares.legend(loc="upper right", fontsize=8, ncols=1 + len(reports) // 5)
        ratios.set_ylabel("VAS, heads averaged")
        _fit_scale(
            ratios, [stretch["vas"] for report in reports.values() for stretch in report.along_response]
        )
        queries.set(
            ylabel="tokens\ncounted",
            ylim=(0, None),
            xlim=(0, None),
            xlabel="position in the response, tokens",
        )

    return render(draw, WIDTH, 6.2)


def _line(axes: Axes, report: VasReport, name: str, **look: Any) -> None:
    middles = [(stretch["start"] + stretch["stop"]) / 2 for stretch in report.along_response]
    axes.plot(middles, [stretch[name] for stretch in report.along_response], marker=".", markersize=4, **look)


def _fit_scale(axes: Axes, values: Sequence[float]) -> None:
    """Logarithmic where values lie more than a decade apart, else from zero."""
    positive = [value for value in finite(values) if value > 0]
    if positive and max(positive) > 10 * min(positive):
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
    else:
        axes.set_ylim(0, None)


# ----------------------------------------------------------------------------------------------- rows


def _render_rows(reports: Reports) -> bytes:
    centres = [getattr(report, field) for report in reports.values() for field in _CENTRES]
    values = finite([*(score for report in reports.values() for score in report.row_vas), *centres])
    values = values[values > 0]
    low, high = (values.min() / 1.3, values.max() * 1.3) if len(values) else (0.1, 10.0)
    edges = np.geomspace(low, high, 31).tolist()

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(reports), 1, sharex=True, squeeze=False)[:, 0]
        for one, (name, report) in zip(axes, reports.items(), strict=True):
            _histogram(one, report, edges)
            one.set_title(name_label(name) if len(reports) > 1 else "VAS of each row")
        plain_log_ticks(axes[-1].xaxis)
        axes[-1].set_xlabel("VAS of a row (logarithmic); shaded: 95% interval of the mean of ratios")

    return render(draw, WIDTH, 1.0 + (2.1 if len(reports) == 1 else 1.5) * len(reports))


def _histogram(axes: Axes, report: VasReport, edges: Sequence[float]) -> None:
    scores = finite(report.row_vas)
    shown = scores[scores > 0]
    axes.hist(shown, bins=edges, color=PALE, edgecolor=GREY, linewidth=0.6)
    axes.plot(shown, np.zeros_like(shown), "|", color=GREY, markersize=9, clip_on=False)
    interval = report.intervals.get("vas")
    if interval and 0 < interval[0] < interval[1] < math.inf:
        axes.axvspan(*interval, color=RED, alpha=0.15, linewidth=0)
    for field, (label, colour, dash) in _CENTRES.items():
        value = getattr(report, field)
        if math.isfinite(value) and value > 0:
            text = f"{label}: {show_ratio(value)}"
            axes.axvline(value, color=colour, linestyle=dash, label=text)
    axes.set(xscale="log", ylabel="rows", xlim=(edges[0], edges[-1]))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    if len(shown) < len(report.row_vas):
        missing = len(report.row_vas) - len(shown)
        axes.annotate(
            f"{missing} rows of 0 or infinity not shown", (0.01, 0.92), xycoords="axes fraction", fontsize=8
        )


# ----------------------------------------------------------------------------------------------- gain


def _render_gains(reports: Reports) -> bytes:
    places = _places(len(reports))
    lines = [(report, field) for report in reports.values() for field in ("image_gain", "blank_gain")]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        across = axes.get_yaxis_transform()
        for place, (report, field) in zip(places, lines, strict=True):
            if getattr(report, field) is not None:
                _dots(axes, place, report, field, RED if field == "image_gain" else BLUE)
            else:
                axes.annotate("not defined", (0.01, place), xycoords=across, va="center", color=GREY)
        _name_lines(axes, places, reports, ("image gain", "blank gain"))
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        axes.set_title(
            "What the right image is worth: dots are rows, black is the mean with its 95% interval"
        )
        axes.set_xlabel(
            "LM loss with another or a grey image minus with the right one, nats per response token"
        )

    return render(draw, WIDTH, 1.2 + 0.62 * (places[-1] + 1))


def _dots(axes: Axes, place: float, report: VasReport, field: str, colour: str) -> None:
    values = finite(getattr(row, field) for row in report.rows)
    spread = np.random.default_rng(0).uniform(-0.16, 0.16, len(values))
    axes.plot(values, place + 0.12 + spread, ".", color=colour, alpha=0.45, markersize=5, markeredgewidth=0)
    mean, interval = getattr(report, field), report.intervals.get(field)
    axes.plot(mean, place - 0.2, "D", color="black", markersize=5)
    if interval:
        axes.plot(interval, [place - 0.2] * 2, "-", color="black", linewidth=2)
    axes.annotate(
        show_gain(mean, interval),
        (mean, place - 0.2),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )
