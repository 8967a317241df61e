"""Problem -> Draft -> Sample: the rows of the system and their Arrow schemas.

One row per (problem, sample index) from the first shard to the last; a row that fails stays a row and
carries its reason. In Arrow, a draft is flat (`draft_to_row`), and a sample is the same columns plus its
verdicts, so that a dataset can be curated again from its drafts alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cache
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

SCHEMA_VERSION = 3


class AnswerType(StrEnum):
    """How an answer is compared."""

    CHOICE = "choice"
    NUMBER = "number"
    TEXT = "text"


class Status(StrEnum):
    """Where a row ended. problems = accepted + rejected + failed, always."""

    DRAFTED = "drafted"  # a finished trace, not yet judged
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"


class Stage(StrEnum):
    """Who decided a row's end."""

    SOURCE = "source"
    DESCRIBE = "describe"
    REASON = "reason"
    ANCHOR = "anchor"
    EVIDENCE = "evidence"
    FILTER = "filter"


class SourceFault(StrEnum):
    """Why a row of a source never became a problem."""

    IMAGE_MISSING = "image_missing"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_OUTSIDE = "image_outside_source"
    NO_IMAGE = "no_image"
    NO_QUESTION = "no_question"
    NO_ANSWER = "no_answer"
    BAD_ROW = "bad_row"
    DUPLICATE = "duplicate_problem"
    IMAGE_ANIMATED = "image_animated"
    IMAGE_URL = "image_url_not_allowed"
    QUESTION_TOO_LONG = "question_too_long"
    TEMPLATE_MARKERS = "template_markers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """One encoded picture, exactly as it was read.

    Attributes:
        bytes: the encoded file (PNG, JPEG, WebP or GIF).
        path: its name in the source, for people; never opened again.
    """

    bytes: bytes
    path: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.bytes).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A question about one or more images, with its gold answer.

    Attributes:
        id: content hash (`problem_id`), 20 hexadecimal digits.
        index: position in the source, from 0; rows keep this order everywhere.
        source: name of the source (`scenes`, a folder's name).
        row: name of the row within the source, for error messages.
        category: family of the problem ("" where the source has none).
        question: the text asked, without the choices.
        choices: the options of a multiple-choice question, in order; empty for an open question.
        answer: the gold answer; for a choice, the option's text.
        facts: JSON of what is known about the picture, for evaluation only; "" where nothing is.
        licence: SPDX identifier or the source's own words, "" where unknown.
    """

    id: str
    index: int
    source: str
    row: str
    category: str
    question: str
    choices: tuple[str, ...]
    answer: str
    answer_type: AnswerType
    images: tuple[Image, ...]
    facts: str
    licence: str


def problem_id(question: str, choices: tuple[str, ...], answer: str, images: tuple[Image, ...]) -> str:
    """Content hash of a problem: the same content has the same id in every source.

    Returns: 20 hexadecimal digits (80 bits of SHA-256).
    """
    digest = hashlib.sha256()
    for part in (question, *choices, answer, *(image.sha256 for image in images)):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()[:20]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCall:
    """How one stage's text was made: everything needed to ask for it again.

    Attributes:
        prompt_hash: SHA-256 of the stage's prompt template, 16 hexadecimal digits.
        seed: derived from (run seed, problem id, stage, sample index).
        finish_reason: `stop`, `length`, `repetition`, ... as the server gave it.
        prompt_tokens, completion_tokens: the server's count, -1 where it gave none.
    """

    stage: str
    model: str
    prompt_hash: str
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a row ended without a trace: `stage`, a `reason` from a closed list, one line of `detail`."""

    stage: Stage
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimVerdict:
    """What a judge who sees the image says of one claim.

    Attributes:
        seen: the judge's yes or no.
        p_seen: probability of yes against no, in [0, 1]; NaN where the server gave no logprobs.
    """

    claim: str
    seen: bool
    p_seen: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Likelihood:
    """How likely a model finds the trace with the image and with a blank one.

    Attributes:
        tokens: tokens of the trace that both sums are over.
        with_image, with_blank: sums of log-probabilities, nats, at most 0.
    """

    tokens: int
    with_image: float
    with_blank: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap:
    """The chain anchored in front of another problem's image (`problem`: that one's id)."""

    problem: str
    trace: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceFault:
    """A part of the evidence that could not be had, and why; the draft stands without it."""

    part: str
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What teachers said about a finished trace. None: not asked for, or in `faults`.

    Attributes:
        blind: whole answers to the question without its image.
        description: whole answers to the question from the description alone.
        claims: the trace's claims with a judge's verdicts.
        vas: visual attention score that a student gave the row (AVAR, eq. 1); no teacher makes it, so it is
            None in every row as synthesized.
        calls: one entry per answer, in the order of the parts.
    """

    blind: tuple[str, ...] | None = None
    description: tuple[str, ...] | None = None
    claims: tuple[ClaimVerdict, ...] | None = None
    likelihood: Likelihood | None = None
    swap: Swap | None = None
    vas: float | None = None
    faults: tuple[EvidenceFault, ...] = ()
    calls: tuple[StageCall, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """One sampled trace of a problem, or the reason why there is none.

    Attributes:
        description, reasoning, trace: the texts of the three stages; "" for a stage that was not reached.
        calls: one entry per stage that answered, in order.
        failure: None for a finished trace.
        evidence: of a finished trace, as far as the recipe asked for it.
    """

    problem: Problem
    sample_index: int = 0
    description: str = ""
    reasoning: str = ""
    trace: str = ""
    calls: tuple[StageCall, ...] = ()
    failure: Failure | None = None
    evidence: Evidence = Evidence()


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictRow:
    """One filter's verdict as it is stored."""

    filter: str
    keep: bool
    reason: str
    score: float
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A draft with its verdicts and the deciding reason ("" where accepted)."""

    draft: Draft
    status: Status
    stage: Stage | None = None
    reason: str = ""
    detail: str = ""
    verdicts: tuple[VerdictRow, ...] = ()


Item = Problem | Draft  # a row of a source: a problem, or the failed draft of a row that is none


def problem_of(item: Item) -> Problem:
    """The problem of a row of the source, which a row that failed there carries in its draft."""
    return item if isinstance(item, Problem) else item.problem


def choice_letter(position: int) -> str:
    """A, B, ... Z, AA, AB, ... for the position of a choice, from 0, as a spreadsheet's columns."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = ascii_uppercase[rest] + letters
    return letters


def rejected_at_source(
    *, index: int, source: str, row: str, reason: SourceFault, detail: str, question: str = ""
) -> Draft:
    """The failed row that stands for a source row which never became a problem.

    Its id is a hash of where it stands, since it has no sound content to hash.
    """
    identity = hashlib.sha256(f"{source}\0{index}\0{row}".encode("utf-8", "surrogatepass"))
    problem = Problem(
        id=identity.hexdigest()[:20],
        index=index,
        source=source,
        row=row,
        category="",
        question=question,
        choices=(),
        answer="",
        answer_type=AnswerType.TEXT,
        images=(),
        facts="",
        licence="",
    )
    return Draft(problem=problem, failure=Failure(stage=Stage.SOURCE, reason=reason, detail=detail))


# ---------------------------------------------------------------------------------------- Arrow rows


def draft_to_row(draft: Draft) -> dict[str, Any]:
    """A draft as a flat mapping, columns as in `draft_schema`."""
    problem = draft.problem
    row: dict[str, Any] = {
        field.name: getattr(problem, field.name)
        for field in fields(Problem)
        if field.name not in {"images", "choices"}
    }
    row["answer_type"] = str(problem.answer_type)
    row["choices"] = list(problem.choices)
    row["images"] = [{"bytes": image.bytes, "path": image.path} for image in problem.images]
    row |= {
        "sample_index": draft.sample_index,
        "description": draft.description,
        "reasoning": draft.reasoning,
        "trace": draft.trace,
        "calls": [asdict(call) for call in draft.calls],
        "status": str(Status.FAILED if draft.failure else Status.DRAFTED),
        "stage": str(draft.failure.stage) if draft.failure else "",
        "reason": str(draft.failure.reason) if draft.failure else "",
        "detail": draft.failure.detail if draft.failure else "",
    }
    return row | _evidence_to_row(draft.evidence)


def _evidence_to_row(evidence: Evidence) -> dict[str, Any]:
    """A part that was not asked for is null, which is not the same as empty."""

    def listed(entries: tuple[Any, ...] | None) -> list[Any] | None:
        return None if entries is None else [asdict(entry) for entry in entries]

    return {
        "evidence_blind": None if evidence.blind is None else list(evidence.blind),
        "evidence_description": None if evidence.description is None else list(evidence.description),
        "evidence_claims": listed(evidence.claims),
        "evidence_likelihood": evidence.likelihood and asdict(evidence.likelihood),
        "evidence_swap": evidence.swap and asdict(evidence.swap),
        "evidence_vas": evidence.vas,
        "evidence_faults": listed(evidence.faults),
        "evidence_calls": listed(evidence.calls),
    }


def _evidence_from_row(row: Mapping[str, Any]) -> Evidence:
    def parsed(name: str, kind: Callable[..., Any]) -> Any:
        value = row[name]
        return None if value is None else tuple(kind(**entry) for entry in value)

    def texts(name: str) -> tuple[str, ...] | None:
        return None if row[name] is None else tuple(row[name])

    likelihood, swap = row["evidence_likelihood"], row["evidence_swap"]
    return Evidence(
        blind=texts("evidence_blind"),
        description=texts("evidence_description"),
        claims=parsed("evidence_claims", ClaimVerdict),
        likelihood=None if likelihood is None else Likelihood(**likelihood),
        swap=None if swap is None else Swap(**swap),
        vas=row.get("evidence_vas"),  # shards of version 2 do not have it
        faults=parsed("evidence_faults", EvidenceFault) or (),
        calls=parsed("evidence_calls", StageCall) or (),
    )


def draft_from_row(row: Mapping[str, Any]) -> Draft:
    """The inverse of `draft_to_row`; accepts a sample's row as well and drops its verdicts."""
    problem = Problem(
        **{
            field.name: row[field.name]
            for field in fields(Problem)
            if field.name not in {"images", "choices", "answer_type"}
        },
        choices=tuple(row["choices"]),
        answer_type=AnswerType(row["answer_type"]),
        images=tuple(Image(bytes=image["bytes"], path=image["path"]) for image in row["images"]),
    )
    failure = None
    if row["status"] == Status.FAILED:
        failure = Failure(stage=Stage(row["stage"]), reason=row["reason"], detail=row["detail"])
    return Draft(
        problem=problem,
        sample_index=row["sample_index"],
        description=row["description"],
        reasoning=row["reasoning"],
        trace=row["trace"],
        calls=tuple(StageCall(**call) for call in row["calls"]),
        failure=failure,
        evidence=_evidence_from_row(row),
    )


def sample_to_row(sample: Sample) -> dict[str, Any]:
    """A sample as a flat mapping, columns as in `sample_schema`."""
    return draft_to_row(sample.draft) | {
        "status": str(sample.status),
        "stage": str(sample.stage or ""),
        "reason": sample.reason,
        "detail": sample.detail,
        "verdicts": [asdict(verdict) for verdict in sample.verdicts],
    }


def sample_from_row(row: Mapping[str, Any]) -> Sample:
    """The inverse of `sample_to_row`."""
    return Sample(
        draft=draft_from_row(row),
        status=Status(row["status"]),
        stage=Stage(row["stage"]) if row["stage"] else None,
        reason=row["reason"],
        detail=row["detail"],
        verdicts=tuple(VerdictRow(**verdict) for verdict in row["verdicts"]),
    )


@cache
def draft_features() -> datasets.Features:
    """The `datasets` features of a draft shard."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    call = {
        "stage": text,
        "model": text,
        "prompt_hash": text,
        "temperature": Value("float64"),
        "top_p": Value("float64"),
        "max_tokens": Value("int64"),
        "seed": Value("int64"),
        "finish_reason": text,
        "prompt_tokens": Value("int64"),
        "completion_tokens": Value("int64"),
    }
    return Features(
        {
            "id": text,
            "index": Value("int64"),
            "source": text,
            "row": text,
            "category": text,
            "question": text,
            "choices": List(text),
            "answer": text,
            "answer_type": text,
            "images": List(Image()),
            "facts": text,
            "licence": text,
            "sample_index": Value("int32"),
            "description": text,
            "reasoning": text,
            "trace": text,
            "calls": List(call),
            "status": text,
            "stage": text,
            "reason": text,
            "detail": text,
            "evidence_blind": List(text),
            "evidence_description": List(text),
            "evidence_claims": List({"claim": text, "seen": Value("bool"), "p_seen": Value("float64")}),
            "evidence_likelihood": {
                "tokens": Value("int64"),
                "with_image": Value("float64"),
                "with_blank": Value("float64"),
            },
            "evidence_swap": {"problem": text, "trace": text},
            "evidence_vas": Value("float64"),
            "evidence_faults": List({"part": text, "reason": text, "detail": text}),
            "evidence_calls": List(call),
        }
    )


@cache
def sample_features() -> datasets.Features:
    """The `datasets` features of a finished dataset: a draft's and its verdicts."""
    from datasets import Features, List, Value

    text = Value("string")
    verdict = {
        "filter": text,
        "keep": Value("bool"),
        "reason": text,
        "score": Value("float64"),
        "detail": text,
    }
    return Features({**draft_features(), "verdicts": List(verdict)})


def draft_schema() -> pa.Schema:
    """The Arrow schema of a draft shard, with the metadata that `datasets` reads."""
    return _versioned(draft_features())


def sample_schema() -> pa.Schema:
    """The Arrow schema of a finished dataset's shards."""
    return _versioned(sample_features())


def _versioned(features: datasets.Features) -> pa.Schema:
    schema = features.arrow_schema
    return schema.with_metadata({**(schema.metadata or {}), b"avar": str(SCHEMA_VERSION).encode()})
