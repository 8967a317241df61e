"""The turns of a conversation in what a chat template renders.

A template is a program: nothing about its output may be assumed. The conversation is rendered with a unique
sentinel in place of every text (its skeleton), and each turn's bounds are found by rendering prefixes of the
skeleton and by replacing one turn's content at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from jinja2 import TemplateError

from schemas.errors import SpanError
from trainer.messages import Conversation, Message


class Label(IntEnum):
    """Which region a token belongs to (METHOD: "Token regions"). Padding is 0."""

    PAD = 0
    OTHER = 1
    SYSTEM = 2
    IMAGE = 3
    USER = 4
    RESPONSE = 5


ROLES = {"system": Label.SYSTEM, "user": Label.USER, "assistant": Label.RESPONSE}
TEXT, EMPTY, IMAGE = "text", "empty", "image"
Structure = tuple[tuple[str, tuple[str, ...] | str], ...]
Render = Callable[[Sequence[Message], bool], str]


@dataclass(frozen=True)
class Turn:
    """One message in the skeleton: its sentinels, and the characters [start, end) it covers.

    `header` and `tail` bound its content: what lies between is text parts and image placeholders.
    `end` is None where the template folds the message into the next one (Gemma's system text).
    """

    label: Label
    parts: tuple[int, ...]
    images: int
    start: int
    header: int
    tail: int
    end: int | None


def structure_of(conversation: Conversation) -> Structure:
    """Roles and kinds of parts: conversations of one structure share a layout.

    Raises: SpanError: a role or a kind of part that has no region.
    """
    turns: list[tuple[str, tuple[str, ...] | str]] = []
    for index, message in enumerate(conversation):
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise SpanError(f"message {index}: role {role!r} has no region: use one of {', '.join(ROLES)}")
        if isinstance(content, str):
            turns.append((role, TEXT if content else EMPTY))
        else:
            turns.append((role, tuple(_kind_of(part, index) for part in content)))
    if not turns or turns[0][0] == "assistant":
        raise SpanError(
            "a conversation starts with a system or a user message: its turns cannot be told apart"
        )
    return tuple(turns)


def _kind_of(part: Message, index: int) -> str:
    if part["type"] == "text":
        return TEXT if part["text"] else EMPTY
    if part["type"] == "image":
        return IMAGE
    raise SpanError(
        f"message {index}: a part of type {part['type']!r} has no region: use text and image parts"
    )


def _sentinel(part: int) -> str:
    return f"\ue0f0{part}\ue0f1"


def count_texts(structure: Structure) -> int:
    """Number of text parts that are not empty."""
    return sum(kinds == TEXT if isinstance(kinds, str) else kinds.count(TEXT) for _, kinds in structure)


def make_skeleton(structure: Structure) -> list[Message]:
    """A conversation of this structure, a unique sentinel in place of every text that is not empty."""
    number = 0
    messages: list[Message] = []
    for role, kinds in structure:
        parts: list[Message] = []
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            parts.append({"type": "image"} if kind == IMAGE else {"type": "text", "text": ""})
            if kind == TEXT:
                parts[-1]["text"] = _sentinel(number)
                number += 1
        messages.append({"role": role, "content": parts[0]["text"] if isinstance(kinds, str) else parts})
    return messages


def find_sentinels(text: str, count: int) -> list[tuple[int, int]]:
    """(start, end) of each sentinel in a rendered skeleton, characters.

    Raises: SpanError: a text is dropped or repeated.
    """
    places = []
    for part in range(count):
        sentinel = _sentinel(part)
        found = text.count(sentinel)
        if found != 1:
            raise SpanError(
                f"the chat template writes text part {part} {found} times, need exactly once: "
                "regions need a template that neither drops nor repeats a text"
            )
        start = text.index(sentinel)
        places.append((start, start + len(sentinel)))
    return places


class TurnFinder:
    """Finds the bounds of every turn in a rendered skeleton by rendering variations of it."""

    def __init__(
        self,
        render: Render,
        skeleton: list[Message],
        structure: Structure,
        text: str,
        places: list[tuple[int, int]],
        add_generation_prompt: bool,
    ) -> None:
        self.render, self.skeleton, self.structure = render, skeleton, structure
        self.text, self.places, self.add_generation_prompt = text, places, add_generation_prompt
        self.user_header = self._find_user_header()

    def find(self) -> list[Turn]:
        """The turns, in order. Raises: SpanError: a turn's text is dropped or repeated."""
        turns: list[Turn] = []
        start = first_part = 0
        for index, (role, kinds) in enumerate(self.structure):
            kinds = (kinds,) if isinstance(kinds, str) else kinds
            parts = tuple(range(first_part, first_part + kinds.count(TEXT)))
            header, tail = self._content_bounds(index)
            end = self._turn_end(index, parts)
            turns.append(Turn(ROLES[role], parts, kinds.count(IMAGE), start, header, tail, end))
            start = start if end is None else end
            first_part += len(parts)
        return turns

    def _content_bounds(self, index: int) -> tuple[int, int]:
        """Where the content of a turn starts and stops: what stays when its content is replaced."""
        probe, mark = list(self.skeleton), "\ue0f2"
        whole = isinstance(self.skeleton[index]["content"], str)
        content = mark if whole else [{"type": "text", "text": mark}]
        probe[index] = {"role": self.skeleton[index]["role"], "content": content}
        rendered = self.render(probe, self.add_generation_prompt)
        if rendered.count(mark) != 1:
            raise SpanError(f"the chat template drops or repeats the text of message {index}")
        before, after = rendered.split(mark)
        header = common_prefix(self.text, before)
        return header, max(header, len(self.text) - common_suffix(self.text, after))

    def _turn_end(self, index: int, parts: tuple[int, ...]) -> int | None:
        prefix = self._try(self.skeleton[: index + 1])
        if prefix is not None and self.text.startswith(prefix) and all(_sentinel(p) in prefix for p in parts):
            return len(prefix)
        if index + 1 < len(self.structure) and parts and self.structure[index + 1][0] == "user":
            stop = self._content_bounds(index + 1)[0]
            between = self.text[self.places[parts[-1]][1] : stop]
            if self.user_header and between.endswith(self.user_header):
                return stop - len(self.user_header)
        return None if index + 1 < len(self.structure) else len(self.text)

    def _find_user_header(self) -> str | None:
        """What opens a user turn that is not the first, so that nothing else can be mixed into it."""
        turns = [(role, (TEXT,)) for role in ("user", "assistant", "user")]
        probe = make_skeleton(tuple(turns))
        whole, prefix = self._try(probe), self._try(probe[:2])
        if whole is None or prefix is None or not whole.startswith(prefix) or _sentinel(2) not in whole:
            return None
        return whole[len(prefix) : whole.index(_sentinel(2))]

    def _try(self, messages: list[Message]) -> str | None:
        """The template's output, or None where it refuses these messages."""
        try:
            return self.render(messages, False)
        except (TemplateError, IndexError, KeyError):
            return None


def common_prefix(left: str, right: str) -> int:
    """How many characters two texts share at their start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (one, two) in pairs if one != two), min(len(left), len(right)))


def common_suffix(left: str, right: str) -> int:
    """How many characters two texts share at their end."""
    return common_prefix(left[::-1], right[::-1])
