"""What a teacher is asked and what it answered, as data: hashable, comparable, kept in the journal.

A request refers to its images by content hash. Two requests with the same key are the same question to the
same model, so the answer to one is the answer to the other, whichever run, stage or server it came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from schemas.errors import TeacherError, TeacherFault
from schemas.records import Image


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question: a user's message, and perhaps the beginning of the answer.

    Attributes:
        stage: what it is asked for (`describe`, `evidence.blind`, ...); for accounts, not part of the key.
        content: texts and images of the user's message, in order.
        system: text of a system message before it, "" for none.
        continued: the assistant's text that is to be continued, None for a new answer.
        options: further fields of the API (`logprobs`, `structured_outputs`, `prompt_logprobs`, ...), JSON.
    """

    stage: str
    model: str
    revision: str = ""
    content: tuple[str | Image, ...]
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    continued: str | None = None
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def reference(self) -> bytes:
        """The whole request as canonical JSON, each image by its SHA-256."""
        names = iter(self.image_names)
        content = [part if isinstance(part, str) else {"image": next(names)} for part in self.content]
        fields = {"revision": self.revision, "content": content, "continued": self.continued}
        if self.system:  # requests without one keep the key that older journals know them by
            fields["system"] = self.system
        return orjson.dumps(fields | self._fields(), option=orjson.OPT_SORT_KEYS)

    @cached_property
    def key(self) -> bytes:
        """SHA-256 of `reference`, 32 bytes."""
        return hashlib.sha256(self.reference).digest()

    @property
    def images(self) -> tuple[Image, ...]:
        """The message's images, in order."""
        return tuple(part for part in self.content if isinstance(part, Image))

    @cached_property
    def image_names(self) -> tuple[str, ...]:
        """The SHA-256 of each of `images`, made once: a large image takes milliseconds."""
        return tuple(image.sha256 for image in self.images)

    def body(self, image_parts: Mapping[str, Mapping[str, Any]], *, stream: bool = False) -> bytes:
        """The request as the API takes it.

        Args:
            image_parts: SHA-256 of each image -> its content part.
        """
        messages: list[dict[str, Any]] = [{"role": "user", "content": self._user_content(image_parts)}]
        fields = self._fields()
        if self.continued is not None:
            messages.append({"role": "assistant", "content": self.continued})
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        if stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return orjson.dumps({"messages": messages, **fields})

    def _user_content(self, image_parts: Mapping[str, Mapping[str, Any]]) -> object:
        if len(self.content) == 1 and isinstance(self.content[0], str):
            return self.content[0]
        names = iter(self.image_names)
        return [
            {"type": "text", "text": part} if isinstance(part, str) else image_parts[next(names)]
            for part in self.content
        ]

    def _fields(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            **self.options,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A teacher's answer, checked.

    Attributes:
        text: the message's content.
        reasoning: what a reasoning model thought before, where the server parses it; else "".
        model: the model's name as the server gave it.
        finish_reason: `stop`, `length`, `repetition`, ...
        prompt_tokens, completion_tokens: -1 where the server counts none.
        cached_tokens: of the prompt's, those that the server had computed before; 0 where it does not say.
        first_logprobs: likeliest first tokens with their log-probability (nats), where the request asked.
        prompt_logprobs: tokens of the prompt with their log-probability, where the request asked; the first
            token has none and is left out.
        seconds: from asking to the last byte, of the request that succeeded.
    """

    text: str
    model: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning: str = ""
    cached_tokens: int = 0
    first_logprobs: tuple[tuple[str, float], ...] = ()
    prompt_logprobs: tuple[tuple[str, float], ...] = ()
    seconds: float = 0.0


Outcome = Answer | TeacherError


def encode_outcome(outcome: Outcome) -> bytes:
    """An answer, or a refusal that asking again cannot mend, as the journal keeps it."""
    if isinstance(outcome, Answer):
        return orjson.dumps(outcome)
    return orjson.dumps({"fault": str(outcome.fault), "message": str(outcome)})


def decode_outcome(stored: Mapping[str, Any]) -> Outcome:
    """The inverse of `encode_outcome`, given its JSON as data."""
    fields = dict(stored)
    if "fault" in fields:
        return TeacherError(TeacherFault(fields["fault"]), fields["message"])
    for name in ("first_logprobs", "prompt_logprobs"):
        fields[name] = tuple((token, logprob) for token, logprob in fields[name])
    return Answer(**fields)
