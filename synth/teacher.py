"""The client of a teacher: any server that speaks OpenAI's chat completions, vLLM above all.

One `Teacher` holds one connection pool and one in-flight budget and is shared by every stage that uses
the server. An answer is checked before it is used: the API ignores fields it does not know, so what
counts is what came back.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
import orjson

from schemas.config import TeacherSettings
from schemas.errors import ConfigError, TeacherError, TeacherFault
from schemas.records import Image

MAX_ANSWER_BYTES = 8 * 2**20  # a longer body is not an answer
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 20.0
_MIME = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A teacher's answer, checked.

    Attributes:
        text: the message's content.
        model: the model's name as the server gave it.
        finish_reason: `stop`, `length`, `repetition`, ...
        prompt_tokens, completion_tokens: -1 where the server counts none.
    """

    text: str
    model: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Teacher:
    """An async client of one server. Use as an async context manager.

    Args:
        settings: the server and its limits.
    Raises: ConfigError: the environment variable named by `api_key_env` is not set.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings
        self.base_url = settings.urls[0]
        self.model = settings.model or ""
        self._headers = {"Content-Type": "application/json"} | _authorization(settings)
        self._budget = asyncio.Semaphore(settings.max_in_flight)
        self._session: aiohttp.ClientSession | None = None
        self._jitter = random.Random()

    async def __aenter__(self) -> Teacher:
        # The semaphore is the limit; a pool that also queued would only hide it.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s, sock_connect=10)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self._headers, auto_decompress=True
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def resolve_model(self) -> str:
        """Asks the server what it serves, and settles which model is used.

        Raises: TeacherError: the server is down, or does not serve the recipe's model.
        """
        served = await self._served_models()
        wanted = self.settings.model
        if wanted is None and len(served) == 1:
            self.model = served[0]
        elif wanted in served:
            self.model = str(wanted)
        else:
            problem = f"does not serve {wanted!r}" if wanted else "serves several models"
            raise TeacherError(
                TeacherFault.UNKNOWN_MODEL,
                f"the teacher at {self.base_url} {problem} (it serves {', '.join(served) or 'none'}); "
                "set teacher.model to one of these",
            )
        return self.model

    async def _served_models(self) -> list[str]:
        try:
            body = await self._exchange("GET", "/v1/models", None)
        except TeacherError as error:
            raise error if error.fatal else TeacherError(error.fault, f"{self.base_url}: {error}") from error
        try:
            return [str(entry["id"]) for entry in body["data"]]
        except (KeyError, TypeError) as error:
            raise TeacherError(
                TeacherFault.MALFORMED,
                f"{self.base_url}/v1/models is not an OpenAI model list: is this a teacher?",
            ) from error

    async def ask(
        self, content: object, *, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> Answer:
        """One answer to one user message, with retries of what may pass.

        Args:
            content: text, or a list of OpenAI content parts.
        Raises: TeacherError: no answer after `max_attempts`, or an error that asking again cannot mend.
        """
        request = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_tokens,
            "seed": seed,
        }
        return await self._persist(orjson.dumps(request))

    async def _persist(self, payload: bytes) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._budget:
                    return _read_answer(await self._exchange("POST", "/v1/chat/completions", payload))
            except TeacherError as error:
                if not error.transient or attempt >= self.settings.max_attempts:
                    raise _after(error, attempt) from error
                await asyncio.sleep(self._wait(attempt, error.retry_after_s))

    def _wait(self, attempt: int, asked_s: float | None) -> float:
        """Seconds before the next attempt: exponential, jittered, never shorter than the server asked."""
        ceiling = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
        return max(asked_s or 0.0, self._jitter.uniform(ceiling / 2, ceiling))

    async def _exchange(self, method: str, path: str, payload: bytes | None) -> Any:
        """One request, one JSON body.

        Raises: TeacherError: with the fault that the status or the connection shows.
        """
        assert self._session is not None, "use `async with Teacher(...)`"
        url = self.base_url + path
        try:
            async with self._session.request(method, url, data=payload, allow_redirects=False) as response:
                body = await _read_body(response)
                if response.status != 200:
                    raise self._refusal(response, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise TeacherError(
                TeacherFault.UNREACHABLE, f"no teacher at {self.base_url} ({reason}): is the server running?"
            ) from error
        except TimeoutError as error:
            raise TeacherError(
                TeacherFault.TIMEOUT, f"no answer within {self.settings.timeout_s:g} s (teacher.timeout_s)"
            ) from error
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            raise TeacherError(TeacherFault.MALFORMED, "the connection was closed in mid-answer") from error
        except aiohttp.ClientError as error:
            words = _excerpt(getattr(error, "message", ""))  # str(error) may hold the server's address
            raise TeacherError(TeacherFault.MALFORMED, f"{type(error).__name__}: {words}") from error
        return _parse(body)

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> TeacherError:
        """An error status as an error. What a row may end with does not name the server: addresses change,
        and shards do not."""
        fault = _FAULTS.get(response.status)
        fault = fault or (TeacherFault.BROKEN if response.status >= 500 else TeacherFault.REFUSED)
        message = f"the teacher answered {response.status}: {_error_message(body)}"
        if fault in _HINTS:
            message = f"{self.base_url}: {message}; {_HINTS[fault]}"
        return TeacherError(fault, message, _retry_after(response.headers))


def image_part(image: Image) -> dict[str, Any]:
    """An image as a content part: a data URL, since a teacher is never asked to fetch anything."""
    encoded = base64.b64encode(image.bytes).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{_mime(image)};base64,{encoded}"}}


def text_part(text: str) -> dict[str, Any]:
    """A text as a content part."""
    return {"type": "text", "text": text}


def _mime(image: Image) -> str:
    for magic, mime in _MIME.items():
        if image.bytes.startswith(magic):
            return mime
    raise ValueError(f"{image.path}: neither PNG, JPEG, WebP nor GIF")  # sources let no other in


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


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(1 << 16):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise TeacherError(
                TeacherFault.REFUSED,
                f"an answer of over {MAX_ANSWER_BYTES >> 20} MiB is not used",
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise TeacherError(TeacherFault.MALFORMED, f"the answer is not JSON ({error})") from error


def _read_answer(body: Any) -> Answer:
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"]
        finish_reason = choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as error:
        raise TeacherError(TeacherFault.MALFORMED, f"not a chat completion: {_excerpt(body)}") from error
    if not isinstance(text, str | None) or not isinstance(finish_reason, str):
        raise TeacherError(TeacherFault.MALFORMED, f"a completion without text: {_excerpt(choice)}")
    return Answer(
        text=text or "",
        model=str(body.get("model", "")),
        finish_reason=finish_reason,
        prompt_tokens=_count(body, "prompt_tokens"),
        completion_tokens=_count(body, "completion_tokens"),
    )


def _count(body: Mapping[str, Any], name: str) -> int:
    usage = body.get("usage")
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if type(value) is int and 0 <= value < 2**63 else -1


_FAULTS = {
    401: TeacherFault.UNAUTHORIZED,
    403: TeacherFault.UNAUTHORIZED,
    404: TeacherFault.UNKNOWN_MODEL,
    408: TeacherFault.TIMEOUT,
    429: TeacherFault.OVERLOADED,
    503: TeacherFault.OVERLOADED,
}
_HINTS = {
    TeacherFault.UNAUTHORIZED: "name the key's environment variable in teacher.api_key_env",
    TeacherFault.UNKNOWN_MODEL: "check teacher.url and teacher.model",
}


def _error_message(body: bytes) -> str:
    """The server's own words: vLLM's `error` is an object, or for 401 a plain string."""
    try:
        error = orjson.loads(body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _excerpt(body.decode("utf-8", "replace"))
    return _excerpt(error.get("message", error) if isinstance(error, Mapping) else error)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; the date form is rare among model servers and is not read."""
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None


def _after(error: TeacherError, attempts: int) -> TeacherError:
    if attempts == 1 or not error.transient:
        return error
    return TeacherError(error.fault, f"{error} (after {attempts} attempts)", error.retry_after_s)


def _excerpt(value: object, limit: int = 300) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
