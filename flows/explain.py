"""Why one row was kept or not: every verdict on each of its drafts, with its score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from filters.verdicts import FILTERS, conclude, judge
from flows.student_scores import read_scores, with_score
from flows.text import STATUS_STYLES, plain, sanitize
from schemas.config import Recipe
from schemas.errors import ShardError
from schemas.records import Draft, Sample, VerdictRow, draft_from_row
from schemas.runs import draft_shards, iterate_drafts
from schemas.shards import INDEX_FILE, read_shard, scan


def explain_row(recipe: Recipe, run: Path, dataset: Path, row: str) -> list[Sample]:
    """The drafts of one row of a run as they would be judged now.

    The verdicts of a draft's own filters are made anew; those that depend on other rows are as the last
    curation left them.

    Args:
        recipe: its thresholds.
        dataset: where a curation of the run is, if there is one.
        row: a problem's id or the beginning of one, or its name in the source.
    Raises: ShardError: no such row, or several.
    """
    drafts = _find_drafts(run, row)
    known = _verdicts_beyond(dataset, drafts[0].problem.id)
    scores = read_scores(recipe.filters.evidence)
    return [_judge(with_score(draft, scores), recipe, known.get(draft.sample_index, ())) for draft in drafts]


def _judge(draft: Draft, recipe: Recipe, beyond: Sequence[VerdictRow]) -> Sample:
    return conclude(draft, (*judge(draft, recipe.filters).verdicts, *beyond))


def _find_drafts(run: Path, row: str) -> list[Draft]:
    names = pl.concat([_names(path) for path in draft_shards(run)])
    by_id = names.filter(pl.col("id").str.starts_with(row)) if row else names.clear()
    matching = names.filter(pl.col("row") == row) if by_id.is_empty() else by_id
    found = matching["id"].unique(maintain_order=True)
    if found.is_empty():
        raise ShardError(f"{run}: no row with id or name {sanitize(row)!r}; `avar inspect {run}` shows ids")
    if len(found) > 1:
        raise ShardError(f"{run}: {len(found)} rows begin with {sanitize(row)!r}: give more of the id")
    return [draft_from_row(data) for data in iterate_drafts(run) if data["id"] == found[0]]


def _names(path: Path) -> pl.DataFrame:
    frame = pl.from_arrow(read_shard(path).select(["id", "row"]))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _verdicts_beyond(dataset: Path, identity: str) -> dict[int, tuple[VerdictRow, ...]]:
    """By sample, the stored verdicts that no filter makes from the draft alone."""
    if not (dataset / INDEX_FILE).is_file():
        return {}
    table = scan(dataset).select(["id", "sample_index", "verdicts"])
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    rows = frame.filter(pl.col("id") == identity).to_dicts()
    return {row["sample_index"]: tuple(_beyond(row["verdicts"])) for row in rows}


def _beyond(verdicts: Sequence[dict[str, Any]]) -> Iterator[VerdictRow]:
    return (VerdictRow(**verdict) for verdict in verdicts if verdict["filter"] not in FILTERS)


def plain_sample(sample: Sample) -> dict[str, Any]:
    """A judged draft for `--json`."""
    problem = sample.draft.problem
    return {
        "id": problem.id,
        "row": problem.row,
        "sample_index": sample.draft.sample_index,
        "status": str(sample.status),
        "stage": str(sample.stage or ""),
        "reason": sample.reason,
        "detail": sample.detail,
        "verdicts": [asdict(verdict) for verdict in sample.verdicts],
    }


# ------------------------------------------------------------------------------------------- printing


def print_explanation(console: Console, samples: Sequence[Sample]) -> None:
    """The row, and a table of verdicts per draft."""
    problem = samples[0].draft.problem
    name = f"{problem.id} {sanitize(problem.row)}"
    console.print(Text.assemble((name, "bold"), " ", plain(problem.question, 200)))
    for sample in samples:
        console.print()
        console.print(_headline(sample))
        if sample.verdicts:
            console.print(_table(sample))


def _headline(sample: Sample) -> Text:
    status = str(sample.status)
    why = f": {sample.reason}" if sample.reason else ""
    detail = f" ({sanitize(sample.detail)})" if sample.reason and not sample.verdicts else ""
    return Text.assemble(
        f"draft {sample.draft.sample_index} ", (f"{status}{why}", STATUS_STYLES[status]), detail
    )


def _table(sample: Sample) -> Table:
    table = Table("filter", "", "score", "reason", "detail", box=None, pad_edge=False)
    for verdict in sample.verdicts:
        mark = Text("keep", "green") if verdict.keep else Text("drop", "yellow")
        score = f"{verdict.score:.3f}"
        table.add_row(plain(verdict.filter), mark, score, plain(verdict.reason), plain(verdict.detail, 200))
    return table
