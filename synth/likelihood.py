"""How likely a trace is with its image and with a blank one, from the log-probabilities of a prompt.

The trace stands at the end of the prompt as the beginning of an answer. Its tokens are found by their text,
and where that leaves a doubt there is no number.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import BytesIO

from PIL import ExifTags
from PIL import Image as PillowImage

from schemas.records import Image, Likelihood

GREY = 128
_TURNED = {5, 6, 7, 8}  # EXIF orientations that swap width and height; servers apply them
_IMPOSSIBLE = -9999.0  # what vLLM writes for minus infinity
_DAMAGE = re.compile("\ufffd+")  # bytes of a character that the token holds in part
_LOST = 8  # characters that one damaged token may stand for
_DOUBTS = 512  # places the text may have been followed to


class UntoldError(ValueError):
    """It cannot be told which tokens of a prompt are the trace's, or how likely they are."""


def scored_text(trace: str) -> str:
    """The form of a trace that is scored: without white space around it, in Unicode's NFC.

    Templates strip the one and tokenizers compose the other, so hardly a server scores the trace as it is.
    """
    return unicodedata.normalize("NFC", trace.strip())


def blank_image(image: Image) -> Image:
    """A grey PNG of the size at which an image is seen; the same bytes for the same size."""
    with PillowImage.open(BytesIO(image.bytes)) as picture:
        width, height = picture.size
        if picture.getexif().get(ExifTags.Base.Orientation) in _TURNED:
            width, height = height, width
    return Image(bytes=_grey_png(width, height), path=f"blank-{width}x{height}.png")


@lru_cache(maxsize=64)
def _grey_png(width: int, height: int) -> bytes:
    buffer = BytesIO()
    PillowImage.new("L", (width, height), GREY).save(buffer, "PNG")
    return buffer.getvalue()


def measure_likelihood(
    text: str, with_image: Sequence[tuple[str, float]], with_blank: Sequence[tuple[str, float]]
) -> Likelihood:
    """Sums the log-probabilities of a text at the end of two prompts.

    Args:
        text: as `scored_text` gives it.
        with_image, with_blank: tokens of each prompt with their log-probability, nats.
    Raises: UntoldError: no log-probabilities, the text's tokens are in doubt or not the same in both.
    """
    if not with_image or not with_blank:
        raise UntoldError("the server gave no log-probabilities of the prompt")
    count = count_tokens([token for token, _ in with_image], text)
    tails = with_image[-count:], with_blank[-count:]
    if [token for token, _ in tails[0]] != [token for token, _ in tails[1]]:
        raise UntoldError(f"the last {count} tokens differ between the image and the blank one")
    return Likelihood(tokens=count, with_image=_sum(tails[0]), with_blank=_sum(tails[1]))


def _sum(tokens: Sequence[tuple[str, float]]) -> float:
    for token, logprob in tokens:
        if not _IMPOSSIBLE < logprob <= 0:
            raise UntoldError(f"token {token!r} has no log-probability, the server gave {logprob}")
    return math.fsum(logprob for _, logprob in tokens)


def count_tokens(tokens: Sequence[str], text: str) -> int:
    """How many tokens at the end of a prompt are a text's.

    White space does not count, since decoding a single token may lose it: what precedes the text's first
    other character is not the text's. A character that lies in several tokens is whole in its last one and
    "" in the others, as vLLM decodes; where that fails a token may be damaged, and stands for characters
    outside ASCII.

    Args:
        tokens: decoded one by one.
    Raises: UntoldError: the prompt does not end with the text, or the text may begin at several tokens.
    """
    squeezed = _squeeze(text)
    if not squeezed:
        raise UntoldError("there is no text to score")
    start = _start_exactly(tokens, squeezed)
    return len(tokens) - (_start_by_doubts(tokens, squeezed) if start is None else start)


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _start_exactly(tokens: Sequence[str], text: str) -> int | None:
    """The token that the text begins at, where the tokens put together are the text; else None."""
    end = len(text)
    for index in reversed(range(len(tokens))):
        token = _squeeze(tokens[index])
        if not text.endswith(token, 0, end):
            return None
        end -= len(token)
        if end == 0:
            return index if text[0].isascii() else _first_part(tokens, index)
    return None


def _first_part(tokens: Sequence[str], index: int) -> int:
    """The first token of a character that ends in token `index`."""
    while index > 0 and tokens[index - 1] == "":
        index -= 1
    return index


def _start_by_doubts(tokens: Sequence[str], text: str) -> int:
    """As `_start_exactly` for damaged tokens: follows every way in which they may be the text."""
    ends, starts = {len(text)}, []
    for index in reversed(range(len(tokens))):
        damaged = not tokens[index] or "\ufffd" in tokens[index]
        ends = _before_damaged(text, ends, tokens[index]) if damaged else _before(text, ends, tokens[index])
        if len(ends) > _DOUBTS:
            raise UntoldError(f"more than {_DOUBTS} ways to read tokens that hold parts of characters")
        if 0 in ends and (damaged or tokens[index].strip()):
            starts.append(index)
        if not ends:
            break
    if not starts:
        raise UntoldError("the prompt does not end with the trace: the template or the tokenizer changes it")
    if len(starts) > 1:
        raise UntoldError(f"the trace may begin at any of {len(starts)} tokens of the prompt")
    return starts[0]


def _before(text: str, ends: Iterable[int], token: str) -> set[int]:
    token = _squeeze(token)
    return {end - len(token) for end in ends if text.endswith(token, 0, end)}


def _before_damaged(text: str, ends: set[int], token: str) -> set[int]:
    *pieces, last = _DAMAGE.split(token) if token else ("", "")
    ends = _before(text, ends, last)
    for piece in reversed(pieces):
        ends = {begin for end in ends for begin in _before_lost(text, end)}
        ends = _before(text, ends, piece)
    return ends


def _before_lost(text: str, end: int) -> Iterable[int]:
    """Where a text may end before characters outside ASCII that were lost, none included."""
    begin = end
    while begin > 0 and end - begin < _LOST and not text[begin - 1].isascii():
        begin -= 1
    return range(begin, end + 1)
