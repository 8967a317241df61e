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
from typing import Any

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
    if verify(gold, prediction, timeout_seconds=None):
        return "equal"
    return second_look(prediction[0], gold[0])


def second_look(prediction: Any, gold: Any) -> str:
    """The verdict on two formulas that differ symbol by symbol, with `i` as the imaginary unit.

    Where other letters stand beside `i` it may be an index: what is equal only by i² = -1 is undecided then.
    A bare letter is compared as a formula (x, x^1), which Math-Verify does not do.
    """
    prediction, gold = _unnamed(prediction, gold), _unnamed(gold, prediction)
    names = {symbol.name for side in (prediction, gold) for symbol in _letters(side)}
    sides = [_with_unit(side) for side in (prediction, gold)]
    imaginary = "i" in names or any(side.has(_unit()) for side in sides)
    if not (imaginary or prediction.is_Symbol or gold.is_Symbol):
        return "different"
    if not all(_is_expression(side) for side in sides):
        return _same_objects(*sides, alone=names <= {"i"}) if imaginary else "different"
    if not imaginary:
        return "equal" if _expanded(sides[0] - sides[1]) == 0 else "different"
    if not _is_zero(sides[0] - sides[1]):
        return "different"
    return "equal" if names <= {"i"} else "undecided"


def _same_objects(prediction: Any, gold: Any, *, alone: bool) -> str:
    """Sets, pairs and equations that hold `i`: never different, since nothing simplifies them."""
    from math_verify import verify

    same = alone and verify([gold], [prediction], timeout_seconds=None)
    return "equal" if same else "undecided"


def _unnamed(side: Any, other: Any) -> Any:
    """The value of `z = 2i` against one of the same name or of none."""
    if not getattr(side, "is_Equality", False) or not side.lhs.is_Symbol:
        return side
    return side.rhs if getattr(other, "lhs", side.lhs) == side.lhs else side


def _letters(side: Any) -> set[Any]:
    return getattr(side, "free_symbols", set())


def _unit() -> Any:
    from sympy import I

    return I


def _with_unit(side: Any) -> Any:
    """The formula evaluated, `i` the imaginary unit, every other letter without assumptions."""
    from sympy import I, Symbol

    plain = {symbol: I if symbol.name == "i" else Symbol(symbol.name) for symbol in _letters(side)}
    return side.subs(plain).doit()


def _is_expression(side: Any) -> bool:
    from sympy import Expr

    return isinstance(side, Expr)


def _expanded(difference: Any) -> Any:
    from sympy import expand

    return expand(difference)


def _is_zero(difference: Any) -> bool:
    """By value, at two points where it holds letters: only "undecided" rests on those."""
    letters = sorted(_letters(difference), key=str)
    points = [{letter: start + index / 7 for index, letter in enumerate(letters)} for start in (0.61, -1.37)]
    return all(abs(complex(difference.subs(point).evalf(15))) < 1e-9 for point in points)


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
