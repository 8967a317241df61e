"""A server and its clients in simulated time: what a pace does to both, without waiting for it.

A client keeps as many requests in flight as its pace allows and has always more to send. The server works on
some of them at once, lets the others wait, and may refuse.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from synth.pace import Pace

REFUSAL_S = 0.005  # until a refusal is back
Work = Callable[[random.Random], float]  # seconds of one answer on a server with nothing else to do


def fixed(seconds: float = 1.0) -> Work:
    """Answers that all take the same time."""
    return lambda _: seconds


def lognormal(mean: float = 1.0, sigma: float = 0.8) -> Work:
    """Answers of heavy-tailed length."""
    return lambda rng: mean * rng.lognormvariate(-sigma * sigma / 2, sigma)


@dataclass(slots=True)
class Client:
    """One user of the server; `in_flight` are its requests that were not answered yet."""

    pace: Pace
    in_flight: int = 0


@dataclass(order=True, slots=True)
class _Call:
    finish: float  # on the server's own clock of work done
    number: int
    client: Client = field(compare=False)
    sent: float = field(compare=False)


class SimulatedServer:
    """Works on `capacity` calls at full speed.

    Args:
        capacity: calls at full speed.
        shares: True: all calls are worked on, more slowly beyond the capacity; False: the others queue.
        accepts: calls beyond this many are refused.

    Attributes:
        work_s: seconds of work done in all.
    """

    def __init__(
        self,
        capacity: float = float("inf"),
        *,
        shares: bool = False,
        accepts: float = float("inf"),
    ) -> None:
        self.capacity, self.shares, self.accepts = capacity, shares, accepts
        self.running: list[_Call] = []
        self.waiting: deque[tuple[_Call, float]] = deque()
        self.work_s = self._done = self._at = 0.0

    @property
    def load(self) -> int:
        """Calls that it holds."""
        return len(self.running) + len(self.waiting)

    @property
    def _speed(self) -> float:
        return min(1.0, self.capacity / len(self.running)) if self.shares and self.running else 1.0

    def advance(self, now: float) -> None:
        """Works until now."""
        done = (now - self._at) * self._speed
        self._done += done
        self.work_s += done * len(self.running)
        self._at = now

    def next_finish(self) -> float:
        """When the next call is done if nothing else comes."""
        if not self.running:
            return float("inf")
        return self._at + max(0.0, self.running[0].finish - self._done) / self._speed

    def take(self, call: _Call, work_s: float) -> None:
        """Lets a call in."""
        self.waiting.append((call, work_s))
        self.begin_waiting()

    def begin_waiting(self) -> None:
        """Begins what there is room for."""
        while self.waiting and (self.shares or len(self.running) < self.capacity):
            call, work_s = self.waiting.popleft()
            call.finish = self._done + work_s
            heapq.heappush(self.running, call)


@dataclass(slots=True)
class Trace:
    """What happened.

    Attributes:
        answers: when each came.
        refusals: when each came.
        levels: (seconds, limit of each client), ten times a second.
        work: (seconds, seconds of work done in all), ten times a second.
    """

    answers: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    levels: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    work: list[tuple[float, float]] = field(default_factory=list)

    def busy(self, since: float) -> float:
        """Mean calls that the server worked on at full speed, from a time on."""
        (start, before), (end, after) = next(w for w in self.work if w[0] >= since), self.work[-1]
        return (after - before) / (end - start)

    def limits(self, since: float, client: int = 0) -> list[int]:
        """A client's limits from a time on."""
        return [levels[client] for at, levels in self.levels if at >= since]

    def level(self, since: float, client: int = 0) -> float:
        """A client's mean limit from a time on."""
        limits = self.limits(since, client)
        return sum(limits) / len(limits)

    def reached(self, level: int) -> float:
        """When the first client's limit first was at a level or above."""
        return next(at for at, limits in self.levels if limits[0] >= level)


class Simulation:
    """Clients at a server.

    Args:
        work: draws how long an answer takes.
        readings: whether clients read the queue each second.
        tokens_per_s: tokens of an answer for each second of its work; 0: not told.
    """

    def __init__(
        self,
        server: SimulatedServer,
        paces: Iterable[Pace],
        work: Work,
        *,
        readings: bool = False,
        tokens_per_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.server, self.clients = server, [Client(pace) for pace in paces]
        self.trace = Trace()
        self._work, self._readings, self._tokens_per_s = work, readings, tokens_per_s
        self._rng = random.Random(seed)
        self._now = 0.0
        self._number = 0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._tokens: dict[int, int] = {}
        self.after(0.0, self._sample)
        if readings:
            self.after(1.0, self._read)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Has something done later."""
        self._number += 1
        heapq.heappush(self._timers, (self._now + seconds, self._number, act))

    def run(self, until: float) -> Trace:
        """Goes on until a time."""
        while True:
            for client in self.clients:
                self._fill(client)
            finish, timer = self.server.next_finish(), self._timers[0][0]
            if min(finish, timer) >= until:
                return self.trace
            self._now = min(finish, timer)
            self.server.advance(self._now)
            if finish <= timer:
                self._answer()
            else:
                heapq.heappop(self._timers)[2]()

    def _fill(self, client: Client) -> None:
        while client.in_flight < client.pace.limit:
            client.in_flight += 1
            if self.server.load >= self.server.accepts:
                self.after(REFUSAL_S, lambda: self._refuse(client))
                continue
            self._number += 1
            work_s = self._work(self._rng)
            self._tokens[self._number] = round(work_s * self._tokens_per_s)
            self.server.take(_Call(0.0, self._number, client, self._now), work_s)

    def _answer(self) -> None:
        call = heapq.heappop(self.server.running)
        self.server.begin_waiting()
        self.trace.answers.append(self._now)
        call.client.pace.answered(
            self._now,
            seconds=self._now - call.sent,
            in_flight=call.client.in_flight,
            tokens=self._tokens.pop(call.number),
        )
        call.client.in_flight -= 1

    def _refuse(self, client: Client) -> None:
        self.trace.refusals.append(self._now)
        client.pace.overloaded(self._now)
        client.in_flight -= 1

    def _sample(self) -> None:
        self.trace.work.append((self._now, self.server.work_s))
        self.trace.levels.append((self._now, tuple(client.pace.limit for client in self.clients)))
        self.after(0.1, self._sample)

    def _read(self) -> None:
        running, waiting = len(self.server.running), len(self.server.waiting)
        for client in self.clients:
            client.pace.read_queue(
                self._now, running=running, waiting=waiting, kv_usage=0.5, in_flight=client.in_flight
            )
        self.after(1.0, self._read)
