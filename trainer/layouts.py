"""What a chat template writes around the texts of a conversation, and which region each piece belongs to.

The user's own text is never searched for markers, so markers written in it do no harm: the template's
output is cut into pieces on the skeleton alone (trainer/turns.py), and the texts are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError
from transformers import ProcessorMixin

from schemas.errors import SpanError
from trainer.messages import Conversation, Message, plain
from trainer.skeleton import Label, Render, Structure, trim_seams
from trainer.turns import Turn, TurnFinder, common_prefix

__all__ = ["Label", "Piece", "render_pieces", "render_reply"]

_LAYOUTS: dict[tuple[Any, ...], tuple[Piece, ...]] = {}
_MAX_LAYOUTS = 256


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of rendered characters with one label.

    Attributes:
        text: the characters; for a run's piece its mark until it is filled in.
        run: which run of text of the conversation this is, None for what the template wrote.
        expands: an image placeholder, which the processor replaces by any number of tokens.
        marker: a special token that the template writes beside a placeholder.
    """

    text: str
    label: Label
    run: int | None = None
    expands: bool = False
    marker: bool = False


def render_pieces(
    processor: ProcessorMixin,
    conversation: Conversation,
    structure: Structure,
    texts: Sequence[str],
    add_generation_prompt: bool,
) -> list[Piece]:
    """The conversation as the template writes it, cut into labelled pieces.

    What the template writes by itself before the words of an assistant is `other`, also the `<think>` of a
    template that writes the tags itself: its generation prompt holds it too.

    Args:
        structure, texts: of the conversation (trainer/skeleton.py).
    Raises: SpanError: a template that refuses the conversation, rewrites a text or cannot be cut into turns.
    """
    rendered = _render(processor, plain(conversation), add_generation_prompt)
    layout: tuple[Piece, ...] = ()
    for fresh in (False, True):  # a layout may age: some templates write today's date
        layout = _layout(processor, structure, add_generation_prompt, fresh)
        for written in (texts, trim_seams(structure, texts)):
            pieces = _fill(layout, written)
            if "".join(piece.text for piece in pieces) == rendered:
                return pieces
    expected = "".join(piece.text for piece in _fill(layout, texts))
    start = common_prefix(expected, rendered)
    raise SpanError(
        f"the chat template rewrites content: it renders {rendered[start : start + 40]!r} where the texts "
        f"give {expected[start : start + 40]!r}. Take what it rewrites out of the text, write thoughts as "
        "one <think>...</think> at the start of the reply, or train with a template that keeps texts"
    )


def render_reply(processor: ProcessorMixin, conversation: Conversation) -> str:
    """What the template writes after the part it shares with the generation prompt; "" without a reply.

    TRL tokenizes the two apart.
    """
    if conversation[-1]["role"] != "assistant":
        return ""
    whole = _render(processor, plain(conversation), False)
    return whole[common_prefix(_render(processor, plain(conversation[:-1]), True), whole) :]


def _render(processor: ProcessorMixin, messages: Sequence[Message], add_generation_prompt: bool) -> str:
    try:
        rendered: Any = processor.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        raise SpanError(f"the chat template refuses the conversation: {error}") from error
    return rendered


def _fill(layout: Sequence[Piece], texts: Sequence[str]) -> list[Piece]:
    """The layout with the texts in it; runs side by side become one, since Unicode may join them."""
    filled: list[Piece] = []
    for piece in layout:
        text = piece.text if piece.run is None else texts[piece.run]
        last = filled[-1] if filled else None
        if last and piece.run is not None and last.run is not None and last.label is piece.label:
            filled[-1] = replace(last, text=last.text + text)
        else:
            filled.append(replace(piece, text=text))
    return filled


def _layout(
    processor: ProcessorMixin, structure: Structure, add_generation_prompt: bool, fresh: bool
) -> tuple[Piece, ...]:
    tokenizer = processor.tokenizer
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    specials, placeholders = tuple(tokenizer.all_special_tokens), _placeholders(processor)
    key = (str(template), specials, placeholders, structure, add_generation_prompt)
    if fresh or key not in _LAYOUTS:
        while len(_LAYOUTS) >= _MAX_LAYOUTS:
            _LAYOUTS.pop(next(iter(_LAYOUTS)))
        _LAYOUTS[key] = _build_layout(
            lambda messages, prompt: _render(processor, messages, prompt),
            structure,
            add_generation_prompt=add_generation_prompt,
            bos=tokenizer.bos_token or "",
            special_tokens={*specials, *tokenizer.get_added_vocab()},
            placeholders=placeholders,
        )
    return _LAYOUTS[key]


def _placeholders(processor: ProcessorMixin) -> tuple[str, ...]:
    owners = (processor, processor.tokenizer)
    names = ("boi_token", "image_token", "fake_image_token")
    found = [getattr(owner, name, None) for name in names for owner in owners]
    return tuple(dict.fromkeys(token for token in found if isinstance(token, str) and token))


def _build_layout(
    render: Render,
    structure: Structure,
    *,
    add_generation_prompt: bool,
    bos: str,
    special_tokens: Collection[str],
    placeholders: Sequence[str],
) -> tuple[Piece, ...]:
    """The labelled pieces of a conversation of this structure, texts still to be filled in.

    Args:
        render: messages and add_generation_prompt -> the template's output.
        bos: the beginning-of-sequence token, "" where there is none.
        placeholders: strings by which the template may mark an image.
    Raises: SpanError: a template that drops, repeats or reorders a text beyond recognition.
    """
    finder = TurnFinder(render, structure, add_generation_prompt)
    turns = finder.find()
    labels, contents = [Label.OTHER] * len(finder.text), [False] * len(finder.text)
    for turn in turns:
        _paint_turn(turn, labels, contents)
    _paint_preamble(finder, turns, labels, bos, special_tokens)
    for mark, place in zip(finder.marks, finder.places, strict=True):
        if place:
            labels[slice(*place)] = [turns[mark.message].label] * len(mark.text)
    pieces = _cut_pieces(finder, labels, contents)
    return _mark_images(pieces, placeholders, special_tokens, sum(turn.images for turn in turns))


def _paint_turn(turn: Turn, labels: list[Label], contents: list[bool]) -> None:
    contents[turn.header : turn.tail] = [True] * (turn.tail - turn.header)
    if turn.end is None:
        return
    opening = Label.OTHER if turn.label is Label.RESPONSE else turn.label
    # Beside images a template writes markers of its own; within a reply, the tags of a thought.
    inside = turn.label if turn.label is Label.SYSTEM else Label.OTHER
    if turn.label is Label.RESPONSE and not turn.images:
        inside = Label.RESPONSE
    for start, stop, label in (
        (turn.start, turn.header, opening),
        (turn.header, turn.tail, inside),
        (turn.tail, turn.end, turn.label),
    ):
        labels[start:stop] = [label] * max(0, stop - start)


def _paint_preamble(
    finder: TurnFinder, turns: list[Turn], labels: list[Label], bos: str, special_tokens: Collection[str]
) -> None:
    """What comes before the first turn: a BOS, or a system prompt that the template adds by itself."""
    first = next((turn for turn in turns if turn.end is None or turn.end > turn.start), None)
    if first is None:
        raise SpanError("the chat template writes nothing for any message: a row needs a text or an image")
    if first.label is not Label.SYSTEM or first.end is None:
        opening, opener = finder.text[: first.header], finder.opener
        preamble = -1 if opener is None else opening.rfind(opener)
        if preamble < 0 or (first.end is not None and not opening.endswith(opener or "")):
            raise SpanError(
                f"the chat template opens the first user turn with {opening!r} and a later one with "
                f"{opener!r}: where the turn begins cannot be told"
            )
        rest = opening[:preamble]
        for token in special_tokens:
            rest = rest.replace(token, "")
        labels[:preamble] = [Label.SYSTEM if rest.strip() else Label.OTHER] * preamble
    if bos and finder.text.startswith(bos):
        labels[: len(bos)] = [Label.OTHER] * len(bos)


def _cut_pieces(finder: TurnFinder, labels: list[Label], contents: list[bool]) -> list[Piece]:
    """Runs of equal labels; a mark is always a piece of its own. `expands`: content, but no text."""
    owner: list[int | None] = [None] * len(labels)
    for run, place in enumerate(finder.places):
        if place:
            owner[slice(*place)] = [run] * (place[1] - place[0])
    pieces: list[Piece] = []
    start = 0
    keys = list(zip(labels, owner, contents, strict=True))
    for stop in range(1, len(keys) + 1):
        if stop < len(keys) and keys[stop] == keys[start]:
            continue
        label, run, content = keys[start]
        text = finder.text[start:stop]
        pieces.append(Piece(text=text, label=label, run=run, expands=content and run is None))
        start = stop
    return pieces


def _mark_images(
    pieces: list[Piece], placeholders: Sequence[str], special_tokens: Collection[str], images: int
) -> tuple[Piece, ...]:
    """Cut the literals of turns' contents at the image placeholders they hold; flag the markers beside."""
    cut: list[Piece] = []
    for piece in pieces:
        cut += _split_at(piece, placeholders) if piece.expands else [piece]
    found = sum(piece.expands for piece in cut)
    if found != images:
        raise SpanError(
            f"the chat template writes {found} image placeholders for {images} images: "
            "is its placeholder one of the processor's image tokens?"
        )
    for index, piece in enumerate(cut):
        beside = any(other.expands for other in cut[max(0, index - 1) : index + 2])
        if beside and not piece.expands and piece.run is None and piece.text.strip() in special_tokens:
            cut[index] = replace(piece, marker=True)
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
