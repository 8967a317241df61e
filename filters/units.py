"""Units of measure: how a unit is spelt, what it measures, how large it is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from filters.expressions import Value


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as powers of base dimensions.

    Attributes:
        dimensions: sorted (dimension, power) pairs; what people count ("apples") is its own dimension.
        factor: size in the base units of its dimensions.
        counted: the word where the unit is only a noun, else "".
    """

    dimensions: tuple[tuple[str, int], ...]
    factor: Value
    counted: str = ""


def _table() -> dict[str, tuple[str, int, Value]]:
    rows: list[tuple[str, str, int, str]] = [
        ("length", "1/1000", 1, "mm millimeter millimetre 毫米"),
        ("length", "1/100", 1, "cm centimeter centimetre 厘米"),
        ("length", "1/10", 1, "dm decimeter decimetre 分米"),
        ("length", "1", 1, "m meter metre 米"),
        ("length", "1000", 1, "km kilometer kilometre 千米 公里"),
        ("length", "0.0254", 1, "inch inches in"),
        ("length", "0.3048", 1, "ft foot feet"),
        ("length", "0.9144", 1, "yd yard"),
        ("length", "1609.344", 1, "mi mile"),
        ("length", "1/1000", 3, "l liter litre 升"),
        ("length", "1/1000000", 3, "ml milliliter millilitre 毫升"),
        ("length", "10000", 2, "ha hectare"),
        ("mass", "1/1000", 1, "mg milligram 毫克"),
        ("mass", "1", 1, "g gram 克"),
        ("mass", "1000", 1, "kg kilogram kilo 千克 公斤"),
        ("mass", "453.59237", 1, "lb lbs pound"),
        ("mass", "28.349523125", 1, "oz ounce"),
        ("time", "1", 1, "s sec second 秒"),
        ("time", "60", 1, "min minute 分钟"),
        ("time", "3600", 1, "h hr hour 小时"),
        ("time", "86400", 1, "day 天"),
        ("time", "604800", 1, "week 周"),
        ("month", "1", 1, "month"),
        ("month", "12", 1, "year yr 年"),
        ("angle", "1", 1, "° deg degree 度"),
        ("angle", "1/60", 1, "arcmin"),
        ("angle", "1/3600", 1, "arcsec"),
        ("celsius", "1", 1, "°c celsius"),
        ("fahrenheit", "1", 1, "°f fahrenheit"),
        ("dollar", "1", 1, "$ usd dollar"),
        ("dollar", "1/100", 1, "¢ cent"),
        ("euro", "1", 1, "€ eur euro"),
        ("sterling", "1", 1, "£ gbp"),
        ("yen", "1", 1, "¥ 元 yuan rmb cny yen jpy"),
        ("rupee", "1", 1, "₹ rs inr rupee"),
        ("won", "1", 1, "₩ won"),
        ("rouble", "1", 1, "₽ ruble rouble"),
        ("percent", "1", 1, "% percent pct percentage 百分"),
        ("newton", "1", 1, "n newton"),
        ("joule", "1", 1, "j joule"),
        ("watt", "1", 1, "w watt"),
        ("volt", "1", 1, "v volt"),
        ("ampere", "1", 1, "amp ampere"),
        ("hertz", "1", 1, "hz hertz"),
        ("pascal", "1", 1, "pa pascal"),
    ]
    table: dict[str, tuple[str, int, Value]] = {}
    for dimension, factor, power, names in rows:
        for name in names.split():
            table[name] = (dimension, power, Fraction(factor))
            if name.isascii() and len(name) > 2 and name.isalpha():
                table[name + "s"] = table[name]
    for name in ("rad", "radian", "radians"):
        table[name] = ("angle", 1, 180 / math.pi)
    return table


_UNITS = _table()
CURRENCY = "$€£¥₹₩₽"
_ALIASES = (("miles per hour", "mi/h"), ("mph", "mi/h"), ("kmph", "km/h"), ("kph", "km/h"), ("per cent", "%"))
_BARE_UNITS = re.compile(r"(?:square |cubic |sq\.? )?units?\s?(?:\^\s?\{?[23]\}?)?")
_FACTOR = re.compile(r"([^\W\d_]{1,24}|°[CFcf]?|%|[$€£¥¢₹₩₽])(?:\s?\^?\s?\{?\s?(-?[1-9])\s?\}?)?")
_SQUARE = re.compile(r"\b(square|sq\.?|cubic|cu\.?)\s{1,3}([a-z]{1,24})|平方(.{1,2})|立方(.{1,2})")
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


def parse_unit(text: str) -> Unit | None:
    """The unit that `text` spells: known units with powers and one `/`, or a counted noun.

    Returns: None where the text is neither, for instance a single letter that may be a variable.
    """
    text = text.strip(" .,;:*{}").replace("\\", "").lower()
    if len(text) > _MAX_UNIT:
        return None
    for alias, plain in _ALIASES:
        text = text.replace(alias, plain)
    if _BARE_UNITS.fullmatch(text):
        return Unit((("unit", 1),), Fraction(1), counted="unit")
    text = _SQUARE.sub(_with_power, text).replace(" per ", "/")
    numerator, slash, denominator = text.partition("/")
    over = _product(numerator)
    under = _product(denominator) if slash else ({}, Fraction(1))
    if over is None or under is None:
        return _noun(text)
    powers = dict(over[0])
    for dimension, power in under[0].items():
        powers[dimension] = powers.get(dimension, 0) - power
    return Unit(tuple(sorted((d, p) for d, p in powers.items() if p)), over[1] / under[1])


def unit_after(text: str) -> str:
    """The unit of measure that a text begins with, "" where it begins with something else.

    "in" is taken for the preposition, and a noun that is only counted is none.
    """
    match = _AFTER.match(text.replace("²", "^2").replace("³", "^3"))
    if match is None or match[1].lower() == "in":
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
    position, text = 0, text.strip(" *{}")
    while position < len(text):
        match = _FACTOR.match(text, position)
        if match is None or match[1] not in _UNITS:
            return None
        dimension, power, factor = _UNITS[match[1]]
        exponent = int(match[2] or 1)
        powers[dimension] = powers.get(dimension, 0) + power * exponent
        size = size * factor**exponent
        position = match.end()
        while position < len(text) and text[position] in " *{}.":
            position += 1
    return (powers, size) if powers else None


def _noun(text: str) -> Unit | None:
    if not _NOUN.fullmatch(text) or _NOT_NOUNS.search(text):
        return None
    word = text[:-1] if len(text) > 4 and text.endswith("s") else text
    return Unit(((word, 1),), Fraction(1), counted=word)
