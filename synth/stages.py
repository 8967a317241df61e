"""The three stages: describe, reason, anchor. Each is one function from what is known to one answer.

Source: AVAR, arXiv 2603.03825, visual-anchored reflection data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from schemas.config import AskSettings, Recipe, StageSettings
from schemas.errors import TeacherError
from schemas.records import Draft, Failure, Image, Problem, Stage, StageCall
from synth.prompts import STAGES, anchor_prompt, describe_prompt, prompt_hash, reason_prompt
from synth.requests import Answer, Request
from synth.seeds import derive_seed

EMPTY_ANSWER = "empty_answer"
TRUNCATED = "truncated"
_COLUMNS = {Stage.DESCRIBE: "description", Stage.REASON: "reasoning", Stage.ANCHOR: "trace"}
CUT_OFF = frozenset({"length", "repetition", "content_filter"})  # reasons that leave a text unfinished


class Asker(Protocol):
    """Who puts a row's questions to the teachers."""

    recipe: Recipe

    def model(self, name: str) -> tuple[str, str]:
        """The model that answers a question, and its revision."""
        ...

    async def ask(self, name: str, request: Request) -> Answer:
        """Raises: TeacherError: there is no answer."""
        ...


async def draft_sample(problem: Problem, sample_index: int, asker: Asker) -> Draft:
    """Takes one problem through the three stages; a stage that fails ends the row there, with its reason.

    Raises: TeacherError: the teacher itself is gone or wrong (`fatal`), so no row can go on.
    """
    draft = Draft(problem=problem, sample_index=sample_index)
    for stage in STAGES:
        request = stage_request(stage, draft, asker)
        try:
            answer = await asker.ask(stage, request)
        except TeacherError as error:
            if error.fatal:
                raise
            return replace(draft, failure=Failure(stage=stage, reason=error.fault, detail=str(error)))
        draft = _record(stage, draft, request, answer, asker.recipe)
        if draft.failure:
            break
    return draft


def stage_request(stage: Stage, draft: Draft, asker: Asker) -> Request:
    """What a stage asks of its teacher, given what the earlier ones answered."""
    settings = _settings(asker.recipe, stage)
    seed = derive_seed(asker.recipe.seed, draft.problem.id, stage, draft.sample_index)
    return make_request(stage, settings, asker, _content(stage, draft), seed, draft.sample_index)


def make_request(
    name: str,
    settings: AskSettings,
    asker: Asker,
    content: tuple[str | Image, ...],
    seed: int,
    sample_index: int,
) -> Request:
    """A question with the sampling of its settings."""
    model, revision = asker.model(name)
    kwargs = settings.chat_template_kwargs
    return Request(
        stage=str(name),
        model=model,
        revision=revision,
        content=content,
        temperature=settings.temperature_of(sample_index),
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=seed,
        options={"chat_template_kwargs": kwargs} if kwargs else {},
    )


def _settings(recipe: Recipe, stage: Stage) -> StageSettings:
    return {Stage.DESCRIBE: recipe.describe, Stage.REASON: recipe.reason, Stage.ANCHOR: recipe.anchor}[stage]


def _content(stage: Stage, draft: Draft) -> tuple[str | Image, ...]:
    problem = draft.problem
    if stage is Stage.DESCRIBE:
        return (*problem.images, describe_prompt(problem))
    if stage is Stage.REASON:
        return (reason_prompt(problem, draft.description),)
    return (anchor_prompt(problem, draft.reasoning),)


def make_call(request: Request, answer: Answer, prompt: str) -> StageCall:
    """How an answer was made, as it is stored with the draft."""
    return StageCall(
        stage=request.stage,
        model=answer.model or request.model,
        prompt_hash=prompt,
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_tokens,
        seed=request.seed,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
    )


def _record(stage: Stage, draft: Draft, request: Request, answer: Answer, recipe: Recipe) -> Draft:
    calls = (*draft.calls, make_call(request, answer, prompt_hash(stage)))
    text = stage_text(stage, answer)
    cut_off = answer.finish_reason in CUT_OFF
    if cut_off and stage is not Stage.ANCHOR and not _settings(recipe, stage).keep_truncated:
        detail = (
            f"the {stage} stage was cut off (finish_reason {answer.finish_reason}) at "
            f"{_tokens(answer)} of {request.max_tokens} tokens: raise {stage}.max_tokens"
        )
        return replace(draft, calls=calls, failure=Failure(stage=stage, reason=TRUNCATED, detail=detail))
    if not text.strip():
        detail = f"the {stage} stage answered with an empty text (finish_reason {answer.finish_reason})"
        return replace(draft, calls=calls, failure=Failure(stage=stage, reason=EMPTY_ANSWER, detail=detail))
    return replace(draft, calls=calls, **{_COLUMNS[stage]: text})


def _tokens(answer: Answer) -> str:
    return str(answer.completion_tokens) if answer.completion_tokens >= 0 else "an unknown number"


def stage_text(stage: Stage, answer: Answer) -> str:
    """The text a stage goes on with, where a reasoning model's thoughts come apart from its answer.

    The chain is what the reason stage is asked for, so it holds the thoughts and the answer. A description is
    the answer alone. A trace has `<think>` tags of its own, which a server's parser may have taken for the
    model's: they are put back where the answer alone has none.
    """
    if not answer.reasoning:
        return answer.text
    if stage is Stage.REASON:
        return f"{answer.reasoning.strip()}\n\n{answer.text.strip()}".strip()
    if stage is Stage.ANCHOR and answer.text.strip() and "<think>" not in answer.text:
        return f"<think>{answer.reasoning}</think>{answer.text}"
    return answer.text
