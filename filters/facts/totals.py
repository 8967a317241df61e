"""Whether a count is of all things of its name: "there are four bars" is, "four bars are red" is not.

Only two such totals can contradict each other. Anything that may restrict a count (a place, a participle, a
predicate, a relative clause, another noun) makes it one of some of the things.
"""

from __future__ import annotations

import re

from filters.facts.words import Mention, find_mentions

_PICTURE = r"(?:image|picture|figure|diagram|chart|graph|scene|photo(?:graph)?|drawing|illustration|plot)"
# What may stand before a total: "Looking back at the image, I count", "The chart shows", "In all there are".
_OPENING = re.compile(
    rf"[\s,.:;!*-]|\b(?:looking|look|back|again|once|at|in|on|the|this|that|whole|entire|{_PICTURE}|bar|pie|line|there|is|are|divided|into|i|we|can|"
    r"see|count|find|shows?|contains?|depicts?|so|now|wait|okay|yes|checking|and|all|total|altogether|exactly|"
    rf"clearly|{_PICTURE}\shas|table\shas(?=\s*\Z))\b",
    re.IGNORECASE,
)
_AFTER = re.compile(
    rf"\s?(?:in\s(?:the|this)\s(?:whole\s|entire\s)?(?:\w{{3,4}}\s)?{_PICTURE}|in\s(?:all|total)|altogether|shown|here)?"
    r"\s?(?:[.,;:!]|\Z|and\s(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|\d{1,3})\s)",
    re.IGNORECASE,
)
_BEGUN = re.compile(
    r"\b(?:there|see|count|find|shows?|contains?|depicts?|divided into|has|all|total)\b", re.IGNORECASE
)
_SOME = re.compile(
    r"\b(?:exclud\w{1,3}|except|besides?|apart|without|remov\w{1,3}|tak(?:e|ing)|subtract\w{0,3}|ignor\w{1,3}|"
    r"leav\w{1,3}|left|remain\w{0,3}|hidden|of (?:them|the|these|those|which)|out of|first|last|other|"
    r"another|more|fewer|less|than|each|per|every|only|both|at least|at most|so far|already|next|"
    r"again|makes?)\b",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"\b(?:small|large|big|tiny|medium|short|long|tall|little|plain|filled|solid|dashed|light|dark|bright|pale|deep)\b",
    re.IGNORECASE,
)
_LOOK = 200  # characters before a count that are read; a total stands near its sentence's beginning


def is_total(mention: Mention, sentence: str, start: int = 0) -> bool:
    """True where a sentence gives a mention's count as that of all such things in the picture.

    Args:
        start: place of the text in `sentence` that the mention's own places are in.
    """
    begin, end = start + mention.start, start + mention.end
    if begin > _LOOK or _SOME.search(sentence[:begin]) or _SOME.match(sentence[end:].lstrip()):
        return False
    before = _without_counted(sentence[:begin])
    return bool(_BEGUN.search(before) and not _OPENING.sub("", before) and _AFTER.match(sentence[end:]))


def sizes(mention: Mention, text: str) -> frozenset[str]:
    """The words of size and outline in a mention: large cubes are not all cubes."""
    return frozenset(word.lower() for word in _SIZE.findall(text[mention.start : mention.end]))


def _without_counted(before: str) -> str:
    """The words before a count without the things counted before it: "there are two cubes and"."""
    for mention in reversed(list(find_mentions(before))):
        if mention.number is not None or mention.count in ("a", "an"):
            before = before[: mention.start] + before[mention.end :]
    return before
