"""Computer algebra at arm's length: Math-Verify in worker processes that can be killed.

A worker is a fresh interpreter (spawned, never forked) with a limit on memory and on the CPU time of each
check; one that exceeds a limit dies, the check is undecided, and the next check gets a new worker. CPU time,
unlike wall time, is nearly the same on a loaded machine, so that load does not turn "equal" into "undecided";
the wall limit is far above it, for what hangs without computing. Any thread may ask, and so may asyncio
(`compare_algebraically_async`). Nothing of sympy is imported into this process.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filters.quantities import Equality
from schemas.errors import AvarError

CPU_SECONDS = 0.7  # of one check; the slowest of 2,064 real pairs takes 0.18
WALL_SECONDS = 30.0  # of one check: the backstop for what hangs without computing
START_SECONDS = 120.0  # an import of sympy on a busy machine; 0.3 on an idle one
MEMORY_BYTES = 2**30  # address space; an idle worker maps 65 MB
MAX_WORKERS = min(4, os.cpu_count() or 1)

_FUNCTION = re.compile(r"(?<![\\A-Za-z])(arc)?(sin|cos|tan|cot|sec|csc|log|ln|lg|exp)(?=[\s(^_{\\\d])")
_NAMED = r"\\\g<1>\g<2>"  # sin(x) is a function, not s times i times n
_DECIMAL_LOG = re.compile(r"\\lg(?![A-Za-z])\s?")  # ISO 80000-2
_PADDED = re.compile(r"(?<!\\)(\{)\s+|\s+(\})")
_DEGREES = re.compile(r"(\d{1,10}(?:\.\d{1,10})?)\s?°")
_RADIANS = r"{(\\frac{\g<1>\\pi}{180})}"
_SCRIPT = Path(__file__).with_name("algebra_worker.py")
_ANSWERS: dict[str, Equality] = {"equal": "equal", "different": "different", "undecided": "undecided"}
_OUT_OF_TIME = {-getattr(signal, name, 0) for name in ("SIGPROF", "SIGALRM")} - {0}


class WorkerError(AvarError):
    """The worker cannot start at all: a broken installation, not an answer that cannot be checked."""


class Worker:
    """One process. Used by one thread at a time; `alive` is False after a kill."""

    def __init__(self) -> None:
        limits = (MEMORY_BYTES, CPU_SECONDS, WALL_SECONDS)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT), *map(str, limits)],
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
        """One check; undecided where it exceeds a limit, None where the worker died of anything else.

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
        late = time.monotonic() - started >= WALL_SECONDS
        return "undecided" if self.close() in _OUT_OF_TIME or late else None

    def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:  # it died between two checks
            return ""
        return self._read(WALL_SECONDS + 1)

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

    def close(self) -> int:
        """Kill the process, unless it is dead, and reap it.

        Returns: its exit status, negative for the signal that ended it.
        """
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # unsent bytes for a process that is gone
                continue
        try:  # one that ran into a limit is dying of it already: its status says of which
            return self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Pool:
    """Idle workers, at most `size` in all; a thread waits where all are busy."""

    def __init__(self, size: int) -> None:
        self._slots = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="algebra")

    def ask(self, prediction: str, gold: str) -> Equality:
        """One check by an idle worker; a second one is tried where the first had died before or crashed."""
        with self._slots:
            return self._once(prediction, gold) or self._once(prediction, gold) or "undecided"

    async def ask_async(self, prediction: str, gold: str) -> Equality:
        """The same without blocking the event loop.

        A cancelled check that waits for a worker is never made; one that runs ends within its own limits and
        gives its worker back as if nobody had left.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.ask, prediction, gold)

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
        """In a forked child: the workers and the threads belong to the parent."""
        self.__init__(MAX_WORKERS)


POOL = Pool(MAX_WORKERS)
atexit.register(POOL.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


def compare_algebraically(prediction: str, gold: str) -> Equality:
    """Ask Math-Verify whether two formulas are equal, `$` put around each.

    Returns: undecided where either is no formula, or the check exceeds `CPU_SECONDS` or `MEMORY_BYTES`.
    Raises: WorkerError: no worker can start.
    """
    return POOL.ask(_as_formula(prediction), _as_formula(gold))


async def compare_algebraically_async(prediction: str, gold: str) -> Equality:
    """`compare_algebraically` for an event loop, which it does not block; may be cancelled."""
    return await POOL.ask_async(_as_formula(prediction), _as_formula(gold))


def _as_formula(text: str) -> str:
    text = _PADDED.sub(r"\1\2", text)
    text = _DECIMAL_LOG.sub(r"\\log_{10} ", _FUNCTION.sub(_NAMED, text))
    return f"${_DEGREES.sub(_RADIANS, text)}$"


def close_workers() -> None:
    """End all idle workers now instead of at the interpreter's exit."""
    POOL.close()
