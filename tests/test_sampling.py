"""Accept until k, and until N in all: decided in source order, whatever comes first."""

from __future__ import annotations

import asyncio
import random
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import SampleSettings
from schemas.records import Draft
from synth.sampling import Tally, draw_samples
from tests.rows import draft


def draw(
    good: list[bool], blocks: dict[str, int], delays: random.Random | None = None
) -> tuple[list[int], int]:
    """The sample indices that become drafts, and how many samples were asked for in all."""
    asked: list[int] = []

    async def sample(index: int) -> Draft:
        asked.append(index)
        if delays is not None:
            await asyncio.sleep(delays.random() / 500)
        return draft(0, sample_index=index)

    async def accepts(made: Draft) -> bool:
        return good[made.sample_index]

    drafts = asyncio.run(draw_samples(SampleSettings(**blocks), sample, accepts))
    return [made.sample_index for made in drafts], len(asked)


Y, N = True, False


@pytest.mark.parametrize(
    ("good", "blocks", "kept", "asked"),
    [
        ([N, N, N], {"n": 3}, 3, 3),
        ([Y, N, N, N], {"accept": 1}, 1, 1),
        ([N, Y, N, N], {"accept": 1}, 2, 2),
        ([N, N, N, N], {"accept": 1, "most": 4}, 4, 4),
        ([Y, N, Y, Y], {"accept": 2, "most": 4}, 3, 3),
        ([N, N, Y, Y, Y], {"accept": 2, "most": 5}, 4, 4),
        ([Y, Y, Y, Y], {"n": 4, "accept": 2}, 2, 4),  # what was asked beyond stays in the journal
        ([N, N, N, Y, Y], {"n": 2, "accept": 2, "most": 5}, 5, 5),
    ],
)
def test_samples_are_kept_up_to_the_one_that_completes_them(
    good: list[bool], blocks: dict[str, int], kept: int, asked: int
) -> None:
    assert draw(good, blocks) == (list(range(kept)), asked)


@settings(max_examples=40, deadline=None)
@given(
    good=st.lists(st.booleans(), min_size=8, max_size=8),
    n=st.integers(1, 4),
    accept=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_the_order_of_answers_changes_nothing(good: list[bool], n: int, accept: int, seed: int) -> None:
    kept, _ = draw(good, {"n": n, "accept": accept, "most": 8}, random.Random(seed))
    reached = [number for number, total in enumerate(accumulate(good), start=1) if total >= accept]
    assert kept == list(range(reached[0] if reached else 8))


@settings(max_examples=60, deadline=None)
@given(
    accepted=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    until=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_the_cut_is_where_the_sum_in_source_order_is_reached(
    accepted: list[int], until: int, seed: int
) -> None:
    tally = Tally(until)
    order = list(range(len(accepted)))
    random.Random(seed).shuffle(order)
    for index in order:
        tally.done(index, accepted[index])
    reached = [index for index, total in enumerate(accumulate(accepted)) if total >= until]
    assert tally.cut == (reached[0] if reached else None)
    assert tally.beyond(len(accepted)) == bool(reached)


def test_a_problem_is_settled_once_all_before_it_are() -> None:
    async def run() -> list[str]:
        tally, said = Tally(2), list[str]()

        async def wait(index: int) -> None:
            await tally.settled(index)
            said.append(f"settled {index}, cut {tally.cut}")

        waiting = [asyncio.create_task(wait(index)) for index in (0, 3)]
        for index, count in ((1, 1), (0, 0), (2, 1)):
            tally.done(index, count)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            said.append(f"done {index}")
        await asyncio.gather(*waiting)
        return said

    said = asyncio.run(run())
    assert said.index("settled 0, cut None") > said.index("done 1")
    assert said[-1] == "settled 3, cut 2" or said[-2:] == ["settled 3, cut 2", "done 2"]


def test_without_a_goal_nothing_is_beyond_and_nothing_waits() -> None:
    tally = Tally(None)
    tally.done(0, 5)
    asyncio.run(asyncio.wait_for(tally.settled(7), 1))
    assert not tally.beyond(10**9)
