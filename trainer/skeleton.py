"""A conversation without its words: its structure, and a skeleton with a mark in place of every run of text.

Conversations of one structure share what a chat template writes around their texts (trainer/layouts.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

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
THINK, END_THINK = "<think>", "</think>"
IMAGE, CORE, WHITE = "image", "core", "white"
Kinds = tuple[str, ...]
Render = Callable[[Sequence[Message], bool], str]


class Shape(NamedTuple):
    """A message without its words.

    Attributes:
        parts: for each part (IMAGE,) or the kinds of its text's runs: CORE, WHITE, THINK and END_THINK.
        whole: its content is one string, not a list of parts.
    """

    role: str
    parts: tuple[Kinds, ...]
    whole: bool

    @property
    def images(self) -> int:
        return self.parts.count((IMAGE,))


Structure = tuple[Shape, ...]


@dataclass(frozen=True)
class Mark:
    """What stands in the skeleton for a run of text.

    Attributes:
        text: unique, and whitespace where the run is: a template that trims the run trims its mark.
        message: index of the message.
        needed: the template must write it; whitespace may be trimmed, thoughts before `</think>` dropped.
    """

    text: str
    message: int
    needed: bool


def read_structure(conversation: Conversation) -> tuple[Structure, list[str]]:
    """Conversations of one structure share a layout; the texts are those of its CORE and WHITE runs.

    Raises: SpanError: a role, a key or a kind of part that has no region.
    """
    shapes: list[Shape] = []
    texts: list[str] = []
    for index, message in enumerate(conversation):
        _check_message(message, index)
        role, content = message["role"], message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        thinking = role == "assistant" and all(part["type"] == "text" for part in parts)
        kinds: list[Kinds] = []
        for part in parts:
            runs = [(IMAGE, "")] if part["type"] == "image" else list(_cut_text(part["text"], thinking))
            kinds.append(tuple(kind for kind, _ in runs))
            texts += [text for kind, text in runs if kind in (CORE, WHITE)]
        shapes.append(Shape(role, tuple(kinds), isinstance(content, str)))
    if not shapes or shapes[0].role == "assistant":
        raise SpanError(
            "a conversation starts with a system or a user message: its turns cannot be told apart"
        )
    return tuple(shapes), texts


def _check_message(message: Message, index: int) -> None:
    if message["role"] not in ROLES:
        raise SpanError(
            f"message {index}: role {message['role']!r} has no region: use one of {', '.join(ROLES)}"
        )
    extra = sorted(key for key, value in message.items() if value and key not in ("role", "content"))
    if extra:
        raise SpanError(f"message {index}: {', '.join(extra)} has no region: write it into the content")
    for part in [] if isinstance(message["content"], str) else message["content"]:
        if part["type"] not in ("text", "image"):
            raise SpanError(
                f"message {index}: a part of type {part['type']!r} has no region: use text and image parts"
            )


def _cut_text(text: str, thinking: bool) -> Iterator[tuple[str, str]]:
    """The runs of a text as (kind, text): whitespace at its edges, and around the tags of one thought.

    Templates trim texts, and some take an assistant's thought out of its text to write or drop it themselves.
    """
    before, found, after = text.partition(END_THINK)
    whole = before.count(THINK) < 2 and THINK not in after and END_THINK not in after
    pieces = re.split(f"({THINK}|{END_THINK})", text) if thinking and found and whole else [text]
    for piece in pieces:
        core = piece.strip()
        if len(pieces) > 1 and piece in (THINK, END_THINK):
            yield piece, piece
        elif core:
            start = piece.index(core)
            runs = [(WHITE, piece[:start]), (CORE, core), (WHITE, piece[start + len(core) :])]
            yield from ((kind, run) for kind, run in runs if run)
        elif piece:
            yield WHITE, piece


def trim_seams(structure: Structure, texts: Sequence[str]) -> list[str]:
    """The texts without the line breaks next to the tags of a thought: some templates write their own."""
    rest = iter(texts)
    trimmed: list[str] = []
    for kinds in (part for shape in structure for part in shape.parts):
        for index, kind in enumerate(kinds):
            if kind not in (CORE, WHITE):
                continue
            text = next(rest)
            if kind == WHITE and index and kinds[index - 1] in (THINK, END_THINK):
                text = text.lstrip("\n")
            if kind == WHITE and kinds[index + 1 : index + 2] in ((THINK,), (END_THINK,)):
                text = text.rstrip("\n")
            trimmed.append(text)
    return trimmed


def make_skeleton(structure: Structure) -> tuple[list[Message], list[Mark]]:
    """A conversation of this structure, a mark in place of every run of text."""
    messages: list[Message] = []
    marks: list[Mark] = []
    for index, shape in enumerate(structure):
        parts = [
            {"type": "image"}
            if kinds == (IMAGE,)
            else {"type": "text", "text": _mark_runs(kinds, index, marks)}
            for kinds in shape.parts
        ]
        messages.append({"role": shape.role, "content": parts[0]["text"] if shape.whole else parts})
    return messages, marks


def _mark_runs(kinds: Kinds, message: int, marks: list[Mark]) -> str:
    """The skeleton of one text; its marks are added to `marks`."""
    written: list[str] = []
    for place, kind in enumerate(kinds):
        if kind in (CORE, WHITE):
            number = len(marks)
            # U+2000 to U+200A are whitespace, and no template writes them.
            digits = "".join(chr(0x2000 + int(digit)) for digit in oct(number)[2:])
            mark = f"\ue0f0{number}\ue0f1" if kind == CORE else f"\u2008{digits}\u200a"
            marks.append(Mark(mark, message, kind == CORE and END_THINK not in kinds[place:]))
        written.append(marks[-1].text if kind in (CORE, WHITE) else kind)
    return "".join(written)


def find_marks(text: str, marks: Sequence[Mark], structure: Structure) -> list[tuple[int, int] | None]:
    """(start, end) of each mark in the rendered skeleton, characters; None where it may be missing and is.

    Raises: SpanError: a text is dropped or repeated.
    """
    places: list[tuple[int, int] | None] = []
    for mark in marks:
        found = text.count(mark.text)
        if found > 1 or (mark.needed and not found):
            shape = structure[mark.message]
            mend = "give its content as " + ("a list of parts" if shape.whole else "one string")
            raise SpanError(
                f"message {mark.message} ({shape.role}): the chat template writes a text of it {found} "
                f"times, need exactly once: {mend}, or train with a template that writes every text once"
            )
        start = text.find(mark.text)
        places.append((start, start + len(mark.text)) if found else None)
    return places
