"""Does steering help? Accuracy and score with and without it, on the same problems, decoded alike.

Free of trl and datasets. Source: AVAR, arXiv 2603.03825, "training-free intervention".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

from filters.answers import extract_answer, is_correct
from schemas.errors import AttentionError
from trainer.attention import prepared, steering, still
from trainer.bootstrap import Interval, ratio_interval
from trainer.generation import generate_greedy
from trainer.messages import Conversation
from trainer.regions import Regions, find_regions
from trainer.scores import VasReport
from trainer.vas import measure_vas

# (image, system) of the paper's table; (0, 0) is the model as it is.
PAPER_STRENGTHS = ((0.15, 0.0), (0.15, 0.05), (0.15, 0.40), (0.15, 0.60))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One generated answer. `finished`: it ended by itself, before the limit of tokens."""

    id: str
    text: str
    correct: bool
    finished: bool


@dataclass(frozen=True, kw_only=True)
class SteeredArm:
    """A model under one strength of steering.

    Attributes:
        image, system: strengths; both 0 for the model as it is.
        accuracy: share of right answers, [0, 1]; accuracy_interval: 95% bootstrap over problems.
        gain: accuracy minus that of the model as it is, on the same problems, and its interval (paired).
        parsed, finished: shares of answers that hold an <answer> or a box, and that ended by themselves.
        vas: the score on the dataset's own responses, under this steering.
        answers: every answer, in the order of the problems.
    """

    image: float
    system: float
    accuracy: float
    accuracy_interval: Interval | None
    gain: float
    gain_interval: Interval | None
    parsed: float
    finished: float
    vas: VasReport
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True)
class SteeringComparison:
    """Arms on the same problems with the same decoding; the first is the model as it is."""

    problems: int
    renormalise: bool
    max_new_tokens: int
    arms: tuple[SteeredArm, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        arms = [asdict(arm) | {"vas": arm.vas.to_dict()} for arm in self.arms]
        return asdict(self) | {"arms": arms}


def compare_steering(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    samples: Sequence[Mapping[str, Any]],
    strengths: Sequence[tuple[float, float]] = PAPER_STRENGTHS,
    *,
    renormalise: bool = False,
    max_new_tokens: int = 1024,
    batch_size: int = 8,
    progress: Callable[[int], object] | None = None,
) -> SteeringComparison:
    """Generate greedily and measure the score, unsteered and at each strength.

    Args:
        samples: rows as in `schemas.records.sample_features`; rows without an image are answered too.
        strengths: (image, system) pairs, see `attention.steering`; (0, 0) always comes first by itself.
        progress: called after each batch with the number of answers in it.
    Raises: AttentionError: no samples, a strength out of range or given twice, or a model that cannot be
        steered.
    """
    if not samples:
        raise AttentionError("no problems to compare steering on")
    arms_of = [(0.0, 0.0), *(pair for pair in strengths if pair != (0.0, 0.0))]
    if len(set(arms_of)) < len(arms_of):
        raise AttentionError(f"a strength is given twice: {arms_of[1:]}")
    for image, system in arms_of:  # a mistake in the last is found before the first has run
        with steering(model, image, system, renormalise):
            pass
    arms: list[SteeredArm] = []
    with still(model):
        for image, system in arms_of:
            strength = {"image": image, "system": system, "renormalise": renormalise}
            answers = _answer(model, processor, samples, strength, max_new_tokens, batch_size, progress)
            with _steered(model, strength):
                vas = measure_vas(model, processor, samples, batch_size=batch_size, gains=False)
            arms.append(_close_arm(image, system, answers, vas, arms[0] if arms else None))
    return SteeringComparison(
        problems=len(samples), renormalise=renormalise, max_new_tokens=max_new_tokens, arms=tuple(arms)
    )


def _answer(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    rows: Sequence[Mapping[str, Any]],
    strength: Mapping[str, Any],
    max_new_tokens: int,
    batch_size: int,
    progress: Callable[[int], object] | None,
) -> list[Answer]:
    """Greedy answers to the problems, steered where a strength is not zero."""

    def steered(talks: Sequence[Conversation], encoded: BatchFeature) -> AbstractContextManager[object]:
        regions = find_regions(processor, talks, encoded).to(model.device)
        return _steered(model, strength, regions)

    generations = generate_greedy(
        model,
        processor,
        rows,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
        context=steered,
    )
    return [
        Answer(
            id=str(row.get("id", "")),
            text=generation.text,
            correct=is_correct(generation.text, row["answer"], row["choices"] or None),
            finished=generation.finished,
        )
        for row, generation in zip(rows, generations, strict=True)
    ]


def _steered(
    model: PreTrainedModel, strength: Mapping[str, Any], regions: Regions | None = None
) -> AbstractContextManager[object]:
    """Steering, or for the model as it is the same kernels without any."""
    if strength["image"] or strength["system"]:
        return steering(model, **strength, regions=regions)
    return prepared(model)


def _close_arm(
    image: float, system: float, answers: Sequence[Answer], vas: VasReport, base: SteeredArm | None
) -> SteeredArm:
    right = [float(answer.correct) for answer in answers]
    plain = [float(answer.correct) for answer in (base.answers if base else answers)]
    gains = [one - other for one, other in zip(right, plain, strict=True)]
    return SteeredArm(
        image=image,
        system=system,
        accuracy=_mean(right),
        accuracy_interval=ratio_interval(right),
        gain=_mean(gains),
        gain_interval=ratio_interval(gains) if base else None,
        parsed=_mean([float(extract_answer(answer.text) is not None) for answer in answers]),
        finished=_mean([float(answer.finished) for answer in answers]),
        vas=vas,
        answers=tuple(answers),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
