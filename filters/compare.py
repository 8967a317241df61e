"""Comparison of two answers without computer algebra: numbers, lists, intervals, labels, ratios, words.

`compare_plain` answers where a rule below decides, and None where none does: then `filters.algebra` may be
asked if `is_algebraic` says that both sides are formulas. Its "undecided" is final: the rule knows that the
two notations cannot be told apart, and algebra would only guess.

Decimal commas: a comma is never a decimal point. Between groups of three digits it separates thousands
(1,000 is one thousand), otherwise it separates the items of a list; so "3,5" against "3.5" is undecided,
and an undecided answer is not correct.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from filters.prose import is_negated, is_prose
from filters.normalize import fold, tighten
from filters.quantities import Equality, compare_quantities, parse_quantity

_TRUE = {"yes", "true", "correct", "right", "是", "对", "正确"}
_FALSE = {"no", "false", "incorrect", "wrong", "否", "不是", "错", "错误"}
_AND = re.compile(r"\s*(?:[,;]\s*(?:and|or)\s|[,;]|\s(?:and|or)\s|(?<=\))(?:and|or)(?=\()|\s和\s)\s*")
_LABEL = re.compile(r"[A-Za-z\\ (),:'°△]*(?:_(?:\{[^{}]{0,20}\}|\w)[A-Za-z\\ (),:'°△]*){0,3}")
_RATIO = re.compile(r"\d{1,9}(?:\.\d{1,9})?(?:\s?:\s?\d{1,9}(?:\.\d{1,9})?){1,5}")
_CLOCK = re.compile(r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?")
_RANGE = re.compile(
    r"(\d[\d.]{0,20})\s?([^\d\s-]{0,8})\s?(?:-{1,3}|to|～|~)\s?(\d[\d.]{0,20})\s?([^\d\s]{0,8})"
)
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|pm|mp)(?![A-Za-z])")
_DANGLING = re.compile(r"[-+*/^=<>]\s*$|^\s*[*/^=]")
_DECIMAL_COMMA = re.compile(r"[-+]?\d{1,30},\d{1,30}")
_PLAIN_WORDS = re.compile(r"[^\W\d_]+(?:[\s'&-]+[^\W\d_]+)*")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_MAX_ITEMS = 64


def compare_plain(prediction: str, gold: str, precision: int | None = None) -> Equality | None:
    """Compare two canonical answers by rule.

    Args:
        precision: decimals at which numbers are compared; None: those the gold was written with.
    Returns: None where no rule applies.
    """
    if prediction == gold or tighten(prediction) == tighten(gold):
        return "equal"
    if fold(prediction) == fold(gold) and fold(gold):
        return "equal"
    rules = (compare_truth, _compare_relations, _compare_clocks_and_ratios, _compare_ranges, _compare_commas)
    for rule in rules:
        verdict = rule(prediction, gold)
        if verdict is not None:
            return verdict
    mine, ours = parse_quantity(prediction), parse_quantity(gold)
    if mine and ours:
        return compare_quantities(mine, ours, precision)
    labelled = _compare_labels(prediction, gold, precision)
    if labelled is not None:
        return labelled
    listed = _compare_lists(prediction, gold, precision)
    if listed is not None:
        return listed
    return _compare_words(prediction, gold)


def is_algebraic(text: str) -> bool:
    """True where computer algebra can read a canonical answer as it stands.

    A sentence or a denial is none, nor is a fragment with unmatched braces or an operator at its edge, of
    which it would read a part.
    """
    if not _braces_match(text) or _DANGLING.search(text):
        return False
    return not is_prose(text) and not is_negated(text) and bool(re.search(r"[\d\\=<>+*/^()\[\]|]|^\w$", text))


def _braces_match(text: str) -> bool:
    depth = 0
    for symbol in text:
        depth += (symbol == "{") - (symbol == "}")
        if depth < 0:
            return False
    return depth == 0


def _compare_relations(prediction: str, gold: str) -> Equality | None:
    """A bound is no number: `> 12` is not 12."""
    for one, other in ((prediction, gold), (gold, prediction)):
        if _RELATION.search(one) and parse_quantity(other):
            return "different"
    return None


def compare_truth(prediction: str, gold: str) -> Equality | None:
    """Yes and no, by the first clause: "Yes, it is." None unless both sides say one of them."""
    ours = _truth(fold(gold))
    if ours is None:
        return None
    theirs = _truth(fold(re.split(r"[,.;:!]", prediction, maxsplit=1)[0]))
    if theirs is None:
        return None
    return "equal" if theirs == ours else "different"


def _truth(word: str) -> bool | None:
    return True if word in _TRUE else False if word in _FALSE else None


def _compare_clocks_and_ratios(prediction: str, gold: str) -> Equality | None:
    """1:2 = 2:4 = 1/2 as a ratio; what reads as a time of day must agree digit by digit."""
    theirs, ours = (fold(side) for side in (prediction, gold))
    if not _RATIO.fullmatch(theirs) and not _RATIO.fullmatch(ours):
        return None
    if _CLOCK.fullmatch(ours) or _CLOCK.fullmatch(theirs):
        return _compare_clocks(theirs, ours)
    mine, yours = (_ratio(side) for side in (theirs, ours))
    if mine is None or yours is None:
        return None
    return "equal" if _same_ratio(mine, yours) else "different"


def _compare_clocks(prediction: str, gold: str) -> Equality | None:
    """At least one side is a time of day. 12:30 against 2:5 or 0.4 may still be a ratio: undecided."""
    if _CLOCK.fullmatch(prediction) and _CLOCK.fullmatch(gold):
        parts = [[int(part) for part in side.split(":")] for side in (prediction, gold)]
        return "equal" if parts[0] == parts[1] else "different"
    theirs, ours = _ratio(prediction), _ratio(gold)
    if theirs is None or ours is None:
        return None
    return "undecided" if _same_ratio(theirs, ours) else "different"


def _same_ratio(mine: Sequence[float], yours: Sequence[float]) -> bool:
    return len(mine) == len(yours) and all(
        abs(a * yours[0] - b * mine[0]) <= 1e-9 * max(abs(a * yours[0]), 1)
        for a, b in zip(mine, yours, strict=True)
    )


def _ratio(text: str) -> list[float] | None:
    """The terms of a ratio; a single number x is x to 1."""
    if _RATIO.fullmatch(text):
        terms = [float(term) for term in text.split(":")]
        return terms if all(terms) else None
    number = parse_quantity(text)
    return [float(number.value), 1.0] if number and number.unit is None and number.value else None


def _compare_ranges(prediction: str, gold: str) -> Equality | None:
    theirs, ours = (_RANGE.fullmatch(fold(side)) for side in (prediction, gold))
    if not theirs or not ours:
        return None
    ends = [(float(m[1].rstrip(".")), float(m[3].rstrip("."))) for m in (theirs, ours) if m[1].count(".") < 2]
    if len(ends) < 2 or any(low >= high for low, high in ends):
        return None
    units = {(m[2] or m[4], m[4] or m[2]) for m in (theirs, ours) if m[2] or m[4]}
    return "equal" if ends[0] == ends[1] and len(units) < 2 else "different"


def _compare_commas(prediction: str, gold: str) -> Equality | None:
    """One side `3,5`, the other one number: a decimal comma or a pair, nobody can tell."""
    for one, other in ((prediction, gold), (gold, prediction)):
        number = parse_quantity(other)
        if _DECIMAL_COMMA.fullmatch(one) and number:
            read = parse_quantity(one.replace(",", "."))
            same = read is not None and compare_quantities(read, number) == "equal"
            return "undecided" if same else "different"
    return None


def split_label(text: str) -> tuple[str, str]:
    """(`x`, `3`) for `x=3`; ("", text) where the left side is no mere name (`2x=3`, `7=a`)."""
    left, sign, right = text.partition("=")
    if not sign or "=" in right or not right.strip() or not left.strip() or left.rstrip()[-1] in "<>!\\":
        return "", text
    named = _LABEL.fullmatch(left.strip()) and not re.search(r"\\(?!angle|triangle|overline)", left)
    return (left.strip(), right.strip()) if named else ("", text)


def _compare_labels(prediction: str, gold: str, precision: int | None) -> Equality | None:
    """`x=3` equals `3`, and differs from `y=3`; an equation is no label."""
    (mine, left), (ours, right) = split_label(prediction), split_label(gold)
    if not (mine or ours) or ("=" in left) or ("=" in right):
        return None
    if _AND.search(left) and not left.startswith(tuple(_PAIRS)) and "=" in prediction:
        return None
    value = compare_plain(left, right, precision)
    if not (mine and ours) or tighten(mine) == tighten(ours):
        return value
    if value == "equal":
        return "different" if len(tighten(mine)) == len(tighten(ours)) == 1 else "undecided"
    return value


def _compare_lists(prediction: str, gold: str, precision: int | None) -> Equality | None:
    mine, ours = _split_list(prediction), _split_list(gold)
    if mine is None and ours is None:
        return None
    if mine is None or ours is None:
        return _compare_one_list(prediction, mine, gold, ours, precision)
    if {mine[0], ours[0]} <= set(_PAIRS) - {"{"} and (mine[0], mine[2]) != (ours[0], ours[2]):
        return "different"
    if len(mine[1]) != len(ours[1]):
        return None if "=" in prediction or "=" in gold else "different"
    ordered = bool({mine[0], ours[0]} & {"(", "["})
    return _compare_items(mine[1], ours[1], precision, ordered=ordered)


def _compare_one_list(
    prediction: str,
    mine: tuple[str, list[str], str] | None,
    gold: str,
    ours: tuple[str, list[str], str] | None,
    precision: int | None,
) -> Equality | None:
    """A list against something else: a list of one is its item, a list of several is not one number."""
    items = mine[1] if mine else ours[1] if ours else []
    if len(items) == 1:
        left, right = (items[0], gold) if mine else (prediction, items[0])
        return compare_plain(left, right, precision)
    scalar = parse_quantity(gold if mine else prediction)
    return "different" if scalar else None


def _split_list(text: str) -> tuple[str, list[str], str] | None:
    """(opening, items, closing) of a bracketed or a bare list, None for anything else."""
    text = text.strip().replace("\\{", "{").replace("\\}", "}").rstrip(".")
    opening = text[:1] if text[:1] in _PAIRS else ""
    closing = text[-1:] if opening and text[-1:] in ")]}" else ""
    if opening and closing and _closes_at_end(text):
        items = _items(text[1:-1])
        if items and (len(items) > 1 or opening != "("):
            return opening, [item.strip("'\" ") for item in items], closing
        return None
    items = _items(text)
    return ("", items, "") if items and len(items) > 1 else None


def _closes_at_end(text: str) -> bool:
    depth = 0
    for position, symbol in enumerate(text):
        depth += (symbol in "([{") - (symbol in ")]}")
        if depth <= 0:
            return position == len(text) - 1
    return False


def _items(text: str) -> list[str] | None:
    """Parts between top-level commas, semicolons, `and`, `or`; None where brackets do not match."""
    depths, depth = [], 0
    for symbol in text:
        depth += (symbol in "([{") - (symbol in ")]}")
        depths.append(depth)
    if depth or any(value < 0 for value in depths):
        return None
    items, start = [], 0
    for match in _AND.finditer(text):
        if depths[match.start()] == 0 and match.start() > 0:
            items.append(text[start : match.start()].strip())
            start = match.end()
    items.append(text[start:].strip())
    return items if all(items) and len(items) <= _MAX_ITEMS else None


def _compare_items(
    mine: Sequence[str], ours: Sequence[str], precision: int | None, *, ordered: bool
) -> Equality | None:
    if ordered:
        return _conjunction([compare_plain(a, b, precision) for a, b in zip(mine, ours, strict=True)])
    table: list[list[Equality | None]] = [[compare_plain(a, b, precision) for b in ours] for a in mine]
    if _matching(table, {"equal"}):
        return "equal"
    return None if _matching(table, {"equal", "undecided", None}) else "different"


def _conjunction(verdicts: Sequence[Equality | None]) -> Equality | None:
    if "different" in verdicts:
        return "different"
    return "equal" if all(verdict == "equal" for verdict in verdicts) else None


def _matching(table: Sequence[Sequence[Equality | None]], accepted: set[str | None]) -> bool:
    """True where rows and columns can be paired one to one through accepted cells."""
    partner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, cell in enumerate(table[row]):
            if cell in accepted and column not in seen:
                seen.add(column)
                if column not in partner or place(partner[column], seen):
                    partner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(table)))


def _compare_words(prediction: str, gold: str) -> Equality | None:
    """Other words are another answer, and words are no number."""
    theirs, ours = fold(prediction), fold(gold)
    if not theirs or not ours:
        return "different" if ours else None
    worded = [bool(_PLAIN_WORDS.fullmatch(side)) and len(side) > 1 for side in (theirs, ours)]
    numeric = [parse_quantity(side) is not None for side in (prediction, gold)]
    if all(worded) or (worded[0] and numeric[1]) or (worded[1] and numeric[0]):
        return "different"
    return None
