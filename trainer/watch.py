"""The gain watch: does a model that looks at the image more and more still use what it sees?

Attention to the image can rise while the loss gains less and less from the image; a guided loss that does
that is trained too long or weighted too strongly. Free of trl and datasets.
Source: ours (docs/method.md, "Image gain").
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.vas import VasReport

SHARE_RISE = 0.02  # a rise of the image share that counts, absolute
STANDARD_ERRORS = 2.0  # a fall of the gain that is more than noise
MIN_PAIRS = 4  # rows below which noise cannot be told

LOG = logging.getLogger(__name__)
LOG.addHandler(logging.NullHandler())  # a library says nothing unless somebody listens


@dataclass(frozen=True, kw_only=True)
class WatchPoint:
    """One measurement of the held-out rows.

    Attributes:
        step: optimizer steps done before it.
        image_gain: LM loss with another problem's image minus with the right one, nats per response token;
            None where all rows show the same image.
        image_share: mean share of the question's attention on the image, [0, 1].
        vas_median: median ratio of image to system mass, [0, inf).
        row_gains: the gain of each used row, nats per response token, in the order of the rows; None where
            a row has none.
    """

    step: int
    image_gain: float | None
    image_share: float
    vas_median: float
    row_gains: tuple[float | None, ...]

    @classmethod
    def of(cls, step: int, report: VasReport) -> WatchPoint:
        """The point of a measurement made after `step` steps."""
        return cls(
            step=step,
            image_gain=report.image_gain,
            image_share=report.user_shares["image"],
            vas_median=report.median,
            row_gains=tuple(report.row_gain),
        )

    def figures(self) -> dict[str, float]:
        """Under the names of a log."""
        gain = {} if self.image_gain is None else {"held_out_image_gain": self.image_gain}
        return gain | {"held_out_image_share": self.image_share, "held_out_vas_median": self.vas_median}


def looks_more_uses_less(points: Sequence[WatchPoint]) -> str | None:
    """A warning about the last point, or None.

    The last point is held against the earlier one with the highest gain. It is a warning where the image
    share rose by more than SHARE_RISE and the rows' gains fell: the mean of the paired differences lies
    more than STANDARD_ERRORS of its own standard errors below zero, over at least MIN_PAIRS rows.
    Example: gains .10, .12, .08, .11 that become .05, .07, .04, .05 differ by -.050 on average, with a
    standard error of .004: a warning, where the share rose from .30 to .33.
    """
    *earlier, last = points
    measured = [(point.image_gain, point) for point in earlier if point.image_gain is not None]
    if last.image_gain is None or not measured:
        return None
    _, best = max(measured, key=lambda pair: pair[0])
    change = gain_change(best, last)
    if last.image_share - best.image_share <= SHARE_RISE or change is None:
        return None
    mean, error = change
    if mean >= -STANDARD_ERRORS * error:
        return None
    return (
        f"step {last.step}: since step {best.step} the question's attention to the image rose from "
        f"{best.image_share:.3f} to {last.image_share:.3f} while the held-out image gain fell by {-mean:.4f} "
        f"nats per token (standard error {error:.4f}): the model looks more and uses less; lower "
        f"train.guided.alpha and train.guided.beta, or train no longer than to step {best.step}"
    )


def gain_change(before: WatchPoint, after: WatchPoint) -> tuple[float, float] | None:
    """Mean change of the rows' gains, nats per response token, and its standard error.

    Rows are paired; those that lack a gain at either point are left out. None below MIN_PAIRS pairs.
    """
    pairs = zip(before.row_gains, after.row_gains, strict=True)
    changes = [late - early for early, late in pairs if early is not None and late is not None]
    if len(changes) < MIN_PAIRS:
        return None
    return statistics.fmean(changes), statistics.stdev(changes) / math.sqrt(len(changes))


def blind_spot(point: WatchPoint) -> str | None:
    """Why measurements like this one can never warn, or None where they can."""
    rows = sum(gain is not None for gain in point.row_gains)
    if rows >= MIN_PAIRS:
        return None
    return (
        f"the image gain is not watched: {rows} of {len(point.row_gains)} held-out rows have a gain, need "
        f"at least {MIN_PAIRS}; hold out more rows with different images, or set train.watch_every=0"
    )


class GainWatch(TrainerCallback):
    """Measures before the first step, every few steps, and after the last one; collects warnings.

    A training that goes on from a checkpoint brings its measurements along (`keep`, `restore`).

    A spell of bad measurements is one warning, given at its first one.

    Attributes:
        points: the measurements, in order.
        warnings: one line each; also given to this module's logger, by the main process.
    """

    def __init__(
        self, measure: Callable[[], VasReport], every: int, note: Callable[[WatchPoint], object]
    ) -> None:
        """`note` hears of every point before the trainer logs the step that it was measured after."""
        self.measure, self.every, self.note = measure, every, note
        self.points: list[WatchPoint] = []
        self.warnings: list[str] = []
        self._bad = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        if not self.points:  # else it goes on from a checkpoint
            self.observe(state.global_step, speak=state.is_world_process_zero)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.observe(state.global_step, speak=state.is_world_process_zero)

    def keep(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, ready for JSON."""
        return {
            "points": [asdict(point) for point in self.points],
            "warnings": list(self.warnings),
            "bad": self._bad,
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `keep` gave: no measurement is made twice and no warning given again."""
        self.points[:] = [
            WatchPoint(**point | {"row_gains": tuple(point["row_gains"])}) for point in kept["points"]
        ]
        self.warnings[:] = kept["warnings"]
        self._bad = kept["bad"]

    def observe(self, step: int, *, speak: bool = True) -> None:
        """Measure now, after `step` steps, and judge."""
        point = WatchPoint.of(step, self.measure())
        self.points.append(point)
        self.note(point)
        if len(self.points) == 1:
            verdict = blind_spot(point)
        else:
            verdict = looks_more_uses_less(self.points)
            self._bad, was_bad = verdict is not None, self._bad
            verdict = None if was_bad else verdict
        if verdict is not None:
            self.warn(verdict, speak=speak)

    def warn(self, line: str, *, speak: bool = True) -> None:
        """Keep a warning, and say it."""
        self.warnings.append(line)
        if speak:
            LOG.warning(line)
