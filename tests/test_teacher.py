"""What a client meets: every kind of fault has its own name, its own patience and one line for people."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import synth.teacher
from schemas.config import TeacherSettings
from schemas.errors import ConfigError, TeacherError, TeacherFault
from schemas.records import Image
from synth.requests import Answer
from synth.server import Server, image_part
from tests.asking import asking, make_request
from tests.ports import free_port
from tests.rows import png
from tests.stub_teacher import StubTeacher, completion, ok, refusal


@dataclass
class Asked:
    """One question's end, and what the server saw."""

    answer: Answer | None
    error: TeacherError | None
    stub: StubTeacher


def ask(script: list[Any], *, models: tuple[str, ...] = ("stub",), **settings: Any) -> Asked:
    """Asks once a server that follows `script`."""

    async def run() -> Asked:
        stub = StubTeacher(script, models)
        async with stub.serve() as url:
            try:
                async with asking(TeacherSettings(url=url, **settings)) as teacher:
                    return Asked(await teacher.ask("hello"), None, stub)
            except TeacherError as error:
                return Asked(None, error, stub)

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth.teacher, "_FIRST_WAIT_S", 0.01)


def test_an_answer_carries_what_the_server_said() -> None:
    asked = ask([ok("four", "length")])
    assert asked.answer is not None
    assert 0 < asked.answer.seconds < 5
    assert replace(asked.answer, seconds=0) == Answer(
        text="four", model="stub", finish_reason="length", prompt_tokens=3, completion_tokens=2
    )
    assert asked.stub.requests == [
        {
            "model": "stub",
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 9,
            "seed": 3,
        }
    ]


@pytest.mark.parametrize(
    "fault",
    [
        refusal(500, "Internal server error"),
        refusal(503, "queue full"),
        refusal(429, "slow down"),
        "reset",
        "truncate",
        (200, b'{"choices": [{"mess', {}),
        (200, b"<html>proxy</html>", {}),
        (200, {"object": "error"}, {}),
        (200, [1, 2], {}),
        (200, completion(choices=[]), {}),
        (200, completion(choices=[{"message": {"content": 7}, "finish_reason": "stop"}]), {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_may_pass_is_asked_again(fault: Any) -> None:
    asked = ask([fault, fault, ok("at last")])
    assert asked.answer is not None
    assert asked.answer.text == "at last"
    assert len(asked.stub.requests) == 3


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (refusal(400, "The decoder prompt is too long"), TeacherFault.TOO_LONG, "prompt is too long"),
        (refusal(400, "maximum context length is 2048 tokens"), TeacherFault.TOO_LONG, "2048"),
        (refusal(400, "cannot identify image file"), TeacherFault.IMAGE_REFUSED, "identify image"),
        (refusal(400, "top_k must be positive"), TeacherFault.REFUSED, "top_k"),
        (refusal(422, "bad field"), TeacherFault.REFUSED, "bad field"),
        (refusal(404, "The model `x` does not exist."), TeacherFault.UNKNOWN_MODEL, "teacher.model"),
        ((401, {"error": "Unauthorized"}, {}), TeacherFault.UNAUTHORIZED, "Unauthorized"),
        ((302, b"", {"Location": "http://127.0.0.1:9/"}), TeacherFault.UNAUTHORIZED, "302"),
        (refusal(402, "no credit"), TeacherFault.UNAUTHORIZED, "no credit"),
        ((200, b"x" * (9 * 2**20), {}), TeacherFault.OVERSIZED, "over 8 MiB"),
    ],
)
def test_what_cannot_pass_is_asked_once(fault: Any, kind: TeacherFault, words: str) -> None:
    asked = ask([fault])
    assert asked.error is not None
    assert asked.error.fault is kind
    assert words in str(asked.error)
    assert "\n" not in str(asked.error)
    assert len(asked.stub.requests) == 1


def test_patience_ends_and_says_after_how_many_attempts() -> None:
    asked = ask([refusal(500, "still broken")], max_attempts=3)
    assert asked.error is not None
    assert asked.error.fault is TeacherFault.BROKEN
    assert "after 3 attempts" in str(asked.error)
    assert len(asked.stub.requests) == 3


def test_retry_after_is_honoured() -> None:
    started = time.monotonic()
    asked = ask([refusal(503, "busy", **{"Retry-After": "0.4"}), ok()])
    assert asked.answer is not None
    assert time.monotonic() - started >= 0.4


def test_a_silent_server_is_a_time_out() -> None:
    asked = ask(["hang"], timeout_s=0.3, max_attempts=1)
    assert asked.error is not None
    assert asked.error.fault is TeacherFault.TIMEOUT


def test_a_full_queue_counts_by_time_and_not_by_attempts() -> None:
    asked = ask([*[refusal(503, "queue full")] * 4, ok("at last")], max_attempts=2)
    assert asked.answer is not None
    asked = ask([refusal(429, "slow down")], max_attempts=2, retry_budget_s=0.2)
    assert asked.error is not None
    assert asked.error.fault is TeacherFault.OVERLOADED
    assert len(asked.stub.requests) > 2


def test_a_server_that_asks_for_more_time_than_there_is_does_not_get_it() -> None:
    started = time.monotonic()
    asked = ask([refusal(429, "come back in an hour", **{"Retry-After": "3600"})], retry_budget_s=0.3)
    assert asked.error is not None
    assert time.monotonic() - started < 3


def test_an_error_inside_a_good_status_is_an_error() -> None:
    frame = {"error": {"message": "Internal server error", "type": "InternalServerError", "code": 500}}
    asked = ask([(200, frame, {}), ok("at last")])
    assert asked.answer is not None
    assert asked.answer.text == "at last"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_what_a_reasoning_model_thought_is_read(name: str) -> None:
    message = {"role": "assistant", "content": "four", name: "two and two"}
    asked = ask([(200, completion(choices=[{"message": message, "finish_reason": "stop"}]), {})])
    assert asked.answer is not None
    assert (asked.answer.text, asked.answer.reasoning) == ("four", "two and two")


def test_cached_tokens_are_counted() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 7}}
    asked = ask([ok(usage=usage)])
    assert asked.answer is not None
    assert asked.answer.cached_tokens == 7


# ------------------------------------------------------------------------------------------- streams


def events(*frames: object) -> tuple[int, bytes, dict[str, str]]:
    lines = [f"data: {frame if isinstance(frame, str) else json.dumps(frame)}\n\n" for frame in frames]
    return 200, "".join(lines).encode(), {"Content-Type": "text/event-stream"}


def delta(finish: str | None = None, **fields: str) -> dict[str, Any]:
    return {"model": "stub", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


USAGE = {"model": "stub", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def test_a_stream_is_put_together() -> None:
    frames = (delta(content="fo"), delta(reasoning="hm"), delta("stop", content="ur"), USAGE, "[DONE]")
    asked = ask([events(*frames)], stream=True)
    assert asked.answer is not None
    assert (asked.answer.text, asked.answer.reasoning) == ("four", "hm")
    assert (asked.answer.finish_reason, asked.answer.prompt_tokens) == ("stop", 5)
    assert asked.stub.requests[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "broken",
    [
        events(delta(content="fo"), {"error": {"message": "Internal server error", "code": 500}}, "[DONE]"),
        events(delta(content="fo")),
        events("{half"),
        events([1]),
    ],
)
def test_a_stream_that_breaks_is_asked_again(broken: Any) -> None:
    asked = ask([broken, events(delta("stop", content="four"), "[DONE]")], stream=True)
    assert asked.answer is not None
    assert asked.answer.text == "four"
    assert len(asked.stub.requests) == 2


# ------------------------------------------------------------------------------------------- the journal


def test_an_answer_is_asked_for_once(tmp_path: Path) -> None:
    async def run() -> tuple[StubTeacher, list[str]]:
        stub = StubTeacher([ok("one"), ok("two")])
        texts = []
        async with stub.serve() as url:
            for _ in range(2):
                async with asking(TeacherSettings(url=url), tmp_path / "j") as teacher:
                    both = await asyncio.gather(teacher.ask("x"), teacher.ask("x"))
                    texts += [answer.text for answer in both]
        return stub, texts

    stub, texts = asyncio.run(run())
    assert texts == ["one"] * 4
    assert len(stub.requests) == 1


def test_a_refusal_is_not_asked_for_again_and_a_passing_fault_is(tmp_path: Path) -> None:
    async def run(script: list[Any], name: str) -> tuple[int, list[str]]:
        stub, faults = StubTeacher(script), []
        async with stub.serve() as url:
            for _ in range(2):
                async with asking(TeacherSettings(url=url, max_attempts=1), tmp_path / name) as teacher:
                    try:
                        await teacher.ask("x")
                    except TeacherError as error:
                        faults.append(f"{error.fault}: {error}")
        return len(stub.requests), faults

    asked, faults = asyncio.run(run([refusal(400, "no")], "refused"))
    assert (asked, len(set(faults)), len(faults)) == (1, 1, 2)
    asked, faults = asyncio.run(run([refusal(500, "broken")], "broken"))
    assert (asked, len(faults)) == (2, 2)


def test_every_field_of_a_request_is_part_of_its_key() -> None:
    base = make_request("m", "text", Image(bytes=png(), path="a"))
    same = make_request("m", "text", Image(bytes=png(), path="elsewhere"), stage="another")
    assert base.key == same.key
    others = [
        make_request("n", "text", Image(bytes=png(), path="a")),
        make_request("m", "text", Image(bytes=png("blue"), path="a")),
        make_request("m", "text2", Image(bytes=png(), path="a")),
        make_request("m", Image(bytes=png(), path="a"), "text"),
        *(
            make_request("m", "text", Image(bytes=png(), path="a"), **change)
            for change in (
                {"revision": "r"},
                {"temperature": 0.6},
                {"top_p": 0.8},
                {"max_tokens": 10},
                {"seed": 4},
                {"continued": "so"},
                {"options": {"logprobs": True}},
            )
        ),
    ]
    assert len({base.key, *(other.key for other in others)}) == len(others) + 1


# ------------------------------------------------------------------------------------------- several servers


def test_a_key_comes_from_the_environment_is_never_journaled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "s3cret-key")

    async def run() -> None:
        async with (
            StubTeacher([ok()]).serve() as url,
            asking(TeacherSettings(url=url, api_key_env="TEACHER_KEY"), tmp_path / "j") as teacher,
        ):
            await teacher.ask("x")

    asyncio.run(run())
    assert b"s3cret-key" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_servers_share_the_load() -> None:
    async def run() -> list[int]:
        stubs = [StubTeacher([ok()]) for _ in range(3)]
        async with (
            stubs[0].serve() as a,
            stubs[1].serve() as b,
            stubs[2].serve() as c,
            asking(TeacherSettings(url=(a, b, c), max_in_flight=4)) as teacher,
        ):
            await asyncio.gather(*(teacher.ask("x", seed=seed) for seed in range(120)))
        assert [stub.most_in_flight for stub in stubs] == [4, 4, 4]
        return [len(stub.requests) for stub in stubs]

    asked = asyncio.run(run())
    assert sum(asked) == 120
    assert all(25 <= count <= 60 for count in asked), asked


def test_a_server_that_goes_costs_its_own_calls_alone_and_is_used_again_when_it_comes_back() -> None:
    async def run() -> tuple[int, int, int]:
        steady, shaky = StubTeacher([ok()]), StubTeacher([ok()])
        port = free_port()
        async with steady.serve() as a:
            async with shaky.serve(port) as b:
                settings = TeacherSettings(url=(a, b), max_in_flight=4)
                context = asking(settings)
                teacher = await context.__aenter__()
                await asyncio.gather(*(teacher.ask("x", seed=seed) for seed in range(40)))
                before = len(shaky.requests)
            await asyncio.gather(*(teacher.ask("y", seed=seed) for seed in range(40)))
            while_gone = len(shaky.requests) - before
            assert [server.up for server in teacher.servers] == [True, False]
            async with shaky.serve(port):
                for _ in range(200):
                    if teacher.servers[1].up:
                        break
                    await asyncio.sleep(0.05)
                await asyncio.gather(*(teacher.ask("z", seed=seed) for seed in range(40)))
                after = len(shaky.requests) - before - while_gone
            await context.__aexit__(None, None, None)
        return before, while_gone, after

    before, while_gone, after = asyncio.run(run())
    assert before > 5
    assert while_gone == 0
    assert after > 5


def test_without_any_server_the_run_stops_after_a_while() -> None:
    async def run() -> None:
        stub = StubTeacher([ok()])
        async with stub.serve() as url:
            context = asking(TeacherSettings(url=url, outage_s=0.3))
            teacher = await context.__aenter__()
        try:
            await teacher.ask("x")
        finally:
            await context.__aexit__(None, None, None)

    started = time.monotonic()
    with pytest.raises(TeacherError, match=r"no teacher at .* for 0\.3 s .*is the server running\?") as error:
        asyncio.run(run())
    assert error.value.fatal
    assert time.monotonic() - started < 5


def test_a_dead_engine_is_waited_for() -> None:
    dead = refusal(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")

    async def run() -> tuple[str, int]:
        stub = StubTeacher([dead, ok("after the restart")])
        async with stub.serve() as url, asking(TeacherSettings(url=url)) as teacher:
            waiting = asyncio.create_task(teacher.ask("x"))
            while not stub.requests:
                await asyncio.sleep(0.005)
            return (await waiting).text, teacher.ledger.retries

    assert asyncio.run(run()) == ("after the restart", 1)


def test_one_of_several_servers_may_be_away_at_the_start() -> None:
    async def run() -> tuple[str, list[bool]]:
        stub = StubTeacher([ok("here")])
        async with (
            stub.serve() as url,
            asking(TeacherSettings(url=(url, "http://127.0.0.1:9"))) as teacher,
        ):
            return (await teacher.ask("x")).text, [server.up for server in teacher.servers]

    assert asyncio.run(run()) == ("here", [True, False])


def test_a_server_with_another_model_among_several_is_refused() -> None:
    async def run() -> None:
        async with (
            StubTeacher([ok()]).serve() as a,
            StubTeacher([ok()], ("other",)).serve() as b,
            asking(TeacherSettings(url=(a, b), model="stub")),
        ):
            pass

    with pytest.raises(TeacherError, match=r"does not serve 'stub' .it serves other"):
        asyncio.run(run())


def test_more_connections_than_the_system_allows_are_said_before_they_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (512, 1000))
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: raised.append(limits))

    async def run(most: int) -> str:
        async with StubTeacher([ok()]).serve() as url, asking(TeacherSettings(url=url, max_in_flight=most)):
            return "fine"

    assert asyncio.run(run(600)) == "fine"
    assert raised == [(856, 1000)]
    with pytest.raises(ConfigError, match=r"800 connections in all need 1056 open files, the system allows"):
        asyncio.run(run(800))


# ------------------------------------------------------------------------------------------- images


def test_an_image_is_sent_once_to_a_vllm_server_and_again_where_it_was_forgotten() -> None:
    image = Image(bytes=png(), path="x")
    forgotten = refusal(400, "Expected a cached item")

    async def run(owner: str, script: list[Any], **settings: Any) -> list[Any]:
        stub = StubTeacher(script, owner=owner)
        async with stub.serve() as url, asking(TeacherSettings(url=url, **settings)) as teacher:
            for seed in range(3):
                await teacher.ask(image, "what", seed=seed)
        return [request["messages"][0]["content"][0] for request in stub.requests]

    whole = image_part(image)
    named, reference = whole | {"uuid": image.sha256}, {"type": "image_url", "image_url": None}
    reference["uuid"] = image.sha256
    script = [ok(), ok(), forgotten, ok()]
    assert asyncio.run(run("vllm", script)) == [named, reference, reference, named]
    assert asyncio.run(run("somebody", [ok()])) == [whole] * 3
    assert asyncio.run(run("vllm", [ok()], reuse_images=False)) == [whole] * 3


def test_a_forgotten_image_costs_no_attempt() -> None:
    image = Image(bytes=png(), path="x")

    async def run() -> tuple[str, int]:
        stub = StubTeacher([ok(), refusal(400, "Expected a cached item"), ok("Seen.")], owner="vllm")
        async with stub.serve() as url, asking(TeacherSettings(url=url, max_attempts=1)) as teacher:
            await teacher.ask(image, "what")
            answer = await teacher.ask(image, "what else")
            return answer.text, teacher.ledger.retries

    assert asyncio.run(run()) == ("Seen.", 0)


def pictures_sent(
    orders: list[int], *, most: int, others: int = 0, script: list[Any] | None = None
) -> tuple[int, int]:
    """Asks as often about one picture at the same time, for rows of these numbers, beside others' texts.

    Returns: how often the picture was sent, and how many calls were in flight at most.
    """
    image = Image(bytes=png(), path="x")

    async def run() -> tuple[int, int]:
        stub = StubTeacher(script or [ok()], owner="vllm")
        async with stub.serve() as url:
            settings = TeacherSettings(url=url, max_in_flight=most, min_in_flight=most)
            async with asking(settings) as teacher:
                texts = [teacher.ask("text", seed=seed, order=99 + seed) for seed in range(others)]
                pictures = [teacher.ask(image, "w", seed=seed, order=row) for seed, row in enumerate(orders)]
                await asyncio.gather(*texts, *pictures, return_exceptions=True)
        parts = [request["messages"][0]["content"][0] for request in stub.requests]
        return sum(isinstance(part, dict) and bool(part["image_url"]) for part in parts), stub.most_in_flight

    return asyncio.run(run())


def test_samples_of_one_row_that_are_asked_together_send_its_picture_once() -> None:
    assert pictures_sent([5] * 8, most=16) == (1, 7)


def test_rows_about_one_picture_send_it_once_where_the_server_has_enough_to_do() -> None:
    assert pictures_sent([1, 2, 3, 4], most=4, others=40) == (1, 4)


def test_rows_about_one_picture_leave_no_place_idle_for_it() -> None:
    sent, most = pictures_sent([1, 2, 3, 4, 5, 6, 7, 8], most=8)
    assert sent == most == 6  # three quarters of the places


def test_where_the_call_with_the_picture_fails_the_next_one_brings_it() -> None:
    script = [refusal(400, "no"), ok()]
    assert pictures_sent([5] * 4, most=8, script=script)[0] == 2


def test_a_picture_that_is_slow_to_arrive_at_one_server_holds_up_no_call_for_another() -> None:
    image = Image(bytes=png(), path="x")
    release = asyncio.Event()

    async def slow(_: dict[str, Any]) -> Any:
        await release.wait()
        return ok()

    async def run() -> int:
        slack, quick = StubTeacher([slow], owner="vllm"), StubTeacher([ok()], owner="vllm")
        async with slack.serve() as a, quick.serve() as b:
            settings = TeacherSettings(url=(a, b), max_in_flight=4, min_in_flight=4)
            async with asking(settings) as teacher:
                asked = [
                    asyncio.create_task(teacher.ask(image, "w", seed=seed, order=5)) for seed in range(8)
                ]
                try:
                    await asyncio.wait_for(_until(lambda: sum(task.done() for task in asked) == 7), 5)
                finally:
                    release.set()
                    await asyncio.gather(*asked)
        return len(slack.requests)

    assert asyncio.run(run()) == 1


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_server_broke_off_is_asked_for_again(reason: str) -> None:
    asked = ask([ok("A re", reason), ok("A red circle.")])
    assert asked.answer is not None
    assert asked.answer.text == "A red circle."


def test_a_compressed_answer_is_measured_by_what_it_holds() -> None:
    bomb = gzip.compress(b'{"choices": [' + b" " * 50_000_000)
    asked = ask([(200, bomb, {"Content-Encoding": "gzip"})])
    assert asked.error is not None
    assert asked.error.fault is TeacherFault.OVERSIZED


def test_a_server_that_repeats_the_key_does_not_spread_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "s3cret-key")
    asked = ask([refusal(400, "bad header: Bearer s3cret-key")], api_key_env="TEACHER_KEY")
    assert "bad header: Bearer ***" in str(asked.error)


def test_a_server_that_ignores_prompt_logprobs_refuses_and_can_be_asked_again() -> None:
    token = {"1": {"logprob": -0.5, "rank": 1, "decoded_token": "x"}}

    async def run() -> tuple[list[TeacherFault], int, int]:
        faults = []
        stub = StubTeacher([ok(), ok(prompt_logprobs=[None, token])])
        async with stub.serve() as url, asking(TeacherSettings(url=url)) as teacher:
            for _ in range(2):
                with pytest.raises(TeacherError, match="prompt_logprobs") as caught:
                    await teacher.ask("x", options={"prompt_logprobs": 0})
                faults.append(caught.value.fault)
            asked = len(stub.requests)
            teacher.journal.forget_refusals()
            answer = await teacher.ask("x", options={"prompt_logprobs": 0})
            return faults, asked, len(answer.prompt_logprobs)

    assert asyncio.run(run()) == ([TeacherFault.UNSUPPORTED] * 2, 1, 1)


def test_what_asks_for_logprobs_is_not_streamed() -> None:
    async def run() -> list[Any]:
        stub = StubTeacher([ok()])
        async with stub.serve() as url, asking(TeacherSettings(url=url, stream=True)) as teacher:
            await teacher.ask("x", options={"logprobs": True, "top_logprobs": 5})
        return [request.get("stream") for request in stub.requests]

    assert asyncio.run(run()) == [None]


def test_a_pause_that_was_asked_for_holds_for_every_call() -> None:
    async def run() -> float:
        stub = StubTeacher([refusal(429, "slow", **{"Retry-After": "0.5"}), ok()])
        async with stub.serve() as url, asking(TeacherSettings(url=url, max_in_flight=1)) as teacher:
            started = time.monotonic()
            await asyncio.gather(teacher.ask("x"), teacher.ask("y"))
            return time.monotonic() - started

    assert asyncio.run(run()) >= 0.5


def test_null_content_is_an_empty_text_and_not_asked_again() -> None:
    asked = ask([ok(None)])
    assert asked.answer is not None
    assert asked.answer.text == ""
    assert len(asked.stub.requests) == 1


@pytest.mark.parametrize("usage", [None, "many", {"prompt_tokens": None}, {"completion_tokens": 2**64}])
def test_strange_usage_counts_as_none(usage: object) -> None:
    asked = ask([ok(usage=usage)])
    assert asked.answer is not None
    assert asked.answer.completion_tokens == -1


@pytest.mark.parametrize(
    ("models", "wanted", "words"),
    [
        (("a", "b"), None, "serves several models (it serves a, b)"),
        (("a",), "b", "does not serve 'b' (it serves a)"),
        ((), None, "it serves none"),
    ],
)
def test_the_model_must_be_settled(models: tuple[str, ...], wanted: str | None, words: str) -> None:
    asked = ask([ok()], models=models, model=wanted)
    assert asked.error is not None
    assert asked.error.fault is TeacherFault.UNKNOWN_MODEL
    assert words in str(asked.error)
    assert asked.stub.requests == []


def test_nobody_at_the_url_is_said_plainly() -> None:
    async def run() -> None:
        async with asking(TeacherSettings(url="http://127.0.0.1:9/v1")):
            pass

    with pytest.raises(
        TeacherError, match=r"no teacher at http://127\.0\.0\.1:9 .*is the server running"
    ) as error:
        asyncio.run(run())
    assert error.value.fault is TeacherFault.UNREACHABLE
    assert error.value.fatal


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "s3cret")
    asked = ask([ok()], api_key_env="TEACHER_KEY")
    assert asked.stub.headers[0]["Authorization"] == "Bearer s3cret"


def test_a_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEACHER_KEY is not set"):
        Server("http://h", TeacherSettings(url="http://h", api_key_env="TEACHER_KEY"))


@pytest.mark.parametrize("key", ["with\nbreak", "caf\u00e9", "bell\x07"])
def test_a_key_that_no_header_takes_is_said(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TEACHER_KEY", key)
    with pytest.raises(ConfigError, match="line break"):
        Server("http://h", TeacherSettings(url="http://h", api_key_env="TEACHER_KEY"))


@pytest.mark.parametrize("fault", [refusal(500, "broken"), "truncate", (200, b"nonsense", {})])
def test_what_a_row_may_end_with_does_not_name_the_server(fault: Any) -> None:
    asked = ask([fault], max_attempts=2)
    assert asked.error is not None
    assert "127.0.0.1" not in str(asked.error)


def test_no_more_are_in_flight_than_allowed() -> None:
    async def run() -> StubTeacher:
        stub = StubTeacher([ok()])
        async with stub.serve() as url, asking(TeacherSettings(url=url, max_in_flight=5)) as teacher:
            await asyncio.gather(*(teacher.ask("x", seed=i) for i in range(40)))
        return stub

    assert asyncio.run(run()).most_in_flight == 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_an_image_travels_as_a_data_url_of_its_kind(kind: str) -> None:
    part = image_part(Image(bytes=png(kind=kind), path="x"))
    assert part["image_url"]["url"].startswith(f"data:image/{kind.lower()};base64,")
