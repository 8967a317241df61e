"""What a server's bytes mean: an `Answer`, or a `TeacherError` that says whose fault it is.

An answer is checked before it is used: the API ignores fields it does not know, so what counts is what came
back. What a row may end with never names the server: addresses change, and shards do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from schemas.errors import TeacherError, TeacherFault
from synth.requests import Answer

MAX_ANSWER_BYTES = 8 * 2**20  # a longer body is not an answer

_FAULTS = {
    401: TeacherFault.UNAUTHORIZED,
    402: TeacherFault.UNAUTHORIZED,  # no credit left
    403: TeacherFault.UNAUTHORIZED,
    404: TeacherFault.UNKNOWN_MODEL,
    408: TeacherFault.TIMEOUT,
    409: TeacherFault.BROKEN,
    421: TeacherFault.BROKEN,
    425: TeacherFault.BROKEN,
    429: TeacherFault.OVERLOADED,
    503: TeacherFault.OVERLOADED,
}
_HINTS = {
    TeacherFault.UNAUTHORIZED: "check teacher.url, and the key that teacher.api_key_env names",
    TeacherFault.UNKNOWN_MODEL: "check teacher.url and teacher.model",
}
# Servers have no code for these; the words are vLLM's, SGLang's and OpenAI's.
_TOO_LONG = re.compile(
    r"context.?length|max(imum)?[ _](model|context|sequence|input)|too long|longer than", re.IGNORECASE
)
_ABOUT_IMAGE = re.compile(r"\b(image|picture|multi-?modal|multimedia)", re.IGNORECASE)
_BROKEN_OFF = {"abort", "error"}  # the server's doing, not the model's
_ENGINE_DEAD = re.compile(r"EngineCore|EngineDead|engine (is |has )?(dead|died|crashed)", re.IGNORECASE)


class EngineDeadError(TeacherError):
    """The server's engine died under this request: the server will go, and perhaps come back."""


def read_answer(body: bytes, seconds: float) -> Answer:
    """A chat completion's body, checked.

    Raises: TeacherError: not JSON, an error inside a 200, or no completion.
    """
    return answer_of(parse_json(body), seconds)


def require_asked(answer: Answer, options: Mapping[str, Any]) -> None:
    """Raises: TeacherError: the server has left out what cannot be told from the text later."""
    if "prompt_logprobs" in options and not answer.prompt_logprobs:
        raise TeacherError(
            TeacherFault.UNSUPPORTED,
            "the server gave no log-probabilities of the prompt: it does not know prompt_logprobs; "
            "name one that does as evidence.likelihood.teacher",
        )


def parse_json(body: bytes) -> Any:
    """Raises: TeacherError: not JSON, as of a body cut short or a proxy's page."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise TeacherError(TeacherFault.MALFORMED, f"the answer is not JSON ({error})") from error


def answer_of(body: Any, seconds: float) -> Answer:
    """A parsed chat completion as an `Answer`.

    Raises: TeacherError: it is something else.
    """
    if isinstance(body, Mapping) and "choices" not in body and body.get("error"):
        raise refusal_of(_error_status(body["error"]), orjson.dumps(body), {})
    try:
        choice = body["choices"][0]
        message, finish_reason = choice["message"], choice["finish_reason"]
        text = message["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise TeacherError(TeacherFault.MALFORMED, f"not a chat completion: {excerpt(body)}") from error
    if not isinstance(text, str | None) or not isinstance(finish_reason, str):
        raise TeacherError(TeacherFault.MALFORMED, f"a completion without text: {excerpt(choice)}")
    if finish_reason in _BROKEN_OFF:
        words = f"the server broke the answer off (finish_reason {finish_reason})"
        raise TeacherError(TeacherFault.BROKEN, words)
    return Answer(
        text=text or "",
        reasoning=_reasoning(message),
        model=str(body.get("model", "")),
        finish_reason=finish_reason,
        prompt_tokens=_count(body, "prompt_tokens"),
        completion_tokens=_count(body, "completion_tokens"),
        cached_tokens=_cached(body),
        first_logprobs=_first_logprobs(choice),
        prompt_logprobs=_prompt_logprobs(body),
        seconds=seconds,
    )


def _reasoning(message: Mapping[str, Any]) -> str:
    """`reasoning` in vLLM's newer versions, `reasoning_content` in its older ones and elsewhere."""
    for name in ("reasoning", "reasoning_content"):
        if isinstance(message.get(name), str):
            return message[name]
    return ""


def _count(body: Mapping[str, Any], name: str) -> int:
    usage = body.get("usage")
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if type(value) is int and 0 <= value < 2**63 else -1


def _cached(body: Mapping[str, Any]) -> int:
    usage = body.get("usage")
    details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    value = details.get("cached_tokens") if isinstance(details, Mapping) else None
    return value if type(value) is int and 0 <= value < 2**63 else 0


def _first_logprobs(choice: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not tokens:
        return ()
    try:
        return tuple((str(entry["token"]), float(entry["logprob"])) for entry in tokens[0]["top_logprobs"])
    except (KeyError, TypeError, ValueError) as error:
        raise TeacherError(TeacherFault.MALFORMED, f"unreadable logprobs: {excerpt(logprobs)}") from error


def _prompt_logprobs(body: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """Each prompt token with its log-probability. vLLM gives, per position, the prompt's own token first."""
    entries = body.get("prompt_logprobs")
    if not entries:
        return ()
    try:
        own = (next(iter(entry.values())) for entry in entries if entry is not None)
        return tuple((str(token["decoded_token"] or ""), float(token["logprob"])) for token in own)
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
        raise TeacherError(
            TeacherFault.MALFORMED, f"unreadable prompt_logprobs: {excerpt(entries)}"
        ) from error


# --------------------------------------------------------------------------------------------- streams


def read_stream(body: bytes, seconds: float) -> Answer:
    """A whole event stream, put together into one answer.

    Raises: TeacherError: an error frame, a stream without an end, or no completion.
    """
    text, reasoning, finish_reason, last = [], [], None, {}
    for event in _events(body):
        if event.get("error"):
            raise refusal_of(_error_status(event["error"]), orjson.dumps(event), {})
        last |= {name: value for name, value in event.items() if value is not None}
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text.append(delta.get("content") or "")
            reasoning.append(_reasoning(delta))
            finish_reason = choice.get("finish_reason") or finish_reason
    if finish_reason is None:
        raise TeacherError(TeacherFault.MALFORMED, "the stream ended in mid-answer")
    message = {"content": "".join(text), "reasoning": "".join(reasoning)}
    return answer_of(last | {"choices": [{"message": message, "finish_reason": finish_reason}]}, seconds)


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.split(b"\n"):
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            event = parse_json(data)
            if not isinstance(event, dict):
                raise TeacherError(TeacherFault.MALFORMED, f"not an event of a stream: {excerpt(event)}")
            yield event


def _error_status(error: object) -> int:
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


# --------------------------------------------------------------------------------------------- refusals


def refusal_of(status: int, body: bytes, headers: Mapping[str, str], url: str = "") -> TeacherError:
    """An error status as an error.

    Args:
        url: named only in errors that end the run, never in those a row ends with.
    """
    words = error_message(body)
    message = f"the teacher answered {status}: {words}"
    if status >= 500 and _ENGINE_DEAD.search(words):
        return EngineDeadError(TeacherFault.BROKEN, message)
    fault = _FAULTS.get(status) or _fault_of(status, words)
    if fault in _HINTS:
        message = f"{url}: {message}; {_HINTS[fault]}".removeprefix(": ")
    return TeacherError(fault, message, _retry_after(headers))


def _fault_of(status: int, words: str) -> TeacherFault:
    if status >= 500:
        return TeacherFault.BROKEN
    if status >= 400:
        return _refused(words)
    # A redirection is a login or a wrong address; of the good ones, only 200 brings an answer.
    return TeacherFault.UNAUTHORIZED if status >= 300 else TeacherFault.MALFORMED


def _refused(words: str) -> TeacherFault:
    """Which kind of request can never succeed, by the server's words."""
    if _TOO_LONG.search(words):
        return TeacherFault.TOO_LONG
    return TeacherFault.IMAGE_REFUSED if _ABOUT_IMAGE.search(words) else TeacherFault.REFUSED


def error_message(body: bytes) -> str:
    """The server's own words: vLLM's `error` is an object, or for 401 a plain string."""
    try:
        error = orjson.loads(body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return excerpt(body.decode("utf-8", "replace"))
    return excerpt(error.get("message", error) if isinstance(error, Mapping) else error)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; the date form is rare among model servers and is not read."""
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None


def excerpt(value: object, limit: int = 300) -> str:
    """A stranger's words on one line of at most `limit` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
