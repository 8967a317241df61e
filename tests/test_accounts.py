"""The account of a run: what a person reads of it in the terminal, in a log and in Prefect."""

from __future__ import annotations

import asyncio
import io
import json
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

import flows.orchestra  # noqa: F401 - makes Prefect quiet and offline
from flows.accounts import (
    ACCOUNTS_KEY,
    PROGRESS_KEY,
    PublishedProgress,
    accounts_markdown,
    publish_accounts,
    summarize_usage,
    usage_table,
)
from schemas.config import Prices
from schemas.errors import TeacherFault
from synth.ledger import Cost, Ledger, Usage, cost
from synth.requests import Answer
from tests.conftest import shared_prefect
from tests.ports import free_port

FUNNEL = {"problems": 4, "drafts": 3, "failed": 1}


def answer(prompt: int = 1_000_000, completion: int = 20_000, cached: int = 0) -> Answer:
    return Answer(
        text="fine",
        model="m",
        finish_reason="stop",
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        seconds=1.5,
    )


def some_usage() -> Usage:
    ledger = Ledger()
    ledger.answered("describe", "eye", answer(), reused=False)
    ledger.answered("describe", "eye", answer(cached=400_000), reused=False)
    ledger.answered("describe", "eye", answer(), reused=True)
    ledger.retried("describe", "eye", TeacherFault.OVERLOADED)
    ledger.retried("describe", "eye", TeacherFault.OVERLOADED)
    ledger.retried("describe", "eye", TeacherFault.TIMEOUT)
    ledger.answered("reason", "mind", answer(50, 70), reused=False)
    ledger.refused("reason", "mind", TeacherFault.TOO_LONG, reused=False)
    return ledger.to_dict()


def printed(usage: Usage, costs: Mapping[str, Cost | None], width: int = 200) -> list[str]:
    """The lines of the table, without the space behind them."""
    console = Console(file=io.StringIO(), width=width)
    console.print(usage_table(usage, costs))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_says_what_each_stage_asked_and_cost(width: int) -> None:
    usage = some_usage()
    prices = {"describe": Prices(prompt=1.0, cached=0.5), "reason": Prices()}
    assert printed(usage, cost(usage, prices), width) == [
        "                             tokens        tokens",
        "stage    model calls journal     in cached    out s/call cost",
        "describe eye       2       1  2.00M   400k  40.0k   1.50 1.80",
        "reason   mind      2       0     50            70   1.50    0",
        "in all             4       1  2.00M   400k  40.1k   1.50 1.80",
        "describe: asked again for overloaded 2, timeout 1",
        "reason: refused: prompt_too_long 1",
    ]


def test_the_table_of_a_plain_run_is_short() -> None:
    ledger = Ledger()
    ledger.answered("describe", "eye", answer(100, 5), reused=False)
    assert printed(ledger.to_dict(), {}) == [
        "                             tokens tokens",
        "stage    model calls journal     in    out s/call",
        "describe eye       1       0    100      5   1.50",
    ]


def test_a_narrow_terminal_cuts_the_models_name_alone() -> None:
    ledger = Ledger()
    for stage in ("describe", "evidence.description"):
        ledger.answered(stage, "somebody/A-Very-Long-Name-Of-A-Model-72B", answer(), reused=False)
    lines = printed(ledger.to_dict(), {}, 80)
    assert all(len(line) <= 80 for line in lines)
    assert lines[3].startswith("evidence.description somebody/") and "…" in lines[3]
    assert lines[3].endswith(" 1       0  1.00M  20.0k   1.50")


def test_a_run_that_asked_nothing_has_an_account() -> None:
    assert printed({}, {})[1:] == ["stage model calls journal     in    out s/call"]
    assert summarize_usage({}, {}) == "0 calls and 0 from the journal, 0 tokens in, 0 tokens out"


@pytest.mark.parametrize(
    ("prices", "describe", "total"),
    [
        ({"describe": Prices(prompt=1), "reason": Prices(prompt=2e4)}, "2.00", "3.00"),
        ({"describe": Prices(prompt=1)}, "2.00", "≥2.00"),  # nobody knows what `reason` cost
        ({"describe": Prices(prompt=0.00123), "reason": Prices()}, "0.00246", "0.00246"),
        ({"describe": Prices(prompt=1234), "reason": Prices()}, "2,468.00", "2,468.00"),
    ],
)
def test_cost(prices: Mapping[str, Prices | None], describe: str, total: str) -> None:
    usage = some_usage()
    lines = printed(usage, cost(usage, prices))
    assert lines[2].split()[-1] == describe
    assert lines[4].split()[-1] == total


@pytest.mark.parametrize(
    ("answers", "tokens"),
    [([answer(-1, -1)], ["-", "-"]), ([answer(-1, -1), answer(500, 7)], ["≥500", "≥7"])],
)
def test_tokens_that_nobody_counted_are_not_said_to_be_none(answers: list[Answer], tokens: list[str]) -> None:
    ledger = Ledger()
    for part in answers:
        ledger.answered("describe", "eye", part, reused=False)
    assert printed(ledger.to_dict(), {})[2].split()[4:6] == tokens


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (999, "999"),
        (1000, "1.00k"),
        (9_994, "9.99k"),
        (9_996, "10.0k"),
        (99_960, "100k"),
        (999_499, "999k"),
        (999_600, "1.00M"),
        (123_456_789, "123M"),
        (7_890_000_000_000, "7.89T"),
        (7_890_000_000_000_000, "7890T"),
    ],
)
def test_many_tokens_in_three_digits(tokens: int, words: str) -> None:
    ledger = Ledger()
    ledger.answered("describe", "eye", answer(tokens, 0), reused=False)
    assert printed(ledger.to_dict(), {})[2].split()[4] == words


def test_a_models_name_is_shown_and_never_obeyed() -> None:
    ledger = Ledger()
    ledger.answered("describe", "[red]a\x1b[2J|b_c_\n# d", answer(), reused=False)
    assert "[red]a\N{REPLACEMENT CHARACTER}[2J|b_c_ # d" in printed(ledger.to_dict(), {})[2]
    text = accounts_markdown(FUNNEL, ledger.to_dict(), {})
    assert r"| \[red\]a" in text and r"\|b\_c\_ \# d |" in text
    assert "\x1b" not in text


def test_the_line_for_a_log() -> None:
    usage = some_usage()
    costs = cost(usage, {"describe": Prices(prompt=1.0), "reason": None})
    assert summarize_usage(usage, costs) == (
        "4 calls and 1 from the journal, 2.00M tokens in (400k cached), 40.1k tokens out, 3 retries, "
        "refused: prompt_too_long 1, cost ≥2.00, ≥3.00 without the journal"
    )


# ------------------------------------------------------------------------------------------ artifacts


@contextmanager
def prefect_at(url: str, home: Path) -> Iterator[None]:
    """Prefect in this process, talking to one server and giving up on it at once."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_HOME,
        temporary_settings,
    )

    with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home, PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield


def run_in_flow(work: Callable[[], Coroutine[Any, Any, None]], home: Path) -> list[dict[str, Any]]:
    """Runs `work` as a flow at the tests' server. Returns: the artifacts of the flow run, oldest first."""
    from prefect import flow
    from prefect.context import FlowRunContext

    runs: list[str] = []

    @flow(name="avar-test-accounts", persist_result=False)
    async def publish() -> None:
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        runs.append(str(context.flow_run.id))
        await work()

    with prefect_at(shared_prefect(), home):
        asyncio.run(publish())
    return artifacts_of(runs[0])


def artifacts_of(run: str) -> list[dict[str, Any]]:
    wanted = {"artifacts": {"flow_run_id": {"any_": [run]}}, "sort": "CREATED_DESC"}
    request = urllib.request.Request(
        f"{shared_prefect()}/artifacts/filter",
        data=json.dumps(wanted).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)[::-1]


def test_prefect_keeps_the_account_of_a_run(tmp_path: Path) -> None:
    usage = some_usage()
    costs = cost(usage, {"describe": Prices(prompt=1.0)})
    (artifact,) = run_in_flow(lambda: publish_accounts(FUNNEL, usage, costs), tmp_path)
    assert (artifact["key"], artifact["type"]) == (ACCOUNTS_KEY, "markdown")
    lines = artifact["data"].splitlines()
    assert "| failed | 1 |" in lines
    assert "| describe | eye | 2 | 1 | 2.00M | 400k | 40.0k | 1.50 | 2.00 |" in lines
    assert "- describe: asked again for overloaded 2, timeout 1" in lines
    assert lines[-1].startswith("4 calls and 1 from the journal, ")
    assert "127.0.0.1" not in json.dumps(artifact)


def test_prefect_shows_the_progress_of_a_run(tmp_path: Path) -> None:
    """At most one update in five seconds, and the last one whenever it comes."""
    now = 100.0

    async def work() -> None:
        nonlocal now
        progress = PublishedProgress(40, clock=lambda: now)
        for done, passing in [(10, 0.0), (20, 1.0), (30, 5.0), (40, 0.5)]:
            now += passing
            await progress.publish(done, "in flight 8")
            seen.append(current_progress())

    def current_progress() -> tuple[float, str]:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        (artifact,) = artifacts_of(str(context.flow_run.id))
        assert (artifact["key"], artifact["type"]) == (PROGRESS_KEY, "progress")
        return artifact["data"], artifact["description"]

    seen: list[tuple[float, str]] = []
    run_in_flow(work, tmp_path)
    assert seen == [
        (25.0, "10/40 rows, in flight 8"),
        (25.0, "10/40 rows, in flight 8"),
        (75.0, "30/40 rows, in flight 8"),
        (100.0, "40/40 rows, in flight 8"),
    ]


@pytest.mark.parametrize(("total", "shares"), [(None, []), (0, []), (10, [100.0])])
def test_a_share_that_nobody_knows_is_not_shown(
    tmp_path: Path, total: int | None, shares: list[float]
) -> None:
    """Without a total there is none; with more rows than the total it is the whole."""

    async def work() -> None:
        await PublishedProgress(total).publish(12)

    assert [artifact["data"] for artifact in run_in_flow(work, tmp_path)] == shares


CREATE = "prefect.client.orchestration.PrefectClient.create_artifact"


def not_found() -> Exception:
    from prefect.exceptions import ObjectNotFound

    return ObjectNotFound(ValueError("hunter2"))


def no_route() -> Exception:
    return httpx.ConnectError("no route to http://somebody:hunter2@127.0.0.1:4200")


def refused_by(error: Exception | None) -> Callable[..., Coroutine[Any, Any, None]]:
    """A client's call that fails, or hangs where no error is given."""

    async def call(*_: object, **__: object) -> None:
        await asyncio.sleep(0 if error else 30)
        assert error is not None
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (no_route, "ConnectError"),
        (not_found, "ObjectNotFound"),
        (lambda: None, "TimeoutError"),
    ],
)
def test_an_artifact_that_prefect_does_not_take_does_not_end_the_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Callable[[], Exception | None],
    said: str,
) -> None:
    """It is said once for the progress and once for the account, without the server's address."""
    monkeypatch.setattr("flows.accounts.LIMIT_S", 0.05)
    monkeypatch.setattr(CREATE, refused_by(error()))
    finished = []

    async def work() -> None:
        progress = PublishedProgress(10)
        await progress.publish(5)
        await progress.publish(10)
        await publish_accounts(FUNNEL, some_usage(), {})
        finished.append(True)

    assert run_in_flow(work, tmp_path) == []
    assert finished == [True]
    assert [line for line in capsys.readouterr().err.splitlines() if "avar" in line] == [
        f"avar: Prefect did not keep the run's progress ({said}); the run goes on without",
        f"avar: Prefect did not keep the run's account ({said}); the run goes on without",
    ]


def test_a_mistake_of_avars_own_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CREATE, refused_by(KeyError("calls")))
    with pytest.raises(KeyError):
        run_in_flow(lambda: publish_accounts(FUNNEL, some_usage(), {}), tmp_path)


def test_outside_of_a_flow_nothing_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with prefect_at(f"http://127.0.0.1:{free_port()}/api", tmp_path):
        asyncio.run(publish_accounts(FUNNEL, some_usage(), {}))
        asyncio.run(PublishedProgress(10).publish(10))
    assert capsys.readouterr().err == ""
