"""Lists, sets, tuples and matrices: answers of several parts, each compared by the rules for one.

A list in round or square brackets is ordered, one in braces or in none is not. (1, 2) and [1, 2] differ; a
bare list equals either, in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate

from filters.quantities import Equality, parse_quantity

Compare = Callable[[str, str, int | None], Equality | None]

_AND = re.compile(
    r"\s*(?:[,;]\s*(?:and|or)\s|[,;]|\s(?:and|or|et|ou|und|oder|и|или)\s|(?<=\))(?:and|or)(?=\()|(?<=[\w)])\s?[和或及与]\s?)\s*"
)
_BOUND = re.compile(r"[<>]|\\[lg]e(?![A-Za-z])")
_OR = re.compile(r"\bor\b|\\cup|或")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_MATRIX = re.compile(
    r"(?P<open>[\[(|]?)\s?\\begin\{(?P<kind>[pbB]matrix|matrix|smallmatrix|array)\}(?:\{[clr|]{1,20}\})?"
    r"(?P<body>(?:(?!\\begin|\\end).){1,3000})\\end\{(?P=kind)\}\s?(?P<close>[\])|]?)",
    re.DOTALL,
)
_ROW = re.compile(r"\\\\(?:\[[^\]]{0,10}\])?|\\cr(?![A-Za-z])")
_NESTED = re.compile(r"\[\s?(\[[^\[\]]{1,500}\](?:\s?,\s?\[[^\[\]]{1,500}\]){0,63})\s?\]")
_EMPTY = frozenset({r"\emptyset", "{}", r"\{\}", "empty set", "the empty set", "no solution", "no solutions"})
_MAX_ITEMS = 64
_MAX_NESTING = 8
_MAX_PAIRS = 250_000  # characters of one side times those of the other, where every item meets every other

Listed = tuple[str, list[str], str]
Matrix = list[list[str]]


def is_empty_set(text: str) -> bool:
    """True for the spellings of a set without elements; an equation without solutions is one."""
    return text.strip().rstrip(".").lower() in _EMPTY


# ---------------------------------------------------------------------------------------------- matrices


def compare_matrices(prediction: str, gold: str, precision: int | None, compare: Compare) -> Equality | None:
    """Entry by entry; a matrix of one row or column equals the tuple of its entries, not the other shape.

    Returns: None unless both sides are written out and every pair of entries is decided by a rule.
    """
    mine, ours = _matrix(prediction), _matrix(gold)
    if mine is None and ours is None:
        return None
    if mine is None or ours is None:
        written, other = (mine, gold) if mine else (ours, prediction)
        row = split_list(other)
        if not written or row is None or row[0] != "(" or 1 not in {len(written), len(written[0])}:
            return None
        vector, entries = _cells(written), row[1]
        pair = (vector, entries) if mine else (entries, vector)
        return _conjunction_of(*pair, precision, compare) if len(vector) == len(entries) else "different"
    if [len(row) for row in mine] != [len(row) for row in ours]:
        return "different"
    return _conjunction_of(_cells(mine), _cells(ours), precision, compare)


def _cells(matrix: Matrix) -> list[str]:
    return [cell for row in matrix for cell in row]


def _matrix(text: str) -> Matrix | None:
    text = text.strip()
    if text.startswith("(") and text.endswith(")") and _closes_at_end(text):
        text = text[1:-1].strip()
    nested = _NESTED.fullmatch(text)
    if nested:
        rows = [row.split(",") for row in re.findall(r"\[([^\[\]]*)\]", nested[1])]
    else:
        match = _MATRIX.fullmatch(text)
        if match is None or "|" in (match["open"], match["close"]):
            return None  # bars are a determinant
        rows = [row.split("&") for row in _ROW.split(match["body"].strip()) if row.strip()]
    cells = [[cell.strip() for cell in row] for row in rows]
    square = len({len(row) for row in cells}) == 1 and all(map(all, cells))
    return cells if square and sum(map(len, cells)) <= _MAX_ITEMS else None


# ------------------------------------------------------------------------------------------------- lists


def compare_lists(prediction: str, gold: str, precision: int | None, compare: Compare) -> Equality | None:
    """Lists item by item, unordered unless in round or square brackets; None where a rule is missing."""
    mine, ours = split_list(prediction), split_list(gold)
    if mine is None and ours is None:
        return None
    if mine is None or ours is None:
        return _compare_one_list(prediction, mine, gold, ours, precision, compare)
    if _BOUND.search(prediction) and bool(_OR.search(prediction)) != bool(_OR.search(gold)):
        return "undecided"  # bounds joined by "or" are another region than bounds joined by "and"
    if {mine[0], ours[0]} <= set(_PAIRS) - {"{"} and (mine[0], mine[2]) != (ours[0], ours[2]):
        return "different"
    if len(mine[1]) != len(ours[1]):
        return None if any(sign in prediction + gold for sign in ("=", r"\pm")) else "different"
    if {mine[0], ours[0]} & {"(", "["}:
        return _conjunction_of(mine[1], ours[1], precision, compare)
    if len(prediction) * len(gold) > _MAX_PAIRS:
        return "undecided"
    return _compare_unordered(mine[1], ours[1], precision, compare)


def _compare_one_list(
    prediction: str,
    mine: Listed | None,
    gold: str,
    ours: Listed | None,
    precision: int | None,
    compare: Compare,
) -> Equality | None:
    """A list against something else: a list of one is its item, a list of several is not one number."""
    items = mine[1] if mine else ours[1] if ours else []
    if len(items) == 1:
        left, right = (items[0], gold) if mine else (prediction, items[0])
        return compare(left, right, precision)
    alternatives = mine and not mine[0] and _OR.search(prediction)
    if alternatives and all(compare(item, gold, precision) == "equal" for item in items):
        return "equal"  # one answer said twice: "3/5 or 60%"
    scalar = parse_quantity(gold if mine else prediction)
    return "different" if scalar else None


def split_list(text: str) -> Listed | None:
    """(opening, items, closing) of a bracketed or a bare list, None for anything else."""
    text = text.strip().replace("\\{", "{").replace("\\}", "}").rstrip(".")
    if _nesting(text) > _MAX_NESTING:
        return None
    opening = text[:1] if text[:1] in _PAIRS else ""
    closing = text[-1:] if opening and text[-1:] in ")]}" else ""
    if opening and closing and _closes_at_end(text):
        items = _items(text[1:-1])
        if items and (len(items) > 1 or opening != "("):
            return opening, [item.strip("'\" ") for item in items], closing
        return None
    items = _items(text)
    return ("", items, "") if items and len(items) > 1 else None


def has_several(text: str) -> bool:
    """True where a comma, a semicolon or "and" separates parts of a text."""
    return bool(_AND.search(text))


def _nesting(text: str) -> int:
    """How deep brackets stand in brackets: each level is one more call of the comparison."""
    depths = accumulate((symbol in "([{") - (symbol in ")]}") for symbol in text)
    return max(depths, default=0)


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
            if len(items) >= _MAX_ITEMS:
                return None
    items.append(text[start:].strip())
    return items if all(items) else None


def _compare_unordered(
    mine: Sequence[str], ours: Sequence[str], precision: int | None, compare: Compare
) -> Equality | None:
    table: list[list[Equality | None]] = [[compare(a, b, precision) for b in ours] for a in mine]
    if _matching(table, {"equal"}):
        return "equal"
    return None if _matching(table, {"equal", "undecided", None}) else "different"


def _conjunction_of(
    mine: Sequence[str], ours: Sequence[str], precision: int | None, compare: Compare
) -> Equality | None:
    verdicts = [compare(a, b, precision) for a, b in zip(mine, ours, strict=True)]
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
