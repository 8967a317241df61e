"""The stub server is what measurements and crash tests stand on, so it is tested like anything else."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from filters.format import count_tokens
from filters.verdicts import judge
from schemas.config import FilterSettings
from schemas.records import Status
from synth.prompts import anchor_prompt, describe_prompt, reason_prompt
from tests.rows import draft, problem
from tests.stub_answers import KINDS, TRANSIENT, fault_of, latency_of, parse_latency, read_request
from tests.stub_server import StubServer, stub_server

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 8000}}


def body_of(content: object, seed: int = 7) -> bytes:
    """A request as the engine writes it."""
    return orjson.dumps({"messages": [{"role": "user", "content": content}], "model": "stub", "seed": seed})


def ask(server: StubServer, *bodies: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer; all are asked at once. A connection that ends early has status 0."""

    async def one(session: aiohttp.ClientSession, body: bytes) -> tuple[int, bytes]:
        try:
            async with session.post(f"{server.url}/v1/chat/completions", data=body) as response:
                return response.status, await response.read()
        except aiohttp.ClientError as error:
            return 0, type(error).__name__.encode()

    async def every() -> list[tuple[int, bytes]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return await asyncio.gather(*(one(session, body) for body in bodies))

    return asyncio.run(every())


def get(server: StubServer, path: str) -> tuple[int, str]:
    """Status and text of a page."""

    async def fetch() -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(server.url + path) as response:
            return response.status, await response.text()

    return asyncio.run(fetch())


def text_of(body: bytes) -> str:
    """The message's text of a completion."""
    return orjson.loads(body)["choices"][0]["message"]["content"]


def test_three_stages_make_a_draft_that_the_filters_accept() -> None:
    row = problem()
    with stub_server(latency="fixed:0") as server:
        picture_and_text = [PICTURE, {"type": "text", "text": describe_prompt(row)}]
        [(status, described)] = ask(server, body_of(picture_and_text))
        [(_, reasoned)] = ask(server, body_of(reason_prompt(row, text_of(described))))
        [(_, anchored)] = ask(server, body_of(anchor_prompt(row, text_of(reasoned))))
    assert status == 200
    assert orjson.loads(anchored)["usage"]["completion_tokens"] == 400
    assert all(350 <= count_tokens(text_of(body)) <= 450 for body in (described, reasoned, anchored))
    made = draft(trace=text_of(anchored), reasoning=text_of(reasoned), description=text_of(described))
    sample = judge(made, FilterSettings())
    assert sample.status is Status.ACCEPTED, sample.detail


def test_every_anchored_text_passes_the_filters() -> None:
    bodies = [body_of(anchor_prompt(problem(), "so"), seed) for seed in range(100)]
    with stub_server(latency="fixed:0") as server:
        texts = {text_of(body) for _, body in ask(server, *bodies)}
    assert len(texts) == 100
    refused = [s.detail for text in texts if (s := judge(draft(trace=text), FilterSettings())).reason]
    assert refused == []


def test_an_answer_depends_on_the_request_and_not_on_how_its_image_is_sent() -> None:
    text = {"type": "text", "text": describe_prompt(problem())}
    sent = body_of([PICTURE | {"uuid": "a"}, text])
    referred = body_of([{"type": "image_url", "image_url": None, "uuid": "a"}, text])
    stranger = body_of([{"type": "image_url", "image_url": None, "uuid": "b"}, text])
    with stub_server(latency="fixed:0", slots=4) as server:
        [(_, first)] = ask(server, sent)
        [(_, second)] = ask(server, referred)
        [(status, _)] = ask(server, stranger)
        [(_, other)] = ask(server, body_of([PICTURE, text], seed=8))
    assert first == second != other
    assert status == 400, "as vLLM answers for an image that it never saw"


# ---------------------------------------------------------------------------------------------- latency


@pytest.mark.parametrize(("mean_s", "sigma"), [(1.0, 0.8), (0.05, 0.3)])
def test_latencies_have_the_mean_and_the_spread_that_were_asked_for(mean_s: float, sigma: float) -> None:
    drawn = [latency_of(seed, mean_s, sigma) for seed in range(20_000)]
    assert statistics.mean(drawn) == pytest.approx(mean_s, rel=0.03)
    assert statistics.stdev(map(math.log, drawn)) == pytest.approx(sigma, rel=0.03)
    assert latency_of(5, mean_s, sigma) == drawn[5]


@pytest.mark.parametrize("text", ["fixed", "fixed:x", "fixed:-1", "uniform:1", "lognormal:1"])
def test_a_latency_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|float"):
        parse_latency(text)


def test_a_server_with_a_wrong_option_does_not_start(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="faults 7"), stub_server(faults=7):
        pass
    assert "--faults" in capfd.readouterr().err


def test_the_server_takes_as_long_as_the_seeds_say() -> None:
    seeds = range(40)
    with stub_server(latency="lognormal:0.1,0.8") as server:
        started = time.monotonic()
        ask(server, *(body_of("x", seed) for seed in seeds))
        took = time.monotonic() - started
        stats = server.stats()
    expected = [latency_of(seed, 0.1, 0.8) for seed in seeds]
    assert stats["latency_s"] == pytest.approx(sum(expected))
    assert max(expected) <= took < max(expected) + 0.5
    assert stats["most_in_flight"] == 40
    assert stats["mean_in_flight"] == pytest.approx(sum(expected) / stats["span_s"], rel=0.3)


# ----------------------------------------------------------------------------------------------- faults


def test_faults_have_their_share_and_their_kinds_in_equal_parts() -> None:
    requests = [read_request(body_of("x", seed)).digest for seed in range(14_000)]
    first = Counter(fault_of(request, 0, 0.2) for request in requests)
    assert sum(first[kind] for kind in KINDS) == pytest.approx(2800, rel=0.06)
    assert all(first[kind] == pytest.approx(400, rel=0.2) for kind in KINDS)
    again = [fault_of(request, 1, 0.2) for request in requests if fault_of(request, 0, 0.2) in TRANSIENT]
    assert sum(fault is not None for fault in again) / len(again) == pytest.approx(0.2, abs=0.03)
    refused = [request for request in requests if fault_of(request, 0, 0.2) == "refused"]
    assert all(fault_of(request, 5, 0.2) == "refused" for request in refused)
    assert not any(fault_of(request, 0, 0.0) for request in requests)


SHOWN: dict[str, Any] = {
    "rate_limited": 429,
    "unavailable": 503,
    "internal": 500,
    "refused": 400,
    "reset": b"ServerDisconnectedError ClientOSError",
    "truncated": b"ClientPayloadError",
    "malformed": 200,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_meets_each_kind_of_fault(kind: str) -> None:
    drawn = {fault_of(read_request(body_of("x", seed)).digest, 0, 0.5): seed for seed in range(200)}
    with stub_server(latency="fixed:0", faults=0.5) as server:
        [(status, body)] = ask(server, body_of("x", drawn[kind]))
        stats = server.stats()
    if isinstance(SHOWN[kind], bytes):
        assert body in SHOWN[kind].split()
    else:
        assert status == SHOWN[kind]
    if status == 200:
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(body)
    assert stats["faults"] == {kind: 1}


def test_asking_again_helps_with_all_but_the_refused() -> None:
    bodies = {seed: body_of("x", seed) for seed in range(60)}
    refused = {s for s, body in bodies.items() if fault_of(read_request(body).digest, 0, 0.3) == "refused"}
    left = set(bodies)
    with stub_server(latency="fixed:0", faults=0.3) as server:
        for _ in range(12):
            asked = sorted(left)
            answers = zip(asked, ask(server, *(bodies[seed] for seed in asked)), strict=True)
            left -= {seed for seed, (status, body) in answers if status == 200 and body.endswith(b"}")}
    assert left == refused


# ------------------------------------------------------------------------------------------------ queue


def test_slots_let_some_run_and_the_others_wait_in_order() -> None:
    bodies = [body_of("x", seed) for seed in range(6)]

    async def watch(server: StubServer) -> tuple[str, list[int]]:
        done: list[int] = []

        async def one(session: aiohttp.ClientSession, number: int) -> None:
            await asyncio.sleep(0.02 * number)
            async with session.post(f"{server.url}/v1/chat/completions", data=bodies[number]) as response:
                await response.read()
            done.append(number)

        async with aiohttp.ClientSession() as session:
            calls = [asyncio.create_task(one(session, number)) for number in range(6)]
            await asyncio.sleep(0.2)
            async with session.get(f"{server.url}/metrics") as response:
                page = await response.text()
            await asyncio.gather(*calls)
        return page, done

    with stub_server(latency="fixed:0.3", slots=4) as server:
        page, done = asyncio.run(watch(server))
        models = get(server, "/v1/models")[1]
    assert done == [0, 1, 2, 3, 4, 5]
    assert 'vllm:num_requests_running{engine="0",model_name="stub"} 4.0\n' in page
    assert 'vllm:num_requests_waiting{engine="0",model_name="stub"} 2.0\n' in page
    assert 'vllm:kv_cache_usage_perc{engine="0",model_name="stub"} 1.0\n' in page
    assert '"owned_by": "vllm"' in models


def test_a_client_that_goes_away_frees_its_slot() -> None:
    async def leave_and_ask(server: StubServer) -> float:
        async with aiohttp.ClientSession() as session:
            limit = aiohttp.ClientTimeout(total=0.2)
            with pytest.raises(TimeoutError):
                await session.post(f"{server.url}/v1/chat/completions", data=body_of("x", 1), timeout=limit)
            started = time.monotonic()
            async with session.post(f"{server.url}/v1/chat/completions", data=body_of("x", 2)) as response:
                await response.read()
        return time.monotonic() - started

    with stub_server(latency="fixed:0.6", slots=1) as server:
        assert asyncio.run(leave_and_ask(server)) < 0.9
        stats = server.stats()
    assert (stats["answered"], stats["aborted"], stats["in_flight"]) == (1, 1, 0)


def test_without_slots_it_is_no_vllm() -> None:
    with stub_server() as server:
        assert get(server, "/metrics")[0] == 404
        assert '"owned_by": "stub"' in get(server, "/v1/models")[1]
        assert get(server, "/health")[0] == 200


# -------------------------------------------------------------------------------------------- crashes


async def ask_until_noted(server: StubServer, log: Path, bodies: Sequence[bytes], answers: int) -> None:
    """Keeps its connections until the log has so many answers: one is noted a moment after it is sent."""
    async with aiohttp.ClientSession() as session:
        url = f"{server.url}/v1/chat/completions"
        responses = await asyncio.gather(*(session.post(url, data=body) for body in bodies))
        await asyncio.gather(*(response.read() for response in responses))
        while sum(line.startswith("- ") for line in log.read_text().splitlines()) < answers:
            await asyncio.sleep(0.01)


def test_the_log_tells_what_came_and_what_was_answered(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with stub_server(latency="fixed:0.05", log=log) as server:
        asyncio.run(asyncio.wait_for(ask_until_noted(server, log, [body_of("x", 1), body_of("x", 2)], 2), 20))
        first = server.url
        server.kill()
        server.restart()
        assert server.url == first
        asyncio.run(asyncio.wait_for(ask_until_noted(server, log, [body_of("x", 1)], 3), 20))
        assert server.stats()["calls"] == 1, "a server that was started anew remembers nothing"
    lines = [line.split() for line in log.read_text().splitlines()]
    came = Counter(words[1] for words in lines if words[0] == "+")
    answered = Counter(words[1] for words in lines if words[0] == "-")
    assert sorted(came.values()) == [1, 2]
    assert came == answered
    assert all(int(words[2]) > 0 for words in lines if words[0] == "+")


def test_what_was_never_answered_has_no_second_line(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def kill_in_flight(server: StubServer) -> None:
        async with aiohttp.ClientSession() as session:
            url = f"{server.url}/v1/chat/completions"
            call = asyncio.create_task(session.post(url, data=body_of("x", 1)))
            while not log.read_bytes():
                await asyncio.sleep(0.01)
            server.kill()
            with pytest.raises(aiohttp.ClientError):
                await call

    with stub_server(latency="fixed:30", log=log) as server:
        asyncio.run(kill_in_flight(server))
    assert [line[0] for line in log.read_text().splitlines()] == ["+"]
