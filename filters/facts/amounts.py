"""An amount that a claim gives a thing, against those that a description gives things of its name."""

from __future__ import annotations

from rapidfuzz import fuzz

from filters.facts.things import Amount
from filters.facts.values import Judgement, compare_units, same_number


def judge_amount(amount: Amount, known: list[Amount]) -> Judgement:
    """Wrong where the description gives another value of the same unit and kind for such a thing."""
    if any(
        compare_units(f"{amount.value} {amount.unit}", f"{other.value} {other.unit}") == "supported"
        for other in known
    ):
        return "supported"
    if any(same_number(amount.value, other.value) and _units_fit(amount, other) for other in known):
        return "supported"
    alike = [other for other in known if _is_same_quality(amount, other)]
    return "contradicted" if alike and (amount.family or amount.unit) else "unknown"


def _is_same_quality(one: Amount, other: Amount) -> bool:
    """True where two amounts are of one kind ("width" is no "area"), in units of one dimension."""
    if (one.family, one.quality) != (other.family, other.quality):
        return False
    pair = (f"{one.value} {one.unit}", f"{other.value} {other.unit}")
    return one.unit == other.unit or compare_units(*pair) == "contradicted"


def _units_fit(one: Amount, other: Amount) -> bool:
    return not one.unit or not other.unit or fuzz.ratio(one.unit, other.unit) >= 80
