"""`avar eval`: a model in this process and behind a URL, resumed, refused, and printed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from filters.answers import is_correct
from flows import cli
from flows.evaluate.rows import RowSettings
from flows.evaluate.run import EvalRun, EvalSettings, default_folder, run_evaluation
from flows.evaluate.store import open_store
from flows.evaluate.tables import print_evaluation
from flows.orchestra import terminate_as_interrupt
from schemas.errors import ConfigError, FlowError, InterruptedRunError, ShardError, SourceError
from synth.requests import Request
from tests.conftest import ROOT
from tests.public_rows import PUBLIC, encoded
from tests.stub_server import stub_server
from tests.stub_teacher import StubTeacher, ok, refusal
from tests.tiny import make_row, student
from trainer.checkpoints import save_student
from trainer.generation import _count, generate_batches, generate_greedy
from trainer.messages import SYSTEM_PROMPT


@pytest.fixture(scope="module", name="model")
def save_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_student(*student(), tmp_path_factory.mktemp("student") / "tiny"))


@pytest.fixture(name="rows")
def write_rows(tmp_path: Path) -> str:
    """Seven rows of a local table; the last one has no picture."""
    folder = tmp_path / "discs"
    folder.mkdir()
    lines = []
    for index in range(7):
        row = make_row(index)
        (folder / f"{index}.png").write_bytes(row["images"][0]["bytes"])
        image = {} if index == 6 else {"image": f"{index}.png"}
        lines.append({"id": str(index), "question": row["question"], "answer": row["answer"]} | image)
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def settings(model: str, *datasets: str, **changes: Any) -> EvalSettings:
    names = {name: changes.pop(name) for name in list(changes) if name in RowSettings.__dataclass_fields__}
    given: dict[str, Any] = {"max_new_tokens": 6, "batch_size": 3} | changes
    return EvalSettings(model=model, datasets=datasets, rows=RowSettings(**names), **given)


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]


@contextmanager
def served(script: Sequence[Any], **options: Any) -> Iterator[tuple[str, StubTeacher]]:
    """A scripted server in a thread of its own."""
    stub, url = StubTeacher(list(script), **options), []
    ready, done = threading.Event(), None

    async def serve() -> None:
        nonlocal done
        done = asyncio.Event()
        async with stub.serve() as address:
            url.append(address)
            ready.set()
            await done.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield url[0], stub
    finally:
        assert done is not None
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


# ------------------------------------------------------------------------------------- in this process


def test_every_generation_is_kept_and_scored(model: str, rows: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = run_evaluation(settings(model, rows), out)
    lines = lines_of(out)
    assert [line["id"] for line in lines] == [str(index) for index in range(7)]
    loaded, processor = student()
    for line, index in zip(lines, range(7), strict=True):
        row: dict[str, Any] = make_row(index) | ({"images": []} if index == 6 else {})
        [alone] = generate_greedy(loaded, processor, [row], max_new_tokens=6)
        assert (line["text"], line["finished"], line["tokens"]) == (alone.text, alone.finished, alone.tokens)
        assert line["correct"] == is_correct(alone.text, row["answer"])
    assert run.result.overall.rows == 7
    stored = json.loads((out / "eval.json").read_text())
    assert stored == json.loads(json.dumps(run.to_dict()))
    assert stored["settings"]["model"] == model and stored["sources"]["discs"]["rows"] == 7


def test_a_batch_of_unequal_rows_is_answered_as_each_alone() -> None:
    model, processor = student()
    own = model.generation_config
    made: list[dict[str, Any]] = [make_row(index) for index in range(2)]
    made[1]["question"] += " Look twice, and then look at every corner of the image again."
    together = generate_greedy(model, processor, made, max_new_tokens=6)
    assert model.generation_config is own, "the model's own, as it was"
    [plain], [longer] = (generate_greedy(model, processor, [row], max_new_tokens=6) for row in made)
    assert together == [plain, longer]


def test_tokens_behind_the_end_are_padding() -> None:
    assert [_count(line, {2, 9}) for line in ([5, 2, 0, 0], [5, 6, 7], [9])] == [2, 3, 1]


def test_two_evaluations_do_not_share_a_folder(tmp_path: Path) -> None:
    with open_store(tmp_path, {"model": "m"}), pytest.raises(ShardError, match="another avar process"):
        open_store(tmp_path, {"model": "m"}).__enter__()


def test_what_was_answered_is_not_asked_again(
    model: str, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_evaluation(settings(model, rows), tmp_path / "whole")
    out, asked = tmp_path / "out", []

    def dying(*given: Any, **options: Any) -> Iterator[Any]:
        for number, batch in enumerate(generate_batches(*given, **options)):
            if number == 1:
                raise KeyboardInterrupt
            yield batch

    def counting(model: Any, processor: Any, rows: Any, **options: Any) -> Iterator[Any]:
        asked.append(len(rows))
        return generate_batches(model, processor, rows, **options)

    monkeypatch.setattr("trainer.generation.generate_batches", dying)
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(settings(model, rows), out)
    assert len(lines_of(out)) == 3 and not (out / "eval.json").exists(), "one batch was kept, one was lost"
    with (out / "generations.jsonl").open("a") as file:
        file.write('{"id": "3", "source": "dis')  # what a killed process leaves of a line
    monkeypatch.setattr("trainer.generation.generate_batches", counting)
    again = run_evaluation(settings(model, rows), out)
    assert asked == [4]
    assert lines_of(out) == lines_of(tmp_path / "whole")
    assert again.result.to_dict() == whole.result.to_dict()
    run_evaluation(settings(model, rows), out)
    assert asked == [4], "a finished one asks nothing and loads no model"


def test_more_rows_are_added_and_fewer_are_summed_up_alone(model: str, rows: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_evaluation(settings(model, rows, limit=2), out).result.overall.rows == 2
    assert run_evaluation(settings(model, rows, limit=5), out).result.overall.rows == 5
    before = (out / "generations.jsonl").read_bytes()
    assert run_evaluation(settings(model, rows, limit=3), out).result.overall.rows == 3
    assert (out / "generations.jsonl").read_bytes() == before


def test_more_rows_keep_their_rules_or_need_another_folder(model: str, rows: str, tmp_path: Path) -> None:
    """Of two datasets the second one's rows stand elsewhere then; another row's picture may be another."""
    twin = shutil.copytree(rows, tmp_path / "twin")
    for limit in (1, 2):
        given = settings(model, rows, str(twin), limit=limit, obedience=True, max_new_tokens=1)
        assert run_evaluation(given, tmp_path / "ruled").result.overall.rows == 2 * limit
    run_evaluation(settings(model, rows, limit=2, images="other", max_new_tokens=1), tmp_path / "other")
    with pytest.raises(ConfigError, match="was begun with limit = 2, now 3: choose another --out"):
        run_evaluation(settings(model, rows, limit=3, images="other", max_new_tokens=1), tmp_path / "other")


def test_a_mistyped_model_takes_no_folder(model: str, rows: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="no/such"):
        run_evaluation(settings("no/such", rows, limit=1), out)
    assert run_evaluation(settings(model, rows, limit=1, max_new_tokens=1), out).result.overall.rows == 1
    assert json.loads((out / "settings.json").read_text())["model"] == model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "other"}, r'was begun with model = ".*tiny", now "other": choose another --out'),
        ({"max_new_tokens": 7}, "was begun with max_new_tokens = 6, now 7"),
        ({"obedience": True}, "was begun with obedience = false, now true"),
        ({"images": "blank"}, 'was begun with images = "own", now "blank"'),
        ({"system": "Be brief."}, 'was begun with system = null, now "Be brief."'),
    ],
)
def test_another_question_goes_to_another_folder(
    changes: dict[str, Any], message: str, model: str, rows: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    begun = settings(model, rows, limit=2)
    (out / "settings.json").write_text(json.dumps(begun.stored(model)))
    (out / "generations.jsonl").write_text("{}\n")
    given = {"model": model, "limit": 2} | changes
    with pytest.raises(ConfigError, match=message):
        run_evaluation(settings(given.pop("model"), rows, **given), out)


def test_a_row_that_was_changed_and_a_folder_of_something_else_are_refused(
    model: str, rows: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_evaluation(settings(model, rows, limit=2), out)
    table = Path(rows) / "rows.jsonl"
    table.write_text(table.read_text().replace("discs are there?", "discs can you see?"))
    with pytest.raises(ConfigError, match="row 0 of discs was asked something else there"):
        run_evaluation(settings(model, rows, limit=2), out)
    for damaged in (b'{"id": "0"}\n', b"7\n", b"\xff\xfe\n"):
        (out / "generations.jsonl").write_bytes(damaged)
        with pytest.raises(ShardError, match="line 1: damaged"):
            run_evaluation(settings(model, rows, limit=2), out)
    with pytest.raises(ConfigError, match="holds something else than an evaluation"):
        run_evaluation(settings(model, rows, limit=2), Path(rows))
    with pytest.raises(ConfigError, match="answers greedily; serve it to sample"):
        run_evaluation(settings(model, rows, temperature=0.5), tmp_path / "sampled")


def test_a_picture_that_breaks_off_is_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(encoded()["bytes"][:200])
    (tmp_path / "rows.jsonl").write_text('{"id": "r7", "question": "q", "answer": "a", "image": "cut.png"}')
    with pytest.raises(SourceError, match="rows r7: an image cannot be decoded"):
        run_evaluation(settings(model, str(tmp_path / "rows.jsonl")), tmp_path / "out")


# ------------------------------------------------------------------------------------- behind a URL


@cache
def answer_of(question: str) -> str:
    """What the scripted server says to a question of `write_rows`: right for the even ones."""
    by_question = {make_row(index)["question"]: make_row(index)["answer"] for index in range(7)}
    return f"<think>So.</think><answer>{by_question[question]}</answer>"


def test_a_server_is_asked_as_a_model_in_this_process_is(rows: str, tmp_path: Path) -> None:
    async def reply(request: dict[str, Any]) -> Any:
        assert [message["role"] for message in request["messages"]] == ["system", "user"]
        assert request["messages"][0]["content"] == SYSTEM_PROMPT
        content = request["messages"][1]["content"]
        question = content if isinstance(content, str) else content[-1]["text"]
        images = [] if isinstance(content, str) else content[:-1]
        assert all(part["image_url"]["url"].startswith("data:image/png;base64,") for part in images)
        assert (request["temperature"], request["max_tokens"], request["model"]) == (0.0, 6, "stub")
        text = answer_of(question) if images else "<think>I cannot see"
        return ok(text, "stop" if images else "length")

    with served([reply]) as (url, stub):
        run = run_evaluation(settings(url, rows), tmp_path / "out")
        again = run_evaluation(settings(url, rows), tmp_path / "out")
    asked = {json.dumps(request["messages"]) for request in stub.requests}
    assert len(asked) == len(stub.requests) == 6, "two rows ask the same about the same picture"
    assert again.result.to_dict() == run.result.to_dict()
    share = run.result.sources["discs"]
    right = [
        is_correct(answer_of(make_row(index)["question"]), make_row(index)["answer"]) for index in range(6)
    ]
    assert (share.rows, share.accuracy) == (7, pytest.approx(sum(right) / 7))
    assert (share.parsed, share.truncated) == (pytest.approx(6 / 7), pytest.approx(1 / 7))
    assert {line["id"] for line in lines_of(tmp_path / "out")} == {str(index) for index in range(7)}


def test_refused_rows_are_wrong_and_the_rest_is_asked_again(rows: str, tmp_path: Path) -> None:
    mended = False

    async def reply(request: dict[str, Any]) -> Any:
        content = request["messages"][1]["content"]
        if isinstance(content, str):
            return refusal(400, "this prompt is not for me")
        if not mended and "green" in content[-1]["text"]:
            return 500, {"error": "broken"}, {}
        return ok("12")

    out = tmp_path / "out"
    green = sum("green" in make_row(index)["question"] for index in range(6))
    assert 0 < green < 6
    with served([reply]) as (url, _), pytest.MonkeyPatch.context() as patch:
        patch.setattr("synth.teacher._LONGEST_WAIT_S", 0.01)
        with pytest.raises(FlowError, match=rf"{green} of 7 rows have no answer .* asks for the rest"):
            run_evaluation(settings(url, rows), out)
        mended = True
        share = run_evaluation(settings(url, rows), out).result.overall
    assert (share.rows, share.failed) == (7, 1)
    [failed] = [line for line in lines_of(out) if line["error"]]
    assert failed["id"] == "6" and failed["error"].startswith("teacher_refused: ")


def test_thoughts_that_a_server_hands_out_apart_are_kept(rows: str, tmp_path: Path) -> None:
    status, body, headers = ok("<answer>3</answer>")
    body["choices"][0]["message"]["reasoning_content"] = "I count."
    with served([(status, body, headers)]) as (url, _):
        run_evaluation(settings(url, rows, limit=1), tmp_path / "out")
    [line] = lines_of(tmp_path / "out")
    assert (line["text"], line["answer"]) == ("<think>I count.</think><answer>3</answer>", "3")


def test_obedience_is_scored_by_rule(rows: str, tmp_path: Path) -> None:
    async def reply(request: dict[str, Any]) -> Any:
        return ok('{"answer": "3"}' if "JSON" in request["messages"][0]["content"] else "It is 3.")

    with served([reply]) as (url, _):
        run = run_evaluation(settings(url, rows, obedience=True), tmp_path / "out")
    assert run.result.obedience is not None
    shares = {name: score.share for name, score in run.result.obedience.rules.items()}
    assert shares == {"boxed": 0, "json": 1, "capitals": 0, "german": 0, "french": 0, "refuse": 0}
    assert run.result.overall.rows == 6, "the refusal has no right answer"


def test_ctrl_c_keeps_what_is_in_flight(rows: str, tmp_path: Path) -> None:
    async def reply(request: dict[str, Any]) -> Any:
        if len(stub.requests) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.2)
        return ok("<answer>3</answer>")

    out = tmp_path / "out"
    with served([reply]) as (url, stub):
        kept = "every answer is kept, and the same command goes on"
        with terminate_as_interrupt(), pytest.raises(InterruptedRunError, match=kept):
            run_evaluation(settings(url, rows, max_in_flight=1), out)
        assert len(stub.requests) == 3, "nothing more was asked"
        kept_now = {line["question"] for line in lines_of(out)}
        assert len(kept_now) == 3, "the third was in flight, and was waited for"
        assert run_evaluation(settings(url, rows, max_in_flight=1), out).result.overall.rows == 7
        assert len(stub.requests) == 6, "two rows ask the same"


def test_a_kill_costs_no_answer(tmp_path: Path) -> None:
    """SIGKILL in the middle; the second run asks only for what the first had no answer to."""
    lines = [{"id": str(n), "question": f"What is {n}?", "answer": "4"} for n in range(24)]
    table, out = tmp_path / "rows.jsonl", tmp_path / "out"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with stub_server(latency="fixed:0.3", tokens=40) as server:
        command = [sys.executable, "-m", "flows.cli", "eval", server.url, str(table), "--out", str(out)]
        process = subprocess.Popen(
            [*command, "--max-in-flight", "4"], cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not (out / "generations.jsonl").is_file() or len(lines_of(out)) < 8:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        kept = len(lines_of(out))
        server.reset()
        run = run_evaluation(settings(server.url, str(table), max_new_tokens=1024), out)
        asked = server.stats()["calls"]
    assert 8 <= kept < 24
    assert asked <= 24 - kept, "every line that was kept, and perhaps answers of the journal besides"
    assert run.result.overall.rows == 24
    assert {line["id"] for line in lines_of(out)} == {str(number) for number in range(24)}
    assert len(lines_of(out)) == 24


def test_a_request_without_a_system_message_keeps_its_key() -> None:
    """Older journals know requests by it."""
    given: dict[str, Any] = {"stage": "s", "model": "m", "content": ("q",), "temperature": 0.0, "top_p": 1.0}
    given |= {"max_tokens": 4, "seed": 0}
    plain = Request(**given)
    empty, other = (Request(**given, system=system) for system in ("", "x"))
    assert plain.key == empty.key != other.key
    assert plain.key.hex().startswith("73827e208632")
    assert b"system" not in plain.body({}) and b'"role":"system","content":"x"' in other.body({})


# ------------------------------------------------------------------------------------- the command


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["avar", "eval", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{model}", "nowhere"], 2, "nowhere: neither a file nor a benchmark"),
        (["{model}"], 2, "Missing argument 'DATASET...'"),
        (["no/such/model", "{rows}"], 2, "no/such/model"),
        (["http://127.0.0.1:9", "{rows}"], 1, "no teacher at http://127.0.0.1:9"),
        (["http://", "{rows}"], 2, "neither `embedded` nor an http(s) URL"),
        (["{url}", "{rows}", "--served-model", "x"], 1, "(it serves stub); give --served-model"),
        (["{url}", "{rows}", "--api-key-env", "NO_KEY"], 2, "--api-key-env: the environment variable NO_KEY"),
        (["{model}", "{rows}", "--temperature", "1"], 2, "--temperature: a model in this process"),
        (["{model}", "{rows}", "--served-model", "x"], 2, "--served-model: "),
        (["{model}", "{rows}", "--api-key-env", "HOME"], 2, "--api-key-env: "),
        (["{model}", "{rows}", "--system", "gone.txt"], 2, "--system gone.txt: cannot be read"),
        (["{model}", "{rows}", "--obedience", "--system", "{rows}"], 2, "leave out --system"),
        (["{model}", "mathvista"], 1, "give the path of a local copy instead of the name"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    words: str,
    model: str,
    rows: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served([ok()]) as (url, _):
        names = {"model": model, "rows": rows, "url": url}
        given = [argument.format(**names) for argument in arguments]
        assert command(monkeypatch, *given, "--out", tmp_path / "out") == code
    [line] = [line for line in capsys.readouterr().err.splitlines() if words in line]
    assert "Traceback" not in line


def test_the_command_prints_tables_or_json(
    model: str,
    rows: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    PUBLIC["hallusionbench"]().save_to_disk(tmp_path / "hallusionbench")
    names = (model, rows, tmp_path / "hallusionbench", "--max-new-tokens", "2", "--out", tmp_path / "out")
    assert command(monkeypatch, *names) == 0
    shown = capsys.readouterr().out
    assert "discs" in shown and "in all" in shown and "fAcc" in shown
    assert "raise --max-new-tokens" in " ".join(shown.split())
    assert command(monkeypatch, *names, "--json") == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {name: share["rows"] for name, share in result["sources"].items()} == {
        "discs": 7,
        "hallusionbench": 6,
    }
    assert result["overall"]["rows"] == 13
    assert result["official"]["hallusionbench"]["fAcc"]["groups"] == 3


def test_tables_say_what_they_leave_out(model: str, rows: str, tmp_path: Path) -> None:
    run = run_evaluation(settings(model, rows, images="blank", obedience=True, limit=6), tmp_path / "out")
    console = Console(width=100, record=True, file=io.StringIO())
    print_evaluation(console, EvalRun(run.settings, run.folder, run.result))
    shown = " ".join(console.export_text().split())
    for words in ("format rules", "the images are grey", "count for obedience alone", "greedy, at most 6"):
        assert words in shown
    assert default_folder(settings(model, rows, obedience=True)).name == "eval-tiny-discs-obedience"
    named = default_folder(settings("http://127.0.0.1:80/v1", "mmmu=/data/x", "a b.jsonl"))
    assert str(named) == "runs/eval-127.0.0.1-80-mmmu-a-b"
