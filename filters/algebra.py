"""Computer algebra at arm's length: Math-Verify in worker processes that can be killed.

A worker is a fresh interpreter (spawned, never forked) with a limit on memory and on the time of each
check; one that exceeds it is killed, the check is undecided, and the next check gets a new worker. Any
thread may ask; from asyncio, ask in a thread. Nothing of sympy is imported into this process.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from filters.quantities import Equality
from schemas.errors import AvarError

CHECK_SECONDS = 2.0  # wall time of one check, start of a worker not included
START_SECONDS = 60.0  # a cold import of sympy on a busy machine
MEMORY_BYTES = 2**30  # address space; an idle worker maps 65 MB
MAX_WORKERS = min(4, os.cpu_count() or 1)

_FUNCTION = re.compile(r"(?<![\\A-Za-z])(arc)?(sin|cos|tan|cot|sec|csc|log|ln|exp)(?=[\s(^_{\\\d])")
_NAMED = r"\\\g<1>\g<2>"  # sin(x) is a function, not s times i times n
_SCRIPT = Path(__file__).with_name("algebra_worker.py")
_ANSWERS: dict[str, Equality] = {"equal": "equal", "different": "different", "undecided": "undecided"}


class WorkerError(AvarError):
    """The worker cannot start at all: a broken installation, not an answer that cannot be checked."""


class Worker:
    """One process. Used by one thread at a time; `alive` is False after a kill."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", str(_SCRIPT), str(MEMORY_BYTES), str(CHECK_SECONDS + 1)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._ready = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, prediction: str, gold: str) -> Equality | None:
        """One check; undecided where it exceeds its time, None where the worker was dead before that.

        Raises: WorkerError: the process did not start.
        """
        if not self._ready and self._read(START_SECONDS) != "ready":
            self.close()
            raise WorkerError(
                f"{sys.executable} {_SCRIPT.name}: no answer within {START_SECONDS:.0f} s: "
                "is math-verify installed in this environment?"
            )
        self._ready = True
        started = time.monotonic()
        reply = self._exchange(json.dumps({"prediction": prediction, "gold": gold}))
        if reply in _ANSWERS:
            return _ANSWERS[reply]
        self.close()
        return "undecided" if time.monotonic() - started >= CHECK_SECONDS else None

    def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:  # it died between two checks
            return ""
        return self._read(CHECK_SECONDS)

    def _read(self, seconds: float) -> str:
        """One line; the process is killed, and the line empty, when it does not come in time."""
        assert self._process.stdout is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            return self._process.stdout.readline().strip()
        finally:
            timer.cancel()

    def close(self) -> None:
        """Kill the process and reap it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # unsent bytes for a process that is gone
                continue
        self._process.wait()


class Pool:
    """Idle workers, at most `size` in all; a thread waits where all are busy."""

    def __init__(self, size: int) -> None:
        self._slots = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []

    def ask(self, prediction: str, gold: str) -> Equality:
        """One check by an idle worker; a second one is tried where the first had died before or crashed."""
        with self._slots:
            return self._once(prediction, gold) or self._once(prediction, gold) or "undecided"

    def _once(self, prediction: str, gold: str) -> Equality | None:
        worker = self._take()
        try:
            return worker.ask(prediction, gold)
        finally:
            self._put(worker)

    def _take(self) -> Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.close()
        return Worker()

    def _put(self, worker: Worker) -> None:
        with self._lock:
            # A killed worker is replaced at once, so that the next check does not wait for the import.
            self._idle.append(worker if worker.alive else Worker())

    def pids(self) -> list[int]:
        """Processes of the idle workers."""
        with self._lock:
            return [worker.pid for worker in self._idle]

    def close(self) -> None:
        """End all idle workers; the next check starts new ones."""
        with self._lock:
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.close()

    def forget(self) -> None:
        """In a forked child: the workers belong to the parent."""
        self.__init__(MAX_WORKERS)


POOL = Pool(MAX_WORKERS)
atexit.register(POOL.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


def compare_algebraically(prediction: str, gold: str) -> Equality:
    """Ask Math-Verify whether two formulas are equal, `$` put around each.

    Returns: undecided where either is no formula, or the check exceeds `CHECK_SECONDS` or `MEMORY_BYTES`.
    Raises: WorkerError: no worker can start.
    """
    return POOL.ask(f"${_FUNCTION.sub(_NAMED, prediction)}$", f"${_FUNCTION.sub(_NAMED, gold)}$")


def close_workers() -> None:
    """End all idle workers now instead of at the interpreter's exit."""
    POOL.close()
