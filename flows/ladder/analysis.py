"""Rungs over their seeds: means, intervals, and differences between two of them.

With three seeds or more an interval is Student's over seeds, which are independent initialisations. With
fewer it is a bootstrap over problems, and says nothing of how another initialisation would have done.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.bootstrap import LEVEL, Interval, ratio_interval

SEEDS_FOR_T = 3
Result = Mapping[str, Any]  # a rung of one seed, as flows/ladder/rung.py writes it
Values = Callable[[Result], Sequence[float]]  # one per problem
Figure = Callable[[Result], float | None]


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval; None where nothing can be said of it."""

    mean: float
    interval: Interval | None

    @property
    def verdict(self) -> int:
        """1: above zero, -1: below, 0: the interval holds zero, or there is none."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return int(low > 0) - int(high < 0)


def right_in(kind: str) -> Values:
    """A 0 or 1 for each problem of a set."""
    return lambda result: result["right"][kind]


def obeyed(result: Result) -> Sequence[float]:
    """A 0 or 1 for each problem that was asked under a rule."""
    return result["obeyed"]


def attention(name: str) -> Figure:
    """A figure of `measure.attention_figures`."""
    return lambda result: result["attention"][name]


def estimate(results: Sequence[Result], values: Values) -> Estimate:
    """The mean over problems and seeds."""
    return _estimate([list(values(result)) for result in results])


def difference(results: Sequence[Result], others: Sequence[Result], values: Values) -> Estimate:
    """Mean of `results` minus that of `others`, paired by problem and seed: both have the same ones."""
    pairs = zip(results, others, strict=True)
    return _estimate([[a - b for a, b in zip(values(one), values(two), strict=True)] for one, two in pairs])


def estimate_figure(results: Sequence[Result], figure: Figure) -> Estimate | None:
    """A figure that has no value per problem: its mean over seeds; an interval from three seeds on."""
    found = [value for result in results if (value := figure(result)) is not None]
    return Estimate(statistics.fmean(found), _t_interval(found)) if found else None


def figure_difference(results: Sequence[Result], others: Sequence[Result], figure: Figure) -> Estimate | None:
    """The same of a difference, paired by seed."""
    pairs = [(figure(one), figure(two)) for one, two in zip(results, others, strict=True)]
    changes = [one - two for one, two in pairs if one is not None and two is not None]
    return Estimate(statistics.fmean(changes), _t_interval(changes)) if changes else None


def _estimate(seeds: Sequence[Sequence[float]]) -> Estimate:
    """`seeds`: values per problem, for each seed."""
    if len(seeds) >= SEEDS_FOR_T:
        means = [statistics.fmean(values) for values in seeds]
        return Estimate(statistics.fmean(means), _t_interval(means))
    problems = [statistics.fmean(values) for values in zip(*seeds, strict=True)]
    return Estimate(statistics.fmean(problems), ratio_interval(problems))


def _t_interval(values: Sequence[float]) -> Interval | None:
    """Student's 95% interval of a mean; None below three values."""
    if len(values) < SEEDS_FOR_T or not all(map(math.isfinite, values)):
        return None
    from scipy import stats

    reach = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - float(reach), mean + float(reach)


def chance(rows: Sequence[Mapping[str, Any]]) -> float:
    """Share of problems that the best constant answer to each kind of question gets right.

    Better than any model that does not look: it knows how often each answer is right among these very rows.
    """
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_kind[row["category"]][row["answer"]] += 1
    return sum(max(answers.values()) for answers in by_kind.values()) / len(rows)
