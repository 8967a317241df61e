"""What a client meets: every kind of fault has its own name, its own patience and one line for people."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest

import synth.teacher
from schemas.config import TeacherSettings
from schemas.errors import ConfigError, TeacherError, TeacherFault
from schemas.records import Image
from synth.teacher import Answer, Teacher, image_part
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
        async with stub.serve() as url, Teacher(TeacherSettings(url=url, **settings)) as teacher:
            try:
                await teacher.resolve_model()
                answer = await teacher.ask("hello", temperature=0.5, top_p=0.9, max_tokens=9, seed=3)
                return Asked(answer, None, stub)
            except TeacherError as error:
                return Asked(None, error, stub)

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth.teacher, "_FIRST_WAIT_S", 0.01)


def test_an_answer_carries_what_the_server_said() -> None:
    asked = ask([ok("four", "length")])
    assert asked.answer == Answer(
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
        (refusal(400, "The decoder prompt is too long"), TeacherFault.REFUSED, "prompt is too long"),
        (refusal(422, "bad field"), TeacherFault.REFUSED, "bad field"),
        (refusal(404, "The model `x` does not exist."), TeacherFault.UNKNOWN_MODEL, "teacher.model"),
        ((401, {"error": "Unauthorized"}, {}), TeacherFault.UNAUTHORIZED, "Unauthorized"),
        ((302, b"", {"Location": "http://127.0.0.1:9/"}), TeacherFault.REFUSED, "302"),
        ((200, b"x" * (9 * 2**20), {}), TeacherFault.REFUSED, "over 8 MiB"),
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
        async with Teacher(TeacherSettings(url="http://127.0.0.1:9/v1")) as teacher:
            await teacher.resolve_model()

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
        Teacher(TeacherSettings(url="http://h", api_key_env="TEACHER_KEY"))


@pytest.mark.parametrize("key", ["with\nbreak", "caf\u00e9", "bell\x07"])
def test_a_key_that_no_header_takes_is_said(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TEACHER_KEY", key)
    with pytest.raises(ConfigError, match="line break"):
        Teacher(TeacherSettings(url="http://h", api_key_env="TEACHER_KEY"))


@pytest.mark.parametrize("fault", [refusal(500, "broken"), "truncate", (200, b"nonsense", {})])
def test_what_a_row_may_end_with_does_not_name_the_server(fault: Any) -> None:
    asked = ask([fault], max_attempts=2)
    assert asked.error is not None
    assert "127.0.0.1" not in str(asked.error)


def test_no_more_are_in_flight_than_allowed() -> None:
    async def run() -> StubTeacher:
        stub = StubTeacher([ok()])
        async with stub.serve() as url, Teacher(TeacherSettings(url=url, max_in_flight=5)) as teacher:
            await asyncio.gather(
                *(teacher.ask("x", temperature=0, top_p=1, max_tokens=1, seed=i) for i in range(40))
            )
        return stub

    assert asyncio.run(run()).most_in_flight == 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_an_image_travels_as_a_data_url_of_its_kind(kind: str) -> None:
    part = image_part(Image(bytes=png(kind=kind), path="x"))
    assert part["image_url"]["url"].startswith(f"data:image/{kind.lower()};base64,")
