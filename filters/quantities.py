"""Numbers with units: reading them and comparing them at the gold answer's precision."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from filters.expressions import Value, evaluate
from filters.numerals import NUMBER_WORDS, parse_binomial, parse_number_words, parse_repeating
from filters.units import (
    ANGLE,
    CURRENCY,
    MONTH,
    PERCENT,
    POUND_MASS,
    STERLING,
    TEMPERATURE,
    TIME,
    Unit,
    parse_unit,
)

__all__ = ["NUMBER_WORDS", "Equality", "Quantity", "compare_numbers", "compare_quantities", "parse_quantity"]

Equality = Literal["equal", "different", "undecided"]

_LITERAL = re.compile(r"[-+]?(\d{1,200})?(?:\.(\d{0,200}))?")
_TAIL = re.compile(r"[^\W\d_]|[°%$€£¥¢₹₩₽]")
_ABOUT = re.compile(
    r"(?:exactly|precisely|only|just|about|approximately|approx\.?|around|roughly|nearly|\\approx|~)\s{0,3}(?=[-+\d.$(\\])",
    re.I,
)
_ELLIPSIS = re.compile(r"(?<=\d)(?:\.{2,}|\\[lc]?dots)$")
_PART = re.compile(r"\s?(?:,|and\b)?\s?(\d{1,20}(?:\.\d{1,20})?)\s?([^\W\d_]{1,12}|°|'|\")\.?")
_PRIMES = {"'": "arcmin", '"': "arcsec"}
_FEET = {"'": "ft", '"': "in"}
_COMMA_MEASURE = re.compile(r"([-+]?[$€£¥₹]?\s?\d{1,30}),(\d{1,30})(?=\s?([^\W\d_]|[°%$€£¥¢₹]|$))")
_DIMENSION = re.compile(
    r"(?<=\w)\s(?:long|tall|wide|high|deep|thick|old|each|in (?:length|width|height|total|all))$"
)
_OHM = re.compile(r"\\(?:Omega|ohm)(?![A-Za-z])")
_MICRO = re.compile(r"(?<=\d)\s?\\mu(?![A-Za-z])\s?(?=[A-Za-z\\])")
_MULTIPLES = {"dozen": 12, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_MULTIPLE = re.compile(rf"(?<=\d)\s({'|'.join(_MULTIPLES)})\b", re.IGNORECASE)
_CURRENCY = re.compile(
    rf"([-+]?)\s?\\?(?:(?:US)?([{re.escape(CURRENCY)}])|(USD|EUR|GBP|INR|CNY|JPY|Rs)\.?\s)\s?(?=[\d.(\\])"
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, perhaps with a unit.

    Attributes:
        decimals: digits after the point where the number was written as digits, else None (an expression).
        unit: None where none was written.
        attached: the unit is one letter set against the number (`5m`), which may be a variable instead.
        circular: the expression holds pi, so a bare angle is in radians.
    """

    value: Value
    decimals: int | None
    unit: Unit | None = None
    attached: bool = False
    circular: bool = False

    @property
    def digits(self) -> int:
        """Significant digits of a written number, 0 for an expression."""
        if self.decimals is None:
            return 0
        return len(str(abs(round(self.value * 10**self.decimals))))


@lru_cache(maxsize=256)  # the rules of one check ask for the same two texts again and again
def parse_quantity(text: str) -> Quantity | None:
    """Read canonical text as a number with an optional unit before (currency) or after it.

    Returns: None where the text is not one constant, or its tail is no unit.
    """
    text = _ELLIPSIS.sub("", _ABOUT.sub("", text.strip())).removesuffix(".")
    text = _OHM.sub("Ω", _MICRO.sub("μ", text))
    text = _DIMENSION.sub("", text)
    text = _MULTIPLE.sub(lambda match: f"*{_MULTIPLES[match[1].lower()]}", text, count=1)
    currency = _CURRENCY.match(text)
    if currency:
        amount = _COMMA_MEASURE.sub(r"\1.\2", text[currency.end() :], count=1)
        rest = parse_quantity(currency[1] + amount)
        return rest and replace(rest, unit=rest.unit or parse_unit(currency[2] or currency[3]))
    number = _bare(text)
    if number is not None:
        return number
    compound = _compound(text)
    if compound is not None:
        return compound
    for count, tail in enumerate(_TAIL.finditer(text)):
        if count == 8:
            break
        found = _split(text, tail.start())
        if found is not None:
            return found
    return _with_decimal_comma(text)


def _with_decimal_comma(text: str) -> Quantity | None:
    """`3,5 cm`: a list would repeat the unit or hold a space; three digits were thousands before."""
    match = _COMMA_MEASURE.match(text)
    if match is None or not match[3]:
        return None
    found = _split(f"{match[1]}.{match[2]}{text[match.end() :]}", len(match[0]))
    if found is None:
        found = _split(f"{match[1]}.{match[2]} {text[match.end() :].lstrip()}", len(match[0]) + 1)
    return found if found and found.unit and not found.unit.counted else None


def _compound(text: str) -> Quantity | None:
    """`2 hours 30 minutes`, `5' 6"`, `30°15'`: units of one dimension, each smaller than the one before."""
    parts, position = [], 0
    while position < len(text) and len(parts) < 4:
        match = _PART.match(text, position)
        if match is None:
            return None
        parts.append((Fraction(match[1]), match[2]))
        position = match.end()
    if position < len(text) or len(parts) < 2:
        return None
    return _total(parts)


def _total(parts: Sequence[tuple[Fraction, str]]) -> Quantity | None:
    spelt = _PRIMES if parts[0][1] in {"°", "deg", "degrees"} else _FEET
    if parts[0][1].startswith("h"):
        spelt = {"m": "min"}  # 2h30m
    units = [parse_unit(spelt.get(name, name)) for _, name in parts]
    total, first = Fraction(0), units[0]
    for (value, _), unit, before in zip(parts, units, [None, *units], strict=False):
        if unit is None or first is None or unit.counted or unit.dimensions != first.dimensions:
            return None
        if before is not None and unit.factor >= before.factor:
            return None
        total += value * Fraction(unit.factor) / Fraction(first.factor)
    return Quantity(total, None, first)


def _split(text: str, start: int) -> Quantity | None:
    """The quantity whose unit begins at `start`, or None."""
    if not start or text[start - 1] == "\\":
        return None
    head = text[:start].rstrip(" {(-")
    number = _bare(head if text[start - 1] not in "{(" else text[: start - 1].strip())
    unit = parse_unit(text[start:].rstrip(")")) if number is not None else None
    if number is None or unit is None:
        return None
    single = len(text[start:].rstrip()) == 1 and text[start].isalpha() and text[start].isascii()
    return replace(number, unit=unit, attached=single and text[start - 1] not in " {(")


def _bare(text: str) -> Quantity | None:
    literal = _LITERAL.fullmatch(text.strip())
    if literal and (literal[1] or literal[2]):
        return Quantity(Fraction(text.strip().rstrip(".")), len(literal[2] or ""))
    repeating = parse_repeating(text.strip())
    if repeating is not None:
        return Quantity(repeating, None)
    binomial = parse_binomial(text.strip())
    if binomial is not None:
        return Quantity(binomial, 0)
    word = parse_number_words(text.strip())
    if word is not None:
        return Quantity(word, 0 if word.denominator == 1 else None)
    value = evaluate(text)
    return None if value is None else Quantity(value, None, circular="pi" in text)


def compare_quantities(prediction: Quantity, gold: Quantity, precision: int | None = None) -> Equality:
    """Compare two numbers, converting units.

    A side without a unit takes the other's. Units of different dimensions differ; units of one dimension
    are converted. A percentage equals its number ("10%" = "10") or its fraction ("50%" = "0.5").
    """
    theirs, ours = prediction.unit, gold.unit
    if theirs and ours:
        if theirs.dimensions != ours.dimensions:
            return _unlike(prediction, gold, precision)
        scaled = replace(prediction, value=_times(prediction.value, theirs.factor, ours.factor))
        if theirs.offset != ours.offset:
            return _compare_temperatures(scaled, gold, precision)
        return compare_numbers(scaled, gold, precision)
    return _compare_one_unit(prediction, gold, precision)


def _times(value: Value, factor: Value, divisor: Value) -> Value:
    return value if factor == divisor else value * factor / divisor


def _compare_temperatures(scaled: Quantity, gold: Quantity, precision: int | None) -> Equality:
    """Scales with two zeros: 212°F is 100°C.

    Undecided where the sides agree as differences (5 K, 5°C) or by the rounded zero of 273 K.
    """
    assert scaled.unit is not None and gold.unit is not None
    shift = (scaled.unit.offset - gold.unit.offset) / Fraction(gold.unit.factor)
    shifted = replace(scaled, value=scaled.value + shift)
    if compare_numbers(shifted, gold, precision) == "equal":
        return "equal"
    near = compare_numbers(shifted, gold, gold.decimals or 0) == "equal"
    return "undecided" if near or compare_numbers(scaled, gold, precision) == "equal" else "different"


def _unlike(prediction: Quantity, gold: Quantity, precision: int | None) -> Equality:
    """Different words after one number may still mean one thing; different measures do not.

    A noun against a measure may be a unit that the table lacks (2 fathoms, 12 feet).
    """
    assert prediction.unit is not None and gold.unit is not None
    units = [prediction.unit, gold.unit]
    nouns = [unit.counted for unit in units if unit.counted]
    if compare_numbers(prediction, gold, precision) == "different":
        unread = len(nouns) == 1 and nouns != ["unit"]
        return "undecided" if unread or _same_calendar(prediction, gold) else "different"
    if {(unit.dimensions, unit.factor) for unit in units} == {STERLING, POUND_MASS}:  # £3 against "3 pounds"
        return "equal"
    return "undecided" if nouns or _may_be_one(*units) else "different"


def _same_calendar(one: Quantity, other: Quantity) -> bool:
    """A month has 28 to 31 days: 1 year may be 365 days, 1 month 30."""
    assert one.unit is not None and other.unit is not None
    if {one.unit.dimensions, other.unit.dimensions} != {MONTH, TIME}:
        return False
    months, rest = (one, other) if one.unit.dimensions == MONTH else (other, one)
    counted, seconds = (
        Fraction(side.value) * Fraction(side.unit.factor) for side in (months, rest) if side.unit
    )
    return 28 * counted <= seconds / 86_400 <= 31 * counted


def _may_be_one(one: Unit, other: Unit) -> bool:
    """Coulomb and farad against degrees, henry against hours: 25 C, 25°C."""
    pairs = {(one.letter, other.dimensions), (other.letter, one.dimensions)}
    return bool(pairs & {("C", TEMPERATURE), ("F", TEMPERATURE), ("H", TIME)})


def _compare_one_unit(prediction: Quantity, gold: Quantity, precision: int | None) -> Equality:
    unit = prediction.unit or gold.unit
    variable = prediction.attached and prediction.unit and prediction.unit.letter
    if gold.attached or variable:
        return "undecided"  # `5m` against `5`, `5A` against 5: a unit left out, or a variable lost
    if unit and unit.dimensions == PERCENT:
        return _compare_percent(prediction, gold, precision)
    plain = compare_numbers(prediction, gold, precision)
    if plain == "equal" or not unit or unit.dimensions != ANGLE:
        return plain
    bare = gold if prediction.unit else prediction
    if not bare.circular:
        return plain
    degrees = Fraction(180) / Fraction(math.pi)
    turned = replace(bare, value=float(bare.value * degrees))
    return (
        compare_numbers(turned, gold, precision)
        if bare is prediction
        else compare_numbers(prediction, turned)
    )


def _compare_percent(prediction: Quantity, gold: Quantity, precision: int | None) -> Equality:
    bare = gold if prediction.unit else prediction
    percent = prediction if prediction.unit else gold
    as_fraction = replace(
        percent,
        value=percent.value / 100,
        decimals=None if percent.decimals is None else percent.decimals + 2,
    )
    pair = (as_fraction, gold) if percent is prediction else (prediction, as_fraction)
    fraction = compare_numbers(*pair, precision if percent is prediction else None)
    if fraction == "equal" or (abs(bare.value) <= 1 and bare.value != 0):
        return fraction
    return compare_numbers(prediction, gold, precision)


def compare_numbers(prediction: Quantity, gold: Quantity, precision: int | None = None) -> Equality:
    """Compare two values at the gold answer's precision.

    The gold's decimals (or `precision`) say how finely it was rounded: 78.54 equals a gold 78.5, 21.6 does
    not equal a gold 21.61. An integer, an expression and a gold of one digit (0.5) are exact: 99.9 is not
    100, 7/15 is not 0.5. A decimal prediction of
    an exact gold must be its correct rounding to at least two decimals or three digits: 1.67 equals 5/3,
    1.7 does not. A tie may round either way.
    """
    difference = abs(Fraction(prediction.value) - Fraction(gold.value))
    if difference <= Fraction(1, 10**9) * min(abs(Fraction(gold.value)), abs(Fraction(prediction.value))):
        return "equal"
    decimals = precision if precision is not None else gold.decimals
    if precision is not None or (gold.decimals and gold.digits >= 2):
        return "equal" if difference <= _half_unit(decimals or 0) else "different"
    if gold.decimals is None and prediction.decimals and Fraction(gold.value).denominator != 1:
        fine = prediction.decimals >= 2 or prediction.digits >= 3
        return "equal" if fine and difference <= _half_unit(prediction.decimals) else "different"
    return "different"


def _half_unit(decimals: int) -> Fraction:
    """Half a unit of the last place, with room for the error of a float; never finer than 200 decimals."""
    decimals = max(-200, min(decimals, 200))
    return Fraction(1, 2) * Fraction(10) ** -decimals * (1 + Fraction(1, 10**9))
