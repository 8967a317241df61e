"""Python's cyclic garbage collector, told what an engine's memory looks like."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLD = (50_000, 20, 20)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Within, the collector looks at new objects only, and seldom.

    Hundreds of requests in flight are some ten thousand objects that live for a second and hold no cycles;
    with Python's own thresholds the collector walks over them, and over every module, dozens of times a
    second: a fifth of the engine's CPU time at 256 in flight (measured). What it may miss in the meantime is
    a few megabytes.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
