"""The whole pipeline against a real vLLM server with a tiny random Qwen2.5-VL.

A random model writes rubbish. What counts is that every row ends accounted for with an honest reason, that
nothing crashes, and that what the server does in its own way is met.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from flows.children import free_port, wait_until_ready
from flows.teacher_server import find_vllm
from schemas.config import ScenesSource, StudentSettings, TeacherSettings
from schemas.errors import ConfigError, TeacherError, TeacherFault
from schemas.records import Image
from schemas.runs import iterate_drafts
from schemas.shards import load_dataset_dict
from synth.scenes import draw_problems
from synth.teacher import Teacher, image_part, text_part
from tests.conftest import ROOT, SHARED_DATA, Ran, avar
from tests.rows import png

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

KEY = "test-key"
KEYED = {"TEACHER_KEY": KEY}
CONTEXT = 2048


@dataclass(frozen=True)
class Server:
    """A running vLLM."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen2.5-VL, saved as any Hugging Face model."""
    from synth.prompts import anchor_prompt, describe_prompt, reason_prompt
    from trainer.student import build_student, save_student

    problems = list(draw_problems(ScenesSource(count=20), 0))
    texts = [t for p in problems for t in (describe_prompt(p), reason_prompt(p, "x"), anchor_prompt(p, "y"))]
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return save_student(*build_student(StudentSettings(), texts, seed=0), folder)


@pytest.fixture(scope="session")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`avar teacher serve` on a free port, with a key."""
    try:
        find_vllm(None)
    except ConfigError as error:
        pytest.skip(str(error))
    port, log = free_port(), tmp_path_factory.mktemp("vllm") / "server.log"
    flags = ("--served-model-name", "tiny", "--max-model-len", str(CONTEXT), "--api-key", KEY)
    serve = ("teacher", "serve", str(model_folder), "--port", str(port), "--", *flags)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *serve],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/health", log, limit_s=240)
        yield Server(process, f"http://127.0.0.1:{port}", log)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends `avar teacher serve`, and checks that it ends vLLM and every process of vLLM's."""
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    process.wait(40)
    _, left = psutil.wait_procs(started, timeout=10)
    for survivor in left:
        survivor.kill()
    assert not left


def run_folder(server: Server, data: Path, out: Path, *sets: str, command: str = "run") -> Ran:
    """`avar run folder` with short answers."""
    pairs = [
        f"source.path={data}",
        f"teacher.url={server.url}",
        "teacher.api_key_env=TEACHER_KEY",
        "teacher.max_in_flight=16",
        *(f"{stage}.max_tokens=48" for stage in ("describe", "reason", "anchor")),
        *sets,
    ]
    flags = [flag for pair in pairs for flag in ("--set", pair)]
    return avar(command, "folder", "--out", out, "--json", *flags, timeout=500, environment=KEYED)


def test_real_puzzles_end_accounted_for(server: Server, tmp_path: Path) -> None:
    data = SHARED_DATA / "algopuzzlevqa"
    if not data.is_dir():
        pytest.skip("the real pictures are not beside the project")
    ran = run_folder(server, data, tmp_path / "run", "partition_size=40")
    assert ran.code == 0, ran.err
    result = ran.last_json
    assert result["problems"] == 150
    assert result["problems"] == result["accepted"] + result["rejected"] + result["failed"]
    assert sum(result["reasons"].values()) == result["rejected"] + result["failed"]

    rows = list(iterate_drafts(tmp_path / "run"))
    through = [
        row for row in rows if [call["stage"] for call in row["calls"]] == ["describe", "reason", "anchor"]
    ]
    assert len(through) >= 140, result["reasons"]
    assert {call["model"] for row in rows for call in row["calls"]} == {"tiny"}
    assert all(call["prompt_tokens"] > 16 for row in through for call in row["calls"])
    assert {call["finish_reason"] for row in through for call in row["calls"]} <= {
        "length",
        "stop",
        "repetition",
    }
    assert result["reasons"].get("truncated", 0) > 0

    loaded = load_dataset_dict(tmp_path / "run")
    assert sum(len(split) for split in loaded.values()) == 150
    assert loaded["rejected"][0]["images"][0].size[0] > 100


def test_bad_rows_fail_beside_good_ones(server: Server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, content in {"a.png": png(size=(120, 90)), "b.webp": png("blue", kind="WEBP")}.items():
        (data / name).write_bytes(content)
    (data / "cut.png").write_bytes(png(size=(300, 300))[:100])
    rows = [
        '{"question": "What colour?", "answer": "red", "image": "a.png"}',
        '{"question": "What colour?", "answer": "blue", "image": "b.webp"}',
        '{"question": "What colour?", "answer": "red", "image": "cut.png"}',
        '{"question": "No answer?", "image": "a.png"}',
        '{"question": "%s", "answer": "red", "image": "a.png"}' % ("very long " * 4000),
    ]
    (data / "items.jsonl").write_text("\n".join(rows))
    ran = run_folder(server, data, tmp_path / "run")
    assert ran.code == 0, ran.err
    reasons = ran.last_json["reasons"]
    assert ran.last_json["problems"] == 5
    assert (reasons["image_unreadable"], reasons["no_answer"], reasons["teacher_refused"]) == (1, 1, 1)
    [refused] = [row for row in iterate_drafts(tmp_path / "run") if row["reason"] == "teacher_refused"]
    assert refused["stage"] == "reason"
    assert "400" in refused["detail"]
    assert str(CONTEXT) in refused["detail"]


def test_a_finished_run_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.png").write_bytes(png())
    (data / "items.jsonl").write_text('{"question": "What colour?", "answer": "red", "image": "a.png"}')
    first = run_folder(server, data, tmp_path / "run", command="synth")
    shard = tmp_path / "run" / "drafts" / "part-00000.arrow"
    before = shard.stat().st_mtime_ns
    second = run_folder(server, data, tmp_path / "run", command="synth")
    assert (first.code, second.code) == (0, 0), second.err
    assert shard.stat().st_mtime_ns == before


def ask(server: Server, content: Any, **settings: Any) -> TeacherError | str:
    """The text of an answer, or the error."""

    async def go() -> TeacherError | str:
        os.environ["TEACHER_KEY"] = KEY
        given = {"url": server.url, "model": "tiny", "api_key_env": "TEACHER_KEY", "max_attempts": 2}
        async with Teacher(TeacherSettings(**(given | settings))) as teacher:
            try:
                return (await teacher.ask(content, temperature=0, top_p=1, max_tokens=8, seed=1)).text
            except TeacherError as error:
                return error

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("content", "settings", "fault"),
    [
        ([image_part(Image(bytes=png(size=(200, 200))[:90], path="x"))], {}, TeacherFault.REFUSED),
        (
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}}],
            {},
            TeacherFault.REFUSED,
        ),
        ("word " * 20_000, {}, TeacherFault.REFUSED),
        ("hello", {"model": "other"}, TeacherFault.UNKNOWN_MODEL),
        ("hello", {"api_key_env": None}, TeacherFault.UNAUTHORIZED),
    ],
)
def test_what_the_server_refuses_has_its_own_name(
    server: Server, content: Any, settings: dict[str, Any], fault: TeacherFault
) -> None:
    error = ask(server, content, **settings)
    assert isinstance(error, TeacherError)
    assert error.fault is fault
    assert "\n" not in str(error)


def test_an_image_and_a_text_are_answered_the_same_twice(server: Server) -> None:
    content = [image_part(Image(bytes=png(), path="x")), text_part("What is this?")]
    assert isinstance(ask(server, content), str)
    assert ask(server, content) == ask(server, content)


@pytest.mark.parametrize(
    ("sets", "environment", "words"),
    [
        (["teacher.model=other"], KEYED, "does not serve 'other' (it serves tiny)"),
        ([], {}, "TEACHER_KEY is not set"),
        ([], {"TEACHER_KEY": "wrong"}, "answered 401"),
    ],
)
def test_a_wrong_teacher_is_one_line(
    server: Server, tmp_path: Path, sets: list[str], environment: dict[str, str], words: str
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "items.jsonl").write_text('{"question": "q", "answer": "a", "image": "a.png"}')
    pairs = [f"source.path={tmp_path}", f"teacher.url={server.url}", "teacher.api_key_env=TEACHER_KEY", *sets]
    flags = [flag for pair in pairs for flag in ("--set", pair)]
    os.environ.pop("TEACHER_KEY", None)
    ran = avar("synth", "folder", "--out", tmp_path / "out", *flags, environment=environment)
    assert ran.code in {1, 2}
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_a_server_that_dies_stops_the_run_and_loses_nothing(server: Server, tmp_path: Path) -> None:
    """Last in the file: it kills the server."""
    data = tmp_path / "data"
    data.mkdir()
    for index in range(120):
        (data / f"{index}.png").write_bytes(png(size=(40 + index, 60)))
    line = '{{"question": "What is shown?", "answer": "a", "image": "{}.png"}}'
    (data / "items.jsonl").write_text("\n".join(line.format(index) for index in range(120)))

    def kill_after_the_first_shard() -> None:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "run").glob("drafts/part-*.arrow")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in psutil.Process(server.process.pid).children(recursive=True):
            process.kill()

    killer = Thread(target=kill_after_the_first_shard)
    killer.start()
    ran = run_folder(
        server, data, tmp_path / "run", "partition_size=10", "teacher.max_attempts=2", command="synth"
    )
    killer.join()
    assert ran.code == 1
    assert "is the server running?" in ran.err
    assert "Traceback" not in ran.err
    done = len(list(iterate_drafts(tmp_path / "run")))
    assert 10 <= done < 120
    assert all(row["status"] == "drafted" for row in iterate_drafts(tmp_path / "run"))
