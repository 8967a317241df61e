"""Values as texts write them, normalised, and whether two of them are the same."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from rapidfuzz import fuzz

from filters.quantities import NUMBER_WORDS, parse_quantity

Judgement = Literal["supported", "contradicted", "unknown"]

NAME_MATCH = 85  # of 100, rapidfuzz: spelling slips and plurals pass, another name does not
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
ORDINALS = {word: place for place, word in enumerate(_ORDINALS.split(), start=1)}
NUMBER = r"[-+]?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,12})?"
_NUMBER = re.compile(rf"{NUMBER}\Z")
_AROUND = re.compile(r"^(?:about|approximately|roughly|around|nearly|some|≈|~)\s{0,3}", re.IGNORECASE)
_UNIT = re.compile(
    r"(?<=[\w)])\s{0,3}(?:degrees?|°|units?|percent|%|cm|mm|km|m|in(?:ches)?|ft|feet|metres?|meters?|"
    r"centimet(?:er|re)s?|lit(?:er|re)s?|dollars?)\Z",
    re.IGNORECASE,
)
_MEASURE = re.compile(r"(?:MeasureOf|LengthOf|m(?=\s{0,2}(?:∠|angle)))\s{0,2}", re.IGNORECASE)
_FIXED = re.compile(r"(?:(?<!\w)-)?\d+|\b\w\b")  # of a name: numbers with their sign, single letters
_COUNTED = re.compile(rf"({NUMBER})\s[A-Za-z]{{2,20}}\.?\Z")
_EMPTY = {"", "empty", "blank", "none", "nothing", "-", "n/a", "null"}
_FOLD = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "’": "'", "“": '"', "”": '"', "\\": ""})


def fold(text: str) -> str:
    """A text for comparison: NFKC, lower case, single blanks, no quotes around it."""
    folded = unicodedata.normalize("NFKC", text).translate(_FOLD).casefold()
    return " ".join(folded.split()).strip("\"'` ").strip()


def number_of(text: str) -> float | None:
    """The number that a text is, in digits or as a word, with or without `$` and a unit."""
    bare = _AROUND.sub("", fold(text).removesuffix(".")).replace("$", "").strip()
    if bare in NUMBER_WORDS:
        return float(NUMBER_WORDS[bare])
    bare = _UNIT.sub("", bare).replace(" ", "")
    return float(bare.replace(",", "")) if _NUMBER.match(bare) else None


def decimals_of(text: str) -> int:
    """Digits after the point of the number in a text."""
    match = re.search(r"\.(\d{1,12})", text)
    return len(match[1]) if match else 0


def same_number(claimed: str, known: str) -> bool:
    """True where two written numbers agree: equal, or the known one rounded as the claim writes it.

    An integer is taken at its word (4 is not 4.5) unless the claim says "about" or the like.
    """
    one, other = number_of(claimed), number_of(known)
    if one is None or other is None:
        return False
    if abs(one - other) <= 1e-9 * max(1.0, abs(one)):
        return True
    places = decimals_of(claimed)
    loose = places or _AROUND.match(claimed.strip())
    return bool(loose) and abs(one - other) <= 0.5 * 10**-places + 1e-9


def compare_units(claimed: str, known: str) -> Judgement | None:
    """A judgement of two measures in different units, None where there are not two units or they are one.

    Units of one dimension are converted; what cannot be converted is unknown.
    """
    one, other = (parse_quantity(_AROUND.sub("", fold(text))) for text in (claimed, known))
    if one is None or other is None or one.unit is None or other.unit is None:
        return None
    if one.unit == other.unit or "unit" in (one.unit.counted, other.unit.counted):
        return None
    if one.unit.dimensions != other.unit.dimensions:
        return "unknown"
    scale = float(one.unit.factor / other.unit.factor)
    rounding = 0.5 * 10 ** -decimals_of(claimed) * scale if decimals_of(claimed) else 0.0
    gap = abs(float(one.value) * scale - float(other.value))
    return "supported" if gap <= rounding + 1e-9 * max(1.0, abs(float(other.value))) else "contradicted"


def same_value(claimed: str, known: str) -> Judgement:
    """Whether a claimed value is the known one; "unknown" where they cannot be told apart by rule.

    Numbers are compared as numbers, terms such as 2x+3 as sums, all else as text. A number against a term
    is unknown: it may be its value.
    """
    converted = compare_units(claimed, known)
    if converted is not None:
        return converted
    one, other = _canonical(claimed), _canonical(known)
    if one == other or same_number(claimed, known):
        return "supported"
    numeric = [number_of(text) is not None for text in (claimed, known)]
    if all(numeric):
        return "contradicted"
    if _terms(one) == _terms(other):
        return "supported"
    return "unknown" if any(numeric) or _is_term(one) or _is_term(other) else "contradicted"


def same_cell(claimed: str, known: str) -> bool:
    """True where two table cells say the same: equal texts, or equal numbers of one kind."""
    if ("%" in claimed) != ("%" in known):
        return False
    counted = _COUNTED.match(claimed.strip()) if number_of(known) is not None else None
    if counted and known.strip()[-1:].isdigit():
        return same_number(counted[1], known)  # "12 years" in a column of ages
    one, other = _canonical(claimed), _canonical(known)
    return one == other or (one in _EMPTY and other in _EMPTY) or same_number(claimed, known)


def same_name(one: str, other: str) -> bool:
    """True where two names are one but for spelling; digits and single letters must agree."""
    first, second = fold(one), fold(other)
    if first == second:
        return True
    if _FIXED.findall(first) != _FIXED.findall(second):
        return False
    return min(len(first), len(second)) >= 3 and fuzz.ratio(first, second) >= NAME_MATCH


def is_amount(text: str) -> bool:
    """True for what can be a measure: a number, or a term such as 2x+3."""
    return number_of(text) is not None or _is_term(_canonical(text))


def _canonical(text: str) -> str:
    folded = _MEASURE.sub("", fold(text)).removesuffix(".").strip()
    folded = folded.replace(" per ", "/").replace("∠", "angle ")
    folded = _UNIT.sub("", folded)
    return re.sub(r"\s*([,;/()+*=-])\s*", r"\1", folded)


def _is_term(text: str) -> bool:
    """True for what looks like algebra: few characters, short variables, no word but `angle`."""
    if not 0 < len(text) <= 40 or not re.fullmatch(r"[a-z\d\s.+*/^(){}-]+", text):
        return False
    after_angle = re.sub(r"\bangle [a-z]{1,3}\b", "a", text)
    return all(len(word) <= 2 or word in ("sqrt", "frac") for word in re.findall(r"[a-z]+", after_angle))


def _terms(text: str) -> list[str]:
    """The summands of a term, sorted, each with its sign."""
    flat = text.replace(" ", "").replace("*", "")
    return sorted(part.removeprefix("+") for part in re.findall(r"[-+]?[^-+]+", flat))
