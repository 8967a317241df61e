"""Evidence made by a teacher about a finished trace, each part only where the recipe names it.

A part is two pure functions: what it asks, given the draft, and what its answers mean. All of them are asked
together, and what comes of it does not depend on which answer comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from schemas.config import AnswersEvidence, AskSettings, EvidenceSettings, JudgeEvidence
from schemas.errors import TeacherError, TeacherFault
from schemas.records import (
    ClaimVerdict,
    Draft,
    Evidence,
    EvidenceFault,
    Image,
    Likelihood,
    Problem,
    Stage,
    Swap,
)
from synth.concurrency import run_all
from synth.likelihood import UntoldError, blank_image, measure_likelihood, scored_text
from synth.prompts import (
    anchor_prompt,
    blind_prompt,
    description_prompt,
    judge_prompt,
    likelihood_prompt,
    prompt_hash,
)
from synth.replies import excerpt
from synth.requests import Answer, Outcome, Request
from synth.seeds import derive_seed
from synth.stages import CUT_OFF, EMPTY_ANSWER, Asker, make_call, make_request, stage_text

NO_OTHER_IMAGE = "no_other_image"
UNTOLD = "likelihood_untold"
TOP_LOGPROBS = 5  # of the judge's first token; 5 is what every server allows

Claims = Callable[[Draft], Sequence[str]]


class _MissingError(Exception):
    """A part that could not be had: a reason, one line of detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of a draft's evidence.

    Attributes:
        field: of `Evidence`.
        read: what the answers, in the order of the requests, mean; raises `_MissingError`.
    """

    field: str
    requests: tuple[Request, ...]
    read: Callable[[Sequence[Answer]], Any]


async def gather_evidence(draft: Draft, asker: Asker, *, swap: Problem | None, claims: Claims) -> Draft:
    """Asks the parts that the recipe names about a finished trace; any other draft is returned as it is.

    A part that cannot be had becomes an `EvidenceFault`, and the others stand.

    Args:
        swap: another problem, whose images stand in for the draft's own in `evidence.swap`.
        claims: what `evidence.judge` is asked about.
    Raises:
        TeacherError: a teacher is gone or wrong (`fatal`), so no row can go on.
        Exception: whatever else `asker` raises; not before every other call has come to its end.
    """
    if not is_finished(draft):
        return draft
    parts = _plan(draft, asker, swap, claims)
    requests = [request for part in parts.values() for request in part.requests]
    outcomes = await _ask_all(asker, requests)
    evidence = Evidence()
    for name, part in parts.items():
        evidence = _add(evidence, name, part, list(islice(outcomes, len(part.requests))))
    return replace(draft, evidence=evidence)


def is_finished(draft: Draft) -> bool:
    """True for a draft with a trace that ended by itself."""
    cut_off = bool(draft.calls) and draft.calls[-1].finish_reason in CUT_OFF
    return draft.failure is None and bool(draft.trace.strip()) and not cut_off


def _plan(draft: Draft, asker: Asker, swap: Problem | None, claims: Claims) -> dict[str, _Part]:
    settings: EvidenceSettings = asker.recipe.evidence
    parts: dict[str, _Part] = {}
    if settings.blind:
        content = (blind_prompt(draft.problem),)
        parts["blind"] = _answers("blind", settings.blind, draft, asker, content)
    if settings.description:
        content = (description_prompt(draft.problem, draft.description),)
        parts["description"] = _answers("description", settings.description, draft, asker, content)
    if settings.judge:
        parts["judge"] = _judge(settings.judge, draft, asker, claims)
    if settings.likelihood:
        parts["likelihood"] = _likelihood(settings.likelihood, draft, asker)
    if settings.swap:
        parts["swap"] = _swap(settings.swap, draft, asker, swap)
    return parts


async def _ask_all(asker: Asker, requests: Sequence[Request]) -> Iterator[Outcome]:
    """The outcome of each request, in order."""
    return iter(await run_all(_settle(asker, request) for request in requests))


async def _settle(asker: Asker, request: Request) -> Outcome:
    """An answer, or the error that is this request's own."""
    try:
        return await asker.ask(request.stage, request)
    except TeacherError as error:
        if error.fatal:
            raise
        return error


def _add(evidence: Evidence, name: str, part: _Part, outcomes: Sequence[Outcome]) -> Evidence:
    """The evidence with a part's answers, or with the fault of its first request that has none."""
    prompt = prompt_hash(_question(name))
    made = zip(part.requests, outcomes, strict=True)
    calls = [make_call(request, answer, prompt) for request, answer in made if isinstance(answer, Answer)]
    evidence = replace(evidence, calls=(*evidence.calls, *calls))
    try:
        return replace(evidence, **{part.field: part.read([_answered(outcome) for outcome in outcomes])})
    except _MissingError as error:
        fault = EvidenceFault(part=name, reason=error.reason, detail=str(error))
        return replace(evidence, faults=(*evidence.faults, fault))


def _answered(outcome: Outcome) -> Answer:
    if isinstance(outcome, TeacherError):
        raise _MissingError(str(outcome.fault), str(outcome)) from outcome
    return outcome


def _question(name: str) -> str:
    return f"evidence.{name}"


def _request(
    name: str,
    settings: AskSettings,
    draft: Draft,
    asker: Asker,
    content: tuple[str | Image, ...],
    number: int,
    turn: int,
    **options: Any,
) -> Request:
    """One question of a part.

    Args:
        number: which of the part's questions about this draft; makes its seed its own.
        turn: which of the settings' temperatures.
        options: further fields of the API.
    """
    sample = draft.sample_index
    seed = derive_seed(asker.recipe.seed, draft.problem.id, _question(name), sample, number)
    request = make_request(_question(name), settings, asker, content, seed, turn)
    return replace(request, options={**request.options, **options})


# ----------------------------------------------------------------------------------------- the parts


def _answers(
    name: str, settings: AnswersEvidence, draft: Draft, asker: Asker, content: tuple[str, ...]
) -> _Part:
    """Several answers to the question, as they are: the filters find what is answered, also nothing."""

    def ask(number: int) -> Request:
        return _request(name, settings, draft, asker, content, number, number)

    def read(answers: Sequence[Answer]) -> tuple[str, ...]:
        return tuple(answer.text for answer in answers)

    return _Part(name, tuple(map(ask, range(settings.n))), read)


def _judge(settings: JudgeEvidence, draft: Draft, asker: Asker, claims: Claims) -> _Part:
    """A yes or no to each of the first claims, with its probability."""
    judged = tuple(claims(draft)[: settings.most])
    limits = {
        "structured_outputs": {"choice": ["yes", "no"]},
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
    }

    def ask(number: int) -> Request:
        content = (*draft.problem.images, judge_prompt(draft.problem, judged[number]))
        return _request("judge", settings, draft, asker, content, number, draft.sample_index, **limits)

    def read(answers: Sequence[Answer]) -> tuple[ClaimVerdict, ...]:
        return tuple(map(read_verdict, judged, answers))

    return _Part("claims", tuple(map(ask, range(len(judged)))), read)


def read_verdict(claim: str, answer: Answer) -> ClaimVerdict:
    """A judge's answer to one claim.

    Raises: _MissingError: neither yes nor no; servers that do not know the limit ignore it.
    """
    word = answer.text.strip().casefold()
    if word not in {"yes", "no"}:
        detail = f"the judge answered {excerpt(answer.text, 80)!r} to {excerpt(claim, 80)!r}, need yes or no"
        raise _MissingError(str(TeacherFault.MALFORMED), detail)
    return ClaimVerdict(claim=claim, seen=word == "yes", p_seen=probability_of_yes(answer.first_logprobs))


def probability_of_yes(first_logprobs: Sequence[tuple[str, float]]) -> float:
    """Probability of yes against no among the likeliest first tokens.

    Args:
        first_logprobs: tokens with their log-probability, nats; a token may be a word's beginning.
    Returns: in [0, 1]; NaN where neither is among them.
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in first_logprobs:
        bare = token.strip(" \n\u2581.,!").casefold()  # U+2581 is SentencePiece's blank
        for word in mass:
            if bare and word.startswith(bare):
                mass[word] += math.exp(logprob)
    total = mass["yes"] + mass["no"]
    return mass["yes"] / total if total > 0 else math.nan


def _likelihood(settings: AskSettings, draft: Draft, asker: Asker) -> _Part:
    """The trace scored as the beginning of an answer, once with the images and once with blank ones."""
    text, prompt = scored_text(draft.trace), likelihood_prompt(draft.problem)
    images = draft.problem.images

    def ask(number: int, shown: Sequence[Image]) -> Request:
        content = (*shown, prompt)
        request = _request("likelihood", settings, draft, asker, content, number, 0, prompt_logprobs=0)
        # Nothing is sampled but the one token that every server insists on.
        return replace(request, continued=text, temperature=0.0, top_p=1.0, max_tokens=1)

    def read(answers: Sequence[Answer]) -> Likelihood:
        try:
            return measure_likelihood(text, *(answer.prompt_logprobs for answer in answers))
        except UntoldError as error:
            raise _MissingError(UNTOLD, str(error)) from error

    return _Part("likelihood", (ask(0, images), ask(1, [blank_image(image) for image in images])), read)


def _swap(settings: AskSettings, draft: Draft, asker: Asker, other: Problem | None) -> _Part:
    """The chain anchored once more, in front of images that it is not about."""

    def read(answers: Sequence[Answer]) -> Swap:
        if other is None:
            raise _MissingError(NO_OTHER_IMAGE, "no other problem with another image is at hand")
        trace = stage_text(Stage.ANCHOR, answers[0])
        if not trace.strip():
            detail = f"an empty text (finish_reason {answers[0].finish_reason})"
            raise _MissingError(EMPTY_ANSWER, detail)
        return Swap(problem=other.id, trace=trace)

    if other is None:
        return _Part("swap", (), read)
    content = (*other.images, anchor_prompt(draft.problem, draft.reasoning))
    return _Part("swap", (_request("swap", settings, draft, asker, content, 0, draft.sample_index),), read)
