"""What `avar teacher check` asks a server, one question for each thing that it may support.

Many servers ignore fields that they do not know, so each finding is judged by what comes back, never by the
status alone: a server that reads images refuses bytes that are none, one that heeds seeds repeats itself.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import aiohttp

from schemas.config import ScenesSource, TeacherSettings
from schemas.errors import TeacherError, TeacherFault
from schemas.records import Image, Problem
from synth.prompts import describe_prompt, reason_prompt
from synth.replies import MAX_ANSWER_BYTES, excerpt, parse_json, read_answer, read_stream, refusal_of
from synth.requests import Answer, Request
from synth.server import image_part

_CHOICES = ("crimson-7", "azure-9")  # words that no model writes unasked
_OTHER_SEEDS = range(2, 10)  # a teacher may know few ways to begin
_METRICS = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
_SIDE = 224  # of the image, pixels
_TOKENS = 256  # of the description, which the text-only question is about
_BROKEN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,bm8gaW1hZ2U="}}


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a server supports something, and what showed it."""

    ok: bool
    detail: str


class ProbedServer:
    """A server that is asked, and what is asked of it.

    Attributes:
        model: the served name; settled before the first probe.
        problem: what the questions are about; `image` is its only image.
        description: what the server wrote about the image, once it did.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, settings: TeacherSettings) -> None:
        self.url = url
        self.model = ""
        self.problem = _draw_problem()
        self.description = ""
        self._session = session
        self._timeout_s = settings.timeout_s

    @property
    def image(self) -> Image:
        return self.problem.images[0]

    def question(self, max_tokens: int = 16, **options: Any) -> Request:
        """Stage describe's: the image, then the prompt."""
        return Request(
            stage="check",
            model=self.model,
            content=(self.image, describe_prompt(self.problem)),
            temperature=0.0,
            top_p=1.0,
            max_tokens=max_tokens,
            seed=1,
            options=options,
        )

    def text_question(self, max_tokens: int = 16) -> Request:
        """Stage reason's: about the description, without the image."""
        prompt = reason_prompt(self.problem, self.description or "One red circle.")
        return replace(self.question(max_tokens), content=(prompt,))

    async def ask(self, request: Request, part: Mapping[str, Any] | None = None) -> Answer:
        """The answer; `part` stands for the image.

        Raises: TeacherError: there is none, and why.
        """
        return read_answer(await self.post(request, part), 0.0)

    async def post(
        self, request: Request, part: Mapping[str, Any] | None = None, *, stream: bool = False
    ) -> bytes:
        """The body of a 200. Raises: TeacherError: as `ask`."""
        shown = part or image_part(self.image)
        body = request.body({self.image.sha256: shown}, stream=stream)
        return await self.exchange("POST", "/v1/chat/completions", body)

    async def exchange(self, method: str, path: str, payload: bytes | None = None) -> bytes:
        """One request. Raises: TeacherError: another status than 200, or no whole answer."""
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, self.url + path, data=payload, headers=headers, allow_redirects=False
            ) as response:
                body = await response.content.read(MAX_ANSWER_BYTES)
                while not response.content.at_eof() and len(body) < MAX_ANSWER_BYTES:
                    body += await response.content.read(MAX_ANSWER_BYTES - len(body))
                if response.status != 200:
                    raise refusal_of(response.status, body, response.headers)
                return body
        except aiohttp.ClientConnectorError as error:
            reason = error.strerror or str(error)
            raise TeacherError(TeacherFault.UNREACHABLE, f"no connection to {self.url} ({reason})") from error
        except TimeoutError as error:
            message = f"no answer within {self._timeout_s:g} s (--timeout)"
            raise TeacherError(TeacherFault.TIMEOUT, message) from error
        except aiohttp.ClientError as error:
            message = f"the connection was closed in mid-answer ({type(error).__name__})"
            raise TeacherError(TeacherFault.MALFORMED, message) from error


Probe = Callable[[ProbedServer], Awaitable[Finding]]


def _draw_problem() -> Problem:
    from synth.scenes import draw_problems

    source = ScenesSource(count=1, families=("count",), difficulty=(0.0, 0.1), size=(_SIDE, _SIDE))
    return next(iter(draw_problems(source, 0)))


# ------------------------------------------------------------------------------------------- probes


async def _probe_image(server: ProbedServer) -> Finding:
    answer = await server.ask(server.question(_TOKENS))
    server.description = answer.text
    try:
        await server.ask(server.question(), _BROKEN)
    except TeacherError as error:
        if error.fault in {TeacherFault.TIMEOUT, TeacherFault.UNREACHABLE}:
            raise
        return Finding(True, f"{_SIDE} x {_SIDE} pixels read, {answer.prompt_tokens} prompt tokens")
    return Finding(False, "bytes that are no image were answered as well: images are ignored")


async def _probe_chat(server: ProbedServer) -> Finding:
    answer = await server.ask(server.text_question())
    return Finding(True, f"ended by {answer.finish_reason}: {excerpt(answer.text, 40)!r}")


async def _probe_n(server: ProbedServer) -> Finding:
    body = parse_json(await server.post(replace(server.question(n=2), temperature=1.0)))
    count = len(body.get("choices") or ()) if isinstance(body, Mapping) else 0
    return Finding(count == 2, f"2 answers asked for, {count} came")


async def _probe_seed(server: ProbedServer) -> Finding:
    request = replace(server.text_question(32), temperature=1.0)
    first, again = await server.ask(request), await server.ask(request)
    if first.text != again.text:
        return Finding(False, "equal requests with a seed got different answers: it is ignored")
    for seed in _OTHER_SEEDS:
        if (await server.ask(replace(request, seed=seed))).text != first.text:
            return Finding(True, "equal seeds, equal answers; another seed, another answer")
    return Finding(False, f"{1 + len(_OTHER_SEEDS)} seeds, one answer, at temperature 1")


async def _probe_structured_output(server: ProbedServer) -> Finding:
    options = {"structured_outputs": {"choice": list(_CHOICES)}}
    answer = await server.ask(server.question(256, **options))
    ok = answer.text.strip() in _CHOICES
    return Finding(ok, f"one of {', '.join(_CHOICES)} asked for, got {excerpt(answer.text, 40)!r}")


async def _probe_logprobs(server: ProbedServer) -> Finding:
    count = len((await server.ask(server.question(1, logprobs=True, top_logprobs=2))).first_logprobs)
    return Finding(count > 0, f"{count} of the first token" if count else "asked for, none came")


async def _probe_prompt_logprobs(server: ProbedServer) -> Finding:
    """Of a given answer, as the likelihood of a trace is asked for."""
    request = replace(server.question(1, prompt_logprobs=0), continued="It is red.")
    count = len((await server.ask(request)).prompt_logprobs)
    return Finding(count > 0, f"of {count} prompt tokens" if count else "asked for, none came")


async def _probe_uuid(server: ProbedServer) -> Finding:
    name = f"avar-check-{uuid4().hex}"
    await server.ask(server.question(1), image_part(server.image) | {"uuid": name})
    await server.ask(server.question(1), {"type": "image_url", "image_url": None, "uuid": name})
    unknown = {"type": "image_url", "image_url": None, "uuid": f"avar-check-{uuid4().hex}"}
    try:
        await server.ask(server.question(1), unknown)
    except TeacherError as error:
        if error.transient:
            raise
        return Finding(True, "an image is sent once, then referred to; an unknown uuid is refused")
    return Finding(False, "an unknown uuid was answered as well: uuids are ignored")


async def _probe_usage(server: ProbedServer) -> Finding:
    answer = await server.ask(server.question())
    counts = f"{answer.prompt_tokens} prompt, {answer.completion_tokens} completion tokens"
    return Finding(
        answer.prompt_tokens > 0 and answer.completion_tokens > 0, counts.replace("-1", "no count of")
    )


async def _probe_cached_tokens(server: ProbedServer) -> Finding:
    await server.ask(server.question())
    again = await server.ask(server.question())
    if again.cached_tokens > 0:
        return Finding(True, f"{again.cached_tokens} of {again.prompt_tokens} when asked again")
    return Finding(
        False, "none when asked again (vllm: --enable-prefix-caching --enable-prompt-tokens-details)"
    )


async def _probe_reasoning(server: ProbedServer) -> Finding:
    answer = await server.ask(server.question(64))
    if answer.reasoning:
        return Finding(True, f"apart from the answer: {excerpt(answer.reasoning, 40)!r}")
    return Finding(False, "none apart from the answer (a reasoning model needs --reasoning-parser in vllm)")


async def _probe_metrics(server: ProbedServer) -> Finding:
    try:
        text = (await server.exchange("GET", "/metrics")).decode("utf-8", "replace")
    except TeacherError as error:
        if error.fault is not TeacherFault.UNKNOWN_MODEL:
            raise
        return Finding(False, "no such page (404)")
    missing = [name for name in _METRICS if not re.search(rf"^vllm:{name}[ {{]", text, re.M)]
    return Finding(not missing, f"without vllm:{missing[0]}" if missing else "vLLM's queue and cache")


async def _probe_streaming(server: ProbedServer) -> Finding:
    body = await server.post(server.question(), stream=True)
    if not body.lstrip().startswith(b"data:"):
        return Finding(False, "an event stream was asked for, another body came")
    return Finding(True, f"ended by {read_stream(body, 0.0).finish_reason}")


PROBES: Mapping[str, Probe] = {
    "image": _probe_image,
    "chat": _probe_chat,
    "n": _probe_n,
    "seed": _probe_seed,
    "structured_output": _probe_structured_output,
    "logprobs": _probe_logprobs,
    "prompt_logprobs": _probe_prompt_logprobs,
    "uuid": _probe_uuid,
    "usage": _probe_usage,
    "cached_tokens": _probe_cached_tokens,
    "reasoning": _probe_reasoning,
    "metrics": _probe_metrics,
    "streaming": _probe_streaming,
}
