"""From labelled pieces of text to labelled tokens: the rendered conversation against the encoded row.

The processor replaces each image placeholder by any number of tokens, and the tokenizer may normalise
Unicode; everything else in the decoded row must be the rendered text, character by character.

C characters of the decoded row, S tokens of the row without its padding.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SpanError
from trainer.layouts import Piece

EXPANSION = -1  # what the processor wrote in place of a placeholder, in the place of a piece's index

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
) -> NDArray[np.int64] | None:
    """The index of the piece that each character of the row comes from [C], EXPANSION for images.

    An image placeholder stands for at least one image token and everything up to the text that follows it,
    but for no special token that the template writes beside images: that is one image more.
    Returns: None where the pieces do not fit. Raises: SpanError: they fit in more than one way.
    """
    texts = [normal(piece.text) for piece in pieces]
    groups = _between_images(pieces)
    runs = ["".join(texts[index] for index in group) for group in groups]
    if not masked.startswith(runs[0]) or not masked.endswith(runs[-1]):
        return None
    if len(runs) == 1 and masked != runs[0]:
        return None
    starts = _place_runs(runs, masked, mask)
    markers = {texts[index].strip() for index, piece in enumerate(pieces) if piece.marker}
    if starts is None or any(masked.count(one) > sum(run.count(one) for run in runs) for one in markers):
        return None
    owner_C = np.full(len(masked), EXPANSION)
    for group, start, run in zip(groups, starts, runs, strict=True):
        owner_C[start : start + len(run)] = np.repeat(group, [len(texts[index]) for index in group])
    return owner_C


def _between_images(pieces: Sequence[Piece]) -> list[list[int]]:
    """The pieces before, between and after the images. Images side by side count as one."""
    groups: list[list[int]] = [[]]
    for index, piece in enumerate(pieces):
        if not piece.expands:
            groups[-1].append(index)
        elif index == 0 or not pieces[index - 1].expands:
            groups.append([])
    return groups


def _place_runs(runs: list[str], masked: str, mask: str) -> list[int] | None:
    """Where each run of text starts: the first at the start, the last at the end, an image between any two.

    The leftmost and the rightmost placing are looked for: where they agree there is no other.
    """
    if len(runs) == 1:
        return [0]
    last = len(masked) - len(runs[-1])
    left, stop = [0], len(runs[0])
    for run in runs[1:-1]:
        image = masked.find(mask, stop, last)
        left.append(masked.find(run, image + 1, last) if image >= 0 else -1)
        if left[-1] < 0:
            return None
        stop = left[-1] + len(run)
    if masked.find(mask, stop, last) < 0:
        return None
    right, start = [last], last
    for run in reversed(runs[1:-1]):
        start = masked.rfind(run, 0, masked.rfind(mask, 0, start))
        right.append(start)
    if [*left, last] != [0, *right[::-1]]:
        raise SpanError(
            "a text between two images also stands in what the processor writes for an image, so that it "
            "cannot be told apart: put more words between the images, or all of the text after them"
        )
    return [*left, last]


def own_tokens(
    pieces: Sequence[Piece], owner_C: NDArray[np.int64], spans: Sequence[tuple[int, int]]
) -> NDArray[np.int64]:
    """The piece that every token belongs to, from the characters [start, end) it covers: int [S].

    A token that holds the last characters of one region and the first of the next goes with the
    conversation's own text rather than with what the template writes around it, else with the last character.
    """
    if not len(spans):
        return owner_C[:0]
    written = np.array([*(piece.run is not None for piece in pieces), False])[owner_C]
    starts, ends = np.array(spans).T
    own_C = np.maximum.accumulate(np.where(written, np.arange(len(owner_C)), -1))
    last = np.maximum(ends - 1, 0)
    return owner_C[np.where(own_C[last] >= starts, own_C[last], last)]


def check_expansions(tokenizer: Any, ids: list[int], owner_S: NDArray[np.int64]) -> None:
    """Refuse words between an image and the conversation's text that the conversation does not hold.

    Whatever a processor writes for an image starts and ends with image tokens, special tokens or whitespace.
    Raises: SpanError: it does not.
    """
    added = _added_tokens(tokenizer, len(tokenizer))
    bounds = np.flatnonzero(np.diff(owner_S == EXPANSION, prepend=False, append=False))
    for start, stop in bounds.reshape(-1, 2).tolist():
        for side in (ids[start:stop], ids[start:stop][::-1]):
            first = next((token for token in side if tokenizer.decode([token]).strip()), None)
            if first is not None and first not in added:
                raise SpanError(
                    f"{tokenizer.decode([first])!r} stands between an image and the text next to it, and the "
                    "conversation does not hold it: are these its ids? (Pan and scan, which writes sentences "
                    "around an image, has no regions: turn it off)"
                )


@lru_cache(maxsize=4)
def _added_tokens(tokenizer: Any, size: int) -> frozenset[int]:
    """Ids of the tokens that no text is merged into; `size`: more may be added to a tokenizer."""
    return frozenset(tokenizer.get_added_vocab().values())


def token_spans(
    tokenizer: Any, text: str, ids: list[int], render_reply: Callable[[], str]
) -> list[tuple[int, int]]:
    """The characters [start, end) of every token in the decoded text.

    Args:
        render_reply: the end of the row that may have been tokenized apart from the rest.
    Raises: SpanError: the ids are not what the tokenizer makes of that text.
    """
    spans = _tokenize(tokenizer, text, ids, [0, len(text)])
    if spans is None:
        replies = [normal(render_reply()) for normal in NORMAL_FORMS]
        cut = next((len(text) - len(reply) for reply in replies if text.endswith(reply)), len(text))
        spans = _tokenize(tokenizer, text, ids, [0, cut, len(text)])
    if spans is None:
        raise SpanError(
            "the row's tokens are not what the tokenizer makes of their text: were they sampled? "
            "find the regions of the prompt and add the response's mask"
        )
    return spans


def _tokenize(tokenizer: Any, text: str, ids: list[int], bounds: list[int]) -> list[tuple[int, int]] | None:
    """The characters of every token of a text that is tokenized between the bounds; None for other ids."""
    found: list[int] = []
    spans: list[tuple[int, int]] = []
    for start, stop in pairwise(bounds):
        encoded = tokenizer(
            text[start:stop], add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        found += encoded["input_ids"]
        spans += [(start + first, start + end) for first, end in encoded["offset_mapping"]]
    return spans if found == ids else None
