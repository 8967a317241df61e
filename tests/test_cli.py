"""A person's mistake is one clear line and an exit code of 1 or 2, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from flows.report import find_samples, print_report, read_report
from flows.text import sanitize
from schemas.records import Sample, Status, sample_to_row
from schemas.shards import DatasetWriter
from tests.conftest import ROOT, Ran, avar
from tests.rows import draft, png, sample
from tests.test_sources import huge_png

CLOSED = "http://127.0.0.1:9"


def assert_one_line(ran: Ran, code: int, words: str) -> None:
    assert ran.code == code, (ran.out, ran.err)
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert len([line for line in ran.err.splitlines() if line.startswith(("avar:", "Error:"))]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nosuch"], 2, "no recipe named 'nosuch': shipped are demo, folder"),
        (["run", "missing.yaml"], 2, "no such recipe file"),
        (["run", "demo", "--set", "sorce.count=1"], 2, "unknown key `sorce`: did you mean `source`?"),
        (["run", "demo", "--set", "source.kind=hub"], 2, "unknown source 'hub'"),
        (["run", "demo", "--set", "source.count=none"], 2, "`source.count`"),
        (["run", "demo", "--out", "s3://bucket/x"], 2, "only local folders"),
        (["run", "folder", "--set", "source.path=/no/such"], 1, "/no/such is not a folder"),
        (["inspect", "/no/such"], 1, "/no/such: no such folder"),
        (["curate", "/no/such"], 1, "/no/such: no such folder"),
        (["vas", "nomodel", "/no/such"], 1, "/no/such: no such folder"),
        (["train", "sft", "demo", "--out", "x"], 2, "--data DIR"),
        (["teacher", "serve", "m", "--vllm", "/no/vllm"], 2, "make vllm-env"),
        (["inspect", "x" * 300], 2, "is no path"),
        (["run", "demo", "--out", "x" * 300], 2, "is no path"),
        (["inspect", "--samples", "-8", "x"], 2, "-8"),
        (["demo", "--jsn"], 2, "No such option"),
        (["frobnicate"], 2, "No such command"),
        (["inspect", "--samples", "many", "x"], 2, "not a valid integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    assert_one_line(avar(*arguments, cwd=tmp_path), code, words)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one good picture and no table yet."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    return folder


def test_a_teacher_that_is_down(tmp_path: Path, data: Path) -> None:
    (data / "items.jsonl").write_text('{"question": "q", "answer": "a", "image": "a.png"}')
    ran = avar(
        "synth",
        "folder",
        "--set",
        f"source.path={data}",
        "--set",
        f"teacher.url={CLOSED}",
        "--out",
        tmp_path / "out",
    )
    assert_one_line(ran, 1, f"no teacher at {CLOSED}")
    again = avar(
        "synth", "folder", "--set", f"source.path={data}", "--set", "seed=3", "--out", tmp_path / "out"
    )
    assert "holds another run" not in again.err


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"question": "q", "answer": "a", "image": "a.png"}')
    ran = avar("synth", "folder", "--set", f"source.path={tmp_path}", "--out", tmp_path / "out")
    assert_one_line(ran, 1, "holds no image")


def test_a_key_is_named_and_never_shown(tmp_path: Path, data: Path) -> None:
    (data / "items.jsonl").write_text('{"question": "q", "answer": "a", "image": "a.png"}')
    sets = [f"source.path={data}", f"teacher.url={CLOSED}", "teacher.api_key_env=MY_KEY"]
    flags = [flag for pair in sets for flag in ("--set", pair)]
    assert_one_line(avar("synth", "folder", "--out", tmp_path / "out", *flags), 2, "MY_KEY is not set")
    keyed = avar("synth", "folder", "--out", tmp_path / "out", *flags, environment={"MY_KEY": "hunter2"})
    assert keyed.code == 1
    written = "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert "hunter2" not in keyed.out + keyed.err + written
    assert "MY_KEY" in written


def test_bad_rows_fail_and_the_others_go_on(tmp_path: Path) -> None:
    """The embedded teacher refuses pictures that it cannot read; the run ends well all the same."""
    data = tmp_path / "data"
    data.mkdir()
    pictures = {"empty.png": b"", "cut.png": png(size=(200, 200))[:90], "huge.png": huge_png(31623, 31623)}
    for name, content in {"plain.png": png(), **pictures}.items():
        (data / name).write_bytes(content)
    rows = [
        {"question": "What?", "answer": "a", "image": name} for name in ("plain.png", *pictures, "none.png")
    ]
    rows += [{"question": "Unanswered?", "image": "plain.png"}]
    (data / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ran = avar(
        *("run", "folder", "--json", "--out", tmp_path / "out"),
        *("--set", f"source.path={data}", "--set", "teacher.url=embedded"),
    )
    assert ran.code == 0, ran.err
    assert (ran.last_json["problems"], ran.last_json["failed"]) == (6, 6)
    assert ran.last_json["reasons"] == {
        "image_missing": 1,
        "image_refused": 1,
        "image_too_large": 1,
        "image_unreadable": 2,
        "no_answer": 1,
    }


def hostile_dataset(root: Path) -> None:
    hostile = "[/b] [red]x[/red] \x1b[31mred\x1b[0m \x1b]0;title\x07 <script>alert(1)</script> \u202eabc"
    accepted = sample(0).draft
    rows = [
        Sample(draft=draft(0, trace=hostile), status=Status.ACCEPTED),
        Sample(draft=accepted, status=Status.REJECTED, reason="answer_wrong", detail=hostile),
    ]
    with DatasetWriter(root) as writer:
        for row in rows:
            writer.write("train" if row.status is Status.ACCEPTED else "rejected", sample_to_row(row))


def test_a_teachers_text_is_printed_and_never_obeyed(tmp_path: Path) -> None:
    hostile_dataset(tmp_path)
    ran = avar("inspect", tmp_path, environment={"FORCE_COLOR": "1", "COLUMNS": "200"})
    assert ran.code == 0, ran.err
    assert "[/b] [red]x[/red]" in ran.out
    assert "<script>alert(1)</script>" in ran.out
    assert "\x1b[31mred" not in ran.out
    assert "\x1b]0;" not in ran.out
    assert "\u202e" not in ran.out


def test_inspect_survives_a_narrow_terminal(tmp_path: Path) -> None:
    hostile_dataset(tmp_path)
    console = Console(width=20, record=True, force_terminal=False)
    rows = find_samples(tmp_path, Status.ACCEPTED, 1)
    print_report(console, read_report(tmp_path), rows)
    assert "problems 2" in console.export_text()


@pytest.mark.parametrize("text", ["\x00\x1b[2J\x7f\x9b", "a\rb", "\u2066x\u2069"])
def test_control_characters_become_visible(text: str) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in sanitize(text))
    assert len(sanitize(text)) == len(text)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PREFECT_API_URL", "foo", "no Prefect server answers there"),
        ("XDG_CACHE_HOME", "/proc/none", "set XDG_CACHE_HOME"),
    ],
)
def test_a_wrong_environment_is_one_line(tmp_path: Path, name: str, value: str, words: str) -> None:
    arguments = ("run", "demo", "--out", tmp_path / "out", "--set", "source.count=2")
    assert_one_line(avar(*arguments, environment={name: value}, own_prefect=True), 1, words)


def test_a_run_whose_recipe_was_broken_says_so(tmp_path: Path) -> None:
    sets = ("--set", "source.count=2", "--out", tmp_path / "out")
    assert avar("synth", "demo", *sets).code == 0
    (tmp_path / "out" / "recipe.yaml").write_text("a: [")
    assert_one_line(avar("synth", "demo", *sets), 2, "not YAML")


def test_a_program_that_cannot_run_is_no_vllm(tmp_path: Path) -> None:
    (tmp_path / "vllm").write_text("text")
    assert_one_line(avar("teacher", "serve", "m", "--vllm", tmp_path / "vllm"), 2, "make vllm-env")


def test_every_command_has_help_with_an_example() -> None:
    commands = ["demo", "synth", "curate", "run", "inspect", "train sft", "vas"]
    commands += ["teacher serve", "teacher check", "train grpo", "eval", "steer", "ladder"]
    for command in commands:
        ran = avar(*command.split(), "--help")
        assert ran.code == 0
        assert f"avar {command.split()[0]}" in ran.out.split("Example:")[1]


def test_output_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    hostile_dataset(tmp_path)
    import subprocess
    import sys

    command = f"{sys.executable} -m flows.cli inspect {tmp_path} --samples 1 | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
