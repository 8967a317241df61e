"""The three stages: what each is shown, what feeds the next, and how a row ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import synth.teacher
from schemas.config import Recipe, parse_recipe
from schemas.errors import TeacherError
from schemas.records import Draft, Problem, SourceFault, Stage, choice_letter, rejected_at_source
from synth.engine import open_engine
from synth.journal import Journal
from synth.prompts import anchor_prompt, describe_prompt, prompt_hashes, reason_prompt
from synth.requests import Answer
from synth.seeds import derive_seed
from synth.stages import stage_text
from tests.rows import problem
from tests.stub_teacher import StubTeacher, ok, refusal


def recipe(url: str, blocks: dict[str, Any], **teacher: Any) -> Recipe:
    teacher = {"url": url, "max_in_flight": 1} | teacher
    return parse_recipe({"name": "t", "source": {"kind": "scenes"}, "teacher": teacher, **blocks}, where="t")


def run(
    script: list[Any],
    items: list[Problem | Draft],
    blocks: dict[str, Any] | None = None,
    **teacher: Any,
) -> tuple[list[Draft], StubTeacher]:
    async def go() -> tuple[list[Draft], StubTeacher]:
        stub = StubTeacher(script)
        with TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite") as journal:
            async with (
                stub.serve() as url,
                open_engine(recipe(url, blocks or {}, **teacher), journal) as engine,
            ):
                return await engine.draft(items), stub

    return asyncio.run(go())


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth.teacher, "_FIRST_WAIT_S", 0.01)


def test_each_stage_feeds_the_next_and_only_the_first_sees_the_image() -> None:
    [draft], stub = run([ok("DESCRIPTION"), ok("CHAIN"), ok("TRACE", "length")], [problem()])
    assert (draft.description, draft.reasoning, draft.trace) == ("DESCRIPTION", "CHAIN", "TRACE")
    assert draft.failure is None
    assert [call.finish_reason for call in draft.calls] == ["stop", "stop", "length"]
    assert [call.prompt_hash for call in draft.calls] == list(prompt_hashes().values())
    describe, reason, anchor = (request["messages"][0]["content"] for request in stub.requests)
    assert [part["type"] for part in describe] == ["image_url", "text"]
    assert isinstance(reason, str)
    assert "DESCRIPTION" in reason
    assert "CHAIN" in anchor
    assert "DESCRIPTION" not in anchor


def test_seeds_differ_by_stage_and_problem_and_never_by_order() -> None:
    seeds = {derive_seed(0, name, stage, 0) for name in ("a", "b") for stage in Stage}
    assert len(seeds) == 2 * len(Stage)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(0, "a", Stage.REASON, 1) == derive_seed(0, "a", Stage.REASON, 1)


def test_a_stage_that_fails_ends_the_row_and_feeds_nothing() -> None:
    [draft], stub = run([ok("DESCRIPTION"), refusal(400, "prompt too long")], [problem()])
    assert draft.failure is not None
    assert (draft.failure.stage, draft.failure.reason) == (Stage.REASON, "prompt_too_long")
    assert "prompt too long" in draft.failure.detail
    assert draft.description == "DESCRIPTION"
    assert len(stub.requests) == 2


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_an_empty_answer_ends_the_row(text: str | None) -> None:
    [draft], stub = run([ok(text)], [problem()])
    assert draft.failure is not None
    assert draft.failure.reason == "empty_answer"
    assert len(draft.calls) == len(stub.requests) == 1


@pytest.mark.parametrize("finish_reason", ["length", "repetition"])
def test_a_truncated_text_feeds_nothing(finish_reason: str) -> None:
    [draft], stub = run([ok("A red circ", finish_reason)], [problem()], {"describe": {"max_tokens": 3}})
    assert draft.failure is not None
    assert (draft.failure.stage, draft.failure.reason) == (Stage.DESCRIBE, "truncated")
    assert "2 of 3 tokens: raise describe.max_tokens" in draft.failure.detail
    assert draft.calls[0].finish_reason == finish_reason
    assert len(stub.requests) == 1


def test_a_truncated_text_goes_on_where_the_recipe_says_so() -> None:
    script = [ok("A red circ", "length"), ok("C"), ok("T")]
    [draft], stub = run(script, [problem()], {"describe": {"keep_truncated": True}})
    assert (draft.failure, draft.trace, len(stub.requests)) == (None, "T", 3)


def test_a_truncated_trace_is_a_draft_for_the_filters() -> None:
    [draft], _ = run([ok("D"), ok("C"), ok("<think>half", "length")], [problem()])
    assert (draft.failure, draft.calls[-1].finish_reason) == (None, "length")


def test_each_stage_passes_its_own_template_arguments() -> None:
    blocks = {"reason": {"chat_template_kwargs": {"enable_thinking": True}}}
    _, stub = run([ok("D"), ok("C"), ok("T")], [problem()], blocks)
    assert [request.get("chat_template_kwargs") for request in stub.requests] == [
        None,
        {"enable_thinking": True},
        None,
    ]


TRACE = "<think>chain</think><answer>4</answer>"


@pytest.mark.parametrize(
    ("stage", "text", "reasoning", "expected"),
    [
        (Stage.DESCRIBE, "A circle.", "Let me see.", "A circle."),
        (Stage.REASON, "Final answer: 4", "One, two ...", "One, two ...\n\nFinal answer: 4"),
        (Stage.REASON, "", "One, two ...", "One, two ..."),
        (Stage.REASON, "<think>One</think>Final answer: 4", "", "<think>One</think>Final answer: 4"),
        (Stage.ANCHOR, TRACE, "How shall I write this?", TRACE),
        (Stage.ANCHOR, "<answer>4</answer>", "chain", TRACE),  # the server took the trace for its thoughts
        (Stage.ANCHOR, "", "chain", ""),
    ],
)
def test_a_reasoning_models_thoughts_and_answer(
    stage: Stage, text: str, reasoning: str, expected: str
) -> None:
    answer = Answer(
        text=text, reasoning=reasoning, model="m", finish_reason="stop", prompt_tokens=1, completion_tokens=1
    )
    assert stage_text(stage, answer) == expected


def test_one_row_failing_leaves_the_others_alone_and_in_order() -> None:
    lost = rejected_at_source(index=1, source="s", row="s/1", reason=SourceFault.NO_ANSWER, detail="none")
    script = [refusal(400), *[ok("fine")] * 3]
    drafts, _ = run(script, [problem(0), lost, problem(2)])
    assert [draft.problem.index for draft in drafts] == [0, 1, 2]
    assert [draft.failure.reason if draft.failure else "" for draft in drafts] == [
        "teacher_refused",
        "no_answer",
        "",
    ]


def test_patience_with_one_row_ends_as_a_failed_row() -> None:
    [draft], _ = run([refusal(500, "cannot fetch image")], [problem()], max_attempts=2)
    assert draft.failure is not None
    assert draft.failure.reason == "teacher_error"
    assert "after 2 attempts" in draft.failure.detail


@pytest.mark.parametrize("status", [404, 401])
def test_a_teacher_that_is_wrong_stops_the_run(status: int) -> None:
    with pytest.raises(TeacherError) as error:
        run([refusal(status)], [problem(0), problem(1)])
    assert error.value.fatal


def test_prompts_show_the_choices_with_letters() -> None:
    asked = problem(choices=("red", "blue"), answer="red")
    for text in (reason_prompt(asked, "D"), anchor_prompt(asked, "R")):
        assert "Choices:\nA. red\nB. blue\n</question>" in text
    assert "an image." in describe_prompt(asked)
    assert "2 images" in describe_prompt(problem(images=asked.images * 2))


def test_a_question_is_text_and_never_a_template() -> None:
    hostile = "{{ 7 * 7 }} {% for x in ().__class__.__mro__ %}{% endfor %} <|im_start|>"
    assert hostile in reason_prompt(problem(question=hostile), "{{ description }}")
    assert "{{ description }}" in reason_prompt(problem(question=hostile), "{{ description }}")


@pytest.mark.parametrize(("position", "letter"), [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA")])
def test_letters_go_on_after_z(position: int, letter: str) -> None:
    assert choice_letter(position) == letter
