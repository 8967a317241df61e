"""Times of day, dates, ratios and ranges: answers whose digits mean more than a number."""

from __future__ import annotations

import re
from collections.abc import Sequence

from filters.normalize import fold
from filters.quantities import Equality, parse_quantity

_CLOCK = re.compile(
    r"(?P<hour>[01]?\d|2[0-4])(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?|(?P<sharp>\s?o'clock)?)"
    r"\s?(?P<half>[ap]\.?\s?m\b\.?)?(?:\s?h)?"
)
_NAMED_CLOCKS = {"noon": "12:00 pm", "midday": "12:00 pm", "midnight": "12:00 am"}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY_FIRST = re.compile(rf"(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? (\d{{4}}))?")
_MONTH_FIRST = re.compile(rf"{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?(?:,? (\d{{4}}))?")
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_TIMELY = re.compile(
    r"\d:\d|\d\s?[ap]\.?m|o'clock|noon|midday|midnight|\d{4}[-/.]\d"
    r"|[a-z]{3}[a-z.]{0,7} ?\d|\d\w{0,2} (?:of )?[a-z]{3}"
)
_NUMERIC_DATE = re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{4}")
_RANGE = re.compile(
    r"(\d[\d.]{0,20})\s?([^\d\s-]{0,8})\s?(?:-{1,3}|to|～|~)\s?(\d[\d.]{0,20})\s?([^\d\s]{0,8})"
)
_SPOKEN_RATIO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) (?:to|is to) (\d{1,9}(?:\.\d{1,9})?)")
_RATIO_SIGNS = re.compile(r"[\d\s:.+*/^{}()\\a-z-]{1,120}")
_RATIO_WORDS = re.compile(r"^(?:in the )?ratio (?:of |is )?")
_MAX_TERMS = 6


def compare_times(prediction: str, gold: str) -> Equality | None:
    """Times of day and dates, by value; None unless at least one side is one.

    4:23 PM is 16:23. A time without a half of the day equals another without one; against one with "AM" or
    "PM" it is undecided. A date in digits alone (4/2/2005) equals only itself: its order is unknown.
    """
    theirs, ours = fold(prediction), fold(gold)
    if not _TIMELY.search(theirs) and not _TIMELY.search(ours):
        return None
    dates = [_date(side) for side in (theirs, ours)]
    if any(dates):
        return _compare_dates(dates, theirs, ours)
    clocks = [_clock(side) for side in (theirs, ours)]
    if clocks[0] is None or clocks[1] is None:
        return None
    mine, mine_half = clocks[0]
    yours, yours_half = clocks[1]
    if mine_half == yours_half or min(mine, yours) < 0:
        return "equal" if mine == yours else "different"
    same = (mine - yours) % 43_200 == 0
    return "undecided" if same and not _full_day(mine, mine_half, yours, yours_half) else _by(mine == yours)


def _by(same: bool) -> Equality:
    return "equal" if same else "different"


def _full_day(mine: int, mine_half: bool, yours: int, yours_half: bool) -> bool:
    """True where the side without AM or PM is past noon and so can only be on the 24-hour clock."""
    bare = yours if mine_half else mine
    return bare >= 13 * 3600 or bare < 3600


def _clock(text: str) -> tuple[int, bool] | None:
    """(second of the day, whether AM or PM was said); None for anything else, also for a bare number."""
    match = _CLOCK.fullmatch(_NAMED_CLOCKS.get(text, text))
    if match is None or not (match["minute"] or match["half"] or match["sharp"]):
        return None
    hour, half = int(match["hour"]), (match["half"] or "")[:1]
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half == "p")
    return hour * 3600 + int(match["minute"] or 0) * 60 + int(match["second"] or 0), bool(half)


def _date(text: str) -> tuple[str, int, int] | None:
    """(year or "", month, day) where the text is a date whose order is known."""
    if day_first := _DAY_FIRST.fullmatch(text):
        return day_first[3] or "", _month(day_first[2]), int(day_first[1])
    if month_first := _MONTH_FIRST.fullmatch(text):
        return month_first[3] or "", _month(month_first[1]), int(month_first[2])
    if (iso := _ISO.fullmatch(text)) and 1 <= int(iso[2]) <= 12 and 1 <= int(iso[3]) <= 31:
        return iso[1], int(iso[2]), int(iso[3])
    return None


def _month(name: str) -> int:
    return _MONTHS.index(name[:3]) + 1


def _compare_dates(dates: Sequence[tuple[str, int, int] | None], theirs: str, ours: str) -> Equality:
    first, second = dates
    if first and second:
        if first[1:] != second[1:] or (first[0] and second[0] and first[0] != second[0]):
            return "different"
        return "equal" if first[0] == second[0] else "undecided"
    other = theirs if second else ours
    return "undecided" if _NUMERIC_DATE.fullmatch(other) else "different"


def compare_ratios(prediction: str, gold: str) -> Equality | None:
    """1:2 = 2:4 = 1/2 = "1 to 2"; None unless one side is written with a colon.

    What reads as a time of day must agree digit by digit with another such: 2:40 is not 1:20. Against a ratio
    that cannot be a time (2:5) it may still be a ratio: undecided.
    """
    theirs, ours = (_RATIO_WORDS.sub("", fold(side)) for side in (prediction, gold))
    if ":" not in theirs and ":" not in ours:
        return None
    mine, yours = _terms(theirs), _terms(ours)
    if mine is None or yours is None:
        return None
    timed = [_clock(side) is not None for side in (theirs, ours)]
    if all(timed):
        return "equal" if mine == yours else "different"
    if not _same_ratio(mine, yours):
        return "different"
    return "undecided" if any(timed) else "equal"


def _terms(text: str) -> list[float] | None:
    """The terms of a ratio; a single number x is x to 1."""
    spoken = _SPOKEN_RATIO.fullmatch(text)
    parts = list(spoken.groups()) if spoken else text.split(":")
    if len(parts) > _MAX_TERMS or not _RATIO_SIGNS.fullmatch(text):
        return None
    numbers = [parse_quantity(part) for part in parts]
    if any(number is None or number.unit is not None for number in numbers):
        return None
    values = [float(number.value) for number in numbers if number]
    if not all(values):
        return None
    return values if len(values) > 1 else [values[0], 1.0]


def _same_ratio(mine: Sequence[float], yours: Sequence[float]) -> bool:
    return len(mine) == len(yours) and all(
        abs(a * yours[0] - b * mine[0]) <= 1e-9 * max(abs(a * yours[0]), 1)
        for a, b in zip(mine, yours, strict=True)
    )


def compare_ranges(prediction: str, gold: str) -> Equality | None:
    """1-3 = "1 to 3": both sides two numbers with a dash or "to" between, the lower one first."""
    theirs, ours = (_RANGE.fullmatch(fold(side)) for side in (prediction, gold))
    if not theirs or not ours:
        return None
    ends = [(float(m[1].rstrip(".")), float(m[3].rstrip("."))) for m in (theirs, ours) if _sound(m)]
    if len(ends) < 2 or any(low >= high for low, high in ends):
        return None
    units = {(m[2] or m[4], m[4] or m[2]) for m in (theirs, ours) if m[2] or m[4]}
    return "equal" if ends[0] == ends[1] and len(units) < 2 else "different"


def _sound(match: re.Match[str]) -> bool:
    return match[1].count(".") < 2 and match[3].count(".") < 2
