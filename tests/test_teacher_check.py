"""`avar teacher check`: what a server supports is judged by what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from rich.console import Console

from flows.children import serve_child
from flows.teacher_check import Findings, check_teacher, print_findings
from flows.teacher_probes import Finding
from schemas.errors import AvarError, ConfigError, TeacherError
from tests.conftest import Ran, avar
from tests.stub_teacher import StubTeacher, ok, refusal
from tests.vllm_server import KEYED, Server

ALL = (
    *("models", "image", "chat", "n", "seed", "structured_output", "logprobs", "prompt_logprobs"),
    *("uuid", "usage", "cached_tokens", "reasoning", "metrics", "streaming"),
)


def check_stub(script: list[Any], **settings: Any) -> Findings:
    """What is found out about a scripted server."""

    async def go() -> Findings:
        async with StubTeacher(script).serve() as url:
            return await asyncio.to_thread(check_teacher, url, **settings)

    return asyncio.run(go())


def check(*arguments: str, environment: dict[str, str] | None = None) -> Ran:
    """The command; it needs no Prefect."""
    return avar("teacher", "check", *arguments, environment=environment, own_prefect=True)


def supported(findings: Findings) -> set[str]:
    assert tuple(findings.supports) == ALL
    return {name for name, finding in findings.supports.items() if finding.ok}


def test_a_server_that_ignores_what_it_does_not_know_is_not_believed() -> None:
    findings = check_stub([ok("the same")])
    assert supported(findings) == {"models", "chat", "usage"}
    assert "images are ignored" in findings.supports["image"].detail
    assert "one answer" in findings.supports["seed"].detail
    assert "uuids are ignored" in findings.supports["uuid"].detail
    with pytest.raises(TeacherError, match="stub cannot serve avar's stages: no image") as caught:
        findings.require_stages()
    assert "\n" not in str(caught.value)


def test_a_server_with_answers_of_its_own_will_ignores_the_seed() -> None:
    findings = check_stub([ok(f"answer {number}") for number in range(60)])
    assert "ignored" in findings.supports["seed"].detail
    assert not findings.supports["seed"].ok


def test_a_text_only_server_is_told_from_one_that_reads_images() -> None:
    findings = check_stub([refusal(400, "this model takes no images")])
    assert supported(findings) == {"models"}
    assert "takes no images" in findings.supports["image"].detail


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    findings = check_stub(["hang"], timeout_s=0.1)
    assert supported(findings) == {"models"}
    assert findings.supports["chat"].detail == "no answer within 0.1 s (--timeout)"


def test_the_embedded_teacher_serves_the_stages_and_little_else(tmp_path: Path) -> None:
    with serve_child("embedded", tmp_path / "log") as url:
        ran = check(url + "/v1/", "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert (report["url"], report["model"]) == (url, "avar-embedded")
    yes = {name for name, finding in report["supports"].items() if finding["ok"]}
    assert yes == {"models", "image", "chat", "seed", "usage"}
    assert "only 1 answer per request" in report["supports"]["n"]["detail"]
    assert report["supports"]["metrics"]["detail"] == "no such page (404)"


@asynccontextmanager
async def serve_page(status: int, body: str) -> AsyncIterator[str]:
    """A server with one answer to everything."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "<html>hello</html>", "not JSON"),
        (200, '{"data": 3}', "no list of models"),
        (200, '{"data": []}', "it serves none"),
        (200, '{"data": [{"id": "a"}, {"id": "b"}]}', "serves several models (it serves a, b)"),
        (401, '{"error": "Unauthorized"}', "--api-key-env"),
        (404, "<html>nothing\nhere</html>", "there is no such page (404)"),
        (502, "bad\ngateway", "502: bad gateway"),
        (307, "", "a redirection"),
    ],
)
def test_what_is_no_teacher_is_one_line(status: int, body: str, words: str) -> None:
    async def go() -> None:
        async with serve_page(status, body) as url:
            await asyncio.to_thread(check_teacher, url)

    with pytest.raises(TeacherError) as caught:
        asyncio.run(go())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "settings", "kind", "words"),
    [
        ("http://127.0.0.1:1", {}, TeacherError, "no connection to http://127.0.0.1:1"),
        ("127.0.0.1:8000", {}, ConfigError, "neither `embedded` nor an http"),
        ("embedded", {}, ConfigError, "give a URL"),
        ("http://127.0.0.1:1", {"api_key_env": "AVAR_NO_SUCH_KEY"}, ConfigError, "AVAR_NO_SUCH_KEY"),
    ],
)
def test_a_wrong_address_is_one_line(
    url: str, settings: dict[str, Any], kind: type[AvarError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        check_teacher(url, **settings)
    assert "\n" not in str(caught.value)


def test_the_command_ends_with_one_line_and_its_exit_code() -> None:
    ran = check("http://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("avar: http://127.0.0.1:1/v1/models: no connection")
    assert ran.err.count("\n") == 1


def test_the_table_shows_a_strangers_words_and_obeys_none() -> None:
    hostile = Finding(False, "[red]not markup[/red] \x1b[2J")
    console = Console(width=100, record=True, force_terminal=False)
    print_findings(console, Findings("http://x", "m[b]", {"image": hostile, "n": Finding(True, "two")}))
    text = console.export_text()
    assert "[red]not markup[/red]" in text
    assert "\x1b" not in text
    assert "m[b] at http://x" in text


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_a_real_vllm_supports_everything_but_what_its_model_lacks(server: Server) -> None:
    ran = check(server.url, "--api-key-env", "TEACHER_KEY", "--json", environment=KEYED)
    assert ran.code == 0, ran.err
    supports = ran.last_json["supports"]
    assert {name for name, finding in supports.items() if not finding["ok"]} == {"reasoning"}
    assert "owned by vllm, 2048 tokens" in supports["models"]["detail"]


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_a_real_vllm_wants_its_key(server: Server) -> None:
    ran = check(server.url, "--api-key-env", "TEACHER_KEY", environment={"TEACHER_KEY": "x"})
    assert ran.code == 1
    assert "not let in (401, 403, or a redirection)" in ran.err
