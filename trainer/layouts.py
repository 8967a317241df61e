"""What a chat template writes around the texts of a conversation, and whose turn each piece belongs to.

A template is a program: nothing about its output may be assumed. So the conversation is rendered once with
a unique sentinel in place of every text, and its turns are found by rendering prefixes of it and by
replacing one turn at a time. The user's own text is never searched for markers, so markers written in it
do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from jinja2 import TemplateError

from schemas.errors import SpanError
from trainer.messages import Conversation, Message, iterate_parts


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


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of rendered characters with one label.

    Attributes:
        text: the characters; for a part's piece its sentinel until it is filled in.
        part: which text part of the conversation this is, None for what the template wrote.
        expands: an image placeholder, which the processor replaces by any number of tokens.
    """

    text: str
    label: Label
    part: int | None = None
    expands: bool = False


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


def plain(conversation: Conversation) -> list[Message]:
    """The conversation without its pixels, for rendering."""
    return [
        {"role": message["role"], "content": content if isinstance(content, str) else list(_plain(content))}
        for message in conversation
        for content in [message["content"]]
    ]


def _plain(parts: Sequence[Message]) -> Iterator[Message]:
    for part in parts:
        yield {"type": "image"} if part["type"] == "image" else {"type": "text", "text": part["text"]}


def build_layout(
    render: Render,
    structure: Structure,
    *,
    add_generation_prompt: bool,
    bos: str,
    special_tokens: Sequence[str],
    placeholders: Sequence[str],
) -> tuple[Piece, ...]:
    """The labelled pieces of a conversation of this structure, texts still to be filled in.

    Args:
        render: messages and add_generation_prompt -> the template's output.
        bos: the beginning-of-sequence token, "" where there is none.
        placeholders: strings by which the template may mark an image.
    Raises: SpanError: a template that drops, repeats or reorders a text beyond recognition.
    """
    skeleton = _skeleton(structure)
    text = render(skeleton, add_generation_prompt)
    places = _sentinel_places(text, _part_count(structure))
    finder = _TurnFinder(render, skeleton, structure, text, places, add_generation_prompt)
    turns = finder.find()
    labels, contents = [Label.OTHER] * len(text), [False] * len(text)
    for turn in turns:
        _paint_turn(turn, labels, contents)
    _paint_preamble(finder, turns, labels, bos, special_tokens)
    for turn in turns:
        for part in turn.parts:
            start, stop = places[part]
            labels[start:stop] = [turn.label] * (stop - start)
    pieces = _cut_pieces(text, labels, contents, places)
    return _mark_placeholders(pieces, placeholders, sum(turn.images for turn in turns))


def _sentinel(part: int) -> str:
    return f"\ue0f0{part}\ue0f1"


def _part_count(structure: Structure) -> int:
    return sum(kinds == TEXT if isinstance(kinds, str) else kinds.count(TEXT) for _, kinds in structure)


def _skeleton(structure: Structure) -> list[Message]:
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


def _sentinel_places(text: str, count: int) -> list[tuple[int, int]]:
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


class _TurnFinder:
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
        header = _common_prefix(self.text, before)
        return header, max(header, len(self.text) - _common_suffix(self.text, after))

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
        probe = _skeleton(tuple(turns))
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


def _paint_turn(turn: Turn, labels: list[Label], contents: list[bool]) -> None:
    contents[turn.header : turn.tail] = [True] * (turn.tail - turn.header)
    if turn.end is None:
        return
    if turn.label is Label.SYSTEM:
        labels[turn.start : turn.end] = [Label.SYSTEM] * (turn.end - turn.start)
    if turn.label is Label.USER:
        labels[turn.start : turn.header] = [Label.USER] * (turn.header - turn.start)
    if turn.label is not Label.SYSTEM:
        labels[turn.header : turn.tail] = [Label.OTHER] * (turn.tail - turn.header)
        labels[turn.tail : turn.end] = [turn.label] * (turn.end - turn.tail)


def _paint_preamble(
    finder: _TurnFinder, turns: list[Turn], labels: list[Label], bos: str, special_tokens: Sequence[str]
) -> None:
    """What comes before the first turn: a BOS, or a system prompt that the template adds by itself."""
    first = next(turn for turn in turns if turn.end is not None)
    if first.label is not Label.SYSTEM:
        starts = [first.header, *(start for start, _ in finder.places)]
        opening = finder.text[: min(starts)]
        if finder.user_header is None:
            raise SpanError(
                "the chat template refuses a user, assistant, user conversation: no turn can be told"
            )
        preamble = len(opening) - _common_suffix(opening, finder.user_header)
        rest = opening[:preamble]
        for token in special_tokens:
            rest = rest.replace(token, "")
        labels[:preamble] = [Label.SYSTEM if rest.strip() else Label.OTHER] * preamble
    if bos and finder.text.startswith(bos):
        labels[: len(bos)] = [Label.OTHER] * len(bos)


def _common_prefix(left: str, right: str) -> int:
    """How many characters two texts share at their start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (one, two) in pairs if one != two), min(len(left), len(right)))


def _common_suffix(left: str, right: str) -> int:
    return _common_prefix(left[::-1], right[::-1])


def _cut_pieces(
    text: str, labels: list[Label], contents: list[bool], places: list[tuple[int, int]]
) -> list[Piece]:
    """Runs of equal labels; a sentinel is always a piece of its own. `expands`: content, but no text."""
    owner: list[int | None] = [None] * len(text)
    for part, (start, stop) in enumerate(places):
        owner[start:stop] = [part] * (stop - start)
    pieces: list[Piece] = []
    start = 0
    for index in range(1, len(text) + 1):
        key = (labels[start], owner[start], contents[start])
        if index < len(text) and (labels[index], owner[index], contents[index]) == key:
            continue
        literal = contents[start] and owner[start] is None
        pieces.append(Piece(text=text[start:index], label=labels[start], part=owner[start], expands=literal))
        start = index
    return pieces


def _mark_placeholders(pieces: list[Piece], placeholders: Sequence[str], images: int) -> tuple[Piece, ...]:
    """Cut the literals of turns' contents at the image placeholders they hold."""
    cut: list[Piece] = []
    for piece in pieces:
        cut += _split_at(piece, placeholders) if piece.expands else [piece]
    found = sum(piece.expands for piece in cut)
    if found != images:
        raise SpanError(
            f"the chat template writes {found} image placeholders for {images} images: "
            "is its placeholder one of the processor's image tokens?"
        )
    return tuple(cut)


def _split_at(piece: Piece, placeholders: Sequence[str]) -> list[Piece]:
    known = [(piece.text.find(token), token) for token in placeholders if token in piece.text]
    if not known:
        return [replace(piece, expands=False)]
    start, token = min(known, key=lambda found: (found[0], -len(found[1])))
    before, after = piece.text[:start], piece.text[start + len(token) :]
    pieces = [replace(piece, text=before, expands=False)] if before else []
    pieces.append(replace(piece, text=token))
    return pieces + (_split_at(replace(piece, text=after), placeholders) if after else [])


def fill_layout(layout: Sequence[Piece], conversation: Conversation, rendered: str) -> list[Piece] | None:
    """The layout with the conversation's texts in it, or None where that is not what was rendered.

    A template may trim a text: of the text as it is and its trimmed forms, the one that stands in
    `rendered` is taken.
    """
    texts = [part["text"] for _, part in iterate_parts(conversation) if part.get("text")]
    return _fill(list(layout), texts, rendered)


def _fill(pieces: list[Piece], texts: list[str], rendered: str) -> list[Piece] | None:
    if not pieces:
        return None if rendered else []
    head, rest = pieces[0], pieces[1:]
    text = head.text if head.part is None else texts[head.part]
    forms = [text] if head.part is None else dict.fromkeys([text, text.lstrip(), text.rstrip(), text.strip()])
    for form in forms:
        if rendered.startswith(form):
            filled = _fill(rest, texts, rendered[len(form) :])
            if filled is not None:
                return [replace(head, text=form), *filled]
    return None
