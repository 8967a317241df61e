"""Comparison of two answers without computer algebra: the rules, in the order they are applied.

`compare_plain` answers where a rule below decides, and None where none does: then `filters.algebra` may be
asked if `filters.formulas` finds both sides formulas. Its "undecided" is final: the rule knows that the
two notations cannot be told apart, and algebra would only guess.

Decimal commas: texts are read as English ones, where a comma between groups of three digits separates
thousands (1,000 is one thousand) and any other separates the items of a list; so "3,5" against "3.5" is
undecided, and an undecided answer is not correct. A comma is decimal only where it can be nothing else:
behind dotted thousands (1.234,56), and in a measure or an amount of money (2,74 €; 3,5 cm).
"""

from __future__ import annotations

import re

from filters.clocks import compare_ranges, compare_ratios, compare_times
from filters.formulas import split_label
from filters.intervals import compare_regions
from filters.lists import compare_lists, compare_matrices, has_several, is_empty_set
from filters.normalize import fold, tighten
from filters.quantities import Equality, Quantity, compare_quantities, parse_quantity
from filters.truth import is_truth, read_truth

_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|pm|mp)(?![A-Za-z])")
_DECIMAL_COMMA = re.compile(r"[-+]?\d{1,30},\d{1,30}")
_PLAIN_WORDS = re.compile(r"[^\W\d_]+(?:[\s'&-]+[^\W\d_]+)*")
_COMMAND = re.compile(r"\\(?:[A-Za-z]{1,20}|.)")
_SYMBOL = re.compile(r"\\[A-Za-z]{2,20}")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ORDINAL = re.compile(r"(\d{1,9})(?:st|nd|rd|th)")
_RESTATED = re.compile(r"([^()]{1,60}) \(\s?([^()]{1,60})\)")
_LETTERS = re.compile(r"\(?[A-H]\)?(?:\s?(?:,|;|&|,?\sand|[和与])\s?\(?[A-H]\)?){1,7}")
_UNREAD_MEASURE = re.compile(
    r"[-+]?\d[\d.]{0,40}\s?(?:\\frac\s?\{)?[^\W\d_][^\d_+=<>,]{0,30}(?:\^[^_+=<>,]{1,20})?"
)
_BASED = re.compile(r"\(?(\d{1,40})\)?_\s?\{?\s?(\d{1,2})\s?\}?")


def compare_plain(prediction: str, gold: str, precision: int | None = None) -> Equality | None:
    """Compare two canonical answers by rule.

    Args:
        precision: decimals at which numbers are compared; None: those the gold was written with.
    Returns: None where no rule applies.
    """
    if prediction == gold or tighten(prediction) == tighten(gold):
        return "equal"
    if is_same_text(prediction, gold):
        return "equal"
    if is_empty_set(prediction) and is_empty_set(gold):
        return "equal"
    if _is_restated(prediction, gold, precision):
        return "equal"
    for rule in _UNMEASURED:
        verdict = rule(prediction, gold)
        if verdict is not None:
            return verdict
    mine, ours = parse_quantity(prediction), parse_quantity(gold)
    if mine and ours:
        return compare_quantities(mine, ours, precision)
    verdict = _compare_parts(prediction, gold, precision) or _compare_words(prediction, gold)
    unread = (mine and _is_unread(mine, gold)) or (ours and _is_unread(ours, prediction))
    return "undecided" if unread and verdict != "equal" else verdict


def _is_unread(measure: Quantity, other: str) -> bool:
    """A measure against a number with a unit that the table lacks."""
    known = measure.unit is not None and not measure.unit.counted
    return known and bool(_UNREAD_MEASURE.fullmatch(other))


def is_same_text(prediction: str, gold: str) -> bool:
    """The same words without regard to case, unless the case tells two units apart: 2 mW, 2 MW."""
    if fold(prediction) != fold(gold) or not fold(gold):
        return False
    mine, ours = parse_quantity(prediction), parse_quantity(gold)
    units = mine and mine.unit, ours and ours.unit
    return not (units[0] and units[1]) or units[0] == units[1]


def _is_restated(prediction: str, gold: str, precision: int | None) -> bool:
    """One answer in two spellings, `60% (3/5)`: both must be the gold answer."""
    match = _RESTATED.fullmatch(prediction)
    wanted = parse_quantity(gold) if match else None
    if match is None or wanted is None:
        return False
    said = [parse_quantity(part) for part in match.groups()]
    return all(part and compare_quantities(part, wanted, precision) == "equal" for part in said)


def _compare_parts(prediction: str, gold: str, precision: int | None) -> Equality | None:
    return (
        compare_regions(prediction, gold, precision)
        or compare_matrices(prediction, gold, precision, compare_plain)
        or _compare_labels(prediction, gold, precision)
        or _compare_last_side(prediction, gold, precision)
        or compare_lists(prediction, gold, precision, compare_plain)
    )


def _compare_relations(prediction: str, gold: str) -> Equality | None:
    """A bound is no number: `> 12` is not 12."""
    for one, other in ((prediction, gold), (gold, prediction)):
        if _RELATION.search(one) and parse_quantity(other):
            return "different"
    return None


def compare_truth(prediction: str, gold: str) -> Equality | None:
    """Yes and no (`filters.truth`). None unless the gold answer is one of them, and one is said."""
    if not is_truth(gold):
        return None
    ours, theirs = read_truth(gold), read_truth(prediction)
    if theirs is None:
        return None
    return "equal" if theirs == ours else "different"


def _compare_commas(prediction: str, gold: str) -> Equality | None:
    """One side `3,5`, the other one number: a decimal comma or a pair, nobody can tell."""
    for one, other in ((prediction, gold), (gold, prediction)):
        number = parse_quantity(other)
        if _DECIMAL_COMMA.fullmatch(one) and number:
            read = parse_quantity(one.replace(",", "."))
            same = read is not None and compare_quantities(read, number) == "equal"
            return "undecided" if same else "different"
    return None


def _compare_ordinals(prediction: str, gold: str) -> Equality | None:
    """3rd = third; against the bare number it is undecided whether a rank or a count was asked for."""
    mine, ours = (_ordinal(fold(side)) for side in (prediction, gold))
    if mine is not None and ours is not None:
        return "equal" if mine == ours else "different"
    if mine is None and ours is None:
        return None
    rank, other = (mine, gold) if mine is not None else (ours, prediction)
    number = parse_quantity(other)
    if number is None:
        return None
    return "undecided" if number.value == rank and number.unit is None else "different"


def _ordinal(word: str) -> int | None:
    if word in _ORDINALS:
        return _ORDINALS.index(word) + 1
    match = _ORDINAL.fullmatch(word)
    return int(match[1]) if match else None


def _compare_bases(prediction: str, gold: str) -> Equality | None:
    """204_5 is 54; against its bare digits it is undecided whether the base was only left out."""
    theirs, ours = _BASED.fullmatch(prediction.strip()), _BASED.fullmatch(gold.strip())
    if theirs is None and ours is None:
        return None
    values = [_in_base(match) if match else None for match in (theirs, ours)]
    if theirs and ours:
        return "equal" if values[0] is not None and values[0] == values[1] else "different"
    based, other = (theirs, gold) if theirs else (ours, prediction)
    number = parse_quantity(other)
    if based is None or number is None:
        return None
    if number.value == values[0 if theirs else 1]:
        return "equal"
    return "undecided" if number.value == int(based[1]) else "different"


def _in_base(match: re.Match[str]) -> int | None:
    base = int(match[2])
    return int(match[1], base) if 2 <= base <= 36 and max(map(int, match[1])) < base else None


def _compare_letters(prediction: str, gold: str) -> Equality | None:
    """Several options of one question: "A, C" is "AC" and "C and A". None unless one side is such a list."""
    listed = [_LETTERS.fullmatch(side) for side in (prediction, gold)]
    if not any(listed):
        return None
    named = [
        _letters(side) if match else side for side, match in zip((prediction, gold), listed, strict=True)
    ]
    if not all(name.isalpha() and name.isupper() and name.isascii() for name in named):
        return None
    return "equal" if sorted(named[0]) == sorted(named[1]) else "different"


def _letters(text: str) -> str:
    return "".join(symbol for symbol in text if symbol.isupper())


_UNMEASURED = (
    compare_truth,
    _compare_relations,
    compare_times,
    compare_ratios,
    compare_ranges,
    _compare_commas,
    _compare_ordinals,
    _compare_bases,
    _compare_letters,
)


def _compare_labels(prediction: str, gold: str, precision: int | None) -> Equality | None:
    """`x=3` equals `3`, and differs from `y=3`; an equation is no label."""
    (mine, left), (ours, right) = split_label(prediction), split_label(gold)
    if not (mine or ours) or ("=" in left) or ("=" in right):
        return None
    if has_several(left) and left[:1] not in {"(", "[", "{"} and "=" in prediction:
        return None
    value = compare_plain(left, right, precision)
    if not (mine and ours) or tighten(mine) == tighten(ours):
        return value
    if value == "equal":
        return "different" if len(tighten(mine)) == len(tighten(ours)) == 1 else "undecided"
    return value


def _compare_last_side(prediction: str, gold: str, precision: int | None) -> Equality | None:
    """A calculation ends on its result: `3+4 = 7` and `x = 3+4 = 7` say 7."""
    said, wanted = results(prediction), results(gold)
    if said == [prediction] and wanted == [gold]:
        return None
    verdicts = set()
    for result in said:
        mine, ours = parse_quantity(result), parse_quantity(wanted[0])
        verdicts.add(compare_quantities(mine, ours, precision) if mine and ours else None)
    return "equal" if "equal" in verdicts else None if None in verdicts else "different"


def results(text: str) -> list[str]:
    """The last side of a calculation, exact and then rounded; the text itself where it is none.

    A calculation begins with a constant (`\\binom{6}{2} = 15`), or has more sides than an equation.
    """
    exact, about, rounded = text.partition(r"\approx")
    sides = exact.split("=")
    constant = _is_constant(sides[0]) and (_is_constant(sides[-1]) or parse_quantity(sides[-1]) is not None)
    if not (constant or len(sides) > 2) or len(sides) < 2 - bool(about) or has_several(text):
        return [text]
    return [side.strip() for side in (sides[-1], rounded) if side.strip()] or [text]


def _is_constant(text: str) -> bool:
    return not re.search(r"[A-Za-z]", _COMMAND.sub("", text))


def _compare_words(prediction: str, gold: str) -> Equality | None:
    """Other words are another answer, and words are no number."""
    theirs, ours = fold(prediction), fold(gold)
    if not theirs or not ours:
        return "different" if ours else None
    if _SYMBOL.fullmatch(prediction.strip()) and _SYMBOL.fullmatch(gold.strip()):
        return "different"
    worded = [bool(_PLAIN_WORDS.fullmatch(side)) and len(side) > 1 for side in (theirs, ours)]
    numeric = [parse_quantity(side) is not None for side in (prediction, gold)]
    if all(worded) or (worded[0] and numeric[1]) or (worded[1] and numeric[0]):
        return "different"
    return None
