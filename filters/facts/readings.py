"""Readings of a picture's state: the time on a clock, and lists such as what each jug holds.

Several states of one thing may be told (before, after, what is asked). A word says which: a claim about the
beginning is compared with what is called start or initial, a plain one with what is not called an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from filters.facts.literals import find_dashed, find_listings
from filters.facts.values import ORDINALS, Judgement, fold, number_of, same_name

When = Literal["start", "end", "other", ""]

_WHEN: dict[When, re.Pattern[str]] = {
    "start": re.compile(
        r"\b(?:start\w{0,4}|initial\w{0,4}|begin\w{0,5}|began|current\w{0,2}|now|shown|given|original\w{0,2})\b"
    ),
    "end": re.compile(r"\b(?:end|ends|ending|final\w{0,2}|target|goal|after\w{0,5}|result\w{0,3})\b"),
    "other": re.compile(
        r"\b(?:add\w{0,3}|subtract\w{0,3}|query|steps?|later|earlier|ago|before|asked|took|elapsed|moves?|"
        r"in \w{1,10} (?:minutes?|hours?))\b"
    ),
}
_OF_TIME = (
    r"(?<![A-Za-z])(?P<who>[A-Za-z_ ]{{0,40}}?)[ _]?{unit}s?(?:\shand)?[\"']?"
    r"(?:\s(?:is|at|points\sto|shows))?\s?[:=]?\s?[\"']?(?P<value>\d{{1,2}})(?!\d)"
)
_HOUR = re.compile(_OF_TIME.format(unit="hour"), re.IGNORECASE)
_MINUTE = re.compile(_OF_TIME.format(unit="minute"), re.IGNORECASE)
_TIME = re.compile(r"(?<![\d:.])(?P<hour>\d{1,2}):(?P<minute>\d{2})(?![\d:])\s?(?P<half>[AaPp]\.?[Mm]\b)?")
_CLOCK = re.compile(r"\b(?:clock|watch|time|hands?)\b", re.I)
_LIST = re.compile(
    r"(?<![\w.,:(\[-])(?:-?\d{1,9}(?:\.\d{1,6})?)(?:(?:,\s?(?:and\s)?|\sand\s)-?\d{1,9}(?:\.\d{1,6})?){1,40}(?![\w.]\d|:\d)"
)
_WORDS = re.compile(r"[A-Za-z]{3,20}")
_STOP = (
    "the are and for from left right with has have which that this there image picture they their contains "
    "contain hold holds list order respectively values value each"
)
_IGNORED = frozenset(_STOP.split())
_BEFORE = 60  # characters before a list that may name it


@dataclass(frozen=True, slots=True)
class Listed:
    """A list with the words around it and the state that they speak of."""

    words: frozenset[str]
    when: When
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClockTime:
    """Hour, minute, and the state that the words around speak of."""

    hour: int
    minute: int
    when: When


def read_times(text: str) -> list[ClockTime]:
    """Times of day that a clock may show: `2:23`, or an hour and a minute under one name."""
    found = [
        ClockTime(
            int(match["hour"]) % 12,
            int(match["minute"]),
            _when(text[max(0, match.start() - 50) : match.start()]),
        )
        for match in _TIME.finditer(text)
    ]
    minutes = {fold(match["who"].replace("_", " ")): match["value"] for match in _MINUTE.finditer(text)}
    for match in _HOUR.finditer(text):
        who = fold(match["who"].replace("_", " "))
        if who in minutes:
            found.append(ClockTime(int(match["value"]) % 12, int(minutes[who]), _when(who)))
    return found


def judge_time(claim: str, known: Sequence[ClockTime]) -> Judgement | None:
    """A judgement of a claim about a clock, None where it is none or nothing is known."""
    claimed = [time for time in read_times(claim) if time.when in ("", "start")]
    if len(claimed) != 1 or not _CLOCK.search(claim):
        return None
    shown = [time for time in known if time.when == "start"] or [time for time in known if time.when == ""]
    if not shown:
        return "unknown"
    right = any((time.hour, time.minute) == (claimed[0].hour, claimed[0].minute) for time in shown)
    return "supported" if right else "contradicted"


def read_sequences(text: str) -> list[Listed]:
    """Lists in a text, bracketed or told, with what they are lists of."""
    listings = (*find_listings(text), *find_dashed(text))
    found = [_sequence(listing.key, listing.values) for listing in listings if len(listing.values) > 1]
    for match in _LIST.finditer(text):
        before = re.split(r"[\n.;\]]", text[max(0, match.start() - _BEFORE) : match.start()])[-1]
        after = re.split(r"[\n.;,\[]", text[match.end() : match.end() + 20])[0]
        found.append(_sequence(f"{before} {after}", re.findall(r"-?\d+(?:\.\d+)?", match[0])))
    return found


def without_lists(text: str) -> str:
    """A text with blanks for its lists of numbers, which are no amounts of the things around them."""
    return _LIST.sub(lambda match: " " * len(match[0]), text)


def judge_sequences(claim: str, known: Sequence[Listed]) -> Iterator[Judgement]:
    """A judgement for each list in the claim."""
    for one in read_sequences(claim):
        yield _judge_sequence(one, known)


def _judge_sequence(claim: Listed, known: Sequence[Listed]) -> Judgement:
    alike = [other for other in known if other.when == claim.when and _speak_alike(claim, other)]
    if any(_equal(claim.values, other.values) for other in alike):
        return "supported"
    sized = [other for other in alike if len(other.values) == len(claim.values)]
    return "contradicted" if claim.when == "start" and sized else "unknown"


def _speak_alike(claim: Listed, other: Listed) -> bool:
    """True where a state says which list is meant, or the words around the two lists agree."""
    if claim.when == "start":
        return True
    return any(same_name(word, name) for word in claim.words for name in other.words)


def _equal(one: Sequence[str], other: Sequence[str]) -> bool:
    if len(one) != len(other):
        return False
    numbers = [number_of(value) for value in (*one, *other)]
    if None not in numbers:
        return numbers[: len(one)] == numbers[len(one) :]
    return all(fold(first) == fold(second) for first, second in zip(one, other, strict=True))


def _sequence(words: str, values: Sequence[str]) -> Listed:
    plain = fold(words.replace("_", " ").replace('"', " "))
    named = frozenset(word for word in _WORDS.findall(plain) if word not in _IGNORED)
    return Listed(named | (ORDINALS.keys() & set(plain.split())), _when(plain), tuple(values))


def _when(words: str) -> When:
    """The state that the last telling word names."""
    plain = words.replace("_", " ").casefold()
    last: tuple[int, When] = (-1, "")
    for when, pattern in _WHEN.items():
        for match in pattern.finditer(plain):
            last = max(last, (match.start(), when))
    return last[1]
