"""The embedded teacher: an OpenAI-compatible server that really looks at the pixels.

It answers avar's three stages for pictures of shapes, bar charts and pattern grids, and refuses others with
a reason. It knows nothing but the request; equal requests get equal choices from every server.

Tokens, for `usage` and `max_tokens`: runs of letters and digits, and single other characters that are not
white space. An image counts as one token for every 28 by 28 pixels, or part of it.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import numpy as np
import orjson
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from synth.data_urls import MAX_PIXELS, Refusal, decode_image, flatten
from synth.seeing.vision import UnreadableImage, look
from synth.thinking.anchoring import anchor
from synth.thinking.narration import write_description
from synth.thinking.reasoning import reason

__all__ = ["MAX_PIXELS", "MODEL", "Refusal", "anchor", "answer_request", "app", "describe", "reason"]

MODEL = "avar-embedded"

_STAGES: dict[str, tuple[str, ...]] = {
    "describe": (),
    "reason": ("description", "question"),
    "anchor": ("question", "reasoning"),
}
_TASK = re.compile(r"<task>\s*(\w+)\s*</task>")
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")


@dataclass(frozen=True)
class Asked:
    """A request that was understood as far as its form goes."""

    text: str
    images: tuple[np.ndarray, ...]
    seed: int
    max_tokens: int | None
    prompt_tokens: int


# ------------------------------------------------------------------------------------ the stages


def describe(image: Image.Image | np.ndarray, seed: int) -> str:
    """A description of a picture: at a glance, closely, relations, the whole.

    Args:
        image: a Pillow image, or uint8 [height, width, 3].
        seed: chooses among phrasings, never what is said.
    Raises: Refusal: a picture of a kind that this teacher cannot read.
    """
    pixels = image if isinstance(image, np.ndarray) else flatten(image)
    try:
        return write_description(look(pixels), seed)
    except UnreadableImage as error:
        raise Refusal(f"the image cannot be read: {error}", param="messages") from error


def answer_request(body: bytes) -> dict[str, Any]:
    """The whole answer to a chat completion request, as the API gives it.

    Raises: Refusal: with the status and reason that the API answers.
    """
    asked = _parse(body)
    text = _answer(asked)
    text, finish_reason, tokens = _cut(text, asked.max_tokens)
    return {
        "id": f"chatcmpl-{hashlib.sha256(body).hexdigest()[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": asked.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": asked.prompt_tokens + tokens,
        },
    }


def _answer(asked: Asked) -> str:
    stage, parts = _stage(asked.text)
    if stage == "reason":
        return reason(parts["description"], parts["question"], asked.seed)
    if stage == "anchor":
        return anchor(parts["question"], parts["reasoning"], asked.seed)
    if not asked.images:
        raise Refusal("the describe stage needs an image_url part, found none", param="messages")
    texts = [describe(image, asked.seed) for image in asked.images]
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(
        f"Image {number} of {len(texts)}.\n\n{text}" for number, text in enumerate(texts, start=1)
    )


def _stage(text: str) -> tuple[str, dict[str, str]]:
    """The first task named in a prompt that has all its parts."""
    named = [name for name in _TASK.findall(text) if name in _STAGES]
    for name in named:
        parts = _sections(text, _STAGES[name])
        if parts is not None:
            return name, parts
    why = (
        f"<task>{named[0]}</task> without its sections" if named else "no known <task>...</task> in the text"
    )
    raise Refusal(f"not one of avar's stages: {why}", param="messages")


def _sections(text: str, names: Sequence[str]) -> dict[str, str] | None:
    """The texts between the tags of each of two names (or none), None where a tag is missing.

    What stands inside is not trusted and may hold such tags itself: the first section begins at its first
    opening tag, the second ends at its last closing tag, and they part at the last place where they can.
    """
    if not names:
        return {}
    first, second = sorted(names, key=lambda name: text.find(f"<{name}>"))
    begin, end = text.find(f"<{first}>"), text.rfind(f"</{second}>")
    last_opening = text.rfind(f"<{second}>", 0, max(end, 0))
    close = text.rfind(f"</{first}>", 0, max(last_opening, 0))
    if not 0 <= begin < close < last_opening < end:
        return None
    opening = text.find(f"<{second}>", close)
    return {
        first: text[begin + len(first) + 2 : close].strip(),
        second: text[opening + len(second) + 2 : end].strip(),
    }


# ------------------------------------------------------------------------------------ the request


def _parse(body: bytes) -> Asked:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(f"the body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Refusal(f"the body is a JSON object, found {type(data).__name__}")
    model = data.get("model", MODEL)
    if model != MODEL:
        raise Refusal(f"The model `{str(model)[:200]}` does not exist.", status=404, param="model")
    _check_options(data)
    text, images = _content(_user_message(data.get("messages")))
    limit = _integer(data, "max_completion_tokens", 1)
    tokens = _count_tokens(text) + sum(
        math.ceil(h / 28) * math.ceil(w / 28) for h, w in (image.shape[:2] for image in images)
    )
    return Asked(
        text=text,
        images=images,
        seed=_integer(data, "seed", None) or 0,
        max_tokens=limit if limit is not None else _integer(data, "max_tokens", 1),
        prompt_tokens=tokens,
    )


def _check_options(data: Mapping[str, Any]) -> None:
    if _integer(data, "n", 0) not in (None, 1):
        raise Refusal(f"n: only 1 answer per request is supported, got {data['n']}", param="n")
    if data.get("stream") not in (None, False):
        raise Refusal("stream: streaming is not supported by the embedded teacher", param="stream")
    for name, highest in (("temperature", 2), ("top_p", 1)):
        value = data.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refusal(f"{name}: a number is expected, got {type(value).__name__}", param=name)
        if value is not None and not 0 <= value <= highest:
            raise Refusal(f"{name}: {value} is outside [0, {highest}]", param=name)


def _integer(data: Mapping[str, Any], name: str, least: int | None) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal(f"{name}: an integer is expected, got {type(value).__name__}", param=name)
    if least is not None and value < least:
        raise Refusal(f"{name}: {value} is below {least}", param=name)
    return value


def _user_message(messages: object) -> Mapping[str, Any]:
    """The last message of the user."""
    if not isinstance(messages, list) or not messages:
        raise Refusal("messages: a list with at least one message is expected", param="messages")
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
        raise Refusal("messages: every message is an object with a role and a content", param="messages")
    mine = [message for message in messages if message["role"] == "user"]
    if not mine:
        raise Refusal("messages: there is no message of the role `user`", param="messages")
    return mine[-1]


def _content(message: Mapping[str, Any]) -> tuple[str, tuple[np.ndarray, ...]]:
    """Text and decoded images of a message."""
    content = message.get("content")
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list):
        raise Refusal("messages: content is a text or a list of parts", param="messages")
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(decode_image(_url(part)))
        else:
            raise Refusal("messages: a part is of type `text` or `image_url`", param="messages")
    return "\n".join(texts), tuple(images)


def _url(part: Mapping[str, Any]) -> str:
    holder = part.get("image_url")
    url = holder.get("url") if isinstance(holder, dict) else None
    if not isinstance(url, str):
        raise Refusal('messages: an image part holds {"image_url": {"url": "data:..."}}', param="messages")
    return url


# ------------------------------------------------------------------------------------ tokens and routes


def _count_tokens(text: str) -> int:
    return sum(1 for _ in _TOKEN.finditer(text))


def _cut(text: str, limit: int | None) -> tuple[str, str, int]:
    """A text of at most `limit` tokens, its finish reason and its token count."""
    ends = [match.end() for match in _TOKEN.finditer(text)]
    if limit is None or len(ends) <= limit:
        return text, "stop", len(ends)
    return text[: ends[limit - 1]], "length", limit


async def _complete(request: Request) -> Response:
    body = await request.body()
    try:
        return JSONResponse(await anyio.to_thread.run_sync(answer_request, body))
    except Refusal as refusal:
        kind = "NotFoundError" if refusal.status == 404 else "BadRequestError"
        error = {"message": str(refusal), "type": kind, "param": refusal.param, "code": refusal.status}
        return JSONResponse({"error": error}, status_code=refusal.status)


async def _models(request: Request) -> Response:
    card = {"id": MODEL, "object": "model", "created": 0, "owned_by": "avar"}
    return JSONResponse({"object": "list", "data": [card]})


async def _health(request: Request) -> Response:
    return Response(status_code=200)


app = Starlette(
    routes=[
        Route("/v1/chat/completions", _complete, methods=["POST"]),
        Route("/v1/models", _models, methods=["GET"]),
        Route("/health", _health, methods=["GET"]),
    ]
)
