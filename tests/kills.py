"""SIGKILL at random moments of a run: to the flow and to its teacher's server (tests/crash.py)."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.shards import INDEX_FILE, STAGING
from tests.folder_run import LONGEST_S, start_avar
from tests.stub_server import StubServer
from tests.traffic import Answered, Traffic

_ORDER = ("flow", "server", "shard", "flow", "start", "flow", "server", "flow", "end", "server")
_DOWN_S = (0.1, 1.0)  # how long the server stays away
_START_S = (0.1, 4.0)  # a start takes some three seconds
_PHASE_S = 0.1  # a kill falls so much later than what it waits for, at most
_LOOK_S = 0.0005  # a shard is written within milliseconds


@dataclass(frozen=True)
class Kill:
    """One that has happened.

    Attributes:
        after_s: since the go's start.
        asked: requests that had come by then, repeated ones counted once.
        in_flight: by their names in the server's log.
    """

    kind: str
    after_s: float
    asked: int
    in_flight: frozenset[str]


def plan_kills(count: int, draw: random.Random) -> list[str]:
    """The kinds of the kills in their order: most in the work, those after it last."""
    kinds = [_ORDER[number % len(_ORDER)] for number in range(count)]
    draw.shuffle(kinds)
    return sorted(kinds, key=lambda kind: kind == "end")


@dataclass
class Crashing:
    """A run that is killed again and again.

    Attributes:
        total: requests that the whole work takes.
        goes: how often the command was started.
        torn: kills of the flow that left a shard half written.
    """

    command: list[str]
    out: Path
    log: Path
    server: StubServer
    traffic: Traffic
    answered: Answered
    draw: random.Random
    total: int
    goes: int = 0
    torn: int = 0
    kills: list[Kill] = field(default_factory=list)

    def run(self, kinds: Sequence[str]) -> None:
        """Goes on until every kill is spent and the run has come to its end."""
        left = list(kinds)
        while left or not self.goes or self._process.returncode != 0:
            self._go(left)
            assert self.goes < 3 * (len(kinds) + 1), "the run does not come to its end"

    def _go(self, left: list[str]) -> None:
        """Starts the run once, and kills as planned until the flow is gone."""
        self.goes += 1
        self.traffic.forget_open()
        self._process = start_avar(self.command, self.log)
        self._since = time.monotonic()
        try:
            while left and self._wait_for_moment(kind := self._next_kind(left), left):
                left.pop(0)
                if kind != "server":
                    self._kill_flow(kind)
                    return
                self._kill_server()
            code = self._process.wait(LONGEST_S)
            assert code == 0, f"exit {code}: {self.log.read_text()[-2000:]}"
        finally:
            self._process.kill()
            self._process.wait()

    def _next_kind(self, left: Sequence[str]) -> str:
        """As planned, as long as there is work; afterwards only the flow can still be hit."""
        return left[0] if len(self.traffic.read().arrivals) < self.total else "end"

    def _wait_for_moment(self, kind: str, left: Sequence[str]) -> bool:
        """Waits for the moment of the next kill. Returns: False where the flow has ended before."""
        asked = len(self.traffic.arrivals)
        if kind == "start" or asked >= self.total:
            return self._wait_s(self.draw.uniform(*_START_S))
        if kind == "shard":
            return self._wait(self._is_writing)
        share = (self.total - asked) // (sum(other not in {"start", "end"} for other in left) + 1)
        goal = self.total if kind == "end" else asked + self.draw.randint(1, max(1, share))
        reached = self._wait(lambda: len(self.traffic.read().arrivals) >= goal)
        return reached and self._wait_s(self.draw.uniform(0, _PHASE_S))

    def _is_writing(self) -> bool:
        folder = self.out / "drafts"
        return folder.is_dir() and any(entry.name.startswith(".") for entry in os.scandir(folder))

    def _wait_s(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        return self._wait(lambda: time.monotonic() >= until)

    def _wait(self, reached: Callable[[], bool]) -> bool:
        deadline = self._since + LONGEST_S
        while self._process.poll() is None:
            if reached():
                return True
            assert time.monotonic() < deadline, f"over {LONGEST_S:g} s: {self.log.read_text()[-2000:]}"
            time.sleep(_LOOK_S)
        return False

    def _kill_flow(self, kind: str) -> None:
        self._process.send_signal(signal.SIGKILL)
        after_s = time.monotonic() - self._since
        self._process.wait()
        self.torn += self._is_writing()
        while self.server.stats()["in_flight"]:  # until it has noticed that nobody listens
            time.sleep(0.005)
        lost = self.traffic.read().asked - set(self.answered.read(self.out))
        self._note(kind, after_s, lost)

    def _kill_server(self) -> None:
        self.server.kill()
        self._note("server", time.monotonic() - self._since, self.traffic.read().open)
        time.sleep(self.draw.uniform(*_DOWN_S))
        self.traffic.forget_open()
        self.server.restart()

    def _note(self, kind: str, after_s: float, in_flight: set[str]) -> None:
        self.kills.append(Kill(kind, after_s, len(self.traffic.arrivals), frozenset(in_flight)))


def kill_curation(out: Path, log: Path, draw: random.Random) -> None:
    """Kills `avar curate` while it writes. Raises: AssertionError: a dataset is there that is not whole."""
    process = start_avar(["curate", str(out)], log)
    try:
        while process.poll() is None and not (out / STAGING).is_dir():
            time.sleep(_LOOK_S)
        time.sleep(draw.uniform(0, 0.02))
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, f"curation was not hit: {log.read_text()[-2000:]}"
    assert not (out / INDEX_FILE).exists()
