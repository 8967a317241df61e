"""Numbers and sentences of `avar vas`, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from flows.vas.correlation import Correlation

if TYPE_CHECKING:
    from flows.vas.run import VasRun
    from trainer.bootstrap import Interval
    from trainer.scores import VasReport

CARRIED = 3.0  # VAS over the ratio of means from which on the mean of ratios is not to be read alone
_LEFT_OUT = {
    "no_system_turn": ("without a system turn left out", "has no ratio", "have no ratio"),
    "no_question": ("without a question left out", "has no question token", "have no question token"),
    "image_not_visible": (
        "left out",
        "has no question token that sees the image",
        "have no question token that sees the image",
    ),
    "no_image": ("without an image left out", "has nothing to look at", "have nothing to look at"),
}


# -------------------------------------------------------------------------------------------- numbers


def show_ratio(value: float | None, interval: Interval | None = None) -> str:
    """About three digits, with its interval where there is one; "-" for what is not defined."""
    return _show(value, interval, _short)


def show_share(value: float | None, interval: Interval | None = None) -> str:
    """A share in [0, 1] as percent."""
    return _show(value, interval, lambda share: f"{share:.1%}")


def show_gain(value: float | None, interval: Interval | None = None) -> str:
    """Nats with their sign."""
    return _show(value, interval, lambda nats: f"{nats:+.4f}")


def _show(value: float | None, interval: Interval | None, write: Callable[[float], str]) -> str:
    if value is None or math.isnan(value):
        return "-"
    if interval is None or any(math.isnan(end) for end in interval):
        return write(value)
    return f"{write(value)} [{write(interval[0])}, {write(interval[1])}]"


def _short(value: float) -> str:
    size = abs(value)
    if not 1e-3 <= size < 1e6:
        return f"{value:.2e}" if size else "0"
    return f"{value:,.{next((digits for digits in (3, 2, 1) if size < 10 ** (3 - digits)), 0)}f}"


# ------------------------------------------------------------------------------------------ sentences


def left_out(report: VasReport) -> list[str]:
    """What the score was not taken over, and why: one sentence each."""
    lines = []
    for reason, (what, one, several) in _LEFT_OUT.items():
        rows = report.rows_skipped.get(reason, 0)
        if rows:
            lines.append(f"{_count(rows, 'row')} {what}: {f'it {one}' if rows == 1 else f'they {several}'}.")
    unknown = set(report.rows_skipped) - set(_LEFT_OUT)
    lines += [
        f"{_count(report.rows_skipped[reason], 'row')} left out: {reason}." for reason in sorted(unknown)
    ]
    if report.pairs_unseen:
        lines.append(
            f"{_count(report.pairs_unseen, 'pair')} of layer, head and question token left out: the token "
            "cannot see the image or the system prompt."
        )
    if report.pairs_zero_system:
        lines.append(
            f"{_count(report.pairs_zero_system, 'pair')} left out: exactly no attention on the system prompt."
        )
    touched = f"it touched {report.pairs_floored:,} of {_count(report.pairs_used, 'pair')}"
    return [*lines, f"Floor of attention in the geometric mean: {report.floor:g}; {touched}."]


def cautions(report: VasReport) -> list[str]:
    """What must be read beside the figures; none where nothing stands against them."""
    return [*_ratio_cautions(report), *_gain_cautions(report)]


def _ratio_cautions(report: VasReport) -> Iterator[str]:
    times = report.vas / report.ratio_of_means if report.ratio_of_means else math.inf
    if times > CARRIED:
        yield (
            f"VAS is {times:.3g} times the ratio of means: pairs with little attention on the system prompt "
            "carry it. Read the median and the ratio of means."
        )
    if report.intervals.get("vas") is None:
        yield "One row alone: no intervals."


def _gain_cautions(report: VasReport) -> Iterator[str]:
    interval = report.intervals.get("image_gain")
    if report.image_gain is None:
        if report.loss is None:
            yield "No row has a response: image gain is not defined."
        elif report.blank_gain is not None:
            yield "All images are equal: image gain is not defined."
        else:
            yield "Image gain was not measured: VAS alone does not say whether the model uses the image."
    elif interval is None:
        yield "One row with an image gain: no interval, no verdict."
    elif interval[1] < 0:
        yield "Image gain is below 0: another problem's image serves the model better than the right one."
    elif interval[0] <= 0:
        yield "The interval of image gain includes 0: no sign that the model uses the image."


def say_together(reports: Mapping[str, VasReport], say: Callable[[VasReport], Iterable[str]]) -> list[str]:
    """Sentences about several models: each once, after the names of those it is about unless it is all."""
    names: dict[str, list[str]] = {}
    for name, report in reports.items():
        for sentence in say(report):
            names.setdefault(sentence, []).append(name)
    return [
        sentence if len(about) == len(reports) else f"{', '.join(about)}: {sentence}"
        for sentence, about in names.items()
    ]


def correlation_sentence(found: Correlation) -> str:
    """r and p, with the paper's for comparison."""
    rho = f"Spearman's rho {_signed(found.spearman_rho)}, p = {_p(found.spearman_p)}"
    return (
        f"VAS and accuracy over {found.models} models: Pearson's r = {_show_r(found)}, "
        f"p = {_p(found.pearson_p)}; {rho}. The paper: r = 0.9616, p = 9.0e-6, about ten models."
    )


def _show_r(found: Correlation) -> str:
    return _show(found.pearson_r, found.pearson_interval, lambda value: f"{value:.4g}")


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def describe_run(run: VasRun) -> str:
    """What was measured on what."""
    what = ", ".join(run.paths.values()) if len(run.paths) == 1 else f"{len(run.paths)} models"
    return f"{what} on {_count(run.rows, 'row')} of {run.dataset} ({run.split})"
