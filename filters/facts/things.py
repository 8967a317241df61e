"""Named things in prose: how many, which colours, where, with which values, and what grid cells hold.

What a claim says of a thing is compared with everything that the description says of things of that name, so
that two red circles cannot contradict each other. Doubt ("seemed", "not", "at first glance") is never held
against a claim: what is doubted may support, it does not contradict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from rapidfuzz import fuzz

from filters.facts.values import NUMBER, ORDINALS, Judgement, same_number
from filters.facts.words import COLOUR, DOUBT, NO_STATEMENT, Mention, find_mentions, find_place, opposed, same_colour

Name = tuple[str, str]
Cell = tuple[int, int]

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_CLAUSE = re.compile(r"[;:,](?!\d)\s{0,3}|\s(?:and|but|while|whereas)\s")
_PRONOUN = re.compile(r"\s{0,2}(?:it|its|which|this|that one|they)\b", re.IGNORECASE)
_AMOUNT = re.compile(rf"(?<![\w.,({{-])(?P<value>{NUMBER})(?!\d|\.\d|:\d)\s?(?P<unit>[A-Za-z%°]{{1,20}})?(?P<more>[a-z\s]{{0,24}})")
_POINT = re.compile(rf"\(\s?({NUMBER})\s?,\s?({NUMBER})\s?\)")
_RECKONED = re.compile(r"[+*/=×÷<>]|\b(?:makes?|total|sum|altogether|so far|difference|more|less|fewer|than|apart)\b", re.IGNORECASE)
_FAMILIES = {
    "height": re.compile(r"\b(?:reach|end|ris|go|tall|high|height|top|value|stand|extend|up to|worth|equal)\w{0,4}\b", re.I),
    "label": re.compile(r"\b(?:label|mark|number|inscri|say|read)\w{0,7}\b", re.I),
    "holds": re.compile(r"\b(?:has|have|contain|hold|with)\w{0,3}\b", re.I),
}
_NO_UNIT = frozenset("and or on in at of to from the is are so but which while that".split())
_PARTIAL = re.compile(
    r"\b(?:makes?|so far|already|more|other|another|next|remaining|left over|at least|at most|than|of the|each|per|every|"
    r"of them|again|only|both)\b",
    re.IGNORECASE,
)
_NARROWED = re.compile(r"\s(?:at|in|on|with|above|below|under|over|that|which|who|near|between|inside|outside|of|from|to)\s(?!(?:the|this)\s(?:whole\s)?(?:image|picture|figure|diagram|chart|scene|plain)|a plain)", re.I)
_OF_SOME = re.compile(r"\b(?:the|these|those|of|both|all|any|other)\s\Z", re.IGNORECASE)
_THERE = re.compile(r"\b(?:there (?:is|are)|I (?:can )?(?:see|count|find)|we see|shows?|contains?|depicts?)\b", re.IGNORECASE)
_IS_COLOUR = re.compile(rf"[\w\s]{{0,40}}?\s(?:is|are)\s(?:colou?red\s|painted\s|filled\s)?(?P<colour>{COLOUR})\b(?!\s[a-z]{{3}}|\s?-)", re.IGNORECASE)
_ORDINAL = "|".join(ORDINALS)
_CELL = re.compile(rf"\b(?:row (?P<row>\d{{1,3}})|the (?P<nth>{_ORDINAL}) row),?\s(?:and\s)?(?:the\s)?(?:column (?P<column>\d{{1,3}})|(?P<mth>{_ORDINAL}) column)\b", re.IGNORECASE)
_ROW = re.compile(rf"\b(?:row (?P<row>\d{{1,3}})|(?:the )?(?P<nth>{_ORDINAL}) row)\b(?!,? (?:and )?column)[^\[]{{0,50}}?(?:\b(?:holds|reads|is|has|contains|shows)\b)(?:,? from left to right)?[:,]?\s?(?P<list>.{{3,400}})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Amount:
    """A number said of a thing: as written, its unit ("" for none), and what kind of value it is."""

    value: str
    unit: str
    family: str


@dataclass(slots=True)
class Scene:
    """What a text says of things: names to counts, single mentions, colours, places, amounts; cells to names."""

    counts: dict[Name, set[int]] = field(default_factory=dict)
    singles: dict[Name, int] = field(default_factory=dict)
    names: set[Name] = field(default_factory=set)
    places: dict[Name, list[frozenset[str]]] = field(default_factory=dict)
    amounts: dict[Name, list[Amount]] = field(default_factory=dict)
    cells: dict[Cell, set[Name]] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


def read_scene(text: str) -> Scene:
    """The things that a description tells of."""
    scene = Scene()
    for sentence in filter(None, map(str.strip, _SENTENCE.split(text))):
        scene.sentences.append(" ".join(sentence.split()))
        mentions = list(find_mentions(sentence))
        for mention, after in _with_tails(sentence, mentions):
            _note(scene, mention, after)
        for cell, name in _cells_said(sentence):
            scene.cells.setdefault(cell, set()).add(name)
    return scene


def judge_scene(claim: str, known: Scene) -> Iterator[Judgement]:
    """A judgement for each fact about things in a claim; for a sentence of the description itself, one."""
    found = []
    for part, doubted, last in _parts(claim):
        for verdict in _judge_part(part, last, known):
            found.append("unknown" if doubted and verdict == "contradicted" else verdict)
    for cell, name in _cells_said(claim):
        verdict = _judge_cell(cell, name, known)
        found.append("unknown" if (DOUBT.search(claim) or NO_STATEMENT.search(claim)) and verdict == "contradicted" else verdict)
    if not found and _is_quoted(claim, known):
        found.append("supported")
    yield from found


# ------------------------------------------------------------------------------------------ the description


def _with_tails(sentence: str, mentions: list[Mention]) -> Iterator[tuple[Mention, str]]:
    """Each mention with the text up to the next one."""
    ends = [mention.start for mention in mentions][1:] + [len(sentence)][: len(mentions)]
    for mention, end in zip(mentions, ends, strict=True):
        yield mention, sentence[mention.end : end]


def _note(scene: Scene, mention: Mention, after: str) -> None:
    name = mention.name
    coloured = _IS_COLOUR.match(after)
    if coloured and not mention.colour:
        name = (coloured["colour"].lower(), mention.kind)
    if mention.count == "no":
        return
    scene.names.add(name)
    if mention.number is not None and not _PARTIAL.search(after[:12]):
        scene.counts.setdefault(name, set()).add(mention.number)
    if mention.count in ("a", "an"):
        scene.singles[name] = scene.singles.get(name, 0) + 1
    scene.places.setdefault(name, []).append(find_place(after))
    scene.amounts.setdefault(name, []).extend(_amounts(after))


def _amounts(text: str) -> Iterator[Amount]:
    for match in _POINT.finditer(text):
        yield Amount(match[1], "left", "place")
        yield Amount(match[2], "top", "place")
    start = 0
    for match in _AMOUNT.finditer(_POINT.sub(lambda found: " " * len(found[0]), text)):
        unit = (match["unit"] or "").lower()
        unit = "" if unit in _NO_UNIT else unit
        side = re.search(r"\bfrom the (left|top)\b", f"{match['unit']}{match['more']}")
        yield Amount(match["value"], side[1] if side else unit, _family(text[start : match.end()]))
        start = match.end("value")


def _family(text: str) -> str:
    """What kind of value the last telling word before or after a number speaks of."""
    last = max(((m.start(), name) for name, pattern in _FAMILIES.items() for m in pattern.finditer(text)), default=(0, ""))
    return last[1]


def _cells_said(sentence: str) -> Iterator[tuple[Cell, Name]]:
    """(row, column) and the name of what it holds, from 1."""
    for match in _CELL.finditer(sentence):
        after = sentence[match.end() :]
        after = re.split(r"[;.]\s|\brow\b", after, maxsplit=1)[0]
        named = next((mention for mention in find_mentions(after[:90]) if mention.colour), None)
        if named:
            yield (_place(match["row"], match["nth"]), _place(match["column"], match["mth"])), named.name
    for match in _ROW.finditer(sentence):
        for column, item in enumerate(re.split(r",\s|\sand\s", match["list"]), start=1):
            named = next((mention for mention in find_mentions(item[:60]) if mention.colour), None)
            if named:
                yield (_place(match["row"], match["nth"]), column), named.name


def _place(number: str | None, ordinal: str | None) -> int:
    return int(number) if number else ORDINALS[(ordinal or "").lower()]


# ------------------------------------------------------------------------------------------------ the claim


def _parts(claim: str) -> Iterator[tuple[str, bool, Mention | None]]:
    """Clauses, whether doubt stands in them or before them, and the thing named last before."""
    last: Mention | None = None
    doubted = hopeless = bool(NO_STATEMENT.search(claim))
    start = 0
    ends = [(match.start(), match.end(), match[0]) for match in _CLAUSE.finditer(claim)]
    for end, following, mark in [*ends, (len(claim), len(claim), "")]:
        part = claim[start:end]
        doubted = doubted or bool(DOUBT.search(part))
        yield part, doubted, last
        last = next(iter(list(find_mentions(part))[-1:]), last)
        start = following
        doubted = hopeless or (doubted and not mark.startswith(";"))


def _judge_part(part: str, last: Mention | None, known: Scene) -> Iterator[Judgement]:
    mentions = list(find_mentions(part))
    if last is not None and not mentions and _PRONOUN.match(part):
        yield from _judge_said(last, part, known)
    for mention, after in _with_tails(part, mentions):
        yield from _judge_named(mention, part, known)
        yield from _judge_count(mention, part, after, known)
        if mention.count not in ("no", "each", "every", "other", "another"):
            yield from _judge_said(mention, after, known)


def _judge_named(mention: Mention, part: str, known: Scene) -> Iterator[Judgement]:
    """A thing that is named: supported where it is said to be there; a colour that no such thing has is wrong."""
    if not mention.colour or mention.count == "no":
        return
    if any(_is_a(name, mention.name) for name in known.names):
        if _THERE.search(part[: mention.start]) and mention.number is None:
            yield "supported"
        return
    others = [name for name in known.names if name[0] and _same_kind(name[1], mention.kind)]
    if others:
        yield "contradicted"


def _judge_count(mention: Mention, part: str, after: str, known: Scene) -> Iterator[Judgement]:
    count = mention.number
    if count is None or mention.count == "one" or _OF_SOME.search(part[: mention.start]):
        return
    counts = set().union(*(values for name, values in known.counts.items() if _is_exactly(name, mention.name)))
    singles = sum(number for name, number in known.singles.items() if _is_a(name, mention.name))
    if count in counts or (not counts and count == singles):
        yield "supported"
    elif counts and not _PARTIAL.search(part) and not _NARROWED.match(after):
        yield "contradicted"
    else:
        yield "unknown"


def _judge_said(mention: Mention, after: str, known: Scene) -> Iterator[Judgement]:
    """Colour, place and amounts that a clause says of a thing."""
    coloured = _IS_COLOUR.match(after)
    if coloured and not mention.colour:
        yield from _judge_colour(mention, coloured["colour"], known)
    names = [name for name in known.names if _is_a(name, mention.name)]
    place = find_place(after)
    places = [there for name in names for there in known.places.get(name, ()) if there]
    if place and places:
        yield _judge_place(place, places)
    if _RECKONED.search(after):
        return
    amounts = [amount for name in names for amount in known.amounts.get(name, ())]
    for amount in _amounts(after):
        yield _judge_amount(amount, amounts)


def _judge_colour(mention: Mention, colour: str, known: Scene) -> Iterator[Judgement]:
    colours = [name[0] for name in known.names if name[0] and _same_kind(name[1], mention.kind)]
    if any(same_colour(colour, other) for other in colours):
        yield "supported"
    elif colours:
        yield "contradicted"


def _judge_place(place: frozenset[str], places: list[frozenset[str]]) -> Judgement:
    if any(place <= there for there in places):
        return "supported"
    return "contradicted" if all(opposed(place, there) for there in places) else "unknown"


def _judge_amount(amount: Amount, known: list[Amount]) -> Judgement:
    if any(same_number(amount.value, other.value) and _units_fit(amount, other) for other in known):
        return "supported"
    alike = [other for other in known if other.unit == amount.unit and _families_fit(amount, other)]
    return "contradicted" if alike else "unknown"


def _units_fit(one: Amount, other: Amount) -> bool:
    return not one.unit or not other.unit or fuzz.ratio(one.unit, other.unit) >= 80


def _families_fit(one: Amount, other: Amount) -> bool:
    return one.family == other.family and bool(one.family or one.unit)


def _judge_cell(cell: Cell, name: Name, known: Scene) -> Judgement:
    names = known.cells.get(cell)
    if not names:
        return "unknown"
    return "supported" if any(_is_a(other, name) for other in names) else "contradicted"


def _is_a(known: Name, wanted: Name) -> bool:
    """True where a known thing may be meant by a name: its kind, and its colour where one is said."""
    return same_colour(known[0], wanted[0]) and bool(known[0] or not wanted[0]) and _same_kind(known[1], wanted[1])


def _is_exactly(known: Name, wanted: Name) -> bool:
    return bool(known[0]) == bool(wanted[0]) and _is_a(known, wanted)


def _same_kind(one: str, other: str) -> bool:
    return one == other or (min(len(one), len(other)) >= 5 and fuzz.ratio(one, other) >= 88)


def _is_quoted(claim: str, known: Scene) -> bool:
    """True where the description says the same sentence, but for small words: same numbers in one order."""
    said = " ".join(claim.split())
    numbers = re.findall(r"\d+(?:\.\d+)?", said)
    if len(said) < 12 or DOUBT.search(said):
        return False
    return any(
        re.findall(r"\d+(?:\.\d+)?", sentence) == numbers and fuzz.ratio(said.lower(), sentence.lower()) >= 88
        for sentence in known.sentences
        if abs(len(sentence) - len(said)) <= 0.3 * len(said)
    )
