"""What a question asks for, from its words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from synth.vocabulary import COLOURS, SHAPES

# Word of the question -> what is ranked, and whether the greatest is wanted.
EXTREMES: dict[str, tuple[str, bool]] = {
    "largest": ("area", True),
    "biggest": ("area", True),
    "smallest": ("area", False),
    "leftmost": ("x", False),
    "rightmost": ("x", True),
    "topmost": ("y", False),
    "highest": ("y", False),
    "lowest": ("y", True),
}
_TALL = {"tallest": True, "highest": True, "shortest": False, "lowest": False}
_SIDES = {"left of": ("x", True), "right of": ("x", False), "above": ("y", True), "below": ("y", False)}

_NAME = re.compile(
    rf"\b(?:(?P<colour>{'|'.join(COLOURS)})\s+)?(?P<shape>{'|'.join(SHAPES)})(?:es|s)?\b", re.IGNORECASE
)
_COLOUR = re.compile(rf"\b({'|'.join(COLOURS)})\b", re.IGNORECASE)
_CHOICE = re.compile(r"([A-Z])[.):]\s(.*)")

Name = tuple[str, str]


@dataclass(frozen=True)
class Query:
    """A question understood.

    Attributes:
        kind: count, extreme, pair, relation, value, above, difference, tallest, pattern, or "" (unknown).
        names: (colour, shape) of the things it names, "" for a part it leaves open.
        key: what is compared: area, x or y; "" where nothing is.
        greatest: True where the greatest (or the first-named side) is wanted.
        word: the question's own word for the comparison.
        wants_colour: True where the answer is a colour.
        choices: the options' texts, in order.
    """

    kind: str
    names: tuple[Name, ...] = ()
    key: str = ""
    greatest: bool = True
    word: str = ""
    wants_colour: bool = False
    choices: tuple[str, ...] = ()


def understand(text: str) -> Query:
    """A question, and its choices where lines `A. ...` follow a line `Choices:`."""
    question, choices = split_choices(text)
    words = " ".join(question.lower().split())
    names = tuple(_names(words))
    if re.search(r"\bbars?\b", words):
        return _about_bars(words, choices)
    if "question mark" in words or "pattern" in words or "missing" in words:
        return Query("pattern", choices=choices)
    if re.search(r"\bhow many\b|\bnumber of\b|^count\b", words):
        return Query("count", names[:1] or _colour_only(words), choices=choices)
    return _comparison(words, names, choices)


def split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    """The question without its choices, and the choices."""
    lines = text.splitlines()
    heads = [place for place, line in enumerate(lines) if line.strip().lower() in ("choices:", "options:")]
    if not heads:
        return text, ()
    options = [match[2].strip() for line in lines[heads[-1] + 1 :] if (match := _CHOICE.match(line.strip()))]
    return "\n".join(lines[: heads[-1]]), tuple(options)


def parse_name(text: str) -> Name | None:
    """The (colour, shape) that a text names, None where it names no shape or several."""
    names = _names(text.lower())
    return names[0] if len(names) == 1 else None


def _names(words: str) -> list[Name]:
    return [((match["colour"] or "").lower(), match["shape"].lower()) for match in _NAME.finditer(words)]


def _colour_only(words: str) -> tuple[Name, ...]:
    colours = _COLOUR.findall(words)
    return ((colours[0].lower(), ""),) if len(colours) == 1 else (("", ""),) if not colours else ()


def _about_bars(words: str, choices: tuple[str, ...]) -> Query:
    bars = tuple((colour.lower(), "") for colour in _COLOUR.findall(words))
    for word, greatest in _TALL.items():
        if word in words and not bars:
            return Query("tallest", greatest=greatest, word=word, wants_colour=True, choices=choices)
    if "differ" in words and len(bars) == 2:
        return Query("difference", bars, choices=choices)
    if "how many bars" in words and len(bars) == 1 and re.search(r"\b(higher|taller)\b", words):
        return Query("above", bars, choices=choices)
    return Query("value" if len(bars) == 1 else "", bars, choices=choices)


def _comparison(words: str, names: tuple[Name, ...], choices: tuple[str, ...]) -> Query:
    for word, (key, greatest) in _SIDES.items():
        if re.search(rf"\b{word}\b", words) and len(names) == 2:
            return Query("relation", names, key, greatest, word, choices=choices)
    match = re.search(r"\b(larger|bigger|smaller)\b", words)
    if match and len(names) == 2:
        return Query("pair", names, "area", match[1] != "smaller", match[1], choices=choices)
    wants_colour = bool(re.search(r"\bcolou?r\b", words))
    for word, (key, greatest) in EXTREMES.items():
        if re.search(rf"\b{word}\b", words):
            return Query("extreme", names, key, greatest, word, wants_colour, choices)
    return Query("", names, choices=choices)
