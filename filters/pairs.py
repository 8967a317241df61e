"""Pairs of positions as arrays: what joins are made of."""

from __future__ import annotations

import numpy as np


def expand_ranges(first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half-open ranges as pairs: the number of the range, and each position in it."""
    sizes = end - first
    which = np.repeat(np.arange(len(sizes)), sizes)
    return which, np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + first[which]


def unique_pairs(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pairs of positions, sorted, each once, int64 [pairs, 2]: packed into one number, many times as fast
    as `np.unique` over rows.

    Args:
        left, right: at least 0, and their largest values' product below 2 ** 63.
    """
    width = int(right.max(initial=0)) + 1
    packed = np.unique(left.astype(np.int64) * width + right)
    return np.stack(np.divmod(packed, width), axis=1)
