"""Written words in a picture: titles, signs, labels, as texts quote them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from filters.facts.values import Judgement, fold, same_name

_QUOTED = re.compile(
    r"\b(?:titled|entitled|reads?|reading|says?|saying|labell?ed|marked|named|called|"
    r"written)(?:\s(?:as|with))?[:,]?\s[\"“](?P<text>[^\"”\n]{1,120})[\"”]",
    re.IGNORECASE,
)
_MARK = re.compile(r"[.;\n\"“”]")
_BEFORE = 60  # characters
_WORD = re.compile(r"[a-z]{3,20}")
_STOP = "the and image picture figure which that this with has have its are was looking back again once more"
_IGNORED = frozenset(_STOP.split())


@dataclass(frozen=True, slots=True)
class Label:
    """A quoted text and the words of what bears it."""

    bearer: frozenset[str]
    text: str


def read_labels(text: str) -> list[Label]:
    """Every quoted text that a title, sign or label is said to bear."""
    return [Label(_bearer(text, match.start()), fold(match["text"])) for match in _QUOTED.finditer(text)]


def _bearer(text: str, end: int) -> frozenset[str]:
    """The words before a verb of bearing, within its sentence."""
    before = _MARK.split(text[max(0, end - _BEFORE) : end])[-1]
    return frozenset(_WORD.findall(fold(before))) - _IGNORED


def judge_labels(claim: str, known: Sequence[Label], description: str) -> Iterator[Judgement]:
    """A judgement of each label that the claim quotes; other words on the same bearer contradict it."""
    for label in read_labels(claim):
        borne = [other for other in known if label.bearer & other.bearer]
        if any(same_name(label.text, other.text) for other in borne):
            yield "supported"
        elif len(borne) == 1:
            yield "contradicted"
        else:
            yield "supported" if _stands_in(label.text, fold(description)) else "unknown"


def _stands_in(text: str, whole: str) -> bool:
    """True where a text is said; a number with its sign and all its digits."""
    if not text[:1].isdigit():
        return text in whole
    return re.search(rf"(?<![\d.-]){re.escape(text)}", whole) is not None
