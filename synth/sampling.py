"""Which samples of a problem become drafts, and after which problem there are enough.

Both are decided in source order: the shortest prefix of samples that holds k accepted, the shortest prefix of
problems that holds N. So the order in which answers come never changes what a run is; what was asked beyond
the prefix stays in the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from schemas.config import SampleSettings
from schemas.records import Draft
from synth.concurrency import run_all

Judge = Callable[[Draft], Awaitable[bool]]
Sampler = Callable[[int], Coroutine[Any, Any, Draft]]


async def draw_samples(settings: SampleSettings, sample: Sampler, accepts: Judge) -> list[Draft]:
    """The drafts of one problem: `n`, or as many as it takes until `accept` of them pass the filters.

    Args:
        sample: the draft of a sample's index.
        accepts: whether a draft passes the filters.
    Returns: samples 0, 1, ... in order; with `accept`, up to the one that completes it, at most `most`.
    """
    drafts: list[Draft] = []
    wanted = settings.accept
    size, accepted = max(settings.n, wanted or 0), 0
    while True:
        batch = await run_all(sample(index) for index in range(len(drafts), size))
        for draft in batch:
            drafts.append(draft)
            if wanted is not None and await accepts(draft):
                accepted += 1
                if accepted == wanted:
                    return drafts
        if wanted is None or len(drafts) >= settings.most:
            return drafts
        size = min(settings.most, len(drafts) + wanted - accepted)


class Tally:
    """Counts accepted drafts in source order until there are `until`.

    Attributes:
        cut: index of the problem that completed them, None as long as none has.
    """

    def __init__(self, until: int | None) -> None:
        self.cut: int | None = None
        self._until = until
        self._accepted: dict[int, int] = {}
        self._next = 0
        self._total = 0
        self._changed = asyncio.Event()
        self._abandoned = False

    def done(self, index: int, accepted: int) -> None:
        """A problem has all its drafts, and so many of them were accepted."""
        if self._until is None or self.cut is not None:
            return
        self._accepted[index] = accepted
        while self._next in self._accepted and self.cut is None:
            self._total += self._accepted.pop(self._next)
            if self._total >= self._until:
                self.cut = self._next
            self._next += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def beyond(self, index: int) -> bool:
        """True for a problem after the one that completed them."""
        return self.cut is not None and index > self.cut

    def abandon(self) -> None:
        """Some problem gets no drafts this time, so that nothing behind it will be settled."""
        self._abandoned = True
        self._changed.set()

    async def settled(self, index: int) -> bool:
        """Waits until it is known whether a problem is beyond the cut; False where it will not be."""
        while self._until is not None and self.cut is None and self._next <= index:
            if self._abandoned:
                return False
            await self._changed.wait()
        return True
