"""Numbers written out: in words, as a repeating decimal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction

_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
_TENS = ["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred"]
NUMBER_WORDS: dict[str, int] = {
    **{word: value for value, word in enumerate(_SMALL)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=3)},
    **{word: value for value, word in enumerate("零一二三四五六七八九十")},
    "两": 2,
}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
    "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "eighth": 8, "eighths": 8, "tenth": 10, "tenths": 10,
}  # fmt: skip
_REPEATING = re.compile(
    r"([-+]?)(\d{0,40})\.(\d{0,40})(?:\\(?:overline|bar|dot)\s?\{?(\d{1,40})\}?|\((\d{1,40})\))"
)
_DIGITS = {word: value for value, word in enumerate("一二三四五六七八九", start=1)} | {"两": 2, "": 0}
# Up to 999; a digit right behind 百 is a colloquial ten (一百二 is 120), so it needs 十 or 零.
_CHINESE = re.compile(
    "(?:([一二两三四五六七八九])百)?(?:([一二三四五六七八九]?)十([一二三四五六七八九]?)|零([一二三四五六七八九]))?"
)
_CHOICE = re.compile(r"\{?\s?(\d{1,3})\s?\\?choose\s?(\d{1,3})\s?\}?")
_MAX_WORDS = 60  # characters


def parse_number_words(text: str) -> Fraction | None:
    """`twelve`, `twenty-five`, `one hundred and five`, `two thirds`, 二十一; None for anything else."""
    if not text[:1].isalpha() or len(text) > _MAX_WORDS:
        return None
    chinese = _chinese(text)
    if chinese is not None:
        return Fraction(chinese)
    words = text.lower().replace("-", " ").split()
    if words[-1] in _PARTS:
        count = 1 if words[:-1] in ([], ["a"]) else _cardinal(words[:-1])
        return None if count is None else Fraction(count, _PARTS[words[-1]])
    count = _cardinal(words)
    return None if count is None else Fraction(count)


def _cardinal(words: Sequence[str]) -> int | None:
    """Below one thousand."""
    if len(words) > 1 and words[1] == "hundred":
        hundreds, rest = NUMBER_WORDS.get(words[0], 0), [word for word in words[2:] if word != "and"]
        small = _cardinal(rest) if rest else 0
        return 100 * hundreds + small if 0 < hundreds < 10 and small is not None and small < 100 else None
    if len(words) == 2:
        high, low = (NUMBER_WORDS.get(word, 0) for word in words)
        return high + low if high in range(20, 100, 10) and low in range(1, 10) else None
    return NUMBER_WORDS.get(words[0]) if len(words) == 1 else None


def _chinese(text: str) -> int | None:
    match = _CHINESE.fullmatch(text)
    if match is None or ("十" not in text and "百" not in text) or ("零" in text and "百" not in text):
        return None
    hundreds, tens, ones, after_zero = (part or "" for part in match.groups())
    ten = (_DIGITS[tens] or 1) if "十" in text else 0
    return 100 * _DIGITS[hundreds] + 10 * ten + _DIGITS[ones or after_zero]


def parse_binomial(text: str) -> Fraction | None:
    """`5 choose 2` is 10; None for anything else."""
    match = _CHOICE.fullmatch(text)
    return None if match is None else Fraction(math.comb(int(match[1]), int(match[2])))


def parse_repeating(text: str) -> Fraction | None:
    """`0.1\\overline{6}` and `0.1(6)` are exactly 1/6; None for anything else."""
    match = _REPEATING.fullmatch(text)
    if match is None:
        return None
    once, again = match[3], match[4] or match[5]
    tail = Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(once))
    value = Fraction(f"{match[2] or 0}.{once or 0}") + tail
    return -value if match[1] == "-" else value
