"""One server: its connections, its load, whether it is there, and which images it holds."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from schemas.config import TeacherSettings
from schemas.errors import ConfigError, TeacherError, TeacherFault
from schemas.records import Image
from synth.held_images import HeldImages
from synth.pace import Pace
from synth.replies import (
    MAX_ANSWER_BYTES,
    excerpt,
    parse_json,
    read_answer,
    read_stream,
    refusal_of,
    require_asked,
)
from synth.requests import Answer, Request

_MIME = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif"}
_CHAT = "/v1/chat/completions"
_BUSY = 0.75  # share of the level from which on a call may wait for an image, and no place is left idle by it
_METRICS_BYTES = 4 * 2**20
_METRIC = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc)(?:\{[^}]*\})? "
    rb"(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)",
    re.M,
)


@dataclass(frozen=True, slots=True)
class Served:
    """An entry of the server's model list."""

    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A reading of vLLM's metrics, summed over its engines.

    Attributes:
        kv_usage: of the fullest engine's cache, in [0, 1].
    """

    running: int
    waiting: int
    kv_usage: float


class Server:
    """A client of one OpenAI-compatible server. Use as an async context manager.

    Attributes:
        in_flight: requests that it has not answered yet; kept by the dispatcher.
        pace: how many there may be.
        up: False from a refused connection or a dead engine until it answers again.
        paused_until: monotonic seconds before which it asked not to be bothered.
        is_vllm: says so in its model list: it has metrics, and images can be referred to.
        held: the images that it has been given.
    Raises: ConfigError: the environment variable named by `api_key_env` is not set.
    """

    def __init__(self, url: str, settings: TeacherSettings) -> None:
        self.url = url
        self.settings = settings
        most = settings.max_in_flight
        self.pace = Pace(min(settings.min_in_flight, most), most)
        self.in_flight = 0
        self.up = True
        self.paused_until = 0.0
        self.is_vllm = False
        self.images_sent = self.images_referred = 0
        self.held = HeldImages()
        self._headers = {"Content-Type": "application/json"} | _authorization(settings)
        self._chat_url = URL(url + _CHAT)
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_s, sock_connect=10)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Server:
        # The pace is the limit; a pool that also queued would only hide it.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            connector=connector, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def list_models(self, limit_s: float = 30.0) -> list[Served]:
        """What the server serves.

        Raises: TeacherError: it is down, wants another key, or is no such server.
        """
        body = await self._exchange("GET", URL(self.url + "/v1/models"), None, limit_s)
        try:
            entries = parse_json(body)["data"]
            served = [Served(str(entry["id"]), str(entry.get("owned_by", ""))) for entry in entries]
        except (KeyError, TypeError, AttributeError, TeacherError) as error:
            raise TeacherError(
                TeacherFault.MALFORMED,
                f"{self.url}/v1/models is not an OpenAI model list: is this a teacher?",
            ) from error
        self.is_vllm = any(entry.owner == "vllm" for entry in served)
        return served

    async def read_queue(self) -> Queue | None:
        """vLLM's account of its queue; None where there is none to read."""
        try:
            body = await self._exchange("GET", URL(self.url + "/metrics"), None, 5.0)
        except TeacherError:
            return None  # a busy server may be late with it; the requests themselves show what is wrong
        found: dict[bytes, list[float]] = {}
        for match in _METRIC.finditer(body[:_METRICS_BYTES]):
            found.setdefault(match[1], []).append(float(match[2]))
        if b"num_requests_running" not in found or b"num_requests_waiting" not in found:
            return None
        return Queue(
            running=int(sum(found[b"num_requests_running"])),
            waiting=int(sum(found[b"num_requests_waiting"])),
            kv_usage=max(found.get(b"kv_cache_usage_perc", [0.0])),
        )

    async def complete(self, request: Request, order: int = 0) -> Answer:
        """One attempt at one answer; a server that has forgotten an image is sent it again at once.

        Args:
            order: of the request's row.
        Raises: TeacherError: with the fault that the status, the connection or the body shows.
        """
        names = list(dict.fromkeys(request.image_names)) if self._reuses else []
        referred = [name for name in names if name in self.held]
        try:
            return await self._complete(request, referred, names, order)
        except TeacherError as error:
            if not referred or error.fatal:
                raise
            self.held.drop(names)
            if error.transient:
                raise
        return await self._complete(request, [], names, order)

    async def _complete(
        self, request: Request, referred: Collection[str], names: Sequence[str], order: int
    ) -> Answer:
        stream = self.settings.stream and not request.options.keys() & {"logprobs", "prompt_logprobs"}
        payload = request.body(self._image_parts(request, referred), stream=stream)
        started = time.perf_counter()
        with self.held.sending([name for name in names if name not in referred], order):
            body = await self._exchange("POST", self._chat_url, payload, None)
        seconds = time.perf_counter() - started
        answer = (read_stream if stream else read_answer)(body, seconds)
        self.held.add(names)
        require_asked(answer, request.options)
        return answer

    # --------------------------------------------------------------------------------------- images

    @property
    def _reuses(self) -> bool:
        return self.is_vllm and self.settings.reuse_images

    def _image_parts(self, request: Request, referred: Collection[str]) -> dict[str, dict[str, Any]]:
        """The content part of each image by its SHA-256: the image, or a mere reference to it."""
        parts: dict[str, dict[str, Any]] = {}
        for image, name in zip(request.images, request.image_names, strict=True):
            if name in parts:
                continue
            if name in referred:
                parts[name] = {"type": "image_url", "image_url": None, "uuid": name}
                self.images_referred += 1
            else:
                parts[name] = image_part(image) | ({"uuid": name} if self._reuses else {})
                self.images_sent += 1
        return parts

    def holds(self, request: Request) -> bool:
        """True where all images of a request can be referred to."""
        return self._reuses and all(name in self.held for name in request.image_names)

    def image_on_its_way(self, request: Request, order: int) -> asyncio.Event | None:
        """What a call should wait for, in nobody's place, since another one is bringing an image of it.

        A row's own calls always wait for the first of them. Those of other rows do where the server has
        enough else to do; where it has not, sending the image twice costs less.
        """
        if not self._reuses:
            return None
        busy = self.in_flight > _BUSY * self.pace.limit
        return self.held.arrival(request.image_names, order, any_row=busy)

    # --------------------------------------------------------------------------------------- HTTP

    async def _exchange(self, method: str, url: URL, payload: bytes | None, limit_s: float | None) -> bytes:
        """One request, one whole body.

        Raises: TeacherError: with the fault that the status or the connection shows.
        """
        assert self._session is not None, "use `async with Server(...)`"
        timeout = self._timeout if limit_s is None else aiohttp.ClientTimeout(total=limit_s)
        try:
            async with self._session.request(
                method, url, data=payload, allow_redirects=False, timeout=timeout
            ) as response:
                body = await _read_body(response)
                if response.status != 200:
                    raise refusal_of(response.status, self._without_key(body), response.headers, self.url)
                return body
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise TeacherError(
                TeacherFault.UNREACHABLE, f"no teacher at {self.url} ({reason}): is the server running?"
            ) from error
        except TimeoutError as error:
            settings = f"{self.settings.timeout_s:g} s (teacher.timeout_s)"
            limit = settings if limit_s is None else f"{limit_s:g} s"
            raise TeacherError(TeacherFault.TIMEOUT, f"no answer within {limit}") from error
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            raise TeacherError(TeacherFault.MALFORMED, "the connection was closed in mid-answer") from error
        except aiohttp.ClientError as error:
            words = excerpt(getattr(error, "message", ""))  # str(error) may hold the server's address
            raise TeacherError(TeacherFault.MALFORMED, f"{type(error).__name__}: {words}") from error

    def _without_key(self, body: bytes) -> bytes:
        """A refusal's words without the key, which some servers repeat: they end in rows and logs."""
        key = self._headers.get("Authorization", "").removeprefix("Bearer ").encode()
        return body.replace(key, b"***") if key else body


def image_part(image: Image) -> dict[str, Any]:
    """An image as a content part: a data URL, since a teacher is never asked to fetch anything."""
    encoded = base64.b64encode(image.bytes).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{_mime(image)};base64,{encoded}"}}


def _mime(image: Image) -> str:
    for magic, mime in _MIME.items():
        if image.bytes.startswith(magic):
            return mime
    raise ValueError(f"{image.path}: neither PNG, JPEG, WebP nor GIF")  # sources let no other in


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    packed = "Content-Encoding" in response.headers  # its length says nothing about what it holds
    if not packed and response.content_length is not None and response.content_length <= MAX_ANSWER_BYTES:
        return await response.read()
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(1 << 16):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise TeacherError(
                TeacherFault.OVERSIZED, f"an answer of over {MAX_ANSWER_BYTES >> 20} MiB is not used"
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _authorization(settings: TeacherSettings) -> dict[str, str]:
    if settings.api_key_env is None:
        return {}
    key = os.environ.get(settings.api_key_env)
    if not key:
        raise ConfigError(
            f"teacher.api_key_env: the environment variable {settings.api_key_env} is not set; export it"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"teacher.api_key_env: the value of {settings.api_key_env} holds a line break or another "
            "character that no key has"
        )
    return {"Authorization": f"Bearer {key}"}
