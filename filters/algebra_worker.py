"""The process that runs Math-Verify: one JSON request per line in, one answer per line out.

Run by path, never imported by the package (`filters.algebra` starts it). Everything here may be killed at
any moment: Math-Verify's own time-outs use `signal.alarm` in the caller and are off. Each check runs under a
timer of CPU time (SIGPROF) and one of wall time (SIGALRM); both kill, also inside a C call that never returns
to Python, and whichever did is read from the exit status. The worker ends by itself when its input closes, so
none outlives its parent.
"""

from __future__ import annotations

import json
import re
import signal
import sys

try:
    import resource
except ImportError:  # not a POSIX system: the parent's wall limit is the only one
    resource = None


def confine(memory: int) -> None:
    """Limit the address space in bytes, ignore Ctrl-C (the parent's business), let the timers kill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if resource is not None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit(cpu_seconds: float, wall_seconds: float) -> None:
    """Arm both timers; zero seconds disarm them."""
    if resource is not None:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        signal.setitimer(signal.ITIMER_REAL, wall_seconds)


def is_read(formula: str, parsed: list[object]) -> bool:
    """True where Math-Verify read the whole formula: of `1 - \\frac{1}{ e }` it takes the 1 and says nothing.

    The last thing it returns is the text that it took, with a comma for "and" and `\\frac` for a slash.
    """
    taken = str(parsed[-1]) if parsed else ""
    return bool(parsed) and _signs(taken) == _signs(formula)


def _signs(text: str) -> str:
    return re.sub(r"\\(?:text|quad|frac)(?![A-Za-z])|\b(?:and|or)\b|[^A-Za-z0-9+*^=<>|!-]", "", text)


def answer(request: dict[str, str]) -> str:
    """`equal`, `different`, or `undecided` where either side is no mathematics, or only a part of it is."""
    from math_verify import parse, verify

    gold = parse(request["gold"], parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    prediction = parse(request["prediction"], parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    if not is_read(request["gold"], gold) or not is_read(request["prediction"], prediction):
        return "undecided"
    return "equal" if verify(gold, prediction, timeout_seconds=None) else "different"


def serve(memory: int, cpu_seconds: float, wall_seconds: float) -> None:
    """Answer requests until the input closes; leave after running out of memory or stack.

    The first check of a process reads tables that the later ones share, so one is made before the first
    request: the CPU time of a check does not depend on what was asked before.
    """
    answer({"prediction": "$\\frac{x}{2}+1$", "gold": "$1+x/2$"})
    confine(memory)
    print("ready", flush=True)
    for line in sys.stdin:
        limit(cpu_seconds, wall_seconds)
        try:
            verdict = answer(json.loads(line))
        except (MemoryError, RecursionError):
            print("undecided", flush=True)
            return
        except Exception:  # noqa: BLE001 - any failure inside Math-Verify or sympy means: cannot tell
            verdict = "undecided"
        limit(0, 0)
        print(verdict, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
