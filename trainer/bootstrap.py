"""Bootstrap intervals over problems. Free of torch, trl and datasets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES, LEVEL = 2000, 0.95
_DRAWS = 1_000_000  # held in memory at one time
Interval = tuple[float, float]


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float] | None = None, *, seed: int = 0
) -> Interval | None:
    """The 95% percentile interval of sum(numerators) / sum(denominators) when rows are drawn anew.

    Without denominators that is the mean. Rows stay whole: a row's two values are drawn together.

    Returns: (low, high); None with fewer than two rows, where nothing can be said.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    over = np.asarray(numerators, dtype=np.float64)
    under = np.ones_like(over) if denominators is None else np.asarray(denominators, dtype=np.float64)
    if len(over) != len(under):
        raise ValueError(f"{len(over)} numerators for {len(under)} denominators")
    if len(over) < 2:
        return None
    dice = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    together = max(1, _DRAWS // len(over))
    for start in range(0, RESAMPLES, together):
        drawn = dice.integers(len(over), size=(min(together, RESAMPLES - start), len(over)))
        found.append(over[drawn].sum(axis=1) / under[drawn].sum(axis=1))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    return float(low), float(high)
