"""The turns of a conversation in what a chat template renders.

A template is a program: nothing about its output may be assumed. The skeleton of the conversation
(trainer/skeleton.py) is rendered, and each turn's bounds are found by replacing one message's content at a
time and by ending the conversation at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from schemas.errors import SpanError
from trainer.messages import Message
from trainer.skeleton import ROLES, Label, Render, Structure, find_marks, make_skeleton

PROBE = "\ue0f2"  # what stands for a content that is replaced


@dataclass(frozen=True)
class Turn:
    """One message in the rendered skeleton: the characters [start, end) it covers.

    `header` and `tail` bound its content: what lies between is text and image placeholders.
    `end` is None where the template writes the message into the next one (Gemma's system text).
    """

    label: Label
    images: int
    start: int
    header: int
    tail: int
    end: int | None


class TurnFinder:
    """Finds the bounds of every turn in a rendered skeleton by rendering variations of it."""

    def __init__(self, render: Render, structure: Structure, prompt: bool) -> None:
        self.render, self.structure, self.prompt = render, structure, prompt
        self.skeleton, self.marks = make_skeleton(structure)
        self.text = render(self.skeleton, prompt)
        self.places = find_marks(self.text, self.marks, structure)

    def find(self) -> list[Turn]:
        """The turns, in order. Raises: SpanError: a turn cannot be told from its neighbours."""
        turns: list[Turn] = []
        start = 0
        for index, shape in enumerate(self.structure):
            header, tail = self._contents.get(index, (start, start))
            end = self._find_end(index, start) if index in self._contents else start
            turns.append(Turn(ROLES[shape.role], shape.images, start, header, tail, end))
            start = start if end is None else end
        return turns

    @cached_property
    def _contents(self) -> dict[int, tuple[int, int]]:
        """Where the content of each message starts and stops, but for messages that are not written."""
        written = [index for index in range(len(self.structure)) if not self._vanishes(index)]
        return {index: self._content(self.skeleton, index, self.text, self.prompt) for index in written}

    def _vanishes(self, index: int) -> bool:
        """The template writes nothing at all for a message without a word."""
        marks = zip(self.marks, self.places, strict=True)
        if self.structure[index].images or any(place and mark.message == index for mark, place in marks):
            return False
        return self._try([*self.skeleton[:index], *self.skeleton[index + 1 :]], self.prompt) == self.text

    def _content(self, messages: list[Message], index: int, text: str, prompt: bool) -> tuple[int, int]:
        """Where the content of a message starts and stops: what stays when it is replaced."""
        around = self._around(messages, index, prompt)
        if around is None:
            raise SpanError(f"the chat template drops or repeats the text of message {index}")
        header = common_prefix(text, around[0])
        return header, max(header, len(text) - common_suffix(text, around[1]))

    def _around(self, messages: list[Message], index: int, prompt: bool) -> tuple[str, str] | None:
        """What the template writes before and after the content of a message."""
        message = _say(messages[index], messages[index]["role"], PROBE)
        written = self._try([*messages[:index], message, *messages[index + 1 :]], prompt)
        if written is None or written.count(PROBE) != 1:
            return None
        before, after = written.split(PROBE)
        return before, after

    def _find_end(self, index: int, start: int) -> int | None:
        """Where the turn ends that begins at `start`; None where it is written into the next one."""
        header, tail = self._contents[index]
        after = next((other for other in self._contents if other > index), None)
        if after is None and not self.prompt:
            return len(self.text)
        role, next_role = self.structure[index].role, None if after is None else self.structure[after].role
        stop = len(self.text) if after is None else self._contents[after][0]
        gap = self.text[tail:stop]
        if role == "system" and self.opener and self.opener in self.text[start:header]:
            return None
        around = self._around(self.skeleton[: index + 1], index, False)
        if around is not None and gap.startswith(around[1]):
            return tail + len(around[1])
        if next_role == "user" and self.opener and gap.endswith(self.opener):
            return stop - len(self.opener)
        raise SpanError(
            f"message {index} ({role}): the chat template goes on with {gap!r}, which does not tell where "
            "the turn ends: train with a template that ends a turn in the same way wherever it stands"
        )

    @cached_property
    def opener(self) -> str | None:
        """What opens a user turn that is not the first, so that nothing else can be mixed into it."""
        user = next((message for message in self.skeleton if message["role"] == "user"), None)
        if user is None:
            return None
        talk = [user, _say(user, "assistant", "ok"), user]
        text, around = self._try(talk, False), self._around(talk[:2], 1, False)
        if text is None or around is None:
            return None
        gap = text[self._content(talk, 1, text, False)[1] : self._content(talk, 2, text, False)[0]]
        return gap[len(around[1]) :] if gap.startswith(around[1]) else None

    def _try(self, messages: Sequence[Message], prompt: bool) -> str | None:
        """The template's output, or None where it refuses these messages."""
        try:
            return self.render(messages, prompt)
        except SpanError:
            return None


def _say(like: Message, role: str, text: str) -> Message:
    """A message of one text, its content a string where that of `like` is one."""
    whole = isinstance(like["content"], str)
    return {"role": role, "content": text if whole else [{"type": "text", "text": text}]}


def common_prefix(left: str, right: str) -> int:
    """How many characters two texts share at their start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (one, two) in pairs if one != two), min(len(left), len(right)))


def common_suffix(left: str, right: str) -> int:
    """How many characters two texts share at their end."""
    return common_prefix(left[::-1], right[::-1])
