"""Units of measure: how a unit is spelt, what it measures, how large it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from filters.expressions import Value
from filters.unit_table import Row, names, symbols


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as powers of base dimensions.

    Attributes:
        dimensions: sorted (dimension, power) pairs; what people count ("apples") is its own dimension.
        factor: size in the base units of its dimensions.
        counted: the word where the unit is only a noun, else "".
        offset: kelvins of a temperature's zero, 0 for every other unit.
        letter: the unit is one letter of `LETTERS`.
    """

    dimensions: tuple[tuple[str, int], ...]
    factor: Value
    counted: str = ""
    offset: Fraction = Fraction(0)
    letter: str = ""


_SYMBOLS = symbols()
_NAMES = names()
# Symbols that are as often a variable or the name of a point; C and F are also degrees, H hours.
LETTERS = frozenset("ACFHKT")
CURRENCY = "$€£¥₹₩₽"
_ALIASES = (
    ("miles per hour", "mi/h"),
    ("mph", "mi/h"),
    ("kmph", "km/h"),
    ("kph", "km/h"),
    ("per cent", "%"),
    ("fluid ounces", "floz"),
    ("fluid ounce", "floz"),
    ("fl. oz.", "floz"),
    ("fl oz", "floz"),
    ("nautical mile", "nmi"),
    ("mm Hg", "mmHg"),
    ("kilowatt-hour", "kWh"),
    ("kilowatt hour", "kWh"),
)
_DEGREES = re.compile(r"(?:\b(?:degrees?|deg\.?)|°)\s?([cfk])(?:elsius|ahrenheit|elvin)?\b", re.IGNORECASE)
_SPELT = {alias.lower(): plain for alias, plain in _ALIASES}
_ALIAS = re.compile("|".join(re.escape(alias) for alias, _ in _ALIASES), re.IGNORECASE)
_BARE_UNITS = re.compile(r"(?:square |cubic |sq\.? )?units?\s?(?:\^\s?\{?[23]\}?)?", re.IGNORECASE)
_FACTOR = re.compile(r"([^\W\d_]{1,24}|°[CFKcfk]?|%|[$€£¥¢₹₩₽])(?:\s?\^?\s?\{?\s?(-?[1-9])\s?\}?)?")
_SQUARE = re.compile(
    r"\b(square|sq\.?|cubic|cu\.?)\s{1,3}([a-z]{1,24})|平方(.{1,2})|立方(.{1,2})", re.IGNORECASE
)
_NOUN = re.compile(r"[^\W\d_]{3,24}(?:[ -][^\W\d_]{1,24}){0,5}|[\u4e00-\u9fff]{1,8}")
_NOT_NOUNS = re.compile(
    r"\b(?:and|or|not|to|sin|cos|tan|cot|log|ln|sqrt|pi|infty|over|then|but|plus|minus|wrong|incorrect|false|unless|except|per)\b"
)
_AFTER = re.compile(
    r"[\s$]{0,4}((?:square |cubic |sq |cu )?[^\W\d_]{1,12}(?:\s?(?:/|per\s)\s?[a-z]{1,8})?"
    r"(?:\^?\{?[23]\}?)?|[°%€£¢])(?=[\s.,;!?)$*]|$)"
)
_MAX_UNIT = 100  # characters: six words of a counted noun
PERCENT = (("percent", 1),)
STERLING = ((("sterling", 1),), Fraction(1))
POUND_MASS = ((("mass", 1),), Fraction("453.59237"))
ANGLE = (("angle", 1),)
TEMPERATURE = (("temperature", 1),)
TIME = (("time", 1),)
MONTH = (("month", 1),)


def parse_unit(text: str) -> Unit | None:
    """The unit that `text` spells: known units with powers and slashes, or a counted noun.

    Returns: None where the text is neither, for instance a single letter that may be a variable.
    """
    text = text.strip(" .,;:*{}").replace("\\", "")
    if len(text) > _MAX_UNIT:
        return None
    text = _DEGREES.sub(r"°\1", _ALIAS.sub(lambda alias: _SPELT[alias.group().lower()], text))
    if _BARE_UNITS.fullmatch(text):
        return Unit((("unit", 1),), Fraction(1), counted="unit")
    text = _SQUARE.sub(_with_power, text).replace(" per ", "/")
    alone = _row(text)
    if alone is not None:
        return Unit(alone.powers, alone.factor, "", alone.offset, text if text in LETTERS else "")
    return _quotient(text.split("/")) or _noun(text.lower())


def _quotient(parts: Sequence[str]) -> Unit | None:
    powers: dict[str, int] = {}
    size: Value = Fraction(1)
    for part, sign in zip(parts, [1, *[-1] * len(parts)], strict=False):
        product = _product(part)
        if product is None:
            return None
        for dimension, power in product[0].items():
            powers[dimension] = powers.get(dimension, 0) + sign * power
        size = size * product[1] if sign > 0 else size / product[1]
    return Unit(tuple(sorted((d, p) for d, p in powers.items() if p)), size)


def _row(name: str) -> Row | None:
    return _SYMBOLS.get(name) or _NAMES.get(name.lower())


def unit_after(text: str) -> str:
    """The unit of measure that a text begins with, "" where it begins with something else.

    "in" is taken for the preposition, A for the article, C for a point; a noun that is
    only counted is none.
    """
    match = _AFTER.match(text.replace("²", "^2").replace("³", "^3"))
    if match is None or match[1].lower() == "in" or match[1] in LETTERS:
        return ""
    unit = parse_unit(match[1])
    return match[1] if unit and not unit.counted else ""


def _with_power(match: re.Match[str]) -> str:
    word = match[2] or match[3] or match[4]
    cubic = (match[1] or "").startswith("cu") or bool(match[4])
    return f"{word}^{3 if cubic else 2}"


def _product(text: str) -> tuple[dict[str, int], Value] | None:
    powers: dict[str, int] = {}
    size: Value = Fraction(1)
    position, text = 0, text.strip(" *{}()")
    while position < len(text):
        match = _FACTOR.match(text, position)
        row = _row(match[1]) if match else None
        choose = match and match[1] in LETTERS and match[2] and "^" not in match.group()  # 10C3
        if match is None or row is None or choose:
            return None
        exponent = int(match[2] or 1)
        for dimension, power in row.powers:
            powers[dimension] = powers.get(dimension, 0) + power * exponent
        size = size * row.factor**exponent
        position = match.end()
        while position < len(text) and text[position] in " *{}.":
            position += 1
    return (powers, size) if powers else None


def _noun(text: str) -> Unit | None:
    if not _NOUN.fullmatch(text) or _NOT_NOUNS.search(text):
        return None
    word = text[:-1] if len(text) > 4 and text.endswith("s") else text
    return Unit(((word, 1),), Fraction(1), counted=word)
