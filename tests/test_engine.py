"""What the engine does with rows: streams them, begins few, counts in source order, asks nothing twice."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from schemas.config import Recipe, parse_recipe
from schemas.errors import TeacherError
from schemas.records import Draft, Image, Problem, SourceFault, rejected_at_source
from synth.engine import Engine, UnfinishedError, open_engine
from synth.journal import Journal
from synth.seeds import derive_seed
from tests.rows import png, problem
from tests.stub_teacher import StubTeacher, ok, refusal

Asked = dict[str, Any]


def text_of(request: Asked) -> str:
    """The prompt of a request."""
    content = request["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def stage_of(request: Asked) -> str:
    found = re.search(r"<task>(\w+)</task>", text_of(request))
    assert found is not None
    return found[1]


def stages(stub: StubTeacher) -> list[str]:
    return [stage_of(request) for request in stub.requests]


def recipe(url: str | tuple[str, ...], **blocks: Any) -> Recipe:
    teacher = {"url": url, "max_in_flight": 4} | blocks.pop("teacher", {})
    return parse_recipe({"name": "t", "source": {"kind": "scenes"}, "teacher": teacher, **blocks}, where="t")


def marked(index: int, **changes: Any) -> Problem:
    """A problem whose prompts show which one it is."""
    return problem(index, images=(Image(bytes=png(size=(30 + index, 20)), path=f"{index}.png"),), **changes)


def drive(
    work: Callable[[Engine, StubTeacher], Awaitable[Any]],
    folder: Path,
    answer: Any = None,
    accepts: Callable[[Draft], bool] | None = None,
    asked: Sequence[str] | None = None,
    models: dict[str, str] | None = None,
    **blocks: Any,
) -> tuple[Any, StubTeacher]:
    """Runs `work` with an engine whose journal lies in `folder`."""

    async def go() -> tuple[Any, StubTeacher]:
        stub = StubTeacher([answer or ok("A text.")])
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(stub.serve())
            journal = stack.enter_context(Journal(folder / "journal.sqlite"))
            opened = open_engine(recipe(url, **blocks), journal, accepts=accepts, asked=asked, models=models)
            return await work(await stack.enter_async_context(opened), stub), stub

    return asyncio.run(go())


def test_a_slow_row_holds_up_no_other(tmp_path: Path) -> None:
    """No barrier between the stages: the others are finished before the slow one is described."""
    finished: list[int] = []
    release = asyncio.Event()

    async def answer(request: Asked) -> Any:
        slow = stage_of(request) == "describe" and request["seed"] == slow_seed
        if slow:
            await release.wait()
        return ok("A text.")

    items = [marked(index) for index in range(12)]
    slow_seed = derive_seed(0, items[0].id, "describe", 0)

    def progress(drafts: Sequence[Draft]) -> None:
        finished.append(drafts[0].problem.index)
        if len(finished) == 11:
            release.set()

    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        return await asyncio.wait_for(engine.draft(items, progress), 20)

    drafts, _ = drive(work, tmp_path, answer)
    assert finished[-1] == 0
    assert [draft.problem.index for draft in drafts] == list(range(12))


def test_rows_already_begun_go_first_and_few_are_begun(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> None:
        await engine.draft([marked(index) for index in range(40)])

    _, stub = drive(work, tmp_path)
    begun = finished = most = 0
    for stage in stages(stub):
        begun += stage == "describe"
        finished += stage == "anchor"
        most = max(most, begun - finished)
    assert stub.most_in_flight == 4
    assert most <= 4 + 1  # those in flight, and one for a row whose answer is being written down


def test_partitions_share_the_budget_and_the_earlier_rows_go_first(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> list[list[Draft]]:
        parts = ([marked(i) for i in range(20)], [marked(i) for i in range(20, 40)])
        return await asyncio.gather(*(engine.draft(items) for items in parts))

    (first, second), stub = drive(work, tmp_path)
    assert stub.most_in_flight == 4
    assert [draft.problem.index for draft in first + second] == list(range(40))
    described = [
        text["image_url"]["url"]
        for request in stub.requests
        if isinstance(request["messages"][0]["content"], list)
        for text in request["messages"][0]["content"][:1]
    ]
    assert len(set(described)) == 40


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    items = [marked(index) for index in range(6)]

    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        return await engine.draft(items)

    first, stub = drive(work, tmp_path)
    again, silent = drive(work, tmp_path)
    assert again == first
    assert (len(stub.requests), len(silent.requests)) == (18, 0)


def test_what_changes_late_costs_only_what_comes_after(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> None:
        await engine.draft([marked(index) for index in range(4)])

    async def more(engine: Engine, stub: StubTeacher) -> None:
        await engine.draft([marked(index) for index in range(6)])

    drive(work, tmp_path)
    _, stub = drive(work, tmp_path, anchor={"temperature": 0.1})
    assert stages(stub) == ["anchor"] * 4
    _, stub = drive(more, tmp_path)
    assert sorted(stages(stub)) == ["anchor"] * 2 + ["describe"] * 2 + ["reason"] * 2
    _, stub = drive(more, tmp_path, samples={"n": 2})
    assert len(stub.requests) == 6 * 3


def test_each_sample_has_its_own_seed_and_temperature(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        return await engine.draft([marked(0), marked(1)])

    drafts, stub = drive(work, tmp_path, samples={"n": 3}, reason={"temperature": [0.2, 0.9]})
    assert [(draft.problem.index, draft.sample_index) for draft in drafts] == [
        (index, sample) for index in range(2) for sample in range(3)
    ]
    assert [draft.calls[1].temperature for draft in drafts] == [0.2, 0.9, 0.2] * 2
    assert len({call.seed for draft in drafts for call in draft.calls}) == len(stub.requests) == 18


def good_seeds(*numbers: int) -> Callable[[Draft], bool]:
    return lambda draft: (draft.problem.index * 10 + draft.sample_index) in numbers


def test_samples_are_asked_until_enough_are_accepted(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        return await engine.draft([marked(0), marked(1), marked(2)])

    drafts, stub = drive(work, tmp_path, accepts=good_seeds(0, 12), samples={"accept": 1, "most": 4})
    kept = [(draft.problem.index, draft.sample_index) for draft in drafts]
    assert kept == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert stages(stub).count("anchor") == 8


def test_until_so_many_are_accepted_the_cut_is_the_same_in_any_order(tmp_path: Path) -> None:
    """Problems 1, 2 and 5 are good, so the third accepted draft is problem 5's, whoever is quicker."""
    items = [marked(index) for index in range(8)]
    lost = rejected_at_source(index=3, source="s", row="3", reason=SourceFault.NO_ANSWER, detail="none")
    rows: list[Problem | Draft] = [*items[:3], lost, *items[4:]]
    seeds: list[int] = []

    async def slow_first(request: Asked) -> Any:
        if request["seed"] not in seeds:
            seeds.append(request["seed"])
        await asyncio.sleep(0.05 / len(seeds))
        return ok("A text.")

    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        parts = await asyncio.gather(*(engine.draft(rows[start : start + 4]) for start in (0, 4)))
        return [draft for part in parts for draft in part]

    for number, answer in enumerate((None, slow_first)):
        drafts, _ = drive(
            work, tmp_path / str(number), answer, good_seeds(10, 20, 50, 60), samples={"until": 3}
        )
        assert [draft.problem.index for draft in drafts] == [0, 1, 2, 3, 4, 5]


def test_partitions_finished_earlier_count_towards_the_goal(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        await engine.count_drafts([0, 1], [Draft(problem=marked(1))])
        return await engine.draft([marked(2), marked(3), marked(4)])

    drafts, _ = drive(work, tmp_path, None, good_seeds(10, 20, 30), samples={"until": 2})
    assert [draft.problem.index for draft in drafts] == [2]


def test_one_stage_at_a_time_asks_only_its_own_teacher(tmp_path: Path) -> None:
    items = [marked(0), marked(1)]

    async def work(engine: Engine, stub: StubTeacher) -> list[Draft] | dict[str, int]:
        try:
            return await engine.draft(items)
        except UnfinishedError as unfinished:
            assert unfinished.drafts == []
            assert unfinished.stopped == 0
            return unfinished.waiting

    models: dict[str, str] = {}
    for stage, then in (("describe", "reason"), ("reason", "anchor")):
        waiting, stub = drive(work, tmp_path, asked=[stage], models=models)
        assert waiting == {then: 2}
        assert stages(stub) == [stage] * 2
        models[stage] = "stub"
    drafts, stub = drive(work, tmp_path, asked=["anchor"], models=models)
    assert stages(stub) == ["anchor"] * 2
    assert [draft.trace for draft in drafts] == ["A text."] * 2


def test_a_stage_whose_input_is_not_there_asks_nothing(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> dict[str, int]:
        with pytest.raises(UnfinishedError) as unfinished:
            await engine.draft([marked(0)])
        return unfinished.value.waiting

    waiting, stub = drive(work, tmp_path, asked=["anchor"], models={})
    assert (waiting, stub.requests) == ({"describe": 1}, [])


def test_a_stop_lets_calls_in_flight_end_and_begins_nothing(tmp_path: Path) -> None:
    items = [marked(index) for index in range(30)]

    async def work(engine: Engine, stub: StubTeacher) -> UnfinishedError:
        drafting = asyncio.create_task(engine.draft(items))
        while len(stub.requests) < 20:
            await asyncio.sleep(0.001)
        engine.stop()
        with pytest.raises(UnfinishedError) as unfinished:
            await asyncio.wait_for(drafting, 10)
        assert engine.in_flight == 0
        assert engine.journal.count() == len(stub.requests)
        return unfinished.value

    unfinished, stub = drive(work, tmp_path)
    assert 0 < len(unfinished.drafts) < 30
    assert unfinished.stopped == 30 - len(unfinished.drafts)
    assert all(draft.trace for draft in unfinished.drafts)

    async def finish(engine: Engine, again: StubTeacher) -> list[Draft]:
        return await engine.draft(items)

    drafts, again = drive(finish, tmp_path)
    assert len(drafts) == 30
    assert len(stub.requests) + len(again.requests) == 90


def test_a_teacher_that_is_wrong_ends_all_rows(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> None:
        with pytest.raises(TeacherError, match="answered 401"):
            await engine.draft([marked(index) for index in range(20)])

    _, stub = drive(work, tmp_path, refusal(401, "who are you"))
    assert len(stub.requests) <= 8


def test_an_answer_of_50_mb_is_its_own_rows_failure_and_nobody_elses(tmp_path: Path) -> None:
    items = [marked(index) for index in range(3)]
    big = derive_seed(0, items[1].id, "reason", 0)

    async def answer(request: Asked) -> Any:
        return (200, b"x" * 50_000_000, {}) if request["seed"] == big else ok("A text.")

    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        return await engine.draft(items)

    drafts, _ = drive(work, tmp_path, answer)
    assert [draft.failure.reason if draft.failure else "" for draft in drafts] == ["", "answer_too_large", ""]


def dies_with(poison: int) -> Callable[[Asked], Awaitable[Any]]:
    """A server whose engine dies of one request, and takes with it whatever is in flight."""
    dead = refusal(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")
    died = [asyncio.Event()]

    async def answer(request: Asked) -> Any:
        mine = died[0]
        if request["seed"] == poison:
            await asyncio.sleep(0.02)
            died[0] = asyncio.Event()
            mine.set()
            return dead
        try:
            await asyncio.wait_for(mine.wait(), 0.1)
        except TimeoutError:
            return ok("A text.")
        return dead

    return answer


def test_a_request_that_kills_the_engine_takes_no_other_row_with_it(tmp_path: Path) -> None:
    items = [marked(index) for index in range(8)]
    answer = dies_with(derive_seed(0, items[0].id, "describe", 0))

    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        return await asyncio.wait_for(engine.draft(items), 60)

    drafts, _ = drive(work, tmp_path, answer, teacher={"max_in_flight": 8, "max_attempts": 4})
    assert [draft.failure.reason if draft.failure else "" for draft in drafts] == ["teacher_error"] + [""] * 7


def stop_soon(engine: Engine) -> None:
    asyncio.get_running_loop().call_later(0.3, engine.stop)


def test_a_stop_does_not_wait_for_a_pause_between_two_attempts(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> int:
        stop_soon(engine)
        with pytest.raises(UnfinishedError) as unfinished:
            await asyncio.wait_for(engine.draft([marked(0), marked(1)]), 5)
        return unfinished.value.stopped

    stopped, _ = drive(work, tmp_path, refusal(429, "later", **{"Retry-After": "30"}))
    assert stopped == 2


def test_a_stop_ends_every_partition_of_a_run_that_waits_for_a_goal(tmp_path: Path) -> None:
    async def answer(request: Asked) -> Any:
        await asyncio.sleep(0.2 if request["seed"] in slow else 0)
        return ok("A text.")

    items = [marked(index) for index in range(8)]
    slow = {derive_seed(0, items[0].id, stage, 0) for stage in ("describe", "reason", "anchor")}

    async def work(engine: Engine, stub: StubTeacher) -> Sequence[Any]:
        stop_soon(engine)
        both = asyncio.gather(engine.draft(items[:4]), engine.draft(items[4:]), return_exceptions=True)
        return await asyncio.wait_for(both, 10)

    ended, _ = drive(
        work, tmp_path, answer, lambda draft: False, samples={"until": 3}, teacher={"max_in_flight": 8}
    )
    assert [type(result) for result in ended] == [UnfinishedError, UnfinishedError]


def test_an_outage_ends_calls_that_were_between_two_attempts(tmp_path: Path) -> None:
    async def go() -> None:
        stub = StubTeacher([ok("A text."), refusal(500, "broken")])
        with Journal(tmp_path / "j") as journal:
            async with AsyncExitStack() as stack:
                serving = stub.serve()
                url = await serving.__aenter__()
                blocks: dict[str, Any] = {"teacher": {"outage_s": 0.3}, "samples": {"n": 3}}
                engine = await stack.enter_async_context(open_engine(recipe(url, **blocks), journal))
                asyncio.get_running_loop().call_later(0.2, lambda: asyncio.ensure_future(_end(serving)))
                await asyncio.wait_for(engine.draft([marked(0), marked(1)]), 30)

    with pytest.raises(TeacherError, match="is the server running"):
        asyncio.run(go())


async def _end(context: Any) -> None:
    await context.__aexit__(None, None, None)


def test_each_stage_has_the_teacher_it_names(tmp_path: Path) -> None:
    async def go() -> tuple[list[Draft], list[list[str]]]:
        stubs = [StubTeacher([ok(f"By {name}.", model=name)], (name,)) for name in ("seer", "thinker")]
        with Journal(tmp_path / "j") as journal:
            async with stubs[0].serve() as a, stubs[1].serve() as b:
                blocks: dict[str, Any] = {"reason": {"teacher": {"url": b}}}
                async with open_engine(recipe(a, **blocks), journal) as engine:
                    drafts = await engine.draft([marked(0), marked(1)])
        return drafts, [stages(stub) for stub in stubs]

    drafts, asked = asyncio.run(go())
    assert [sorted(set(names)) for names in asked] == [["anchor", "describe"], ["reason"]]
    assert [call.model for call in drafts[0].calls] == ["seer", "thinker", "seer"]
    assert drafts[0].reasoning == "By thinker."


def test_evidence_is_asked_of_finished_traces_and_kept_in_the_journal(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        return await engine.draft([marked(0), marked(1)])

    blocks: dict[str, Any] = {"evidence": {"blind": {"n": 2}, "swap": {}}}
    drafts, stub = drive(work, tmp_path, **blocks)
    assert [draft.evidence.blind for draft in drafts] == [("A text.", "A text.")] * 2
    assert [draft.evidence.swap.problem for draft in drafts if draft.evidence.swap] == [
        marked(1).id,
        marked(0).id,
    ]
    assert len(stub.requests) == 2 * (3 + 2 + 1)
    again, silent = drive(work, tmp_path, **blocks)
    assert (again, silent.requests) == (drafts, [])


def test_without_another_picture_there_is_no_swap(tmp_path: Path) -> None:
    async def work(engine: Engine, stub: StubTeacher) -> list[Draft]:
        return await engine.draft([marked(0)])

    [draft], _ = drive(work, tmp_path, evidence={"swap": {}})
    assert draft.failure is None
    assert [fault.reason for fault in draft.evidence.faults] == ["no_other_image"]


def test_an_outage_reaches_rows_that_wait_for_a_place(tmp_path: Path) -> None:
    """The engine dies under the last call in flight: nothing waits in the lane, only rows to begin."""
    calls = 0

    async def answer(request: Asked) -> Any:
        nonlocal calls
        calls += 1
        return ok("A text.") if calls < 4 else refusal(500, "EngineCore encountered an issue")

    async def work(engine: Engine, stub: StubTeacher) -> None:
        stub.models = ("another",)  # it never comes back
        with pytest.raises(TeacherError, match="no teacher at"):
            await asyncio.wait_for(engine.draft([marked(index) for index in range(6)]), 20)

    drive(work, tmp_path, answer, teacher={"max_in_flight": 1, "max_attempts": 1, "outage_s": 0.2})
