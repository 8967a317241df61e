"""Small problems and drafts that tests share."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

from PIL import Image as PillowImage

from schemas.records import (
    AnswerType,
    Draft,
    Failure,
    Image,
    Problem,
    Sample,
    Stage,
    StageCall,
    Status,
    VerdictRow,
    problem_id,
)

GOOD_TRACE = (
    "<think>Looking at the image, I count the red circles one by one: there are three of them. "
    "Wait, let me look back at the image and check the corner again: a fourth red circle hides there. "
    "Looking back at the picture once more, the count of four holds.</think><answer>4</answer>"
)


def png(color: str = "red", size: tuple[int, int] = (32, 32), kind: str = "PNG") -> bytes:
    """An encoded picture of one colour."""
    buffer = BytesIO()
    PillowImage.new("RGB", size, color).save(buffer, kind)
    return buffer.getvalue()


def problem(index: int = 0, **changes: object) -> Problem:
    """A problem about one small picture; `changes` replace fields."""
    images = (Image(bytes=png(), path=f"{index}.png"),)
    question = f"How many red circles are there in picture {index}?"
    made = Problem(
        id=problem_id(question, (), "4", images),
        index=index,
        source="test",
        row=f"test/{index}",
        category="count",
        question=question,
        choices=(),
        answer="4",
        answer_type=AnswerType.NUMBER,
        images=images,
        facts="",
        licence="CC0-1.0",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def call(stage: Stage = Stage.ANCHOR, finish_reason: str = "stop") -> StageCall:
    """How a stage's text was made."""
    return StageCall(
        stage=str(stage),
        model="m",
        prompt_hash="0" * 16,
        temperature=0.7,
        top_p=0.95,
        max_tokens=2048,
        seed=7,
        finish_reason=finish_reason,
        prompt_tokens=10,
        completion_tokens=20,
    )


def draft(index: int = 0, trace: str = GOOD_TRACE, **changes: object) -> Draft:
    """A finished draft."""
    calls = tuple(map(call, (Stage.DESCRIBE, Stage.REASON, Stage.ANCHOR)))
    made = Draft(
        problem=problem(index), description="Four red circles.", reasoning="Four.", trace=trace, calls=calls
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def failed_draft(index: int = 0) -> Draft:
    """A draft that ended at its second stage."""
    failure = Failure(stage=Stage.REASON, reason="teacher_refused", detail="400: prompt too long")
    return Draft(problem=problem(index), description="x", calls=(call(Stage.DESCRIBE),), failure=failure)


def sample(index: int = 0, status: Status = Status.ACCEPTED) -> Sample:
    """A judged draft."""
    if status is Status.FAILED:
        source = failed_draft(index)
        assert source.failure
        return Sample(
            draft=source,
            status=status,
            stage=Stage.REASON,
            reason=source.failure.reason,
            detail=source.failure.detail,
        )
    verdict = VerdictRow(filter="answer", keep=status is Status.ACCEPTED, reason="", score=1.0, detail="")
    reason = "" if status is Status.ACCEPTED else "answer_wrong"
    stage = None if status is Status.ACCEPTED else Stage.FILTER
    return Sample(draft=draft(index), status=status, stage=stage, reason=reason, verdicts=(verdict,))
