"""What a run asked and what it cost, for people: a table, a line for logs, artifacts in Prefect.

Artifacts hold counts and the models' names, nothing of the teachers' addresses or keys.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from flows.text import one_line, plain
from synth.ledger import Cost, Counts, ModelUsage, Usage, sum_costs, sum_usage

if TYPE_CHECKING:
    from uuid import UUID

    from rich.table import Table

ACCOUNTS_KEY = "avar-accounts"
PROGRESS_KEY = "avar-progress"
EVERY_S = 5.0  # between two updates of the progress in Prefect
LIMIT_S = 10.0  # for one artifact; Prefect's client tries again for longer by itself
_WORDS = ("stage", "model", "rows")  # the columns of words
_ALWAYS = ("stage", "model", "calls", "journal", "tokens in", "tokens out", "s/call")
_MARKUP = re.compile(r"([\\`*_\[\]<>#|~$&])")

Costs = Mapping[str, Cost | None]


# ---------------------------------------------------------------------------------------------- table


def usage_table(usage: Usage, costs: Costs) -> Table:
    """What each stage asked of each model. All but `journal` is of this run's own calls.

    Args:
        costs: of each stage, from `synth.ledger.cost`.
    """
    from rich.table import Table

    caption = plain("\n".join(_failures(usage))) if usage else None
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    columns, *rows = _cells(usage, costs)
    for column in columns:
        justify = "left" if column in _WORDS else "right"
        # On a narrow terminal the models' names give way, and nothing else does.
        table.add_column(column.replace(" ", "\n"), justify=justify, no_wrap=column != "model")
    for row in rows:
        table.add_row(*(plain(one_line(cell)) for cell in row))
    return table


def _cells(usage: Usage, costs: Costs) -> list[list[str]]:
    """The table as words: names of the columns, a row per stage and model, and the sum of several.

    A column that has nothing to say is left out, but for those that one looks for.
    """
    rows = list(_rows(usage, costs))
    if len(rows) > 1:
        rows.append(_row("in all", "", sum_usage(usage), sum_costs(costs.get(stage) for stage in usage)))
    columns = list(_row("", "", sum_usage({}), None))
    kept = [column for column in columns if column in _ALWAYS or any(row[column] for row in rows)]
    return [kept, *([row[column] for column in kept] for row in rows)]


def _rows(usage: Usage, costs: Costs) -> Iterator[dict[str, str]]:
    for stage, models in usage.items():
        for place, (model, counts) in enumerate(models.items()):
            yield _row(stage, model, counts, None if place else costs.get(stage))


def _row(stage: str, model: str, usage: ModelUsage, cost: Cost | None) -> dict[str, str]:
    asked, reused = usage["asked"], usage["reused"]
    answers = asked["calls"] - sum(asked["refused"].values())
    return {
        "stage": stage,
        "model": model,
        "calls": f"{asked['calls']:,}",
        "journal": f"{reused['calls']:,}",
        "tokens in": _tokens(asked, asked["prompt_tokens"]),
        "cached": _short(asked["cached_tokens"]) if asked["cached_tokens"] else "",
        "tokens out": _tokens(asked, asked["completion_tokens"]),
        "s/call": f"{asked['seconds'] / answers:.2f}" if answers else "-",
        "cost": _money(cost, cost.asked) if cost else "",
    }


def _failures(usage: Usage) -> Iterator[str]:
    """A line for each stage where something failed: `describe: asked again for overloaded 12, timeout 1`."""
    for stage, models in usage.items():
        total = sum_usage({stage: models})
        retries, refused = _kinds(total["retries"]), _kinds(total["asked"]["refused"])
        parts = [f"asked again for {retries}" if retries else "", f"refused: {refused}" if refused else ""]
        if any(parts):
            yield f"{stage}: {'; '.join(filter(None, parts))}"


def _tokens(counts: Counts, tokens: int) -> str:
    """Tokens with a mark where some answers came without their number."""
    if counts["unknown_tokens"]:
        return f"≥{_short(tokens)}" if tokens else "-"
    return _short(tokens)


def _short(number: int) -> str:
    """Three digits: `950`, `12.3k`, `1.20M`."""
    value, unit = float(number), ""
    for larger in ("k", "M", "G", "T"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = 0 if not unit or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{unit}"


def _kinds(faults: Mapping[str, int]) -> str:
    frequent = sorted(faults.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name.removeprefix('teacher_')} {number:,}" for name, number in frequent)


def _money(cost: Cost, amount: float) -> str:
    """Three digits that count at least; a mark where something is not in it."""
    digits = f"{amount:,.2f}" if amount >= 1 else f"{amount:.3g}"
    return digits if cost.complete else f"≥{digits}"


def summarize_usage(usage: Usage, costs: Costs) -> str:
    """The same as one line: `960 calls and 40 from the journal, 1.20M tokens in, ..., cost 1.20`."""
    usages, cost = sum_usage(usage), sum_costs(costs.get(stage) for stage in usage)
    total = _row("", "", usages, cost)
    retries, refused = usages["retries"], _kinds(usages["asked"]["refused"])
    parts = [
        f"{total['calls']} calls and {total['journal']} from the journal",
        f"{total['tokens in']} tokens in" + (f" ({total['cached']} cached)" if total["cached"] else ""),
        f"{total['tokens out']} tokens out",
        f"{sum(retries.values()):,} retries" if retries else "",
        f"refused: {refused}" if refused else "",
        f"cost {total['cost']}" if cost else "",
        f"{_money(cost, cost.in_all)} without the journal" if cost and cost.in_all != cost.asked else "",
    ]
    return ", ".join(filter(None, parts))


# ------------------------------------------------------------------------------------------ artifacts


async def publish_accounts(funnel: Mapping[str, int], usage: Usage, costs: Costs) -> None:
    """Keeps a run's account with its flow run in Prefect; outside of a flow run nothing is done.

    Args:
        funnel: rows by what became of them, in the order of reading: `{"problems": 9, "drafts": 8, ...}`.
    """
    from prefect.artifacts import acreate_markdown_artifact

    if _in_flow():
        text = accounts_markdown(funnel, usage, costs)
        await _sent("account", acreate_markdown_artifact(text, key=ACCOUNTS_KEY))


def accounts_markdown(funnel: Mapping[str, int], usage: Usage, costs: Costs) -> str:
    """The funnel, the table of the usage and the line that sums it up."""
    rows = [[name, f"{number:,}"] for name, number in funnel.items()]
    return "\n".join(
        [
            *(*_markdown_table([["rows", "number"], *rows]), ""),
            *(*_markdown_table(_cells(usage, costs)), ""),
            *(*(f"- {_escaped(line)}" for line in _failures(usage)), ""),
            *(_escaped(summarize_usage(usage, costs)), ""),
        ]
    )


def _markdown_table(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    columns, *rows = cells
    rule = ["---" if column in _WORDS else "---:" for column in columns]
    for row in (columns, rule, *rows):
        yield "| " + " | ".join(row if row is rule else map(_escaped, row)) + " |"


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", one_line(text))


class PublishedProgress:
    """A run's progress in Prefect, at most one update every five seconds besides the last.

    A server that has not taken one is not asked again, so that a slow one does not hold up the run.

    Args:
        total: rows to come; without it there is no share to show, and nothing is published.
    """

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock = clock
        self._next = clock()
        self._artifact: UUID | None = None
        self._refused = self._complete = False
        self._lock = asyncio.Lock()

    async def publish(self, done: int, note: str = "") -> None:
        """Says that `done` rows are done in all; outside of a flow run nothing is done."""
        if not self._total or self._refused or not _in_flow():
            return
        last = done >= self._total and not self._complete
        if self._clock() < self._next and not last:
            return
        self._next, self._complete = self._clock() + EVERY_S, done >= self._total
        async with self._lock:
            self._refused = not await self._send(done, self._total, note)

    async def _send(self, done: int, total: int, note: str) -> bool:
        from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

        share = min(100.0, 100 * done / total)
        words = _escaped(", ".join(filter(None, (f"{done}/{total} rows", note))))
        if self._artifact is None:
            call = acreate_progress_artifact(share, PROGRESS_KEY, words)
        else:
            call = aupdate_progress_artifact(self._artifact, share, words)
        kept = await _sent("progress", call)
        self._artifact = kept or self._artifact
        return kept is not None


def _in_flow() -> bool:
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None


async def _sent(what: str, call: Awaitable[UUID]) -> UUID | None:
    """The artifact's id; None where Prefect did not take it, which is said on standard error.

    An artifact is for looking at. Hours of a teacher's work do not end because one was not kept: the rows are
    on disk, and the account is printed and stands in the manifest. The error's own words may name the server.
    """
    from httpx import HTTPError
    from prefect.exceptions import PrefectException

    try:
        async with asyncio.timeout(LIMIT_S):
            return await call
    except (HTTPError, PrefectException, OSError) as error:
        print(
            f"avar: Prefect did not keep the run's {what} ({type(error).__name__}); the run goes on without",
            file=sys.stderr,
            flush=True,
        )
        return None
