"""What a run looks like: the funnel, the reasons, a few samples; for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.text import STATUS_STYLES, plain, sanitize
from schemas.errors import ShardError
from schemas.records import Status
from schemas.runs import read_manifest
from schemas.shards import SPLITS, finite_json, scan

if TYPE_CHECKING:
    from trainer.vas import VasReport

_ENDS = (Status.ACCEPTED, Status.REJECTED, Status.FAILED)
_COUNTED = ("split", "status", "reason", "category", "source", "sample_index")
_SHOWN = (
    *("id", "index", "sample_index", "row", "question", "choices", "answer"),
    *("status", "reason", "detail", "description", "reasoning", "trace"),
)
_TEXTS = ("description", "reasoning", "trace")


@dataclass(frozen=True)
class RunReport:
    """A finished dataset in numbers: drafts = accepted + rejected + failed.

    Attributes:
        problems: rows of the source; each has one draft, or several where the recipe asks for samples.
        splits: rows per split.
        reasons: rejected and failed rows by reason, most frequent first.
        categories: accepted, rejected and failed rows by category of problem.
    """

    dataset: str
    problems: int
    drafts: int
    accepted: int
    rejected: int
    failed: int
    splits: dict[str, int]
    reasons: dict[str, int]
    categories: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def read_report(root: Path) -> RunReport:
    """Counts the dataset at `root` from its shards.

    Raises: ShardError: no finished dataset, or the manifest disagrees with the shards.
    """
    frame = _frame(root, _COUNTED)
    funnel = {str(status): frame.filter(pl.col("status") == str(status)).height for status in _ENDS}
    _agree_with_manifest(root, funnel)
    splits = _count_values(frame, "split")
    return RunReport(
        dataset=str(root.absolute()),
        problems=frame.filter(pl.col("sample_index") == 0).height,
        drafts=frame.height,
        **funnel,
        splits={split: splits.get(split, 0) for split in SPLITS},
        reasons=_count_values(frame.filter(pl.col("reason") != ""), "reason"),
        categories=_by_category(frame),
    )


def _frame(root: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Some columns of the dataset; the pictures stay on disk."""
    frame = pl.from_arrow(scan(root).select(list(columns)))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _agree_with_manifest(root: Path, funnel: Mapping[str, int]) -> None:
    stored = read_manifest(root).get("funnel", funnel)
    if {name: stored[name] for name in funnel} != dict(funnel):
        raise ShardError(f"{root}: manifest.json and the shards count differently; run `avar curate {root}`")


def _count_values(frame: pl.DataFrame, column: str) -> dict[str, int]:
    """Rows by value, most frequent first, then by name."""
    counts = frame.group_by(column).len().sort(["len", column], descending=[True, False])
    return dict(counts.iter_rows())


def _by_category(frame: pl.DataFrame) -> dict[str, dict[str, int]]:
    name = pl.when(pl.col("category") == "").then(pl.col("source")).otherwise(pl.col("category"))
    grouped = frame.group_by(name.alias("category"), "status").len().sort("category", "status")
    result: dict[str, dict[str, int]] = {}
    for category, status, rows in grouped.iter_rows():
        result.setdefault(category, {})[status] = rows
    return result


def find_samples(root: Path, status: Status, limit: int) -> list[dict[str, Any]]:
    """The first rows of a status in source order, without their images."""
    frame = _frame(root, _SHOWN).filter(pl.col("status") == str(status)).sort("index", "sample_index")
    return frame.head(limit).to_dicts()


# ------------------------------------------------------------------------------------------- printing


def print_report(console: Console, report: RunReport, samples: Sequence[Mapping[str, Any]] = ()) -> None:
    """The funnel, the reasons, the categories and the samples given."""
    console.print(_equation(report))
    if report.reasons:
        console.print(_reason_table(report))
    console.print(_category_table(report))
    for sample in samples:
        console.print(_sample_panel(sample))


def _equation(report: RunReport) -> Text:
    share = f" ({report.accepted / report.drafts:.0%})" if report.drafts else ""
    several = () if report.drafts == report.problems else (", ", ("drafts ", "bold"), str(report.drafts))
    return Text.assemble(
        ("problems ", "bold"),
        str(report.problems),
        *several,
        " = ",
        (f"{report.accepted} accepted{share}", "green"),
        " + ",
        (f"{report.rejected} rejected", "yellow"),
        " + ",
        (f"{report.failed} failed", "red"),
    )


def _reason_table(report: RunReport) -> Table:
    table = Table("why not accepted", "rows", box=None, pad_edge=False, title_justify="left")
    for reason, rows in report.reasons.items():
        table.add_row(plain(reason), str(rows))
    return table


def _category_table(report: RunReport) -> Table:
    statuses = list(map(str, _ENDS))
    table = Table("category", *statuses, box=None, pad_edge=False)
    for category, counts in report.categories.items():
        table.add_row(plain(category), *(str(counts.get(status, 0)) for status in statuses))
    return table


def _sample_panel(sample: Mapping[str, Any], limit: int = 1600) -> Panel:
    style = STATUS_STYLES[sample["status"]]
    why = f": {sample['reason']}" if sample["reason"] else ""
    title = Text(sanitize(f"{sample['status']}{why} · {sample['row']} · {sample['id']}"))
    return Panel(Group(*_sample_lines(sample, limit)), title=title, title_align="left", border_style=style)


def _sample_lines(sample: Mapping[str, Any], limit: int) -> Iterator[Text]:
    yield Text.assemble(("question ", "bold"), plain(sample["question"], 400))
    if sample["choices"]:
        yield Text.assemble(("choices  ", "bold"), plain(" | ".join(sample["choices"]), 400))
    yield Text.assemble(("gold     ", "bold"), plain(sample["answer"], 200))
    if sample["detail"]:
        yield Text.assemble(("why      ", "bold"), plain(sample["detail"], 400))
    text = next((sample[name] for name in reversed(_TEXTS) if sample[name]), "")
    if text:
        yield Text("")
        yield plain(text, limit)


def vas_table(arms: Mapping[str, VasReport]) -> Table:
    """The score of each model, and beside it whether the model uses what it looks at.

    VAS is the paper's mean of ratios, which single heads can carry far away; median and ratio of means are
    the same ratio, robustly. Shares are of the question tokens' attention.
    """
    table = Table(
        "", "VAS", "median", "ratio of means", "image", "system", "image gain", box=None, pad_edge=False
    )
    for name, report in arms.items():
        gain = "-" if report.image_gain is None else f"{report.image_gain:+.4f}"
        shares = (f"{report.user_shares[region]:.3f}" for region in ("image", "system"))
        ratios = (report.vas, report.median, report.ratio_of_means)
        table.add_row(plain(name), *(f"{ratio:.3f}" for ratio in ratios), *shares, gain)
    return table


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    print(json.dumps(finite_json(value), ensure_ascii=True, allow_nan=False), flush=True)
