"""What `avar vas` shows of a measurement: lines and tables, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flows.text import plain
from flows.vas.output import PAGE_FILE
from flows.vas.words import (
    cautions,
    correlation_sentence,
    describe_run,
    left_out,
    say_together,
    show_gain,
    show_ratio,
    show_share,
)

if TYPE_CHECKING:
    from flows.vas.run import VasRun
    from trainer.scores import VasReport

BANDS = {"narrow": "below 10", "wide": "10 to 15", "panoramic": "above 15"}


@dataclass(frozen=True)
class Line:
    """One figure of a model: over question tokens (U), over response tokens (T), and what it means."""

    name: str
    user: str
    response: str
    meaning: str


def figure_lines(report: VasReport) -> list[Line]:
    """The ratios, the shares, the losses: every figure of a report that is one number."""
    return [*_ratio_lines(report), *_share_lines(report), *_loss_lines(report)]


def _ratio_lines(report: VasReport) -> Iterator[Line]:
    for field, (name, meaning) in _RATIOS.items():
        response = getattr(report.response, field) if report.response else None
        yield Line(
            name,
            show_ratio(getattr(report, field), report.intervals.get(field)),
            show_ratio(response, report.intervals.get(f"response_{field}")),
            meaning,
        )
    for field, name in _WITHOUT_FIRST.items():
        meaning = "The same, the first token (often a sink of attention) not counted as system."
        yield Line(name, show_ratio(getattr(report, field)), "", meaning)


def _share_lines(report: VasReport) -> Iterator[Line]:
    for region, (name, meaning) in _SHARES.items():
        yield Line(
            name,
            show_share(_share(report.user_shares, region), report.intervals.get(f"{region}_share")),
            show_share(
                _share(report.response_shares, region), report.intervals.get(f"response_{region}_share")
            ),
            meaning,
        )
    yield Line(
        "share per image token",
        show_share(report.user_share_per_image_token),
        show_share(report.response_share_per_image_token),
        f"Share on the image over its number of tokens (here {report.image_tokens:.4g} on average), so that "
        "more patches alone do not raise it.",
    )


def _loss_lines(report: VasReport) -> Iterator[Line]:
    for field, (name, meaning) in _LOSSES.items():
        show = show_ratio if field == "loss" else show_gain
        yield Line(name, "", show(getattr(report, field), report.intervals.get(field)), meaning)


def _share(shares: Mapping[str, float], region: str) -> float:
    return 1 - math.fsum(shares.values()) if region == "other" else shares[region]


_RATIOS = {
    "vas": (
        "VAS",
        "Attention on the image over attention on the system prompt, mean over layers, heads and tokens of a "
        "row, then over rows. The paper's score, and the one that its bands are for.",
    ),
    "ratio_of_means": (
        "ratio of means",
        "Mean attention on the image over mean attention on the system prompt: no single small denominator "
        "carries it.",
    ),
    "median": ("median", "The median of the ratios of all layers, heads and tokens, exact to 1.2%."),
    "geometric_mean": ("geometric mean", "exp of the mean logarithm of the ratio."),
    "head_averaged": (
        "VAS, heads averaged",
        "The ratio of attention averaged over heads: the reward's form.",
    ),
}
_WITHOUT_FIRST = {
    "vas_without_first_token": "VAS, without first token",
    "head_averaged_without_first_token": "heads averaged, without it",
}
_SHARES = {
    "image": ("share on image", "Share of attention on the image's tokens."),
    "system": ("share on system prompt", "Share of attention on the system turn."),
    "user": ("share on question", "Share of attention on the question's tokens."),
    "response": ("share on response", "Share of attention on the response's earlier tokens."),
    "other": ("share elsewhere", "Role markers between turns, and the marks around an image."),
}
_LOSSES = {
    "image_gain": (
        "image gain",
        "LM loss with another problem's image minus that with the right one, nats per response token: VAS "
        "says where the model looks, the gain whether it uses what it sees. Ours, not the paper's.",
    ),
    "blank_gain": ("blank gain", "The same with a grey image."),
    "loss": ("LM loss", "With the right image, nats per response token."),
}


# ------------------------------------------------------------------------------------------- printing


def print_run(console: Console, run: VasRun, out: Path | None) -> None:
    """Everything that one screen holds; the maps and curves are on the page."""
    console.print(plain(describe_run(run)))
    if len(run.reports) == 1:
        console.print(_one_table(next(iter(run.reports.values()))))
    else:
        halves = [slice(4), slice(4, None)] if console.width < _ONE_TABLE else [slice(None)]
        for columns in halves:
            console.print(_many_table(run.reports, columns))
    for say in (left_out, cautions):
        for sentence in say_together(run.reports, say):
            console.print(plain(sentence))
    if run.correlation:
        console.print(plain(correlation_sentence(run.correlation)))
    if out is not None:
        console.print(plain(f"Page: {out / PAGE_FILE}"))


def _one_table(report: VasReport) -> Table:
    table = Table("", "question (U)", "response (T)", box=None, pad_edge=False)
    for line in figure_lines(report):
        table.add_row(line.name, line.user, line.response)
        if line.name == "VAS":
            table.add_row("band", f"{report.band} ({BANDS[report.band]})", "")
    return table


_ONE_TABLE = 120  # columns of a terminal that has room for all of `MANY_COLUMNS`
MANY_COLUMNS = ("VAS", "band", "median", "ratio of means", "image U", "image T", "image gain")


def _many_table(reports: Mapping[str, VasReport], columns: slice) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for column in MANY_COLUMNS[columns]:
        table.add_column(column, no_wrap=True)
    for name, report in reports.items():
        table.add_row(plain(name), *many_cells(report)[columns])
    return table


def many_cells(report: VasReport) -> Sequence[str]:
    """A model's line among several, by `MANY_COLUMNS`."""
    return (
        show_ratio(report.vas, report.intervals.get("vas")),
        report.band,
        show_ratio(report.median),
        show_ratio(report.ratio_of_means),
        show_share(report.user_shares["image"]),
        show_share(report.response_shares["image"]),
        show_gain(report.image_gain, report.intervals.get("image_gain")),
    )
