"""Works a question out on one reading of a picture; the same steps for the glance and the close look."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from synth.seeing.vision import Chart, Grid, Reading, Scatter
from synth.thinking.questions import Query, parse_name
from synth.thinking.solution import Solution
from synth.thinking.solving_figures import (
    complete_pattern,
    count_higher,
    find_tallest,
    read_value,
    subtract_values,
)
from synth.thinking.solving_shapes import check_relation, compare_pair, count_kind, find_extreme


def solve(query: Query, reading: Reading) -> Solution:
    """Answers a query from a reading."""
    kinds: dict[str, tuple[type, Callable[..., Solution]]] = {
        "count": (Scatter, count_kind),
        "extreme": (Scatter, find_extreme),
        "pair": (Scatter, compare_pair),
        "relation": (Scatter, check_relation),
        "value": (Chart, read_value),
        "difference": (Chart, subtract_values),
        "above": (Chart, count_higher),
        "tallest": (Chart, find_tallest),
        "pattern": (Grid, complete_pattern),
    }
    if query.kind not in kinds:
        return Solution(None, ["I do not see what exactly has to be found."])
    wanted, work = kinds[query.kind]
    if not isinstance(reading, wanted):
        return Solution(None, ["The question is about another kind of picture than the one at hand."])
    return work(query, reading)


def match_choice(answer: str, choices: Sequence[str]) -> str | None:
    """The letter of the one option that says the same as `answer`, None where there is not exactly one."""
    same = [place for place, option in enumerate(choices) if _plain(option) == _plain(answer)]
    return chr(ord("A") + same[0]) if len(same) == 1 and same[0] < 26 else None


def _plain(text: str) -> str:
    name = parse_name(text)
    return " ".join(name).strip() if name else " ".join(text.lower().split()).removeprefix("the ")
