"""What a run is said to have asked and cost: every answer is counted once, in the right place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.config import Prices
from schemas.errors import ShardError, TeacherFault
from synth.ledger import Cost, Ledger, Usage, cost, merged, read_usage, sum_costs, sum_usage
from synth.requests import Answer


def answer(prompt: int = 100, completion: int = 10, cached: int = 0, seconds: float = 0.5) -> Answer:
    return Answer(
        text="fine",
        model="as the server says",
        finish_reason="stop",
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        seconds=seconds,
    )


def usage_of(*answers: Answer, reused: tuple[Answer, ...] = (), stage: str = "describe") -> Usage:
    ledger = Ledger()
    for part in answers:
        ledger.answered(stage, "m", part, reused=False)
    for part in reused:
        ledger.answered(stage, "m", part, reused=True)
    return ledger.to_dict()


def test_answers_of_this_run_and_of_the_journal_are_told_apart() -> None:
    usage = usage_of(answer(cached=40), answer(7, 3, 0, 1.0), reused=(answer(1000, 200, 5, 9.0),))
    assert usage["describe"]["m"] == {
        "asked": {
            "calls": 2,
            "refused": {},
            "prompt_tokens": 107,
            "cached_tokens": 40,
            "completion_tokens": 13,
            "unknown_tokens": 0,
            "seconds": 1.5,
        },
        "reused": {
            "calls": 1,
            "refused": {},
            "prompt_tokens": 1000,
            "cached_tokens": 5,
            "completion_tokens": 200,
            "unknown_tokens": 0,
            "seconds": 9.0,
        },
        "retries": {},
    }


@pytest.mark.parametrize(
    ("given", "prompt", "cached", "completion", "unknown"),
    [
        (answer(-1, -1), 0, 0, 0, 1),
        (answer(-1, 10, cached=50), 0, 0, 10, 1),  # cached tokens of a prompt nobody counted
        (answer(100, -1), 100, 0, 0, 1),
        (answer(0, 0), 0, 0, 0, 0),
        (answer(100, 10, cached=100), 100, 100, 10, 0),
        (answer(100, 10, cached=900), 100, 100, 10, 0),  # more than there are
    ],
)
def test_tokens_that_a_server_does_not_count(
    given: Answer, prompt: int, cached: int, completion: int, unknown: int
) -> None:
    counts = usage_of(given)["describe"]["m"]["asked"]
    assert (counts["prompt_tokens"], counts["cached_tokens"]) == (prompt, cached)
    assert (counts["completion_tokens"], counts["unknown_tokens"]) == (completion, unknown)


def test_failures_by_kind() -> None:
    ledger = Ledger()
    for fault in (TeacherFault.TIMEOUT, TeacherFault.OVERLOADED, TeacherFault.OVERLOADED):
        ledger.retried("reason", "m", fault)
    ledger.refused("reason", "m", TeacherFault.TOO_LONG, reused=False)
    ledger.refused("reason", "m", TeacherFault.TOO_LONG, reused=True)
    ledger.answered("reason", "m", answer(), reused=False)
    counted = ledger.to_dict()["reason"]["m"]
    assert counted["retries"] == {"teacher_overloaded": 2, "teacher_timeout": 1}
    assert ledger.retries == 3
    for kind, calls in (("asked", 2), ("reused", 1)):
        assert counted[kind]["calls"] == calls
        assert counted[kind]["refused"] == {"prompt_too_long": 1}


def test_a_stage_that_was_only_retried_is_there() -> None:
    ledger = Ledger()
    ledger.retried("anchor", "m", TeacherFault.TIMEOUT)
    assert ledger.to_dict()["anchor"]["m"]["asked"]["calls"] == 0
    assert ledger.to_dict()["anchor"]["m"]["retries"] == {"teacher_timeout": 1}


def test_stages_stand_in_the_order_of_the_work_and_models_by_name() -> None:
    stages = ["evidence.swap", "evidence.blind", "later", "anchor", "describe", "evidence.judge", "reason"]
    ordered = [
        *("describe", "reason", "anchor", "evidence.blind", "evidence.judge", "evidence.swap", "later"),
    ]
    ledger = Ledger()
    for stage in stages:
        for model in ("z", "a"):
            ledger.answered(stage, model, answer(), reused=False)
    for usage in (ledger.to_dict(), merged([ledger.to_dict()])):
        assert list(usage) == ordered
        assert all(list(models) == ["a", "z"] for models in usage.values())


def test_merged_ledgers_count_as_one_that_heard_everything() -> None:
    calls = [(stage, model) for stage in ("describe", "reason") for model in ("a", "b")] * 3
    parts, whole = [Ledger(), Ledger(), Ledger()], Ledger()
    for number, (stage, model) in enumerate(calls):
        for ledger in (parts[number % 3], whole):
            ledger.answered(stage, model, answer(number, 1, 0, 0.5), reused=number % 2 == 0)
            ledger.refused(stage, model, TeacherFault.REFUSED, reused=number % 4 == 0)
            ledger.retried(stage, model, (TeacherFault.TIMEOUT, TeacherFault.BROKEN)[number % 2])
    kept = [part.to_dict() for part in parts]
    before = json.dumps(kept)
    assert merged(kept) == whole.to_dict()
    assert json.dumps(kept) == before
    assert merged([]) == {}


def test_a_ledger_comes_back_from_json() -> None:
    usage = usage_of(answer(), reused=(answer(-1, 3),))
    assert read_usage(json.loads(json.dumps(usage)), where="manifest.json") == usage


def _without(key: str) -> dict[str, Any]:
    usage: dict[str, Any] = json.loads(json.dumps(usage_of(answer())))
    del usage["describe"]["m"]["asked"][key]
    return usage


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ([], "usage"),
        ({"describe": 3}, "describe"),
        ({"describe": {"m": {}}}, "describe.m.asked"),
        (_without("seconds"), "describe.m.asked.seconds"),
    ],
)
def test_something_else_is_no_ledger(data: object, place: str) -> None:
    with pytest.raises(ShardError, match=rf"^manifest\.json: {place}: .*; remove it there$") as raised:
        read_usage(data, where="manifest.json")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("prices", "asked", "in_all"),
    [
        # this run: a million prompt tokens, half of them cached, and 100,000 written; as much in the journal
        (Prices(prompt=2.0), 2.0, 4.0),
        (Prices(prompt=2.0, cached=0.5), 1.25, 2.5),
        (Prices(prompt=2.0, cached=0.0, completion=10.0), 2.0, 4.0),
        (Prices(), 0.0, 0.0),
    ],
)
def test_cost_of_the_calls_and_of_all_answers(prices: Prices, asked: float, in_all: float) -> None:
    part = answer(1_000_000, 100_000, cached=500_000)
    found = cost(usage_of(part, reused=(part,)), {"describe": prices})["describe"]
    assert found is not None and found.complete
    assert (found.asked, found.in_all) == pytest.approx((asked, in_all))


def test_cost_is_not_known_without_a_price() -> None:
    usage = usage_of(answer())
    assert cost(usage, {}) == cost(usage, {"describe": None}) == {"describe": None}
    assert cost({}, {"describe": Prices(prompt=1)}) == {}


@pytest.mark.parametrize("reused", [False, True])
def test_cost_says_when_answers_had_no_token_counts(reused: bool) -> None:
    ledger = Ledger()
    ledger.answered("describe", "m", answer(1_000_000, 0), reused=False)
    ledger.answered("describe", "m", answer(-1, -1), reused=reused)
    assert cost(ledger.to_dict(), {"describe": Prices(prompt=3)})["describe"] == Cost(
        3.0, 3.0, complete=False
    )


def test_all_models_of_a_stage_are_in_its_cost() -> None:
    ledger = Ledger()
    for model in ("a", "b"):
        ledger.answered("describe", model, answer(1_000_000, 0), reused=False)
    assert cost(ledger.to_dict(), {"describe": Prices(prompt=3)})["describe"] == Cost(6.0, 6.0)


@pytest.mark.parametrize(
    ("costs", "total"),
    [
        ([], None),
        ([None, None], None),
        ([Cost(1, 2), Cost(3, 5)], Cost(4, 7)),
        ([Cost(1, 2), None], Cost(1, 2, complete=False)),
        ([Cost(1, 2, complete=False), Cost(3, 5)], Cost(4, 7, complete=False)),
    ],
)
def test_sum_of_costs(costs: list[Cost | None], total: Cost | None) -> None:
    assert sum_costs(costs) == total


def test_sum_of_a_ledger() -> None:
    ledger = Ledger()
    for stage in ("describe", "reason"):
        ledger.answered(stage, "m", answer(5, 2), reused=False)
        ledger.retried(stage, "m", TeacherFault.BROKEN)
    total = sum_usage(ledger.to_dict())
    assert (total["asked"]["calls"], total["asked"]["prompt_tokens"]) == (2, 10)
    assert total["retries"] == {"teacher_error": 2}
