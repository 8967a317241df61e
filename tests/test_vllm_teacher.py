"""The teacher's client against a real vLLM: images sent once, full queues, cancelled calls, dead engines.

The tests in which the server dies stand last and share one; each starts it where the one before left it dead.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Thread

import psutil
import pytest

from schemas.config import ScenesSource, parse_recipe
from schemas.errors import TeacherFault
from schemas.records import Draft, Image, Problem, Stage
from schemas.runs import iterate_drafts
from synth.engine import open_engine
from synth.journal import Journal
from synth.requests import Answer, Request
from synth.scenes import draw_problems
from synth.server import Server as Client
from synth.stages import stage_text
from tests.rows import png
from tests.test_vllm import run_folder
from tests.vllm_server import QUEUE, Mortal, Server
from tests.vllm_teacher import CountingProxy, image_of, open_teacher, short_request

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

BATCH = 256  # tokens: less than two prompts of a stage, so that chunked prefill splits one
STAGES = ("describe", "reason", "anchor")


def noise(seed: int, side: int = 224) -> Image:
    """An image that no compression makes small: some 150 kB."""
    import io

    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side)).save(buffer, "PNG")
    return image_of(buffer.getvalue())


async def wait_for(condition: Callable[[], Awaitable[bool]], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not await condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.05)


# ------------------------------------------------------------------------------------------- images


def test_an_image_is_sent_once_and_then_referred_to(server: Server, tmp_path: Path) -> None:
    image, questions = noise(1), ("What is shown?", "How many?", "Which colour?")

    async def go(folder: Path, **settings: object) -> tuple[list[str], list[int]]:
        proxy, texts, sent = CountingProxy(server.url), [], []
        async with proxy.serve() as url, open_teacher(server, folder, url=url, **settings) as asked:
            for question in questions:
                before = proxy.sent
                texts.append((await asked.teacher.ask(short_request(image, question))).text)
                sent.append(proxy.sent - before)
        return texts, sent

    texts, sent = asyncio.run(go(tmp_path / "reused"))
    assert sent[0] > 4 / 3 * len(image.bytes)
    assert max(sent[1:]) < 2000
    plain_texts, plain_sent = asyncio.run(go(tmp_path / "plain", reuse_images=False))
    assert min(plain_sent) > 4 / 3 * len(image.bytes)
    assert texts == plain_texts


def test_an_image_that_the_server_forgot_is_sent_again(server: Server, tmp_path: Path) -> None:
    request = short_request(noise(2), "What is shown?")

    async def go() -> Answer:
        async with open_teacher(server, tmp_path, max_attempts=1) as asked:
            asked.client.held.add(image.sha256 for image in request.images)  # but it never saw the image
            answer = await asked.teacher.ask(request)
            assert (asked.client.images_referred, asked.client.images_sent) == (1, 1)
            return answer

    assert asyncio.run(go()).prompt_tokens > 16


# ------------------------------------------------------------------------------------------- the queue


def test_a_full_queue_ends_with_every_answer_there(server: Server, tmp_path: Path) -> None:
    requests = [short_request(f"Question {number}?", seed=number, max_tokens=16) for number in range(64)]

    async def go() -> None:
        settings = {"max_in_flight": 2 * QUEUE, "min_in_flight": 2 * QUEUE, "max_attempts": 2}
        async with open_teacher(server, tmp_path, **settings) as asked:
            answers = await asyncio.gather(*map(asked.teacher.ask, requests))
            assert len(answers) == len(requests) == asked.journal.count()
            retries = asked.ledger.to_dict()["describe"]["tiny"]["retries"]
            assert set(retries) == {TeacherFault.OVERLOADED}
            assert retries[TeacherFault.OVERLOADED] > 0

    asyncio.run(go())


def test_a_cancelled_call_frees_the_server_and_its_image_can_be_asked_about_again(
    server: Server, tmp_path: Path
) -> None:
    image = noise(3)
    long = short_request(image, "Go on and on.", max_tokens=1500, options={"ignore_eos": True})

    async def go() -> None:
        async with open_teacher(server, tmp_path) as asked:

            async def running(count: int) -> bool:
                queue = await asked.client.read_queue()
                return queue is not None and queue.running + queue.waiting == count

            call = asyncio.create_task(asked.teacher.ask(long))
            await wait_for(lambda: running(1))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await wait_for(lambda: running(0))
            assert asked.client.in_flight == 0
            assert asked.journal.count() == 0
            assert (await asked.teacher.ask(short_request(image, "And now?"))).completion_tokens > 0

    asyncio.run(go())


def test_an_image_whose_call_was_cancelled_at_once_can_be_asked_about(server: Server, tmp_path: Path) -> None:
    """vLLM may answer the next request for it with one 500."""

    async def go() -> None:
        async with open_teacher(server, tmp_path) as asked:
            for number, delay_s in enumerate((0.0, 0.005, 0.02, 0.05), start=10):
                request = short_request(noise(number), "What is shown?")
                call = asyncio.create_task(asked.teacher.ask(request))
                await asyncio.sleep(delay_s)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                assert (await asked.teacher.ask(request)).completion_tokens > 0

    asyncio.run(go())


# ------------------------------------------------------------------------------------------- further fields


def test_a_choice_is_kept_to_and_its_probability_comes_with_it(server: Server, tmp_path: Path) -> None:
    options = {"structured_outputs": {"choice": ["yes", "no"]}, "logprobs": True, "top_logprobs": 5}
    request = short_request(noise(4), "Is it red?", max_tokens=16, options=options)

    async def go() -> Answer:
        async with open_teacher(server, tmp_path) as asked:
            await asked.teacher.ask(request)
            answer = asked.teacher.recall(request)
            assert answer is not None
            return answer

    answer = asyncio.run(go())
    assert answer.text in {"yes", "no"}
    assert len(answer.first_logprobs) == 5
    assert all(logprob <= 0 for _, logprob in answer.first_logprobs)


def test_a_streamed_answer_is_the_same(server: Server, tmp_path: Path) -> None:
    request = short_request(noise(5), "What is shown?", max_tokens=24)

    async def go(stream: bool) -> Answer:
        async with open_teacher(server, tmp_path / str(stream), stream=stream) as asked:
            return await asked.teacher.ask(request)

    plain, streamed = asyncio.run(go(False)), asyncio.run(go(True))
    assert (plain.text, plain.finish_reason) == (streamed.text, streamed.finish_reason)
    assert (plain.prompt_tokens, plain.completion_tokens) == (
        streamed.prompt_tokens,
        streamed.completion_tokens,
    )


# ------------------------------------------------------------------------------------------- thoughts


def test_thoughts_that_the_server_keeps_apart_are_read(mortal: Mortal, tmp_path: Path) -> None:
    """vLLM's parser takes what stands before `</think>` out of the answer, whose form is given here."""
    apart = ("--reasoning-parser", "deepseek_r1", "--structured-outputs-config.enable_in_reasoning", "true")
    server = mortal.start(*apart)
    form = {"structured_outputs": {"regex": "[a-e]{4,12}</think>(yes|no)"}}
    request = short_request(noise(6), "Is it red?", max_tokens=48, options=form)

    async def go(stream: bool) -> Answer:
        async with open_teacher(server, tmp_path / str(stream), stream=stream) as asked:
            return await asked.teacher.ask(request)

    try:
        for answer in (asyncio.run(go(False)), asyncio.run(go(True))):
            assert re.fullmatch("[a-e]{4,12}", answer.reasoning)
            assert answer.text in {"yes", "no"}
            thoughts, trace = stage_text(Stage.REASON, answer), stage_text(Stage.ANCHOR, answer)
            assert thoughts == f"{answer.reasoning}\n\n{answer.text}"
            assert trace == f"<think>{answer.reasoning}</think>{answer.text}"
            assert stage_text(Stage.DESCRIBE, answer) == answer.text
    finally:
        mortal.stop()


# ------------------------------------------------------------------------------------------- deaths


def test_a_run_outlives_its_engine_and_asks_nothing_twice(
    mortal: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed and a prompt split by chunked prefill kill vLLM's engine on a CPU."""
    first = mortal.start("--enable-chunked-prefill", "--max-num-batched-tokens", str(BATCH))
    problems = list(draw_problems(ScenesSource(count=12, size=(112, 112)), 0))
    answered = record_answers(monkeypatch)

    async def go() -> list[Draft]:
        run = asyncio.create_task(draft(first, tmp_path, problems))
        await asyncio.wait_for(asyncio.to_thread(first.process.wait), 120)
        assert not run.done(), "the run waits for the server"
        assert len(answered) < 3 * len(problems)
        await asyncio.to_thread(mortal.start)
        return await run

    drafts = asyncio.run(go())
    assert "EngineCore" in first.log.read_text()
    assert [row.problem.id for row in drafts] == [problem.id for problem in problems]
    assert {row.failure for row in drafts} == {None}
    assert len(answered) == len(set(answered)) == 3 * len(problems)
    assert asyncio.run(draft(mortal.alive(), tmp_path, problems)) == drafts
    assert len(answered) == 3 * len(problems)


def record_answers(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The key of each request that a server answers from now on."""
    answered: list[bytes] = []
    complete = Client.complete

    async def recording(self: Client, request: Request, order: int = 0) -> Answer:
        answer = await complete(self, request, order)
        answered.append(request.key)
        return answer

    monkeypatch.setattr(Client, "complete", recording)
    return answered


async def draft(server: Server, folder: Path, problems: list[Problem]) -> list[Draft]:
    """The engine's drafts, one row after the other at first."""
    stage = {"max_tokens": 40, "keep_truncated": True}
    teacher = server.settings() | {"max_in_flight": 2, "min_in_flight": 1, "outage_s": 240}
    source = {"kind": "scenes", "count": len(problems)}
    data = {"name": "deaths", "source": source, "teacher": teacher} | dict.fromkeys(STAGES, stage)
    with Journal(folder / "journal.sqlite") as journal:
        async with open_engine(parse_recipe(data, where="test"), journal) as engine:
            return await engine.draft(problems)


def test_a_server_that_stays_away_stops_the_run_and_loses_nothing(mortal: Mortal, tmp_path: Path) -> None:
    server = mortal.alive()
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
    sets = ("partition_size=10", "teacher.outage_s=2")
    ran = run_folder(server, data, tmp_path / "run", *sets, command="synth")
    killer.join()
    assert ran.code == 1
    assert "is the server running?" in ran.err
    assert "Traceback" not in ran.err
    done = len(list(iterate_drafts(tmp_path / "run")))
    assert 10 <= done < 120
    assert all(row["status"] == "drafted" for row in iterate_drafts(tmp_path / "run"))
