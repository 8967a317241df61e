"""Looks back at the image, and slips that give away a text in its place: both found by phrase.

Anchors are the phrases by which a trace looks back at the image (AVAR, arXiv 2603.03825, the third stage of
synthesis); a give-away is a phrase that only somebody who was given a text instead of the image would write.
An anchor names an element where its sentence has a phrase that the description has as well.

Patterns are built from words of at most 30 characters with bounded gaps, so that the search is linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz, process

from filters.facts.words import COLOUR
from filters.format import think_part
from filters.quantities import NUMBER_WORDS
from filters.reasons import Reason, Verdict, dropped, kept
from schemas.config import FilterSettings
from schemas.records import Draft

ANCHORS = "anchors"
MAX_CHARS = 400_000  # of the reasoning that are read
MAX_ANCHORS = 200  # whose sentences are matched with the description
MAX_ELEMENTS = 1_000
NAME_MATCH = 88  # of 100, rapidfuzz
_AFTER = 120  # characters after an anchor that may name what is looked at
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_PHRASE_WORD = re.compile(r"[\w'’%°-]{1,40}|[^\w\s]")
_NAMELESS_WORDS = (
    "a an the this that these those it its i we you my me let s at to into over on in of from for with "
    "by and or but so as than then there here is are was were be been has have had do does can could "
    "will would should must may not no one more once again back close closely closer carefully look "
    "looks looking looked see seen saw glance first second check checking re-check recheck double-check "
    "re-checking examine count counting read reading focus zoom verify confirm notice observe find "
    "shows show shown showing image images picture figure diagram chart graph plot photo drawing "
    "illustration scene view left right top bottom upper lower middle centre center corner side part "
    "each every all both which what where while also very about holds hold contains lies lie near"
)
_QUALITIES = frozenset(COLOUR.split("|"))  # of an element, and no name of one
_NAMELESS = frozenset((*_NAMELESS_WORDS.split(), *NUMBER_WORDS))


@dataclass(frozen=True, slots=True)
class Span:
    """A matched phrase: text[start:end]."""

    start: int
    end: int
    text: str


_VISUAL = (
    r"(?:images?|pictures?|figures?|diagrams?|charts?|graphs?|plots?|photo(?:graph)?s?|drawings?|illustrations?|"
    r"sketch|scene|screenshot|map|table)"
)


def _gap(words: int) -> str:
    """Up to so many words within a sentence; commas belong to names such as "row 1, column 2"."""
    return rf"(?:[\w'’%°-]{{1,30}},?\s{{1,3}}){{0,{words}}}?"


_BACK = r"(?:back|again|closer|(?:more\s)?closely|(?:more\s)?carefully|once\smore|over|directly)"
_RECHECK = (
    r"(?:(?:re-?|double[- ])?(?:check|examin|inspect|count|measur|verif|confirm|read|scan|trac|study)"
    r"(?:ing|y|e|s)?|revisit(?:ing)?|re-?look(?:ing)?|observ(?:e|ing)|zoom(?:ing)?\sin|focus(?:ing)?"
    r"|compar(?:e|ing)|locat(?:e|ing)|find)"
)
_SEE = r"(?:see|notice|observe|count|find|read|spot|make\sout|identify|look)"
_SHOW = r"(?:show|depict|display|indicate|reveal|confirm|contain|make|give)s?"

_ANCHORS = [
    # looking back at the image, look closely at the third bar in the figure
    rf"\b(?:look|glanc|gaz|peer|star)(?:e|ing)?(?:\s{_BACK}){{0,2}}\s(?:at|to|into|over|on)\s{_gap(8)}{_VISUAL}\b",
    # look again at the red circle; a closer look at the left edge
    rf"\blook(?:ing)?(?:\s{_BACK}){{1,2}}\sat\s(?:the|this|that|these|those|each|its)\s[\w'’-]{{1,30}}",
    r"\b(?:closer|second|another|fresh)\s(?:look|glance)\s(?:at|into)\s(?:the|this|that|these|those|each)\s"
    r"[\w'’-]{1,30}",
    # returning to the figure, going back to the chart
    rf"\b(?:return|go|com|turn|refer|zoom)(?:e|ing)?(?:\s(?:back|in|again))?\s(?:to|on|into)\s(?:the|this)\s"
    rf"{_gap(3)}{_VISUAL}\b",
    # let me re-check the third bar in the figure; counting the red dots in the picture
    rf"\b{_RECHECK}\s{_gap(9)}(?:in|on|from|of|against|with|at|within)\s(?:the|this|each)\s"
    rf"{_gap(2)}{_VISUAL}\b",
    rf"\b(?:re-?|double[- ])(?:check|examin|inspect|read|scan)(?:e|ing)?\s(?:the|this)\s{_gap(2)}{_VISUAL}\b",
    rf"\b(?:revisit|inspect|examin|scan|study|consult)(?:e|ing)?\s(?:the|this)\s{_gap(2)}{_VISUAL}\b",
    # in the picture I see; I can see in the image; from the chart, we read
    rf"\b(?:in|from|on|within|across)\s(?:the|this)\s{_gap(2)}{_VISUAL},?\s(?:I|we|one|you)\s"
    rf"(?:\w{{1,12}}\s){{0,2}}?{_SEE}\b",
    rf"\b(?:I|we)\s(?:\w{{1,12}}\s){{0,2}}?{_SEE}\s{_gap(10)}(?:in|on|from|within)\s(?:the|this)\s"
    rf"{_gap(2)}{_VISUAL}\b",
    # the figure shows; as shown in the diagram
    rf"\b(?:the|this)\s{_gap(2)}{_VISUAL}\s(?:clearly\s|also\s|itself\s|now\s)?{_SHOW}\b",
    rf"\b(?:shown|seen|drawn|depicted|marked|labell?ed|visible)\s(?:in|on|by|from)\s(?:the|this)\s{_gap(2)}{_VISUAL}\b",
]

_NOUN = (
    r"(?:(?:text(?:ual)?|written|verbal|image|picture|figure|visual|scene|given|provided|detailed|above)\s){0,3}"
    r"(?:description|caption)s?"
)
_TELLS = (
    r"(?:say|state|mention|tell|indicate|note|describe|read|specif(?:y|ie)|list|give|impl(?:y|ie)|suggest"
    r"|provide|clarif(?:y|ie))s?"
)
_NOT_TASK = r"(?!\s(?:of|for)\s(?:the|a|an|this|each)\s(?!(?:\w{1,12}\s)?" + _VISUAL + r"\b))"
_NOUN_GIVEAWAYS = [
    rf"\b(?:the|this|that|my|our)\s{_NOUN}{_NOT_TASK}(?:\s[\w']{{1,12}}){{0,2}}?\s{_TELLS}\b",
    rf"\b(?:according\sto|based\son|as\sper|per|from|in|using|given|following|re-?read(?:ing)?|back\sto|by|"
    rf"looking\s(?:back\s)?at|consult(?:ing)?|check(?:ing)?)\s(?:the|this|that|my|our)\s{_NOUN}\b{_NOT_TASK}",
]
_COMPOUND_GIVEAWAYS = [
    r"\b(?:text(?:ual)?|written|verbal)\sdescription\b",
    r"\b(?:image|picture|figure|scene)\s(?:description|caption)\b",
    rf"\b(?:description|caption)\s(?:of|for)\s(?:the|this)\s(?:\w{{1,12}}\s)?{_VISUAL}\b",
    rf"\bas\s(?:is\s|was\s|it\sis\s)?described\b"
    rf"(?!\s(?:by|in\s(?:the\s)?(?:question|problem|task|statement|equation|{_VISUAL})))",
    rf"\b{_VISUAL}\s(?:is|was|were|are|has\sbeen)\s(?:only\s)?described\b",
    r"\bdescribed\s(?:in|by)\s(?:the|this)\s(?:\w{1,12}\s)?(?:text|description|caption|passage)\b",
    rf"\b(?:the|this)\s(?:given\s|provided\s)?text\s{_TELLS}\s{_gap(4)}{_VISUAL}\b",
    rf"\b(?:can(?:'|’)?t|cannot|can\snot|unable\sto|don(?:'|’)t|couldn(?:'|’)t)\s(?:actually\s|directly\s|really\s)?"
    rf"(?:see|view|access|look\sat)\s(?:the|this|any)\s(?:actual\s|original\s|real\s)?{_VISUAL}\b",
    rf"\b(?:don(?:'|’)t|do\snot)\shave\s(?:access\sto\s)?(?:the|this)\s(?:actual\s|original\s)?{_VISUAL}\b",
    rf"\bwithout\s(?:seeing|viewing|access\sto)\s(?:the|this)\s(?:actual\s|original\s)?{_VISUAL}\b",
    rf"\bI\s(?:was|am|have\sbeen|'ve\sbeen)\stold\s(?:that\s)?(?:the|this)\s{_VISUAL}\b",
]


def compile_patterns(patterns: list[str]) -> re.Pattern[str]:
    """One pattern of several, whatever the case."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


_ANCHOR = compile_patterns(_ANCHORS)
_GIVEAWAY = compile_patterns(_COMPOUND_GIVEAWAYS)
_NOUN_GIVEAWAY = compile_patterns(_NOUN_GIVEAWAYS)
_OWN_NOUN = re.compile(r"\b(?:description|caption)s?\b", re.IGNORECASE)


def find_anchors(text: str) -> list[Span]:
    """Phrases that look back at the image, in order, not overlapping; give-aways are not among them."""
    taken = find_giveaways(text)
    found, place = [], 0
    for span in spans(_ANCHOR, text):
        while place < len(taken) and taken[place].end <= span.start:
            place += 1
        if place == len(taken) or taken[place].start >= span.end:
            found.append(span)
    return found


def find_giveaways(text: str, question: str = "") -> list[Span]:
    """Phrases that betray a text description in the image's place.

    Args:
        question: the problem's own words; where they speak of a description or a caption ("Which caption
            fits?"), those nouns alone betray nothing and only compounds such as "image description" count.
    """
    found = spans(_GIVEAWAY, text)
    if not _OWN_NOUN.search(question):
        found += spans(_NOUN_GIVEAWAY, text)
    apart: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if not apart or span.start >= apart[-1].end:
            apart.append(span)
    return apart


def spans(pattern: re.Pattern[str], text: str) -> list[Span]:
    """Every match of a pattern."""
    return [Span(match.start(), match.end(), match.group()) for match in pattern.finditer(text)]


def flatten(text: str) -> str:
    """White space as single blanks: the patterns expect one between words."""
    return " ".join(text.split())


# ------------------------------------------------------------------------------------- named elements


@lru_cache(maxsize=8)
def find_elements(description: str) -> tuple[str, ...]:
    """The phrases of a description that can name an element of the picture, lower case, none twice.

    A phrase is a run of words between marks and words that name nothing (articles, verbs of being and
    showing, "image"); at most `MAX_ELEMENTS` phrases of at most 5 words.
    """
    found: dict[str, None] = {}
    for phrase in _phrases(description[:MAX_CHARS]):
        found.setdefault(phrase)
        if len(found) >= MAX_ELEMENTS:
            break
    return tuple(found)


def name_element(sentence: str, elements: Sequence[str]) -> str | None:
    """The first phrase of an anchor's sentence that is the name of one of the elements, None where none is.

    Names are compared with rapidfuzz's `token_set_ratio`: "circle" names "red circle", "red square" does not.
    """
    for phrase in _phrases(sentence):
        if process.extractOne(phrase, elements, scorer=fuzz.token_set_ratio, score_cutoff=NAME_MATCH):
            return phrase
    return None


def measure_spread(anchors: Sequence[Span], length: int) -> float:
    """Share of the four quarters of a text in which an anchor begins, in [0, 1]."""
    return len({min(3, 4 * span.start // max(length, 1)) for span in anchors}) / 4


def _phrases(text: str) -> Iterator[str]:
    run: list[str] = []
    for match in _PHRASE_WORD.finditer(f"{text} ."):
        word = match[0].lower()
        if word in _NAMELESS or not (word[0].isalnum()):
            if any(part not in _QUALITIES and not part.isdecimal() for part in run):
                yield " ".join(run[-5:])
            run = []
        else:
            run.append(word)


# ------------------------------------------------------------------------------------------- the filter


def check_anchors(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace that looks back at the image often, at named elements, along the whole chain.

    Score: 0 for a give-away, else q * n / (n + m) for n anchors, a minimum of m (at least 1) and anchors in a
    share q of the chain's four quarters.
    Where no anchor is asked for, neither are names and spread; a draft without a description has no elements
    to match, and its detail says so.
    Source: AVAR, arXiv 2603.03825 (no sentence may reveal that a text description was given).
    """
    text = flatten(think_part(draft.trace, MAX_CHARS))
    question = " ".join((draft.problem.question[:MAX_CHARS], *draft.problem.choices[:64]))
    giveaways = find_giveaways(text, question)
    if giveaways:
        detail = f"{len(giveaways)}: {_around(text, giveaways[0])!r}"
        return dropped(ANCHORS, Reason.MENTIONS_DESCRIPTION, 0.0, detail)
    anchors = find_anchors(text)
    spread = measure_spread(anchors, len(text))
    score = spread * len(anchors) / (len(anchors) + max(settings.min_anchors, 1))
    detail = f"{len(anchors)} anchors, need {settings.min_anchors}"
    if len(anchors) < settings.min_anchors:
        return dropped(ANCHORS, Reason.TOO_FEW_ANCHORS, score, detail)
    if not settings.min_anchors:
        return kept(ANCHORS, score, detail)
    named = _count_named(text, anchors, draft.description)
    detail += f"; {_told(named)} name an element, need {settings.min_named_anchors}"
    if named is not None and named < settings.min_named_anchors:
        return dropped(ANCHORS, Reason.ANCHORS_UNNAMED, score, detail)
    detail += f"; in {spread:.0%} of the chain's quarters, need {settings.min_anchor_spread:.0%}"
    if spread < settings.min_anchor_spread:
        return dropped(ANCHORS, Reason.ANCHORS_BUNCHED, score, detail)
    return kept(ANCHORS, score, detail)


def _count_named(text: str, anchors: Sequence[Span], description: str) -> int | None:
    """Anchors whose sentence names an element, of the first `MAX_ANCHORS`; None without a description."""
    elements = find_elements(description)
    if not description.strip():
        return None
    names: dict[str, bool] = {}
    named = 0
    for span in anchors[:MAX_ANCHORS]:
        sentence = _SENTENCE_END.split(text[span.start : span.end + _AFTER], maxsplit=1)[0]
        if sentence not in names:
            names[sentence] = name_element(sentence, elements) is not None
        named += names[sentence]
    return named


def _told(named: int | None) -> str:
    return "no description, so nobody knows how many" if named is None else str(named)


def _around(text: str, span: Span) -> str:
    return text[max(0, span.start - 40) : span.end + 40]
