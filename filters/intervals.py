"""Intervals and the relations that describe them: `x > 5` is `(5, \\infty)`, `-2 \\le x < 7` is `[-2, 7)`.

A pair in round or square brackets alone may be a point, so this rule wants at least one side that can only
be a region: a relation, a membership, a union, an infinite or a half-open end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from filters.quantities import Equality, Quantity, compare_quantities, parse_quantity

_REALS = frozenset(
    {r"\mathbb{R}", r"\mathbb R", r"\R", "all real numbers", "all reals", "the real numbers", "R"}
)
_UNION = re.compile(r"\s*(?:\\cup(?![A-Za-z])|\\lor(?![A-Za-z])|\bor\b|或)\s*")
_BOTH = re.compile(r"\s(?:and|\\land)\s")
_SET_BUILDER = re.compile(
    r"\\?\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\||:|\\mid(?![A-Za-z]))(.+?)\\?\}"
)
_MEMBER = re.compile(r"([A-Za-z])\s*\\in(?![A-Za-z])\s*(.+)", re.DOTALL)
_INTERVAL = re.compile(r"([(\[\]])([^,;\[\]]{1,80})[,;]([^,;\[\]]{1,80})([)\[\]])")
_RELATION = re.compile(r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z]))")
_NAME = re.compile(r"[A-Za-z](?:_\{?\w\}?)?|\\[a-z]{2,8}")
_MAX_PIECES = 8


@dataclass(frozen=True, slots=True)
class End:
    """One end of an interval; `number` is None for an infinite one."""

    number: Quantity | None
    closed: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A union of intervals, lowest first.

    Attributes:
        name: the variable it bounds, "" where none is named.
        sure: False where the text may also be a point (a pair in brackets).
    """

    name: str
    pieces: tuple[tuple[End, End], ...]
    sure: bool


def compare_regions(prediction: str, gold: str, precision: int | None) -> Equality | None:
    """Piece by piece, ends at the gold's precision; None unless both sides are regions and one is sure."""
    mine, ours = parse_region(prediction), parse_region(gold)
    if mine is None or ours is None or not (mine.sure or ours.sure):
        return None
    if mine.name and ours.name and mine.name != ours.name:
        return "different"
    if len(mine.pieces) != len(ours.pieces):
        return "different"
    pairs = zip(sum(mine.pieces, ()), sum(ours.pieces, ()), strict=True)
    return "equal" if all(_same_end(a, b, precision) for a, b in pairs) else "different"


def _same_end(mine: End, ours: End, precision: int | None) -> bool:
    if mine.number is None or ours.number is None:
        return mine.number is ours.number
    return mine.closed == ours.closed and compare_quantities(mine.number, ours.number, precision) == "equal"


def parse_region(text: str) -> Region | None:
    """The region that canonical text describes, None where it does not, or an end is no number."""
    text = text.strip().rstrip(".")
    if text in _REALS:
        return Region("", ((End(None, False), End(None, False)),), True)
    builder = _SET_BUILDER.fullmatch(text)
    if builder:
        inner = parse_region(builder[2].strip())
        return inner if inner and inner.name == builder[1] else None
    parts = _UNION.split(text)
    pieces = [_piece(part.strip()) for part in parts[: _MAX_PIECES + 1]]
    if len(parts) > _MAX_PIECES or not all(pieces):
        return None
    return _unite([piece for piece in pieces if piece])


def _unite(pieces: Sequence[Region]) -> Region | None:
    names = {piece.name for piece in pieces} - {""}
    if len(names) > 1:
        return None
    ends = sorted((ends for piece in pieces for ends in piece.pieces), key=_low)
    sure = len(pieces) > 1 or any(piece.sure for piece in pieces)
    return Region(names.pop() if names else "", tuple(ends), sure)


def _low(ends: tuple[End, End]) -> float:
    return float(ends[0].number.value) if ends[0].number else float("-inf")


def _piece(text: str) -> Region | None:
    member = _MEMBER.fullmatch(text)
    if member:
        inner = parse_region(member[2])
        return inner and Region(member[1], inner.pieces, True)
    if text in _REALS:
        return parse_region(text)
    if text[:1] in {"(", "[", "]"}:
        return _bracketed(text)
    both = _BOTH.split(text)
    return _chain(text) if len(both) == 1 else _meet([_chain(part) for part in both])


def _meet(chains: Sequence[Region | None]) -> Region | None:
    """`x > 2 and x < 5`: one bound from below, one from above."""
    if len(chains) != 2 or not chains[0] or not chains[1] or chains[0].name != chains[1].name:
        return None
    (low, high), (other_low, other_high) = chains[0].pieces[0], chains[1].pieces[0]
    if low.number is None:
        low, high, other_low, other_high = other_low, other_high, low, high
    if high.number or other_low.number or not low.number or not other_high.number:
        return None
    return Region(chains[0].name, ((low, other_high),), True) if _ordered(low, other_high) else None


def _bracketed(text: str) -> Region | None:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        return None
    ends = _end(match[2], match[1] == "[", -1), _end(match[3], match[4] == "]", 1)
    if ends[0] is None or ends[1] is None or not _ordered(ends[0], ends[1]):
        return None
    whole = (match[1], match[4]) in {("(", ")"), ("[", "]")} and ends[0].number and ends[1].number
    return Region("", ((ends[0], ends[1]),), not whole)


def _ordered(low: End, high: End) -> bool:
    return low.number is None or high.number is None or low.number.value < high.number.value


def _end(text: str, closed: bool, side: int) -> End | None:
    """One end; an infinite one must lie on its own side."""
    plain = text.replace(" ", "")
    if plain.lstrip("+-") == r"\infty":
        return End(None, False) if plain.startswith("-") == (side < 0) else None
    number = parse_quantity(text)
    return End(number, closed) if number else None


def _chain(text: str) -> Region | None:
    """`x < 5`, `5 > x`, `-2 \\le x < 7`, `7 \\ge x > -2`."""
    parts = [part.strip() for part in _RELATION.split(text)]
    if len(parts) == 3:
        if _NAME.fullmatch(parts[0]):
            parts = [parts[2], _mirrored(parts[1]), parts[0]]
        low_side = parts[1] in {"<", r"\le"}
        end = _end(parts[0], parts[1].startswith("\\"), -1 if low_side else 1)
        if end is None or end.number is None or not _NAME.fullmatch(parts[2]):
            return None
        open_end = End(None, False)
        return Region(parts[2], ((end, open_end) if low_side else (open_end, end),), True)
    return _double(parts) if len(parts) == 5 and _NAME.fullmatch(parts[2]) else None


def _double(parts: Sequence[str]) -> Region | None:
    if parts[1] in {">", r"\ge"}:
        parts = [parts[4], _mirrored(parts[3]), parts[2], _mirrored(parts[1]), parts[0]]
    if not {parts[1], parts[3]} <= {"<", r"\le"}:
        return None
    low, high = _end(parts[0], parts[1] != "<", -1), _end(parts[4], parts[3] != "<", 1)
    if low is None or high is None or not _ordered(low, high):
        return None
    return Region(parts[2], ((low, high),), True)


def _mirrored(sign: str) -> str:
    return {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}[sign]
