"""An evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.evaluate.store import GENERATIONS_FILE

if TYPE_CHECKING:
    from rich.console import Console

    from flows.evaluate.run import EvalRun
    from trainer.bootstrap import Interval
    from trainer.evaluate import Evaluation, Share
    from trainer.obedience import Obedience

_MOST_CATEGORIES = 40


def print_evaluation(console: Console, run: EvalRun) -> None:
    """The tables, and what they do not say by themselves."""
    result = run.result
    if result.obedience is not None:
        console.print(obedience_table(result.obedience))
    console.print(accuracy_table(result))
    for figures in result.official.values():
        console.print(official_table(figures))
    if len(result.sources) == 1 and 1 < len(next(iter(result.categories.values()))) <= _MOST_CATEGORIES:
        console.print(category_table(next(iter(result.categories.values()))))
    for remark in remarks(run):
        console.print(remark, style="dim", markup=False, highlight=False)


def accuracy_table(result: Evaluation) -> Table:
    """A row per source, and one for all; intervals are 95%, over rows."""
    shares = dict(result.sources)
    if len(shares) > 1:
        shares["in all"] = result.overall
    return _share_table("source", shares)


def category_table(categories: Mapping[str, Share]) -> Table:
    """A row per category of a source."""
    return _share_table("category", categories)


def _share_table(title: str, shares: Mapping[str, Share]) -> Table:
    columns = (title, "rows", "accuracy", "95%", "parsed", "cut off", "undecided")
    table = Table(*columns, box=None, pad_edge=False)
    for name, share in shares.items():
        table.add_row(
            name,
            str(share.rows),
            f"{share.accuracy:.3f}",
            _interval(share.interval),
            f"{share.parsed:.0%}",
            f"{share.truncated:.0%}",
            str(share.undecided),
        )
    return table


def obedience_table(obedience: Obedience) -> Table:
    """A row per rule, per kind of rule, and one for all."""
    table = Table("rule", "replies", "obeyed", "95%", box=None, pad_edge=False)
    kinds = {f"{name} rules": score for name, score in obedience.kinds.items()}
    for name, score in {**obedience.rules, **kinds, "in all": obedience.overall}.items():
        table.add_row(name, str(score.rows), f"{score.share:.3f}", _interval(score.interval))
    return table


def official_table(figures: Mapping[str, Any]) -> Table:
    """HallusionBench's own three figures."""
    table = Table("figure", "groups", "accuracy", "95%", box=None, pad_edge=False)
    for name, figure in figures.items():
        accuracy = "-" if figure["accuracy"] is None else f"{figure['accuracy']:.3f}"
        table.add_row(name, str(figure["groups"]), accuracy, _interval(figure["interval"]))
    return table


def remarks(run: EvalRun) -> list[str]:
    """What the tables do not say by themselves."""
    result, settings = run.result, run.settings
    decoding = f"temperature {settings['temperature']:g}" if settings["temperature"] else "greedy"
    lines = [
        f"{decoding}, at most {settings['max_new_tokens']} tokens; checked by rules and algebra, no judge "
        f"model. Every generation: {run.folder / GENERATIONS_FILE}"
    ]
    if len(result.sources) > 1:
        lines.append(f"Mean of the sources: {result.mean:.3f}")
    if settings["images"] != "own":
        kind = "grey" if settings["images"] == "blank" else "another row's"
        lines.append(f"A control: the images are {kind}.")
    if result.overall.truncated > 0.1:
        lines.append("More than a tenth of the answers were cut off at the limit: raise --max-new-tokens.")
    if result.overall.failed:
        lines.append(f"{result.overall.failed} rows were refused by the server and count as wrong.")
    if result.overall.undecided:
        lines.append(f"{result.overall.undecided} undecided answers count as wrong.")
    if result.obedience is not None:
        lines.append("Replies under the rule of refusal count for obedience alone, not for accuracy.")
    return lines


def _interval(interval: Interval | None) -> str:
    return f"{interval[0]:.3f}-{interval[1]:.3f}" if interval else "-"
