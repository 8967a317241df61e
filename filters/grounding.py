"""Whether a trace reasons from the image: anchors, give-aways of a text description, reflection.

Anchors are the phrases by which a trace looks back at the image (AVAR, arXiv 2603.03825, the third stage of
synthesis); a give-away is a phrase that only somebody who was given a text instead of the image would write.
Both are found by phrase: this filter reads what a trace claims, not whether the claim is true.

Patterns are built from words of at most 30 characters with bounded gaps, so that the search is linear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from filters.format import think_part
from filters.reasons import Reason, Verdict, dropped, kept
from schemas.config import FilterSettings
from schemas.records import Draft

GROUNDING = "grounding"
REFLECTION = "reflection"
MAX_CHARS = 400_000  # of the reasoning that are read


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


def _compile(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


_ANCHOR = _compile(_ANCHORS)
_GIVEAWAY = _compile(_COMPOUND_GIVEAWAYS)
_NOUN_GIVEAWAY = _compile(_NOUN_GIVEAWAYS)
_REFLECTION = _compile(_REFLECTIONS)
_OWN_NOUN = re.compile(r"\b(?:description|caption)s?\b", re.IGNORECASE)


def find_anchors(text: str) -> list[Span]:
    """Phrases that look back at the image, in order, not overlapping; give-aways are not among them."""
    taken = find_giveaways(text)
    return [span for span in _spans(_ANCHOR, text) if not any(_overlap(span, other) for other in taken)]


def find_giveaways(text: str, question: str = "") -> list[Span]:
    """Phrases that betray a text description in the image's place.

    Args:
        question: the problem's own words; where they speak of a description or a caption ("Which caption
            fits?"), those nouns alone betray nothing and only compounds such as "image description" count.
    """
    found = _spans(_GIVEAWAY, text)
    if not _OWN_NOUN.search(question):
        found += _spans(_NOUN_GIVEAWAY, text)
    found.sort(key=lambda span: (span.start, -span.end))
    return [
        span for i, span in enumerate(found) if not any(_overlap(span, other) for other in found[:i][-1:])
    ]


def find_reflections(text: str) -> list[Span]:
    """Explicit self-checks and corrections, in order, not overlapping."""
    return _spans(_REFLECTION, text)


def check_trace(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace that looks back at the image and betrays no text description.

    Score: 0 for a give-away, else n / (n + m) for n anchors and a minimum of m (at least 1): 0.5 at the
    minimum, rising towards 1.
    Source: AVAR, arXiv 2603.03825 (no sentence may reveal that a text description was given).
    """
    text = _plain(think_part(draft.trace, MAX_CHARS))
    question = " ".join((draft.problem.question[:MAX_CHARS], *draft.problem.choices[:64]))
    giveaways = find_giveaways(text, question)
    if giveaways:
        detail = f"{len(giveaways)}: {_around(text, giveaways[0])!r}"
        return dropped(GROUNDING, Reason.MENTIONS_DESCRIPTION, 0.0, detail)
    anchors = find_anchors(text)
    score = len(anchors) / (len(anchors) + max(settings.min_anchors, 1))
    detail = f"{len(anchors)} anchors, need {settings.min_anchors}"
    if len(anchors) < settings.min_anchors:
        return dropped(GROUNDING, Reason.TOO_FEW_ANCHORS, score, detail)
    return kept(GROUNDING, score, detail)


def check_reflection(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace that checks or corrects itself at least once.

    Score: n / (n + 1) for n reflections.
    Source: AVAR, arXiv 2603.03825 (chains with explicit self-reflection and error checking).
    """
    del settings
    found = find_reflections(_plain(think_part(draft.trace, MAX_CHARS)))
    score = len(found) / (len(found) + 1)
    if not found:
        return dropped(REFLECTION, Reason.NO_REFLECTION, score, "no self-check and no correction")
    return kept(REFLECTION, score, f"{len(found)} reflections")


def _plain(text: str) -> str:
    """White space as single blanks: the patterns expect one between words."""
    return " ".join(text.split())


def _spans(pattern: re.Pattern[str], text: str) -> list[Span]:
    return [Span(match.start(), match.end(), match.group()) for match in pattern.finditer(text)]


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def _around(text: str, span: Span) -> str:
    return text[max(0, span.start - 40) : span.end + 40]
