"""Sampling seeds: a function of what is asked, never of order, partition or restarts."""

from __future__ import annotations

import hashlib


def derive_seed(run_seed: int, problem_id: str, name: str, *numbers: int) -> int:
    """The seed of one request.

    Args:
        name: what is asked: a stage, or a part of the evidence.
        numbers: the sample's index, and where one draft is asked several times, which time.
    Returns: an integer in [0, 2**31).
    """
    text = "\0".join((str(run_seed), problem_id, name, *map(str, numbers)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
