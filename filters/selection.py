"""Which of the accepted drafts make the dataset: the best of a problem's, and no group more than its share.

These steps in this order, each on what the one before left:

1. `per_problem`: of a problem's accepted drafts the best stay: by the mean of their filters' scores, then the
   shorter trace, then the earlier sample.
2. `max_source_share`: no source has more than this share of the dataset; then `max_category_share` and
   `max_answer_type_share` likewise. A later one may move the shares of an earlier one again.

Groups that are too large all come down to one size, the largest at which the share holds. Which rows leave is
decided by the hash of their id alone: by score it would be the hard ones, and by order the last ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from filters.reasons import Reason, Verdict, dropped
from schemas.config import SelectSettings
from schemas.errors import ConfigError

SELECTION = "selection"
Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An accepted draft, as far as the selection looks at it.

    Attributes:
        index, sample_index: of its problem in the source, and of it among the problem's samples.
        id: of its problem.
        score: mean of its filters' scores, in [0, 1].
        tokens: of its trace.
    """

    index: int
    sample_index: int
    id: str
    source: str
    category: str
    answer_type: str
    score: float
    tokens: int

    @property
    def key(self) -> Key:
        """Which draft of a run it is."""
        return self.index, self.sample_index


def select(candidates: Iterable[Candidate], settings: SelectSettings) -> dict[Key, Verdict]:
    """The accepted drafts that are left out, each with its verdict. The others stay.

    Raises: ConfigError: there are too few groups for a share.
    """
    left = list(candidates)
    out: dict[Key, Verdict] = {}
    steps: tuple[Callable[[Sequence[Candidate]], dict[Key, Verdict]], ...] = (
        lambda rows: _leave_worse_samples(rows, settings.per_problem),
        lambda rows: _hold_shares(rows, settings.max_source_share, "source"),
        lambda rows: _hold_shares(rows, settings.max_category_share, "category"),
        lambda rows: _hold_shares(rows, settings.max_answer_type_share, "answer_type"),
    )
    for step in steps:
        out |= step(left)
        left = [candidate for candidate in left if candidate.key not in out]
    return out


def _leave_worse_samples(candidates: Sequence[Candidate], most: int | None) -> dict[Key, Verdict]:
    if most is None:
        return {}
    problems: defaultdict[int, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        problems[candidate.index].append(candidate)
    out: dict[Key, Verdict] = {}
    for samples in problems.values():
        ranked = sorted(samples, key=lambda one: (-one.score, one.tokens, one.sample_index))
        for place, sample in enumerate(ranked[most:], start=most + 1):
            detail = f"number {place} of the problem's {len(ranked)} accepted drafts, {most} are kept"
            out[sample.key] = dropped(SELECTION, Reason.SURPLUS_SAMPLE, sample.score, detail)
    return out


def _hold_shares(candidates: Sequence[Candidate], share: float | None, attribute: str) -> dict[Key, Verdict]:
    if share is None or not candidates:
        return {}
    groups: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[getattr(candidate, attribute)].append(candidate)
    size = largest_size({name: len(rows) for name, rows in groups.items()}, share, attribute)
    out: dict[Key, Verdict] = {}
    for name, rows in groups.items():
        detail = f"{len(rows)} rows of {attribute} {name!r}, {size} are kept: at most {share:.0%} of all"
        for candidate in sorted(rows, key=_draw)[size:]:
            out[candidate.key] = dropped(SELECTION, Reason.OVER_SHARE, candidate.score, detail)
    return out


def largest_size(sizes: Mapping[str, int], share: float, attribute: str) -> int:
    """The size that groups may have so that none exceeds its share of what all of them keep.

    Args:
        sizes: rows of each group, at least 1.
        share: in (0, 1].
    Raises: ConfigError: even groups of equal size exceed it.
    """
    if share * len(sizes) < 1:
        raise ConfigError(
            f"select.max_{attribute}_share: {share:g} cannot hold with {len(sizes)} of them "
            f"({', '.join(sorted(sizes)[:5])}); at least {1 / len(sizes):.3g}"
        )
    numbers = Counter(sizes.values())
    # With size c the share is min(n, c) over the sum of all min(n, c): it grows with c, so halve.
    low, high = 1, max(sizes.values())
    while low < high:
        middle = (low + high + 1) // 2
        kept = sum(min(rows, middle) * times for rows, times in numbers.items())
        low, high = (middle, high) if middle <= share * kept + 1e-9 else (low, middle - 1)
    return low


def _draw(candidate: Candidate) -> bytes:
    return hashlib.sha256(f"select {candidate.id} {candidate.sample_index}".encode()).digest()
