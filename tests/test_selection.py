"""Which accepted drafts make the dataset."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from filters.reasons import Reason
from filters.selection import Candidate, largest_size, select
from schemas.config import SelectSettings
from schemas.errors import ConfigError


def candidate(index: int, sample: int = 0, **changes: Any) -> Candidate:
    given: dict[str, Any] = {
        "id": f"{index:020x}",
        "source": "a",
        "category": "c",
        "answer_type": "number",
        "score": 0.5,
        "tokens": 100,
    }
    return Candidate(index=index, sample_index=sample, **(given | changes))


def kept(candidates: Sequence[Candidate], **settings: object) -> list[tuple[int, int]]:
    out = select(candidates, SelectSettings.model_validate(settings))
    return [one.key for one in candidates if one.key not in out]


def test_without_a_limit_everything_stays() -> None:
    rows = [candidate(index, sample) for index in range(5) for sample in range(3)]
    assert select(rows, SelectSettings()) == {}


def test_of_a_problem_the_best_stay_then_the_shorter_then_the_earlier() -> None:
    rows = [
        candidate(0, 0, score=0.4),
        candidate(0, 1, score=0.9, tokens=300),
        candidate(0, 2, score=0.9, tokens=200),
        candidate(0, 3, score=0.9, tokens=200),
        candidate(1, 0, score=0.1),
    ]
    assert kept(rows, per_problem=1) == [(0, 2), (1, 0)]
    assert kept(rows, per_problem=2) == [(0, 2), (0, 3), (1, 0)]
    verdict = select(rows, SelectSettings(per_problem=1))[0, 0]
    assert (verdict.filter, verdict.keep, verdict.reason) == ("selection", False, Reason.SURPLUS_SAMPLE)
    assert verdict.detail == "number 4 of the problem's 4 accepted drafts, 1 are kept"
    assert verdict.score == 0.4


@pytest.mark.parametrize("attribute", ["source", "category", "answer_type"])
def test_no_group_has_more_than_its_share(attribute: str) -> None:
    sizes = {"x": 70, "y": 20, "z": 10}
    rows = [
        candidate(index, 0, **{attribute: name})
        for index, name in enumerate(name for name, size in sizes.items() for _ in range(size))
    ]
    left = set(kept(rows, **{f"max_{attribute}_share": 0.5}))
    counts = Counter(getattr(row, attribute) for row in rows if row.key in left)
    assert counts == {"x": 30, "y": 20, "z": 10}
    settings = SelectSettings.model_validate({f"max_{attribute}_share": 0.5})
    reasons = {verdict.reason for verdict in select(rows, settings).values()}
    assert reasons == {Reason.OVER_SHARE}


def test_who_leaves_depends_on_the_id_alone() -> None:
    """Not on score or order, and hardly on how many rows there are."""
    rows = [candidate(i, source="x" if i % 4 else "y", score=i / 400) for i in range(400)]
    left = set(kept(rows, max_source_share=0.6))
    assert left == set(kept(list(reversed(rows)), max_source_share=0.6))
    scores = [row.score for row in rows if row.key in left and row.source == "x"]
    assert 0.4 < sum(scores) / len(scores) < 0.6


def test_samples_leave_before_shares_are_counted() -> None:
    rows = [candidate(0, sample, source="x") for sample in range(8)]
    rows += [candidate(1, source="y"), candidate(2, source="y")]
    assert kept(rows, per_problem=1, max_source_share=0.7) == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize("seed", range(30))
def test_the_size_is_the_largest_that_holds(seed: int) -> None:
    draw = random.Random(seed)
    sizes = {f"g{number}": draw.randint(1, 60) for number in range(draw.randint(2, 6))}
    share = draw.uniform(1 / len(sizes), 1)

    def holds(size: int) -> bool:
        left = [min(rows, size) for rows in sizes.values()]
        return max(left) <= share * sum(left) + 1e-9

    size = largest_size(sizes, share, "source")
    assert holds(size)
    assert size == max(c for c in range(1, max(sizes.values()) + 1) if holds(c))


def test_a_share_that_cannot_hold_is_said_with_the_one_that_can() -> None:
    rows = [candidate(0, source="x"), candidate(1, source="y")]
    with pytest.raises(ConfigError, match=r"max_source_share: 0\.3 cannot hold with 2 of them \(x, y\)"):
        kept(rows, max_source_share=0.3)
    assert kept(rows, max_source_share=0.5) == [(0, 0), (1, 0)]


def test_nothing_accepted_is_nothing_to_select() -> None:
    assert select([], SelectSettings(per_problem=1, max_source_share=0.1)) == {}
