"""When a row may begin: as late as keeps every server busy, so that few rows are in memory at one time."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from synth.dispatch import Dispatcher, Lane

# Begun rows beyond the calls in flight, as a share of these: while a row's answer is written down, another
# row uses its place.
_SPARE_SHARE = 8
# And at most so many: rows whose call is about to be asked again wait without using a server.
_MOST_RESTING = 64


class Admission:
    """Lets rows begin, the first of the source first, when the first stage has room that nobody wants."""

    def __init__(self, dispatcher: Dispatcher, lane: Lane | None) -> None:
        self._dispatcher = dispatcher
        self._lane = lane
        self._queue: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._number = count()
        self._begun = self._starting = 0
        self._stopped = False

    async def enter(self, index: int) -> bool:
        """Waits until a row may begin; `leave` must follow. Returns: False where the run is being ended."""
        if self._stopped:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (index, next(self._number), future))
        self.grant()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result():
                self.started()
                self.leave()
            raise

    def grant(self) -> None:
        """Lets rows begin while there is room."""
        while self._queue and self._has_room():
            future = heapq.heappop(self._queue)[2]
            if not future.done():
                self._begun += 1
                self._starting += 1
                future.set_result(True)

    def _has_room(self) -> bool:
        if self._lane is not None and self._lane.given_up:
            return True  # the row hears of it at its first call
        level = sum(server.pace.limit for server in self._dispatcher.servers)
        resting = min(self._dispatcher.resting, level + _MOST_RESTING)
        if self._begun >= level + max(1, level // _SPARE_SHARE) + resting:
            return False
        return self._lane is None or self._lane.room > self._starting

    def started(self) -> None:
        """A row's first call waits for a server, or the row has ended without any."""
        self._starting -= 1
        self.grant()

    def leave(self) -> None:
        """A row has ended."""
        self._begun -= 1
        self.grant()

    def refuse_beyond(self, last: int) -> None:
        """Sends away the rows behind this one."""
        for index, _, future in self._queue:
            if index > last and not future.done():
                future.set_result(False)
        self._queue = [entry for entry in self._queue if entry[0] <= last]
        heapq.heapify(self._queue)

    def stop(self) -> None:
        """Lets no further row begin."""
        self._stopped = True
        for _, _, future in self._queue:
            if not future.done():
                future.set_result(False)
        self._queue.clear()
