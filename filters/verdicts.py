"""Which filters judge a draft, in which order, and what becomes of it.

All filters run on every draft, so that every row keeps every score; the first one that drops decides. The
order makes the deciding reason the honest one: a truncated trace is truncated before it is badly formed,
and badly formed before its answer is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from filters import anchors, answers, evidence, format, grounding, language, reflection
from filters.reasons import Reason, Verdict
from schemas.config import FilterSettings
from schemas.records import Draft, Sample, Stage, Status, VerdictRow

__all__ = ["FILTERS", "Filter", "Reason", "Verdict", "conclude", "decide", "judge", "run_filters"]

Filter = Callable[[Draft, FilterSettings], Verdict]
AnyVerdict = TypeVar("AnyVerdict", Verdict, VerdictRow)

FILTERS: Mapping[str, Filter] = MappingProxyType(
    {
        format.FINISH: format.check_finish,
        format.FORMAT: format.check_format,
        format.LENGTH: format.check_length,
        format.ANSWERS: format.check_final_answers,
        language.REPETITION: language.check_repetition,
        language.PROMPT: language.check_prompt,
        language.LANGUAGE: language.check_language,
        answers.NAME: answers.check_answer,
        anchors.ANCHORS: anchors.check_anchors,
        grounding.CLAIMS: grounding.check_claims,
        reflection.REFLECTION: reflection.check_reflection,
        evidence.BLIND: evidence.check_blind,
        evidence.DESCRIPTION: evidence.check_description,
        evidence.JUDGE: evidence.check_judge,
        evidence.LIKELIHOOD: evidence.check_likelihood,
        evidence.SWAP: evidence.check_swap,
        evidence.VAS: evidence.check_vas,
    }
)


def run_filters(draft: Draft, settings: FilterSettings) -> tuple[Verdict, ...]:
    """The verdict of every filter, in the order of `FILTERS`."""
    return tuple(judge_one(draft, settings) for judge_one in FILTERS.values())


def decide(verdicts: Sequence[AnyVerdict]) -> AnyVerdict | None:
    """The verdict that drops a draft, the first in order; None where all keep it."""
    return next((verdict for verdict in verdicts if not verdict.keep), None)


def judge(draft: Draft, settings: FilterSettings) -> Sample:
    """A draft with its verdicts: accepted or rejected.

    A draft that failed has no trace to judge: it stays failed, with its own stage, reason and detail.
    """
    verdicts = () if draft.failure else run_filters(draft, settings)
    return conclude(draft, [verdict.to_row() for verdict in verdicts])


def conclude(draft: Draft, verdicts: Sequence[VerdictRow]) -> Sample:
    """What becomes of a draft, given all its verdicts: the first that drops it decides."""
    if draft.failure is not None:
        failure = draft.failure
        return Sample(
            draft=draft,
            status=Status.FAILED,
            stage=failure.stage,
            reason=str(failure.reason),
            detail=failure.detail,
        )
    deciding = decide(verdicts)
    if deciding is None:
        return Sample(draft=draft, status=Status.ACCEPTED, verdicts=tuple(verdicts))
    return Sample(
        draft=draft,
        status=Status.REJECTED,
        stage=Stage.FILTER,
        reason=deciding.reason,
        detail=f"{deciding.filter}: {deciding.detail}",
        verdicts=tuple(verdicts),
    )
