"""Whether a chain really checks itself: a value re-derived or corrected, not only the words for it.

A check begins at a phrase ("Wait", "let me verify") and reaches to the next one, at most `WINDOW` characters.
It has substance where it states a value (a number, a colour, a label) about things the chain speaks of:

- corrected: the value is new, an old one is given up ("not 4", "I had missed").
- re-derived: a value is worked out, whether it comes out as before or as a new one beside it.

Sentences that repeat an earlier one to the letter say nothing; neither do words of mere approval.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from filters.anchors import MAX_CHARS, Span, compile_patterns, flatten, spans
from filters.facts.values import ORDINALS
from filters.facts.words import COLOUR
from filters.format import think_part
from filters.quantities import NUMBER_WORDS
from filters.reasons import Reason, Verdict, dropped, kept
from schemas.config import FilterSettings
from schemas.records import Draft

REFLECTION = "reflection"
WINDOW = 600  # characters of one check
MAX_CHECKS = 500
_NEAR = 60  # characters: two phrases closer than that open one check
_LEAST_WORDS = 3  # that say something, besides values

_AGAIN = r"(?:check|examin|count|read|inspect|measur|evaluat|consider|calculat|comput|verif|trac|think|visit)"
_REFLECTIONS = [
    r"\b(?:one\smore|another|a\s(?:second|last|final|further))\scheck\b",
    r"\bwait\b(?=\s{0,2}[,.!?:;…—-]"
    r"|\s(?:a\s(?:minute|moment|second)|no|but|let|that|this|actually|maybe|I|is|it|the)\b)",
    r"\bhold\son\b|\bhmm+\b|\bsanity[- ]check|\bdouble[- ]check(?:ing|ed|s)?\b",
    rf"\bre-?{_AGAIN}(?:ing|ed|e|y|s)?\b"
    r"(?=\s(?:the|this|that|my|each|it|all|by|from|its|these|those|\w{1,30}ly)\b|[,.:;!?]|$)",
    r"\b(?:let\sme|let(?:'|’)s|I(?:'|’)ll|I\s(?:should|will|need\sto|must|want\sto))\s(?:\w{1,12}\s)?"
    r"(?:verify|confirm|check|look\sagain|look\sback|look\scloser|go\sback|make\ssure|be\scareful|reconsider|count\sagain)\b",
    r"\bon\s(?:a\s)?(?:closer|second|further|careful)\s(?:look|inspection|thought|examination|glance|reading)\b",
    r"\b(?:I|we)\s(?:had\s)?(?:first|initially|originally|previously|mistakenly)\s"
    r"(?:thought|said|counted|assumed|read|saw|took|believed|had|wrote)\b",
    r"\b(?:at\sfirst|initially),?\sI\s(?:\w{1,12}\s)?(?:thought|counted|assumed|read|saw|took|believed)\b",
    r"\bmy\s(?:first|initial|earlier|previous)\s(?:count|reading|impression|thought|answer|guess|glance|estimate)\b",
    r"\bcorrect(?:ing)?\s(?:myself|my)\b|\bI\swas\s(?:wrong|mistaken)\b",
    r"\bI\s(?:made|see)\s(?:a|my|an)\s(?:\w{1,12}\s)?(?:mistake|error)\b",
    r"\bto\s(?:verify|confirm|be\s(?:sure|certain|safe)|make\ssure)\b|\bverify(?:ing)?\s(?:this|that|the|my|by|each)\b",
    r"\bcheck(?:ing)?\s(?:this|that|my|again|once\smore|the\s(?:result|answer|count|total|sum|calculation))\b",
    r"\bactually,|\bthat(?:\s(?:is|was|can)(?:n?(?:'|’)t|not|\snot)|(?:'|’)s\snot)\s(?:be\s)?(?:right|correct)\b",
]


_REFLECTION = compile_patterns(_REFLECTIONS)
_NUMBER_WORDS = {word: str(value) for word, value in NUMBER_WORDS.items() if word.isascii()}
_NUMBER_WORDS |= {word: str(place) for word, place in ORDINALS.items() if word not in ("first", "second")}
_VALUE = re.compile(
    rf"\d{{1,12}}(?:[.,:]\d{{1,6}})?|[\"“][^\"”]{{1,40}}[\"”]|\b(?:{'|'.join(_NUMBER_WORDS)}|{COLOUR}|yes|no)\b"
    r"|(?-i:\b(?!I\b)[A-Z]{1,4}\b)",
    re.IGNORECASE,
)
_GIVEN_UP = re.compile(
    r"n['’]t\b|\b(?:not|instead|rather|missed|overlooked|overcounted|wrong\w{0,2}|mistake\w{0,2}|mistook|misread|corrected|"
    r"correct\s(?:myself|that|my|it|them)|actually|but|hid(?:es|den|ing)?|had\sbeen|looked\slike|seemed|no\slonger)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{3,30}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_EMPTY_WORDS = (
    "the and this that with from for are was were has have had its it's let's not but all one once more "
    "again back wait hold hmm let check checked checking double verify verified verifying verification "
    "confirm confirmed make sure certain confident result answer reasoning right correct good fine "
    "great okay yes indeed holds hold steps step logic conclusion final makes sense everything looks "
    "look looking seems consistent earlier previous work calculation calculations above before careful "
    "carefully think thinking going over review reviewed entire whole process way another time should "
    "could would can will may now then thus hence therefore really very also still just well what which "
    "whether any some there here they them our your mine myself own there's image picture figure"
)
_IGNORED = frozenset(_EMPTY_WORDS.split())

Kind = Literal["corrected", "re-derived", "hollow"]


@dataclass(frozen=True, slots=True)
class Check:
    """A place where a chain says that it checks itself, and what comes of it."""

    span: Span
    kind: Kind


def find_reflections(text: str) -> list[Span]:
    """Phrases that announce a self-check or a correction, in order, not overlapping."""
    return spans(_REFLECTION, text)


def find_checks(text: str) -> list[Check]:
    """The self-checks of a chain, phrases close together as one, each with what comes of it.

    Args:
        text: with single blanks for white space.
    """
    opened = _apart(find_reflections(text))[:MAX_CHECKS]
    first_seen = _first_places(text)
    known_words = {word: place for place, word in reversed(list(_said(text)))}
    said: set[str] = set()
    checks, read = [], 0
    for number, span in enumerate(opened):
        end = opened[number + 1].start if number + 1 < len(opened) else len(text)
        said.update(_sentences(text[read : span.start]))
        read = span.start
        window = " ".join(
            part
            for part in _SENTENCE.split(text[span.start : min(end, span.start + WINDOW)])
            if _key(part) not in said
        )
        checks.append(Check(span, _judge(window, span, first_seen, known_words)))
    return checks


def check_reflection(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace that checks or corrects itself, with something to show for it.

    Score: n / (n + 1) for n checks that re-derive or correct something.
    Source: AVAR, arXiv 2603.03825 (chains with explicit self-reflection and error checking).
    """
    checks = find_checks(flatten(think_part(draft.trace, MAX_CHARS)))
    kinds = [check.kind for check in checks]
    real = len(kinds) - kinds.count("hollow")
    score = real / (real + 1)
    detail = (
        f"{len(kinds)} checks: {kinds.count('corrected')} correct, {kinds.count('re-derived')} re-derive, "
        f"{kinds.count('hollow')} hollow; need {settings.min_reflections}"
    )
    if real >= settings.min_reflections:
        return kept(REFLECTION, score, detail)
    return dropped(REFLECTION, Reason.HOLLOW_REFLECTION if kinds else Reason.NO_REFLECTION, score, detail)


def _judge(window: str, span: Span, first_seen: dict[str, int], known: dict[str, int]) -> Kind:
    values = set(_values(window))
    words = {word for _, word in _said(window)} - _IGNORED
    if not values or len(words) < _LEAST_WORDS:
        return "hollow"
    old = {value for value in values if first_seen.get(value, len(window)) < span.start}
    if values - old and _GIVEN_UP.search(window):
        return "corrected"
    measured = any(len(value) > 1 and value[0].isdecimal() for value in values)
    about = {word for word in words if known.get(word, span.start) < span.start}
    return "re-derived" if old or measured or len(about) >= 2 else "hollow"


def _apart(found: list[Span]) -> list[Span]:
    apart: list[Span] = []
    for span in found:
        if not apart or span.start - apart[-1].end > _NEAR:
            apart.append(span)
    return apart


def _first_places(text: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for match in _VALUE.finditer(text):
        places.setdefault(_plain(match[0]), match.start())
    return places


def _values(text: str) -> Iterator[str]:
    return (_plain(match[0]) for match in _VALUE.finditer(text))


def _plain(value: str) -> str:
    lowered = value.lower().strip('"“”')
    return _NUMBER_WORDS.get(lowered, lowered)


def _said(text: str) -> Iterator[tuple[int, str]]:
    return ((match.start(), match[0].lower()) for match in _WORD.finditer(text))


def _sentences(text: str) -> Iterator[str]:
    return map(_key, _SENTENCE.split(text))


def _key(sentence: str) -> str:
    return sentence.strip().casefold()
