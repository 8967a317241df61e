"""The compact table of content ids beside the `dict` that it stands for."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from synth.seen import FirstSeen


def spread(rng: random.Random) -> int:
    """An id as SHA-256 makes them; one in three comes again."""
    return random.Random(rng.randrange(12_000)).getrandbits(80)


def crowded(rng: random.Random) -> int:
    """Ids of few bits, at the places where an error of shift or mask would mix two of them up."""
    return rng.getrandbits(3) << 77 | rng.getrandbits(8) << rng.choice((0, 8, 16, 60))


@pytest.mark.parametrize(("draw", "rows", "least"), [(spread, 12_000, 7_000), (crowded, 4_000, 1_500)])
def test_first_rows_are_those_of_a_dict(draw: Callable[[random.Random], int], rows: int, least: int) -> None:
    """Ids that come again, through several growths of the table."""
    rng = random.Random(0)
    seen, oracle = FirstSeen(), {}
    for index in range(rows):
        identity = f"{draw(rng):020x}"
        assert seen.setdefault(identity, index) == oracle.setdefault(identity, index)
    assert rows > len(seen) == len(oracle) > least


def test_ids_that_differ_in_one_bit_are_two() -> None:
    seen = FirstSeen()
    identities = [f"{1 << bit:020x}" for bit in range(80)]
    assert [seen.setdefault(identity, index) for index, identity in enumerate(identities)] == list(range(80))
    assert [seen.setdefault(identity, 99) for identity in identities] == list(range(80))


@pytest.mark.parametrize("identity", ["", "abc", "g" * 20, "0" * 21])
def test_what_is_no_content_id_is_no_row(identity: str) -> None:
    with pytest.raises(ValueError):
        FirstSeen().setdefault(identity, 0)


def test_a_content_id_takes_at_most_32_bytes() -> None:
    seen, rng, most = FirstSeen(), random.Random(1), 0.0
    for index in range(100_000):
        seen.setdefault(f"{rng.getrandbits(80):020x}", index)
        if index > 10_000:
            most = max(most, seen.nbytes / (index + 1))
    assert len(seen) == 100_000
    assert most <= 32
