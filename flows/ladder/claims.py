"""What the paper says, and what is asked of it, put to the rungs that were trained: held, failed, not shown.

A claim holds where the interval of the difference lies above zero, fails where it lies below, and is not
shown in between or without an interval. None is tuned for, and none is left out because it failed. Each
interval stands alone: of twenty claims with nothing behind them, one comes out by chance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.ladder.analysis import (
    Estimate,
    Result,
    attention,
    difference,
    estimate,
    figure_difference,
    obeyed,
    right_in,
)
from flows.ladder.arms import ARMS
from flows.vas.correlation import correlate

Verdict = Literal["held", "failed", "not shown", "not tried"]
Rungs = Mapping[str, Sequence[Result]]  # arm -> its results, seed by seed
_WORDS: dict[int, Verdict] = {1: "held", -1: "failed", 0: "not shown"}
_FEWEST_RUNGS = 3  # for a correlation


@dataclass(frozen=True)
class Claim:
    """A claim, what became of it here, and the figures that say so."""

    claim: str
    verdict: Verdict
    figures: str


@dataclass(frozen=True)
class _Comparison:
    """`arm` gives more than `other`: right answers to a set of problems, or replies that obey.

    Attributes:
        harmless: the claim is only that it gives hardly less.
    """

    claim: str
    arm: str
    other: str
    measure: str = "held_out"
    harmless: bool = False

    def judge(self, rungs: Rungs) -> Claim:
        if not (self.arm in rungs and self.other in rungs):
            missing = self.arm if self.arm not in rungs else self.other
            return Claim(self.claim, "not tried", f"no rung {missing}")
        values = obeyed if self.measure == "obeyed" else right_in(self.measure)
        found = difference(rungs[self.arm], rungs[self.other], values)
        verdict = _WORDS[found.verdict]
        if self.harmless and found.verdict >= 0:
            verdict = "held" if found.interval and found.interval[0] > -_HARM else "not shown"
        ends = [estimate(rungs[name], values).mean for name in (self.other, self.arm)]
        return Claim(self.claim, verdict, f"{ends[0]:.3f} -> {ends[1]:.3f}, {_difference(found)}")


_HARM = 0.05  # a loss that is surely smaller than this does no harm
_LOSS = {"paper": "The guided loss as published", "bounded": "The guided loss in the bounded form"}
_COMPARISONS = (
    _Comparison("SFT on anchored traces raises accuracy over the base that it starts from", "traces", "base"),
    _Comparison("Traces with anchors teach more than the same steps without", "traces", "plain"),
    *(_Comparison(f"{says} raises accuracy over the same SFT", arm, "traces") for arm, says in _LOSS.items()),
    _Comparison("Both terms raise accuracy over enhance alone", "paper", "enhance"),
    _Comparison("Both terms raise accuracy over suppress alone", "paper", "suppress"),
    _Comparison("Queries of the question do better than those of the response", "paper", "response"),
    _Comparison("GRPO with the visual reward does better than without it", "reward", "reward-none"),
    _Comparison("The bounded visual reward does better than the raw one", "reward", "reward-raw"),
    _Comparison("Steering without training raises accuracy", "steer", "traces"),
    *(_Comparison(f"{says} helps on harder problems", arm, "traces", "hard") for arm, says in _LOSS.items()),
    *(
        _Comparison(f"{says} costs no obedience to system prompts", arm, "traces", "obeyed", harmless=True)
        for arm, says in _LOSS.items()
    ),
)


def judge_claims(rungs: Rungs) -> list[Claim]:
    """Every claim, in the order of the ladder."""
    return [
        *(comparison.judge(rungs) for comparison in _COMPARISONS),
        _reward_over_start(rungs),
        *_weights(rungs),
        *_rises(rungs),
        _follows(rungs, "Accuracy follows VAS over the rungs (in the paper r = 0.96 over models)", _accuracy),
        _follows(rungs, "The image gain follows VAS over the rungs", _gain),
    ]


def _reward_over_start(rungs: Rungs) -> Claim:
    claim = "GRPO with the visual reward raises accuracy over what it starts from"
    if "reward" not in rungs:
        return Claim(claim, "not tried", "no rung reward")
    before, values = _starts(rungs, "reward"), right_in("held_out")
    found = difference(rungs["reward"], before, values)
    ends = [estimate(results, values).mean for results in (before, rungs["reward"])]
    names = ", ".join(sorted({str(result["start"]) for result in rungs["reward"]}))
    figures = f"{ends[0]:.3f} -> {ends[1]:.3f}, {_difference(found)}, from {names}"
    return Claim(claim, _WORDS[found.verdict], figures)


def _starts(rungs: Rungs, arm: str) -> list[Result]:
    """What an arm started from, seed by seed."""
    return [rungs[str(result["start"])][place] for place, result in enumerate(rungs[arm])]


def _weights(rungs: Rungs) -> list[Claim]:
    """Whether the published weights are the best of those that were tried.

    The rival is chosen on other problems than it is measured on: the best of eight would else be partly luck.
    """
    claim = "The published weights, 0.15 and 0.15, are the best of those tried"
    others = [name for name in rungs if name.startswith("paper-")]
    if "paper" not in rungs or not others:
        return [Claim(claim, "not tried", "no other weights")]
    best = max(others, key=lambda name: statistics.fmean(result["choosing"] for result in rungs[name]))
    found = difference(rungs["paper"], rungs[best], right_in("held_out"))
    return [Claim(claim, _WORDS[found.verdict], f"against {best}: {_difference(found)}")]


_STEPS_UP = (("traces", "base"), ("paper", "traces"), ("bounded", "traces"))


def _rises(rungs: Rungs) -> list[Claim]:
    """Whether VAS rises with each stage; by its ratio of means, which no single row can carry away."""
    steps = [
        _rise(f"VAS rises from {other} to {arm}", rungs[arm], rungs[other])
        if arm in rungs and other in rungs
        else Claim(
            f"VAS rises from {other} to {arm}", "not tried", f"no rung {arm if arm not in rungs else other}"
        )
        for arm, other in _STEPS_UP
    ]
    claim = "VAS rises from what reward starts from to reward"
    if "reward" not in rungs:
        return [*steps, Claim(claim, "not tried", "no rung reward")]
    return [*steps, _rise(claim, rungs["reward"], _starts(rungs, "reward"))]


def _rise(claim: str, after: Sequence[Result], before: Sequence[Result]) -> Claim:
    found = figure_difference(after, before, attention("ratio_of_means"))
    assert found is not None
    ends = [_mean(results, "ratio_of_means") for results in (before, after)]
    figures = f"ratio of means {ends[0]:.3g} -> {ends[1]:.3g}, {_difference(found)}"
    if found.interval is None:
        figures += ", no interval from fewer than three seeds"
    return Claim(claim, _WORDS[found.verdict], figures)


def _accuracy(results: Sequence[Result]) -> float:
    return estimate(results, right_in("held_out")).mean


def _gain(results: Sequence[Result]) -> float:
    return _mean(results, "image_gain")


def _mean(results: Sequence[Result], figure: str) -> float:
    return statistics.fmean(result["attention"][figure] for result in results)


def _follows(rungs: Rungs, claim: str, figure: Callable[[Sequence[Result]], float]) -> Claim:
    """Pearson's r of log VAS over rungs that were trained; gains are compared on one kind of response alone.

    On a log scale and as ratio of means: the mean of ratios of one rung, or its ratio alone, would decide r.
    """
    alike = [name for name in rungs if figure is _accuracy or ARMS[name].trace == "anchored"]
    names = [name for name in alike if name != "steer"]
    if len(names) < _FEWEST_RUNGS:
        return Claim(claim, "not tried", f"{len(names)} rungs")
    scores = {name: math.log(_mean(rungs[name], "ratio_of_means")) for name in names}
    found = correlate(scores, {name: figure(rungs[name]) for name in names})
    if found.pearson_r is None or found.pearson_interval is None:
        return Claim(claim, "not shown", f"r of {len(names)} rungs is not defined")
    low, high = found.pearson_interval
    verdict = _WORDS[int(low > 0) - int(high < 0)]
    r, rho = found.pearson_r, found.spearman_rho
    ranks = "not defined" if rho is None else f"{rho:.2f}"
    figures = (
        f"r of log VAS = {r:.2f} (95% {low:.2f} to {high:.2f}), rank correlation {ranks}, {len(names)} rungs"
    )
    return Claim(claim, verdict, figures)


def _difference(found: Estimate) -> str:
    if found.interval is None:
        return f"difference {found.mean:+.3f}"
    low, high = found.interval
    return f"difference {found.mean:+.3f} (95% {low:+.3f} to {high:+.3f})"
