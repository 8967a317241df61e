"""What a claim asserts of named things, against everything that a description says of things of that name.

Two red circles cannot contradict each other: a value is wrong only where no thing of its name has it. Doubt
("seemed", "not", "at first glance") may support a claim and is never held against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from filters.facts.amounts import judge_amount
from filters.facts.quotes import is_quoted
from filters.facts.things import (
    IS_COLOUR,
    Cell,
    Name,
    Scene,
    is_a,
    read_amounts,
    read_cells,
    with_tails,
)
from filters.facts.totals import is_total, sizes
from filters.facts.values import Judgement
from filters.facts.words import (
    COLOUR,
    DOUBT,
    NO_STATEMENT,
    OUTLINES,
    Mention,
    canonical_colour,
    doubted_from,
    find_mentions,
    find_place,
    forgive,
    is_governed,
    opposed,
    same_colour,
    singular,
)

_CLAUSE = re.compile(r"[;:,](?!\d)\s{0,3}|\s(?:and|but|while|whereas)\s")
_UNREAD = re.compile(r"\bunclear\b", re.IGNORECASE)  # of a cell in a list: the others are as they are said
_PRONOUN = re.compile(r"\s{0,2}(?:it|its|which|this|that one|they)\b", re.IGNORECASE)
_RECKONED = re.compile(
    r"[+*/=×÷<>]|\d\sof\s(?:the\s|all\s)?\d|\b(?:of the \d{1,9}|out of|half|twice|double|"
    r"quarter of|third of|times|"
    r"makes?|total|sum|altogether|so far|difference|more|less|fewer|than|apart)\b",
    re.IGNORECASE,
)
_BY_HOW_MUCH = re.compile(r"\b(?:by|up|down) \d")  # a change, perhaps: "rises by 20"
_PARTIAL = re.compile(
    r"\b(?:makes?|so far|already|more|other|another|next|remaining|left over|at least|at most|than|of the|"
    r"each|per|every|of them|again|only|both)\b",
    re.IGNORECASE,
)
_WITHIN = re.compile(
    r"\b(?:in|on|at|of|with|under|over|above|below|near|beside|behind|by|to)\s(?:(?:the|a|an|its|this)\s)?\Z",
    re.I,
)
_DIGITS = re.compile(r"\d")
_LAST_WORD = re.compile(r"([A-Za-z]{1,30})\s\Z")
_NO_MODIFIER = "and or is are at of in on with a an the this that all both its his her their"
_PLAIN_BEFORE = frozenset(_NO_MODIFIER.split())
_OF_SOME = re.compile(r"\b(?:the|these|those|of|both|all|any|other)\s\Z", re.IGNORECASE)
_THERE = re.compile(
    r"\b(?:there (?:is|are)|I (?:can )?(?:see|count|find)|we see|shows?|contains?|depicts?)\b", re.IGNORECASE
)
_NOUN_IS_COLOUR = re.compile(
    rf"\b(?P<noun>[a-z]{{3,20}})\s(?:is|are)\s(?:colou?red\s)?(?P<colour>{COLOUR})\b(?!\s[a-z]{{3}}|\s?-)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause, the claim that it is of, and its place in it."""

    text: str
    claim: str
    start: int


def judge_scene(claim: str, known: Scene) -> Iterator[Judgement]:
    """A judgement for each fact about things in a claim; for a sentence of the description itself, one."""
    found: list[Judgement] = []
    for start, part, doubt, last in _parts(claim):
        clause = Clause(part, claim, start)
        for place, verdict in _judge_part(clause, last, known):
            found.append(forgive(verdict, doubt is not None and place >= doubt))
    doubted = bool(DOUBT.search(_UNREAD.sub("", claim)) or NO_STATEMENT.search(claim))
    for cell, name in read_cells(claim):
        found.append(forgive(_judge_cell(cell, name, known), doubted))
    if not found and is_quoted(claim, known):
        found.append("supported")
    yield from found


def _parts(claim: str) -> Iterator[tuple[int, str, int | None, Mention | None]]:
    """Clauses with their places, where in each doubt begins (0: before it), and the thing named last."""
    last: Mention | None = None
    hopeless = bool(NO_STATEMENT.search(claim))
    doubted = hopeless
    start = 0
    ends = [(match.start(), match.end(), match[0]) for match in _CLAUSE.finditer(claim)]
    for end, following, mark in [*ends, (len(claim), len(claim), "")]:
        part = claim[start:end]
        doubt = 0 if doubted else doubted_from(part)
        yield start, part, doubt, last
        last = next(iter(list(find_mentions(part))[-1:]), last)
        start = following
        doubted = hopeless or (doubt is not None and not mark.startswith(";"))


def _judge_part(clause: Clause, last: Mention | None, known: Scene) -> Iterator[tuple[int, Judgement]]:
    """Each judgement with the place in the clause that it is about."""
    part = clause.text
    mentions = list(find_mentions(part))
    if last is not None and not mentions and _PRONOUN.match(part):
        for verdict in _judge_said(last, part, known):
            yield len(part), verdict
    coloured = _NOUN_IS_COLOUR.search(part)
    if (
        coloured
        and not _WITHIN.search(part[: coloured.start()])
        and all(mention.end != coloured.end("noun") for mention in mentions)
    ):
        for verdict in _judge_colour(singular(coloured["noun"].lower()), coloured["colour"], known):
            yield len(part), verdict
    for mention, after in with_tails(part, mentions):
        for verdict in _judge_named(mention, part, known):
            yield mention.start, verdict
        counted = _judge_count(mention, clause, after, known)
        for verdict in (*counted, *_judge_tail(mention, clause, after, known)):
            yield len(part), verdict


def _judge_tail(mention: Mention, clause: Clause, after: str, known: Scene) -> Iterator[Judgement]:
    """What is said of a thing; "one car is black" and "the apple bar" speak of some such things only."""
    if mention.count in ("no", "each", "every", "other", "another"):
        return
    before = clause.text[: mention.start]
    if is_governed(before):
        after = _without_amounts(after)
    some = mention.number is not None
    for verdict in _judge_said(mention, after, known, sizes(mention, clause.text)):
        if verdict == "supported" and _has_modifier(mention, before) and not is_quoted(clause.text, known):
            yield "unknown"
        else:
            yield forgive(verdict, some)


def _without_amounts(after: str) -> str:
    return _DIGITS.sub(lambda found: "#" * len(found[0]), after)


def _has_modifier(mention: Mention, before: str) -> bool:
    """True for "the apple bar", whose name says more than its kind."""
    word = _LAST_WORD.search(before)
    return (
        not mention.count and not mention.colour and word is not None and word[1].lower() not in _PLAIN_BEFORE
    )


def _judge_named(mention: Mention, part: str, known: Scene) -> Iterator[Judgement]:
    """Supported where a thing is said to be there; wrong where such things have other colours only."""
    if not mention.colour or mention.count == "no":
        return
    if known.named(mention.name):
        if _THERE.search(part[: mention.start]) and mention.number is None:
            yield "supported"
    elif mention.colour in known.loose.get(mention.kind, ()) or mention.colour in known.colours_shared(
        mention.kind
    ):
        return
    elif any(colour for colour, _ in known.of_kind(mention.kind)) or _is_of_other_outline(mention, known):
        yield "contradicted"


def _is_of_other_outline(mention: Mention, known: Scene) -> bool:
    """True for "the red square" where what is red and has an outline is a circle."""
    if mention.count != "the" or mention.kind not in OUTLINES:
        return False
    return any(
        kind in OUTLINES and colour and same_colour(colour, mention.colour) for colour, kind in known.things
    )


def _judge_count(mention: Mention, clause: Clause, after: str, known: Scene) -> Iterator[Judgement]:
    """Wrong where both sides count all things of one name, and no restriction is in play."""
    count = mention.number
    if count is None or mention.count == "one" or _OF_SOME.search(clause.text[: mention.start]):
        return
    said = None if mention.colour else IS_COLOUR.match(after)
    wanted = (canonical_colour(said["colour"]), mention.kind) if said else mention.name
    names = [name for name in known.named(wanted) if bool(name[0]) == bool(wanted[0])]
    counts = {number for name in names for number in known.things[name].counts}
    of_size = sizes(mention, clause.text)
    totals = {total for name in names for total, size in known.things[name].totals if size == of_size}
    if count in counts or (not counts and count in _sums(wanted, known)):
        yield "supported"
    elif totals and not _PARTIAL.search(clause.claim) and is_total(mention, clause.claim, clause.start):
        yield "contradicted"
    else:
        yield "unknown"


def _sums(name: Name, known: Scene) -> set[int]:
    """Counts that follow: things introduced one by one, and counts by colour, one for each."""
    things = [known.things[other] for other in known.named(name)]
    coloured = [next(iter(thing.counts)) for thing in things if len(thing.counts) == 1]
    return {sum(thing.singles for thing in things), sum(coloured)} - {0}


def _judge_said(
    mention: Mention, after: str, known: Scene, of_size: frozenset[str] = frozenset()
) -> Iterator[Judgement]:
    """Colour, place and amounts that a clause says of a thing."""
    coloured = None if mention.colour else IS_COLOUR.match(after)
    name = (canonical_colour(coloured["colour"]), mention.kind) if coloured else mention.name
    if coloured:
        yield from _judge_colour(mention.kind, coloured["colour"], known)
    things = [known.things[other] for other in known.named(name)]
    place = find_place(after)
    placed = [entry for thing in things for entry in thing.places]
    places = [there for there, size in placed if size == of_size or not (size and of_size)]
    if place and places:
        verdict = _judge_place(place, places)
        yield forgive(verdict, bool(coloured))
    elif place and placed:
        yield "unknown"
    if not _RECKONED.search(after):
        amounts = [amount for thing in things for amount in thing.amounts]
        for amount in read_amounts(after):
            yield forgive(judge_amount(amount, amounts), bool(_BY_HOW_MUCH.search(after)))


def _judge_colour(kind: str, colour: str, known: Scene) -> Iterator[Judgement]:
    colours = [name[0] for name in known.of_kind(kind) if name[0]]
    if any(same_colour(colour, other) for other in colours):
        yield "supported"
    elif canonical_colour(colour) in known.colours_shared(kind):
        yield "unknown"
    elif colours and canonical_colour(colour) not in known.loose.get(kind, ()):
        yield "contradicted"


def _judge_place(place: frozenset[str], places: list[frozenset[str]]) -> Judgement:
    if any(place <= there for there in places):
        return "supported"
    return "contradicted" if all(opposed(place, there) for there in places) else "unknown"


def _judge_cell(cell: Cell, name: Name, known: Scene) -> Judgement:
    names = known.cells.get(cell)
    if not names:
        return "unknown"
    return "supported" if any(is_a(other, name) for other in names) else "contradicted"
