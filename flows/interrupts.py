"""Ctrl-C once ends a run in order, twice at once; SIGTERM at once. Nothing that was answered is lost."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.orchestra import runs_by_command


@contextmanager
def graceful_interrupts(stop: Callable[[], None], in_flight: Callable[[], int]) -> Iterator[None]:
    """Within, the first Ctrl-C calls `stop` and lets the work come to its end; a second one cancels it.

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
