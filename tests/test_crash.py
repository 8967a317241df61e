"""What a run is after kills (tests/crash.py): five of them here, more by hand."""

from __future__ import annotations

import pytest

from tests.crash import crash, find_differences, find_repeats
from tests.kills import Kill, plan_kills


@pytest.mark.slow
def test_after_five_kills_everything_is_as_if_there_had_been_none() -> None:
    result = crash(kills=5, seed=3, rows=100)
    assert not result.broken
    assert len(result.kills) == 5
    assert {"flow", "server"} <= {kill.kind for kill in result.kills}
    assert result.busy_kills >= 3, f"most kills hit an idle run: {result.kills}"


def test_kills_fall_into_every_part_of_the_work() -> None:
    import random

    kinds = plan_kills(25, random.Random(0))
    assert set(kinds) == {"flow", "server", "shard", "start", "end"}
    assert "end" not in kinds[: -kinds.count("end")]
    assert kinds == plan_kills(25, random.Random(0)) != plan_kills(25, random.Random(1))


@pytest.mark.parametrize(
    ("kind", "in_flight", "arrivals", "broken"),
    [
        ("flow", 0, {"a": 1}, ""),
        ("flow", 1, {"r0": 2}, ""),
        ("server", 20, {"r0": 2}, ""),
        ("flow", 1, {"a": 2}, "request a came 2 times and was in flight at 0 kills"),
        ("flow", 1, {"r0": 3}, "request r0 came 3 times and was in flight at 1 kills"),
        ("start", 17, {"r0": 1}, "17 answers were lost at one kill"),
    ],
)
def test_a_request_is_repeated_only_for_a_kill(
    kind: str, in_flight: int, arrivals: dict[str, int], broken: str
) -> None:
    kill = Kill(kind, 1.0, 9, frozenset(f"r{number}" for number in range(in_flight)))
    found = list(find_repeats([kill], arrivals))
    assert [sentence[: len(broken)] for sentence in found] == ([broken] if broken else [])


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        ({"a": b"1", "b": b"2"}, 0),
        ({"a": b"1"}, 1),
        ({"a": b"1", "b": b"2", "c": b""}, 1),
        ({"a": b"2", "b": b"3"}, 2),
    ],
)
def test_a_file_that_differs_is_named(found: dict[str, bytes], broken: int) -> None:
    assert len(list(find_differences({"a": b"1", "b": b"2"}, found))) == broken
