"""What a trace claims about its image, sentence by sentence: found by words, and by the facts in it.

A claim is a sentence of the reasoning that looks back at the image or names something in it (a bar, an angle,
a label), and states something of it: a number, a colour, a label, or what it is, has or shows; or one of
which a fact is read ("AB = 15 cm"). Sentences are taken as they stand; a word that points to an earlier one
("it") is not resolved.
"""

from __future__ import annotations

import re

from filters.anchors import MAX_CHARS, find_anchors
from filters.facts.judging import holds_fact
from filters.format import think_part
from filters.quantities import NUMBER_WORDS
from schemas.records import Draft

LONGEST = 300  # characters; a longer sentence is no one claim

# A full stop ends a sentence where white space follows, so that 3.5 and A.B stay whole.
_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_OPENING = re.compile(
    r"^(?:(?:wait|hmm+|okay|ok|so|now|then|well|yes|no|first|next|also|but|actually|indeed)\s?[,.:;!…—-]+\s*"
    r"|[-*•#>]+\s+)+",
    re.IGNORECASE,
)
_ELEMENT = re.compile(
    r"\b(?:images?|pictures?|figures?|diagrams?|charts?|graphs?|plots?|photos?|tables?|maps?|legends?|ax[ei]s|"
    r"labels?|titles?|captions?|ticks?|bars?|slices?|columns?|rows?|cells?|lines?|curves?|arrows?|segments?|"
    r"points?|dots?|vert(?:ex|ices)|corners?|sides?|edges?|angles?|triangles?|squares?|rectangles?|circles?|"
    r"dis[ck]s?|polygons?|hexagons?|pentagons?|diamonds?|stars?|cross(?:es)?|shapes?|objects?|cubes?|spheres?|"
    r"cylinders?|balls?|boxes|box|blocks?|tiles?|nodes?|pieces?|grids?|boards?|panels?|regions?|areas?|"
    r"backgrounds?|persons?|people|m[ae]n|wom[ae]n|cars?|signs?|letters?|digits?|numbers?|words?)\b",
    re.IGNORECASE,
)
_COLOURS = "red|orange|yellow|green|cyan|blue|purple|violet|pink|magenta|brown|black|white|gr[ae]y|beige|gold"
_NUMBERS = "|".join(word for word in NUMBER_WORDS if word.isascii())
_STATED = re.compile(
    rf"\d|[\"“”«»「]|\b(?:{_NUMBERS}|{_COLOURS}|is|are|was|were|has|have|shows?|shown|reads?|says|contains?|"
    r"lies|lie|stands?|touch(?:es)?|labell?ed|marked|there|no|none)\b",
    re.IGNORECASE,
)


def find_claims(draft: Draft) -> tuple[str, ...]:
    """The claims of a draft's trace about its image, in order, none twice.

    Returns: sentences of at most `LONGEST` characters, white space as single blanks, without opening words
        such as "Wait,". Only the first `MAX_CHARS` characters of the reasoning are read.
    """
    found: dict[str, str] = {}
    for sentence in _END.split(think_part(draft.trace, MAX_CHARS)):
        claim = _OPENING.sub("", " ".join(sentence.split()))
        if len(claim) <= LONGEST and _is_claim(claim):
            found.setdefault(claim.casefold(), claim)
    return tuple(found.values())


def _is_claim(sentence: str) -> bool:
    """Asks the cheap questions first: anchors are many patterns."""
    if not sentence or sentence[-1] in "?？:" or not _STATED.search(sentence):
        return False
    return bool(_ELEMENT.search(sentence) or holds_fact(sentence) or find_anchors(sentence))
