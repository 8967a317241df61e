"""Named things in prose: how many, which colours, where, with which values, and what grid cells hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from rapidfuzz import fuzz

from filters.facts.totals import is_total, sizes
from filters.facts.values import NUMBER, ORDINALS
from filters.facts.words import (
    COLOUR,
    Mention,
    canonical_colour,
    find_mentions,
    find_place,
    is_colour,
    same_colour,
    singular,
)

Name = tuple[str, str]
Cell = tuple[int, int]

MAX_NAMES = 500  # distinct things of one description
MAX_SENTENCES = 2_000
_TAIL = 400  # characters after a cell's or row's name that are read
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_AMOUNT = re.compile(
    rf"(?<![\w.,({{-])(?P<value>(?:about\s|approximately\s|roughly\s|around\s|[≈~]\s?)?{NUMBER})(?!\d|\.\d|:\d)\s?(?P<unit>[A-Za-z%°]{{1,20}}(?:[²³]|\^[23])?)?(?P<more>[a-z\s]{{0,24}})"
)
_SIDE = re.compile(r"\bfrom the (left|top)\b")
_CLAUSE_MARK = re.compile(r"[,;:]\s")
_POINT = re.compile(rf"\(\s?({NUMBER})\s?,\s?({NUMBER})\s?\)")
_FAMILIES = {
    "height": r"\b(?:reach|end|ris|go|tall|high|height|top|value|stand|extend|up to|worth|equal)\w{0,4}\b",
    "label": r"\b(?:label|mark|number|inscri|say|read)\w{0,7}\b",
    "holds": r"\b(?:has|have|contain|hold|with)\w{0,3}\b",
}
_FAMILY = re.compile("|".join(f"(?P<{name}>{words})" for name, words in _FAMILIES.items()), re.IGNORECASE)
_QUALITY = re.compile(
    r"\b(?:area|perimeter|volume|circumference|diameter|radius|width|length|side|depth|base|slant|diagonal|weight|mass|"
    r"age|price|cost|capacity|temperature|speed|distance)(?=s?\b)",
    re.IGNORECASE,
)
_NO_UNIT = "and or on in at of to from the is are so but which while that"
_NO_TOTAL = re.compile(r"\s?(?:so far|more|other|of the|each|per)\b", re.IGNORECASE)
IS_COLOUR = re.compile(
    r"(?:\s\d{1,2})?(?:\s(?:from|at|on|in|of)\s(?:the\s)?[\w\s]{0,25}?)?\s(?:is|are)\s"
    rf"(?:colou?red\s|painted\s|filled\s)?(?P<colour>{COLOUR})\b(?!\s[a-z]{{3}}|\s?-)",
    re.IGNORECASE,
)
_A_COLOUR = re.compile(rf"\b(?:{COLOUR})\b", re.IGNORECASE)
_ORDINAL = "|".join(ORDINALS)
_CELL = re.compile(
    rf"\b(?:row (?P<row>\d{{1,3}})|the (?P<nth>{_ORDINAL}) row),?\s(?:and\s)?(?:the\s)?"
    rf"(?:column (?P<column>\d{{1,3}})|(?P<mth>{_ORDINAL}) column)\b",
    re.IGNORECASE,
)
_ROW = re.compile(
    rf"\b(?:row (?P<row>\d{{1,3}})|(?:the )?(?P<nth>{_ORDINAL}) row)\b(?!,? (?:and )?column)[^\[]{{0,50}}?"
    r"\b(?:holds|reads|is|has|contains|shows)\b(?:,? from left to right)?[:,]?\s?(?P<list>.{3,400})",
    re.IGNORECASE,
)
_CELL_ENDS = re.compile(r"[;.]\s|\brow\b")
_NEXT_ITEM = re.compile(r",\s|\sand\s")
WORDS = re.compile(r"(?:(?<![\w.)\]])-(?=[$.]?\d))?[$\w.'°%]*\w[%°]?|[,;:()]")


@dataclass(frozen=True, slots=True)
class Amount:
    """A number said of a thing: as written, its unit ("" for none), what kind of value it is, and of what."""

    value: str
    unit: str
    family: str
    quality: str = ""


@dataclass(slots=True)
class Thing:
    """All that a text says of things of one name.

    Attributes:
        counts: how many it says there are, each time that it says so.
        totals: the counts that are of all such things in the picture, with the words of size before the noun.
        singles: how often it introduces a single one ("a red circle").
        places: sides of the picture with the words of size, for each time that one is named with its place.
    """

    counts: set[int] = field(default_factory=set)
    totals: set[tuple[int, frozenset[str]]] = field(default_factory=set)
    singles: int = 0
    places: list[tuple[frozenset[str], frozenset[str]]] = field(default_factory=list)
    amounts: list[Amount] = field(default_factory=list)


@dataclass(slots=True)
class Scene:
    """What a text says of things and of the cells of a grid.

    Attributes:
        sentences: as lists of words.
        loose: colours in sentences that name a kind without its colour ("the squares are red and pink").
    """

    things: dict[Name, Thing] = field(default_factory=dict)
    cells: dict[Cell, set[Name]] = field(default_factory=dict)
    sentences: list[list[str]] = field(default_factory=list)
    loose: dict[str, set[str]] = field(default_factory=dict)
    _alike: dict[str, tuple[Name, ...]] = field(default_factory=dict)
    _shared: dict[str, frozenset[str]] = field(default_factory=dict)

    def of_kind(self, kind: str) -> tuple[Name, ...]:
        """The names of things of a kind, whatever their colour; spelling slips pass."""
        if kind not in self._alike:
            self._alike[kind] = tuple(name for name in self.things if same_kind(name[1], kind))
        return self._alike[kind]

    def colours_shared(self, kind: str) -> frozenset[str]:
        """Colours in sentences that name a kind without one: "eight equal sections: three are red"."""
        if kind not in self._shared:
            found: set[str] = set()
            for words in self.sentences:
                if any(singular(word) == kind and not is_colour(before) for before, word in pairwise(words)):
                    found.update(canonical_colour(word) for word in words if is_colour(word))
            self._shared[kind] = frozenset(found)
        return self._shared[kind]

    def named(self, wanted: Name) -> tuple[Name, ...]:
        """The things that a name may mean."""
        return tuple(name for name in self.of_kind(wanted[1]) if is_a(name, wanted))


def read_scene(text: str) -> Scene:
    """The things that a description tells of."""
    scene = Scene()
    for sentence in filter(None, map(str.strip, _SENTENCE.split(text))):
        if len(scene.sentences) < MAX_SENTENCES:
            scene.sentences.append(WORDS.findall(sentence.lower()))
        mentions = list(find_mentions(sentence))
        for mention, after in with_tails(sentence, mentions):
            _note(scene, mention, after, sentence)
        _note_loose(scene, sentence, {mention.kind for mention in mentions if not mention.colour})
        for cell, name in read_cells(sentence):
            scene.cells.setdefault(cell, set()).add(name)
    return scene


def with_tails(sentence: str, mentions: list[Mention]) -> Iterator[tuple[Mention, str]]:
    """Each mention with the text up to the next one."""
    ends = [mention.start for mention in mentions][1:] + [len(sentence)][: len(mentions)]
    for mention, end in zip(mentions, ends, strict=True):
        yield mention, sentence[mention.end : end]


def read_amounts(text: str) -> Iterator[Amount]:
    """The numbers that a text behind a thing's name says of it; (x, y) are its places from left and top."""
    for match in _POINT.finditer(text):
        yield Amount(match[1], "left", "place")
        yield Amount(match[2], "top", "place")
    start = 0
    for match in _AMOUNT.finditer(_POINT.sub(lambda found: " " * len(found[0]), text)):
        unit = (match["unit"] or "").lower()
        side = _SIDE.search(f"{match['unit']}{match['more']}")
        unit = side[1] if side else "" if unit in _NO_UNIT.split() else unit
        around = _CLAUSE_MARK.split(text[start : match.start()])[-1] + text[match.start() : match.end()]
        qualities = _QUALITY.findall(around)
        quality = qualities[-1].lower() if qualities else ""
        yield Amount(match["value"], unit, "place" if side else _family(around), quality)
        start = match.end("value")


def read_cells(sentence: str) -> Iterator[tuple[Cell, Name]]:
    """(row, column), from 1, and the coloured thing that is said to be there."""
    for match in _CELL.finditer(sentence):
        after = _CELL_ENDS.split(sentence[match.end() : match.end() + _TAIL], maxsplit=1)[0]
        for name in _first_coloured(after[:90]):
            yield (_place(match["row"], match["nth"]), _place(match["column"], match["mth"])), name
    for match in _ROW.finditer(sentence):
        for column, item in enumerate(_NEXT_ITEM.split(match["list"]), start=1):
            for name in _first_coloured(item[:60]):
                yield (_place(match["row"], match["nth"]), column), name


def is_a(known: Name, wanted: Name) -> bool:
    """True where a known thing may be meant by a name: its kind, and its colour where one is said."""
    return (
        same_colour(known[0], wanted[0])
        and bool(known[0] or not wanted[0])
        and same_kind(known[1], wanted[1])
    )


def same_kind(one: str, other: str) -> bool:
    """True where two nouns are one but for a spelling slip."""
    return one == other or (min(len(one), len(other)) >= 5 and fuzz.ratio(one, other) >= 88)


def _note(scene: Scene, mention: Mention, after: str, sentence: str) -> None:
    coloured = None if mention.colour else IS_COLOUR.match(after)
    name = (coloured["colour"].lower(), mention.kind) if coloured else mention.name
    if mention.count == "no" or (len(scene.things) >= MAX_NAMES and name not in scene.things):
        return
    thing = scene.things.setdefault(name, Thing())
    if mention.number is not None and not _NO_TOTAL.match(after):
        thing.counts.add(mention.number)
        if is_total(mention, sentence):
            thing.totals.add((mention.number, sizes(mention, sentence)))
    thing.singles += mention.count in ("a", "an")
    place = find_place(after)
    if place:
        thing.places.append((place, sizes(mention, sentence)))
    thing.amounts.extend(read_amounts(after))


def _note_loose(scene: Scene, sentence: str, kinds: set[str]) -> None:
    colours = {canonical_colour(word) for word in _A_COLOUR.findall(sentence)} if kinds else set()
    for kind in kinds if colours else ():
        scene.loose.setdefault(kind, set()).update(colours)


def _family(text: str) -> str:
    """What kind of value the last telling word around a number speaks of."""
    last = ""
    for match in _FAMILY.finditer(text):
        last = match.lastgroup or ""
    return last


def _first_coloured(text: str) -> Iterator[Name]:
    for mention in find_mentions(text):
        if mention.colour:
            yield mention.name
            return


def _place(number: str | None, ordinal: str | None) -> int:
    return int(number) if number else ORDINALS[(ordinal or "").lower()]
