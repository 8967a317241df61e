"""Ctrl-C once ends a run in order, twice at once. Nothing that was answered or kept is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from flows.commands import is_main_process
from flows.orchestra import runs_by_command

_ONE_PRESS_S = 2.0  # a launcher passes on a signal that its processes have had from the terminal already


@contextmanager
def graceful_interrupts(stop: Callable[[], None], in_flight: Callable[[], int]) -> Iterator[None]:
    """Within, the first Ctrl-C calls `stop` and lets the work end; a second one, or SIGTERM, cancels it.

    In a flow that runs on a schedule the signals are Prefect's, and nothing is changed.

    Args:
        in_flight: calls that are waited for, for the message.
    """
    if not runs_by_command():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    heard = 0

    def interrupt() -> None:
        nonlocal heard
        heard += 1
        if heard > 1:
            task.cancel()
            return
        print(
            f"avar: finishing {in_flight()} answers in flight; Ctrl-C again stops at once",
            file=sys.stderr,
            flush=True,
        )
        stop()

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@contextmanager
def stop_after_step(kept: str) -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C or SIGTERM asks a training to end after its step; a second one stops at once.

    In a flow that runs on a schedule the signals are Prefect's, and nothing is changed.

    Args:
        kept: what will be there then, for the message.
    Yields: whether a training is to end after its step.
    """
    if not runs_by_command():
        yield lambda: False
        return
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    heard_at: float | None = None

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard_at
        now = time.monotonic()
        if heard_at is None:
            heard_at = now
            line = f"avar: stopping after this step, {kept}; Ctrl-C again stops at once\n"
            if is_main_process():
                os.write(sys.stderr.fileno(), line.encode())  # `print` may be what was interrupted
        elif not launched or now - heard_at > _ONE_PRESS_S:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: heard_at is not None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
