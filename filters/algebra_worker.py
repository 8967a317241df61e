"""The process that runs Math-Verify: one JSON request per line in, one answer per line out.

Run by path, never imported by the package (`filters.algebra` starts it). Everything here may be killed at
any moment: Math-Verify's own time-outs use `signal.alarm` in the caller and are off. The worker dies by
itself when its input closes; if its parent is killed during a check, the alarm set before each check ends
it within the limit, also inside a C call that never returns to Python.
"""

from __future__ import annotations

import json
import signal
import sys

try:
    import resource
except ImportError:  # not a POSIX system: the parent's time limit is the only one
    resource = None


def confine(memory: int) -> None:
    """Limit the address space in bytes, ignore Ctrl-C (the parent's business), let the alarm kill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if resource is not None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def answer(request: dict[str, str]) -> str:
    """`equal`, `different`, or `undecided` where either side is no mathematics."""
    from math_verify import parse, verify

    gold = parse(request["gold"], parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    prediction = parse(request["prediction"], parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    if not gold or not prediction:
        return "undecided"
    return "equal" if verify(gold, prediction, timeout_seconds=None) else "different"


def serve(memory: int, seconds: float) -> None:
    """Answer requests until the input closes; leave after running out of memory or stack."""
    import math_verify  # noqa: F401

    confine(memory)
    print("ready", flush=True)
    for line in sys.stdin:
        if resource is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            verdict = answer(json.loads(line))
        except (MemoryError, RecursionError):
            print("undecided", flush=True)
            return
        except Exception:  # noqa: BLE001 - any failure inside Math-Verify or sympy means: cannot tell
            verdict = "undecided"
        if resource is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(verdict, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
