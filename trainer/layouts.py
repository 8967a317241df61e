"""What a chat template writes around the texts of a conversation, and which region each piece belongs to.

The user's own text is never searched for markers, so markers written in it do no harm: the template's
output is cut into pieces on the skeleton alone (trainer/turns.py), and the texts are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.errors import SpanError
from trainer.messages import Conversation, iterate_parts
from trainer.turns import (
    Label,
    Render,
    Structure,
    Turn,
    TurnFinder,
    common_suffix,
    count_texts,
    find_sentinels,
    make_skeleton,
    structure_of,
)

__all__ = ["Label", "Piece", "Structure", "build_layout", "fill_layout", "structure_of"]


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
    skeleton = make_skeleton(structure)
    text = render(skeleton, add_generation_prompt)
    places = find_sentinels(text, count_texts(structure))
    finder = TurnFinder(render, skeleton, structure, text, places, add_generation_prompt)
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
    finder: TurnFinder, turns: list[Turn], labels: list[Label], bos: str, special_tokens: Sequence[str]
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
        preamble = len(opening) - common_suffix(opening, finder.user_header)
        rest = opening[:preamble]
        for token in special_tokens:
            rest = rest.replace(token, "")
        labels[:preamble] = [Label.SYSTEM if rest.strip() else Label.OTHER] * preamble
    if bos and finder.text.startswith(bos):
        labels[: len(bos)] = [Label.OTHER] * len(bos)


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
