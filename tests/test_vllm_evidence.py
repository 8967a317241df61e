"""Evidence from a real vLLM: what it says of a trace is what the model says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image as PillowImage

from schemas.config import TeacherSettings
from schemas.records import Draft, Evidence, Image
from synth.likelihood import blank_image, scored_text
from synth.prompts import likelihood_prompt
from synth.server import Server as Client
from tests.rows import draft, png, problem
from tests.test_evidence import CLAIMS, OTHER, ServedAsker, gather_evidence
from tests.vllm_server import Server
from trainer.student import load_model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

PICTURE = Image(bytes=png(size=(120, 90)), path="a.png")
TRACES = [
    "<think>Looking at the image, there are 4 circles.</think><answer>4</answer>",
    "\n<think>\n  There: 4.\n</think>\n\n<answer>4</answer> \n\n",
    "<think>✅ 中国 é—“ok”… cafe\u0301 — 한국어, naïve → 😀👩‍👩‍👧.</think><answer>😀</answer>",
    "😀 begins inside a character",
    "4",
]


def ask(server: Server, evidence: Mapping[str, Any], start: Draft) -> Evidence:
    async def go() -> Evidence:
        settings = TeacherSettings.model_validate(server.settings())
        async with Client(server.url, settings) as client:
            await client.list_models()
            asker = ServedAsker(evidence, client, "tiny")
            return (await gather_evidence(start, asker, swap=OTHER, claims=lambda _: CLAIMS)).evidence

    return asyncio.run(go())


def of_trace(trace: str) -> Draft:
    return draft(trace=trace, problem=problem(images=(PICTURE,)))


def score(folder: Path, start: Draft, image: Image) -> tuple[int, float]:
    """Tokens of the trace and their log-likelihood, by transformers in float32."""
    model, processor = cast("tuple[Any, Any]", load_model(folder))
    content = [{"type": "image"}, {"type": "text", "text": likelihood_prompt(start.problem)}]
    head = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    with PillowImage.open(BytesIO(image.bytes)) as picture:
        pictures = [picture.convert("RGB")]
    before = processor(text=[head], images=pictures, return_tensors="pt")["input_ids"].shape[1]
    inputs = processor(text=[head + scored_text(start.trace)], images=pictures, return_tensors="pt")
    with torch.no_grad():
        logprobs = model(**inputs).logits[0, :-1].float().log_softmax(-1)
    own = logprobs.gather(1, inputs["input_ids"][0, 1:, None])[before - 1 :, 0]
    return len(own), float(own.sum())


@pytest.mark.parametrize("trace", TRACES)
def test_the_likelihood_is_the_model_s_own(server: Server, model_folder: Path, trace: str) -> None:
    start = of_trace(trace)
    found = ask(server, {"likelihood": {}}, start)
    assert found.faults == ()
    assert found.likelihood is not None
    tokens, with_image = score(model_folder, start, PICTURE)
    _, with_blank = score(model_folder, start, blank_image(PICTURE))
    assert found.likelihood.tokens == tokens
    # The server computes in bfloat16; one token more or less would be 1% at the least.
    assert found.likelihood.with_image == pytest.approx(with_image, rel=1e-3)
    assert found.likelihood.with_blank == pytest.approx(with_blank, rel=1e-3)
    assert abs(with_image - with_blank) > 0.1  # the image matters, so the blank one was seen


def test_a_judge_says_yes_or_no_with_its_probability(server: Server) -> None:
    """Even a random model: the server lets no other word through."""
    found = ask(server, {"judge": {"max_tokens": 4, "temperature": 1.0}}, of_trace(TRACES[0]))
    assert found.faults == ()
    assert found.claims is not None
    assert [verdict.claim for verdict in found.claims] == list(CLAIMS)
    assert all(0 < verdict.p_seen < 1 for verdict in found.claims)


def test_a_judge_who_is_cut_off_is_a_fault(server: Server) -> None:
    """The tiny tokenizer has no token for a whole `yes`."""
    found = ask(server, {"judge": {"max_tokens": 1}}, of_trace(TRACES[0]))
    assert found.claims is None
    assert [fault.reason for fault in found.faults] == ["malformed_answer"]


def test_answers_repeat_by_their_seed_and_differ_by_it(server: Server) -> None:
    short = {"max_tokens": 12}
    evidence = {"blind": {"n": 3, **short}, "description": {"n": 2, **short}, "swap": short}
    found, again = (ask(server, evidence, of_trace(TRACES[0])) for _ in range(2))
    assert found == again
    assert found.faults == ()
    assert found.blind is not None
    assert len(set(found.blind)) == 3
    assert found.swap is not None
    assert {made.finish_reason for made in found.calls} <= {"length", "stop", "repetition"}
