"""From labelled pieces of text to labelled tokens: the rendered conversation against the encoded row.

The processor replaces each image placeholder by any number of tokens, and the tokenizer may normalise
Unicode; everything else in the decoded row must be the rendered text, character by character.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from schemas.errors import SpanError
from trainer.layouts import Label, Piece

# Tokenizers normalise Unicode before they cut it; the decoded row is in that form.
NORMAL_FORMS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: unicodedata.normalize("NFC", text),
    lambda text: unicodedata.normalize("NFKC", text),
)


def unused_character(text: str) -> str:
    return next(chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in text)


def align(
    pieces: Sequence[Piece], masked: str, mask: str, normal: Callable[[str], str]
) -> list[Label] | None:
    """Labels of the row's characters, or None where the pieces do not fit.

    An image placeholder stands for at least one image token and everything up to the text that follows it.
    """
    runs = _runs_between_images(pieces, normal)
    first_text, first_labels = runs[0]
    if not masked.startswith(first_text) or (len(runs) == 1 and masked != first_text):
        return None
    labels = list(first_labels)
    for number, (text, run_labels) in enumerate(runs[1:], start=1):
        image = masked.find(mask, len(labels))
        if image < 0:
            return None
        last = number == len(runs) - 1
        start = len(masked) - len(text) if last else masked.find(text, image + 1)
        if start <= image or not masked.endswith(text if last else ""):
            return None
        labels += [Label.OTHER] * (start - len(labels)) + run_labels
    return labels


def _runs_between_images(
    pieces: Sequence[Piece], normal: Callable[[str], str]
) -> list[tuple[str, list[Label]]]:
    """The text before, between and after the images, with labels. Images side by side count as one."""
    runs: list[tuple[str, list[Label]]] = [("", [])]
    for position, piece in enumerate(pieces):
        if piece.expands:
            if position == 0 or not pieces[position - 1].expands:
                runs.append(("", []))
            continue
        text = normal(piece.text)
        runs[-1] = (runs[-1][0] + text, runs[-1][1] + [piece.label] * len(text))
    return runs


def cuts(labels: Sequence[Label]) -> list[int]:
    """Where responses begin: prompt and response may have been tokenized apart."""
    return [
        index
        for index in range(1, len(labels))
        if labels[index] is Label.RESPONSE and labels[index - 1] is not Label.RESPONSE
    ]


def token_ends(tokenizer: Any, text: str, ids: list[int], cuts: list[int]) -> list[int]:
    """The end of every token in the decoded text, characters.

    Raises: SpanError: the ids are not what the tokenizer makes of that text.
    """
    for bounds in ([0, len(text)], [0, *cuts, len(text)]):
        found: list[int] = []
        ends: list[int] = []
        for start, stop in pairwise(bounds):
            piece = tokenizer(
                text[start:stop], add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            found += piece["input_ids"]
            ends += [start + end for _, end in piece["offset_mapping"]]
        if found == ids:
            return ends
    raise SpanError(
        "the row's tokens are not what the tokenizer makes of their text: were they sampled? "
        "find the regions of the prompt and add the response's mask"
    )
