"""The words by which a text speaks of things in a picture: colours, kinds, counts, places; and its doubts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from filters.facts.values import Judgement
from filters.quantities import NUMBER_WORDS

_PLAIN = "red orange yellow green blue pink brown black white beige magenta"
_COLOURS = {
    **{name: name for name in _PLAIN.split()},
    **dict.fromkeys(("purple", "violet"), "purple"),
    **dict.fromkeys(("grey", "gray", "silver"), "grey"),
    **dict.fromkeys(("cyan", "teal", "turquoise"), "cyan"),
    **dict.fromkeys(("gold", "golden"), "gold"),
}
COLOUR = "|".join(_COLOURS)
_KINDS = (
    "bar slice column line curve arrow segment point dot corner side edge angle triangle square rectangle "
    "circle disc disk polygon hexagon pentagon octagon diamond star cross shape object element cube sphere "
    "cylinder cone pyramid ball box block tile node piece panel region cell person man woman child car sign "
    "house tree cat dog bird jug peg ring oval ellipse heart label leaf book cup bottle flower fruit apple "
    "animal item"
)
_LONGEST_FIRST = "|".join(sorted(_KINDS.split(), key=len, reverse=True))
_IRREGULAR = {
    "vertices": "vertex",
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "leaves": "leaf",
    "indices": "index",
    "boxes": "box",
    "crosses": "cross",
    "discs": "disc",
    "disks": "disk",
}
_IRREGULAR |= {word: word for word in ("axis", "lens", "bus", "glass", "gas", "cross")}
_COUNTS = {word: value for word, value in NUMBER_WORDS.items() if word.isascii()}
_COUNT = "|".join(_COUNTS)
_SIZES = (
    r"(?:small|large|big|tiny|medium|short|long|tall|little|plain|filled|solid|dashed|colou?red|light|dark|"
    r"bright|pale|deep)"
)
_NOT_KIND = (
    "and or is are was were in on at of to for with one ones the a an not but as by from which that counts "
    "reads looks has have ends holds comes covers lies seems than option also itself instead only there too"
)
_MENTION = re.compile(
    rf"\b(?:(?P<count>\d{{1,4}}|{_COUNT}|an?|the|this|that|each|every|no|other|another)\s)?(?:{_SIZES}[\s-]){{0,3}}"
    rf"(?:(?P<colour>{COLOUR})(?:[\s-](?:colou?red|filled))?\s(?!(?:{_NOT_KIND.replace(' ', '|')})\b)"
    r"(?P<noun>[a-z]{3,20})"
    rf"|(?P<kind>(?:{_LONGEST_FIRST})(?:e?s)?|men|women|children|people|leaves))\b",
    re.IGNORECASE,
)
_PLACES = {
    "left": re.compile(r"\b(?:left|leftmost|left-hand)\b", re.I),
    "right": re.compile(r"\b(?:right|rightmost|right-hand)\b", re.I),
    "top": re.compile(r"\b(?:top|upper|topmost)\b", re.I),
    "bottom": re.compile(r"\b(?:bottom|lower|lowest)\b", re.I),
}
_OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
_DIRECTION = re.compile(
    r"\bfrom (?:the )?(?:left|right|top|bottom) (?:to|side)\b|\bright angle|\bis right\b|\ball right\b", re.I
)
_PLACE = re.compile(
    r"\b(?:at|in|on|to|near|towards)\s(?:the\s)?(?:very\s|far\s)?(?P<place>(?:upper|lower|middle|top|bottom|left|right|centre|"
    r"center)(?:[\s-](?:left|right|centre|center|corner|side|half|hand)){0,2})\b(?!\s(?:of\sthe|to\s))",
    re.IGNORECASE,
)
DOUBT = re.compile(
    r"n['’]t\b|\b(?:not|no|never|without|neither|nor|seem\w{0,3}|look(?:s|ed)?\slike|appear\w{0,3}|glance|initially|originally|thought|"
    r"took|mistaken\w{0,2}|mistook|misread\w{0,3}|wrong\w{0,2}|missed|if|whether|would|could|should|might|may|must|suppose|"
    r"assum\w{1,4}|options?|choices?|answers?|results?|task|have\sto|need\sto|find|correct\w{0,4}|instead|rather|guess\w{0,3}|unclear|"
    r"expect\w{0,3}|rules?|put|likely|perhaps|maybe|question|asks?|wanted|imagine|hypothe\w{1,8}|remov\w{1,4}|becomes?|"
    r"new|scal(?:ed|ing)|halv(?:ed|ing)|doubl(?:ed|ing)|enlarg\w{1,4}|shr[iu]nk\w{0,3}|translat\w{1,4}|rotat\w{1,4}|"
    r"increas\w{1,3}|decreas\w{1,3}|together|combined|altogether)\b",
    re.IGNORECASE,
)

# A sentence that holds such a word states nothing of the picture, wherever in it the word stands.
NO_STATEMENT = re.compile(
    r"\b(?:options?|choices?|whether|(?:the\s)?(?:question|task|problem)\s(?:is|asks|wants)|(?:have|need|want)\sto)\b|\?\s*$",
    re.IGNORECASE,
)

# What is reckoned from a thing: "half of AB is 6" gives half of it, "the height above AB" is another length.
_OPERATOR = (
    r"half|halves|twice|thrice|double[ds]?|doubling|triple[ds]?|halving|thirds?|quarters?|fourths?|fifths?|tenths?|"
    r"times|plus|minus|sum|total|difference|ratio|product|quotient|squared?|cubed?|root|area|perimeter|volume|"
    r"circumference|heights?|altitude|remaining|remainder|rest|parts?|portion|pieces?|midpoint|middle|cent(?:re|er)|"
    r"distance|projection|average|mean|multiple|fraction|percent|%|add(?:ed|ing)|subtract(?:ed|ing)|multipl\w{1,4}|"
    r"divid\w{1,3}|bisector|supplement|complement"
)
_GOVERNING = re.compile(
    rf"(?:\b(?:half|twice|thrice|double[ds]?|doubling|halving|triple[ds]?|thirds?|quarters?|times|plus|minus|add(?:ed|ing)|"
    rf"subtract(?:ed|ing)|multipl\w{{1,4}}|divid\w{{1,3}})\b|\b(?:{_OPERATOR})\b[^,;:.=\n]{{0,80}}?\s(?:of|above|over|on|onto|from|to|"
    r"between|along|below|with|and|by)\b)[^,;:.=\n]{0,40}\Z",
    re.IGNORECASE,
)

_NEGATION = re.compile(r"n['’]t|not|never", re.IGNORECASE)
# Outlines of which a shape has one: a red circle is no red square. Others ("dot", "box") may be either.
_OUTLINES = "circle square triangle star cross hexagon pentagon octagon diamond heart"
OUTLINES = frozenset(_OUTLINES.split())


@dataclass(frozen=True, slots=True)
class Mention:
    """One naming of a thing: `start` and `end` in the text, colour and kind in one form, the count word."""

    start: int
    end: int
    colour: str
    kind: str
    count: str

    @property
    def name(self) -> tuple[str, str]:
        return self.colour, self.kind

    @property
    def number(self) -> int | None:
        """How many it says there are; None without a number."""
        if self.count.isdecimal():
            return int(self.count)
        return _COUNTS.get(self.count)


def doubted_from(text: str) -> int | None:
    """Where in a clause doubt begins, None where it holds none.

    A negation doubts what follows it: "the red star does not count" still says that there is a red star. All
    other doubt is over the whole clause.
    """
    found = DOUBT.search(text)
    if found is None:
        return None
    return found.start() if _NEGATION.fullmatch(found[0]) else 0


def forgive(verdict: Judgement, doubted: bool) -> Judgement:
    """A verdict that does not hold against a claim what the claim itself doubts."""
    return "unknown" if doubted and verdict == "contradicted" else verdict


def is_governed(before: str) -> bool:
    """True where the words before a name make it part of what is reckoned ("half of", "the sum of")."""
    return bool(_GOVERNING.search(before[-140:]))


def find_mentions(text: str) -> Iterator[Mention]:
    """The things that a text names: a colour with a noun, or one of the usual kinds."""
    for match in _MENTION.finditer(text):
        colour = _COLOURS.get((match["colour"] or "").lower(), "")
        kind = singular((match["noun"] or match["kind"]).lower())
        yield Mention(match.start(), match.end(), colour, kind, (match["count"] or "").lower())


def singular(noun: str) -> str:
    """A noun without its plural ending."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if noun.endswith(("ses", "xes", "ches", "shes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") and len(noun) > 3 else noun


def canonical_colour(word: str) -> str:
    """The name by which a colour and its synonyms are kept."""
    return _COLOURS.get(word.lower(), word.lower())


def is_colour(word: str) -> bool:
    """True for a colour word, in lower case."""
    return word in _COLOURS


def same_colour(one: str, other: str) -> bool:
    """True where two colour words name one colour; none agrees with any."""
    first, second = canonical_colour(one), canonical_colour(other)
    return not first or not second or first == second


def find_place(text: str) -> frozenset[str]:
    """The sides that a phrase such as "at the upper left" names."""
    match = _PLACE.search(_DIRECTION.sub(" ", text))
    if match is None:
        return frozenset()
    return frozenset(side for side, pattern in _PLACES.items() if pattern.search(match["place"]))


def opposed(one: frozenset[str], other: frozenset[str]) -> bool:
    """True where two places exclude each other."""
    return any(_OPPOSITE[side] in other for side in one)
