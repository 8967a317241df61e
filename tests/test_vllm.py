"""The whole pipeline against a real vLLM server with a tiny random Qwen2.5-VL.

A random model writes rubbish. What counts is that every row ends accounted for with an honest reason, that
nothing crashes, and that what the server does in its own way is met.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from filters.answers import is_correct
from flows.evaluate.run import EvalSettings, run_evaluation
from schemas.errors import TeacherError, TeacherFault
from schemas.records import Image
from schemas.runs import iterate_drafts
from schemas.shards import load_dataset_dict
from synth.requests import Answer, Outcome
from tests.conftest import SHARED_DATA, Ran, avar
from tests.rows import png
from tests.vllm_server import CONTEXT, KEYED, Server
from tests.vllm_teacher import image_of, open_teacher, short_request

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


def run_folder(server: Server, data: Path, out: Path, *sets: str, command: str = "run") -> Ran:
    """`avar run folder` with short answers."""
    pairs = [
        f"source.path={data}",
        f"teacher.url={server.url}",
        "teacher.api_key_env=TEACHER_KEY",
        "teacher.max_in_flight=16",
        *(f"{stage}.max_tokens=48" for stage in ("describe", "reason", "anchor")),
        *(f"{stage}.keep_truncated=true" for stage in ("describe", "reason", "anchor")),
        *sets,
    ]
    flags = [flag for pair in pairs for flag in ("--set", pair)]
    return avar(command, "folder", "--out", out, "--json", *flags, timeout=500, environment=KEYED)


def test_real_puzzles_end_accounted_for(server: Server, tmp_path: Path) -> None:
    data = SHARED_DATA / "algopuzzlevqa"
    if not data.is_dir():
        pytest.skip("the real pictures are not beside the project")
    short = (f"{stage}.max_tokens=16" for stage in ("describe", "reason", "anchor"))
    ran = run_folder(server, data, tmp_path / "run", "partition_size=40", *short)
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
    assert (reasons["image_unreadable"], reasons["no_answer"], reasons["prompt_too_long"]) == (1, 1, 1)
    [refused] = [row for row in iterate_drafts(tmp_path / "run") if row["reason"] == "prompt_too_long"]
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


def ask(server: Server, folder: Path, *content: str | Image, **settings: Any) -> Outcome:
    """The answer to a short question, or the error."""

    async def go() -> Outcome:
        async with open_teacher(server, folder, **({"max_attempts": 2} | settings)) as asked:
            try:
                return await asked.teacher.ask(short_request(*content, model=settings.get("model", "tiny")))
            except TeacherError as error:
                return error

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("content", "settings", "fault"),
    [
        (image_of(png(size=(200, 200))[:90]), {}, TeacherFault.IMAGE_REFUSED),
        (image_of(b"\x89PNG and no more"), {}, TeacherFault.IMAGE_REFUSED),
        ("word " * 20_000, {}, TeacherFault.TOO_LONG),
        ("hello", {"model": "other"}, TeacherFault.UNKNOWN_MODEL),
        ("hello", {"api_key_env": None}, TeacherFault.UNAUTHORIZED),
    ],
)
def test_what_the_server_refuses_has_its_own_name(
    server: Server, tmp_path: Path, content: str | Image, settings: dict[str, Any], fault: TeacherFault
) -> None:
    error = ask(server, tmp_path, content, **settings)
    assert isinstance(error, TeacherError)
    assert error.fault is fault
    assert "\n" not in str(error)


def test_an_image_and_a_text_are_answered_the_same_twice(server: Server, tmp_path: Path) -> None:
    content = (image_of(png()), "What is this?")
    first, second = (ask(server, tmp_path / name, *content) for name in ("a", "b"))
    assert isinstance(first, Answer) and isinstance(second, Answer)
    assert first.text == second.text


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


def test_a_served_model_is_evaluated(server: Server, tmp_path: Path) -> None:
    """A random model is wrong; what counts is that each row is asked once, kept, checked and summed up."""
    for index in range(6):
        (tmp_path / f"{index}.png").write_bytes(png(("red", "blue")[index % 2], size=(60 + index, 60)))
    lines = [
        {"id": index, "question": "What colour?", "answer": "red", "image": f"{index}.png"}
        for index in range(6)
    ]
    lines.append({"id": 6, "question": "very long " * 4000, "answer": "red", "image": "0.png"})
    table, out = tmp_path / "rows.jsonl", tmp_path / "out"
    table.write_text("\n".join(map(json.dumps, lines)))
    server.settings()  # puts the key into the environment
    settings = EvalSettings(
        model=server.url, datasets=(str(table),), max_new_tokens=8, api_key_env="TEACHER_KEY"
    )
    run = run_evaluation(settings, out)
    kept = [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]
    assert {line["id"] for line in kept} == {str(index) for index in range(7)}
    share = run.result.overall
    right = sum(is_correct(line["text"], "red") for line in kept if not line["error"])
    assert (share.rows, share.failed) == (7, 1)
    assert share.accuracy == pytest.approx(right / 7)
    [failed] = [line for line in kept if line["error"]]
    assert failed["id"] == "6" and failed["error"].startswith("prompt_too_long")
    assert all(0 < line["tokens"] <= 8 for line in kept if not line["error"])
    before = (out / "generations.jsonl").read_bytes()
    assert run_evaluation(settings, out).to_dict() == run.to_dict()
    assert (out / "generations.jsonl").read_bytes() == before
