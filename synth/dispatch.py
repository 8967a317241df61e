"""Which call goes to which server, and when.

Calls wait in lanes: a lane is one or several servers that serve the same model. A call that waits is sent
as soon as one of its servers has room, the lowest order first, to the server with the least work. A server
that goes away leaves the lane until it answers again, and only its own calls notice.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from schemas.errors import TeacherError, TeacherFault
from synth.server import Server

_FIRST_LOOK_S, _LAST_LOOK_S = 0.25, 5.0  # between two looks whether a server is back
_METRICS_S = 1.0


class StoppedError(Exception):
    """No further call is made: the run is being ended, and this call was not begun."""


class OutageError(TeacherError):
    """No server of a lane has answered for too long: nothing is waited for any more."""


class Lane:
    """The servers of one model, and the calls that wait for one of them.

    Attributes:
        name: model name that a server must list before it is used again.
        outage_s: seconds without any server before the waiting calls are given up.
    """

    def __init__(self, servers: Sequence[Server], *, outage_s: float, name: str = "") -> None:
        self.servers = tuple(servers)
        self.outage_s = outage_s
        self.name = name
        self.waiting: list[tuple[int, int, asyncio.Future[Server]]] = []
        self.given_up = ""  # why nothing waits any more, until a server is back

    @property
    def room(self) -> int:
        """Calls that could be sent at once, beyond those that wait already."""
        now = time.monotonic()
        free = sum(s.pace.limit - s.in_flight for s in self.servers if s.up and s.paused_until <= now)
        return free - len(self.waiting)

    def with_room(self) -> list[Server]:
        """The servers that a call could be sent to at once."""
        now = time.monotonic()
        return [s for s in self.servers if s.up and s.in_flight < s.pace.limit and s.paused_until <= now]

    def least_busy(self) -> Server | None:
        """The server with room that has the least work for its pace."""
        return min(self.with_room(), key=lambda s: s.in_flight / s.pace.limit, default=None)


class Dispatcher:
    """Hands out servers. Use as an async context manager; every lane is added before the first call.

    Args:
        on_room: called when a server has room and nobody waits for it.
    Attributes:
        servers: of all lanes.
        resting: calls that wait before they are asked again.
        stopped: True once no further call is sent.
    """

    def __init__(self, on_room: Callable[[], None] | None = None) -> None:
        self.on_room = on_room or (lambda: None)
        self.lanes: list[Lane] = []
        self.stopped = False
        self._stopping = asyncio.Event()
        self.resting = 0
        self.servers: set[Server] = set()
        self._number = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._jitter = random.Random()

    async def __aenter__(self) -> Dispatcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, lane: Lane) -> Lane:
        """Takes a lane into service; vLLM's servers are asked for the state of their queue from now on."""
        self.lanes.append(lane)
        for server in lane.servers:
            if server not in self.servers:
                self.servers.add(server)
                self._start(self._watch_queue(server))
                if not server.up:
                    self._start(self._revive(server))
        return lane

    async def acquire(self, lane: Lane, order: int) -> Server:
        """Waits for a server with room; `release` must follow.

        Args:
            order: calls of a lower order go first.
        Raises:
            OutageError: no server of the lane has answered for `outage_s`.
            StoppedError: `stop` was called.
        """
        if self.stopped:
            raise StoppedError
        if lane.given_up:
            raise OutageError(TeacherFault.UNREACHABLE, lane.given_up)
        if not lane.waiting and (server := lane.least_busy()) is not None:
            server.in_flight += 1
            return server
        future: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        heapq.heappush(lane.waiting, (order, next(self._number), future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    def release(self, server: Server) -> None:
        """Gives a server back and sends the next call to it."""
        server.in_flight -= 1
        self.serve(server)

    async def rest(self, seconds: float) -> None:
        """Waits before a call is asked again; others may have its place meanwhile."""
        self.resting += 1
        self.on_room()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
        finally:
            self.resting -= 1

    def serve(self, server: Server) -> None:
        """Sends waiting calls to a server while it has room."""
        while server.up and server.in_flight < server.pace.limit and server.paused_until <= time.monotonic():
            lane = self._neediest(server)
            if lane is None:
                self.on_room()
                return
            future = heapq.heappop(lane.waiting)[2]
            server.in_flight += 1
            future.set_result(server)

    def _neediest(self, server: Server) -> Lane | None:
        """The lane of this server whose first waiting call has the lowest order; drops cancelled calls."""
        for lane in self.lanes:
            while lane.waiting and lane.waiting[0][2].done():
                heapq.heappop(lane.waiting)
        open_lanes = [lane for lane in self.lanes if lane.waiting and server in lane.servers]
        return min(open_lanes, key=lambda lane: lane.waiting[0][:2], default=None)

    def stop(self) -> None:
        """Lets calls that were sent come to their end, and sends no more."""
        self.stopped = True
        self._stopping.set()
        for lane in self.lanes:
            for _, _, future in lane.waiting:
                if not future.done():
                    future.set_exception(StoppedError())
            lane.waiting.clear()

    # --------------------------------------------------------------------------- servers that come and go

    def lose(self, server: Server) -> None:
        """Takes a server out of service until it answers again."""
        if server.up:
            server.up = False
            server.held.abandon()
            self._start(self._revive(server))
            for lane in self.lanes:
                if server in lane.servers and not any(other.up for other in lane.servers):
                    self._start(self._give_up(lane))

    def pause(self, server: Server, seconds: float) -> None:
        """Sends nothing to a server for as long as it asked for."""
        until = time.monotonic() + seconds
        if until > server.paused_until:
            server.paused_until = until
            # A timer that fires a hair early must not find the pause still on.
            asyncio.get_running_loop().call_later(seconds + 0.01, self.serve, server)

    async def _revive(self, server: Server) -> None:
        """Looks for a server until it lists its models again."""
        wait_s = _FIRST_LOOK_S
        needed = {lane.name for lane in self.lanes if server in lane.servers and lane.name}
        while True:
            await asyncio.sleep(self._jitter.uniform(wait_s / 2, wait_s))
            wait_s = min(2 * wait_s, _LAST_LOOK_S)
            try:
                served = {entry.name for entry in await server.list_models(limit_s=5.0)}
            except TeacherError:
                continue
            if needed <= served:
                break
        server.up = True
        server.held.clear()
        for lane in self.lanes:
            if server in lane.servers:
                lane.given_up = ""
        self.serve(server)

    async def _give_up(self, lane: Lane) -> None:
        """Ends what waits in a lane once it has been without any server for too long."""
        deadline = time.monotonic() + lane.outage_s
        while time.monotonic() < deadline:
            await asyncio.sleep(min(0.1, lane.outage_s))
            if any(server.up for server in lane.servers):
                return
        names = ", ".join(server.url for server in lane.servers)
        lane.given_up = (
            f"no teacher at {names} for {lane.outage_s:g} s (teacher.outage_s): is the server running? "
            "What was answered is kept; the same command goes on"
        )
        for _, _, future in lane.waiting:
            if not future.done():
                future.set_exception(OutageError(TeacherFault.UNREACHABLE, lane.given_up))
        lane.waiting.clear()
        self.on_room()  # rows that wait for a place must hear of it, too

    async def _watch_queue(self, server: Server) -> None:
        while True:
            await asyncio.sleep(_METRICS_S)
            watched = server.is_vllm and server.up and server.in_flight > 0
            if watched and (queue := await server.read_queue()) is not None:
                server.pace.read_queue(
                    time.monotonic(),
                    running=queue.running,
                    waiting=queue.waiting,
                    kv_usage=queue.kv_usage,
                    in_flight=server.in_flight,
                )
                self.serve(server)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
