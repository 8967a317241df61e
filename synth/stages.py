"""The three stages: describe, reason, anchor. Each is one function from what is known to one answer.

Source: AVAR, arXiv 2603.03825, visual-anchored reflection data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from schemas.config import Recipe, StageSettings
from schemas.errors import TeacherError
from schemas.records import Draft, Failure, Problem, Stage, StageCall
from synth.prompts import STAGES, anchor_prompt, describe_prompt, prompt_hash, reason_prompt
from synth.teacher import Answer, Teacher, image_part, text_part

EMPTY_ANSWER = "empty_answer"


@dataclass(frozen=True)
class Stager:
    """What a stage needs to ask: its sampling, its teacher, the run's seed."""

    settings: Mapping[Stage, StageSettings]
    teachers: Mapping[Stage, Teacher]
    seed: int

    @classmethod
    def of(cls, recipe: Recipe, teachers: Mapping[Stage, Teacher]) -> Stager:
        """The stages of a recipe."""
        settings = {
            Stage.DESCRIBE: recipe.describe,
            Stage.REASON: recipe.reason,
            Stage.ANCHOR: recipe.anchor,
        }
        return cls(settings=settings, teachers=teachers, seed=recipe.seed)


async def draft_problem(problem: Problem, stager: Stager, sample_index: int = 0) -> Draft:
    """Takes one problem through the three stages; a stage that fails ends the row there, with its reason.

    Raises: TeacherError: the teacher itself is gone or wrong (`fatal`), so no row can go on.
    """
    draft = Draft(problem=problem, sample_index=sample_index)
    for stage in STAGES:
        try:
            answer = await _ask(stage, draft, stager)
        except TeacherError as error:
            if error.fatal:
                raise
            return replace(draft, failure=Failure(stage=stage, reason=error.fault, detail=str(error)))
        draft = _record(stage, draft, answer, stager)
        if draft.failure:
            break
    return draft


async def _ask(stage: Stage, draft: Draft, stager: Stager) -> Answer:
    settings = stager.settings[stage]
    return await stager.teachers[stage].ask(
        _content(stage, draft),
        temperature=settings.temperature_of(draft.sample_index),
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=derive_seed(stager.seed, draft.problem.id, stage, draft.sample_index),
    )


def _content(stage: Stage, draft: Draft) -> object:
    problem = draft.problem
    if stage is Stage.DESCRIBE:
        return [*map(image_part, problem.images), text_part(describe_prompt(problem))]
    if stage is Stage.REASON:
        return reason_prompt(problem, draft.description)
    return anchor_prompt(problem, draft.reasoning)


def _record(stage: Stage, draft: Draft, answer: Answer, stager: Stager) -> Draft:
    settings = stager.settings[stage]
    call = StageCall(
        stage=str(stage),
        model=answer.model or stager.teachers[stage].model,
        prompt_hash=prompt_hash(stage),
        temperature=settings.temperature_of(draft.sample_index),
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=derive_seed(stager.seed, draft.problem.id, stage, draft.sample_index),
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
    )
    draft = replace(draft, calls=(*draft.calls, call))
    if not answer.text.strip():
        detail = f"the {stage} stage answered with an empty text (finish_reason {answer.finish_reason})"
        return replace(draft, failure=Failure(stage=stage, reason=EMPTY_ANSWER, detail=detail))
    if stage is Stage.DESCRIBE:
        return replace(draft, description=answer.text)
    if stage is Stage.REASON:
        return replace(draft, reasoning=answer.text)
    return replace(draft, trace=answer.text)


def derive_seed(run_seed: int, problem_id: str, stage: Stage, sample_index: int) -> int:
    """The sampling seed of one request: independent of order, partition and restarts.

    Returns: an integer in [0, 2**31).
    """
    text = f"{run_seed}\0{problem_id}\0{stage}\0{sample_index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
