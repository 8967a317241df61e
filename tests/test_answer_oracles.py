"""Slow and obvious oracles beside the checker's rules: random expressions, regions and lists."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest

from filters.answers import _decide, check, extract_answer
from filters.expressions import evaluate
from filters.intervals import compare_regions
from filters.lists import compare_lists
from filters.normalize import canonicalise
from filters.quantities import Equality, parse_quantity


def draw_expression(rng: random.Random, depth: int = 3) -> tuple[str, Fraction]:
    """A random constant expression in LaTeX, and its value by plain fractions.

    Raises: ZeroDivisionError: it divides by zero.
    """
    if depth == 0 or rng.random() < 0.2:
        number = rng.randint(0, 12)
        return str(number), Fraction(number)
    (left, a), (right, b) = draw_expression(rng, depth - 1), draw_expression(rng, depth - 1)
    operator = rng.choice(["+", "-", r"\cdot", r"\frac", "^2"])
    if operator == "+":
        return f"({left}+{right})", a + b
    if operator == "-":
        return f"({left}-{right})", a - b
    if operator == r"\cdot":
        return rf"({left}\cdot {right})", a * b
    if operator == r"\frac":
        return rf"\frac{{{left}}}{{{right}}}", a / b
    return f"({left})^2", a**2


def test_expressions_are_worth_what_fractions_say() -> None:
    rng = random.Random(1)
    decided = 0
    for _ in range(600):
        try:
            text, value = draw_expression(rng)
        except ZeroDivisionError:
            continue
        assert evaluate(canonicalise(text)) in (value, None), text
        decided += evaluate(canonicalise(text)) is not None
    assert decided > 400


Interval = tuple[float, bool, float, bool]


def draw_region(rng: random.Random) -> list[Interval]:
    """One or two separate intervals with ends among whole numbers."""
    ends = sorted(rng.sample(range(-4, 5), 2 * rng.randint(1, 2)))
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return [(low, rng.random() < 0.5, high, rng.random() < 0.5) for low, high in pairs]


def write_region(rng: random.Random, region: list[Interval]) -> str:
    """In brackets or as relations."""
    pieces = [
        f"{'[' if low_in else '('}{low}, {high}{']' if high_in else ')'}"
        for low, low_in, high, high_in in region
    ]
    if rng.random() < 0.5:
        pieces = [
            f"{low} {'≤' if low_in else '<'} x {'≤' if high_in else '<'} {high}"
            for low, low_in, high, high_in in region
        ]
        return " or ".join(pieces)
    return r"x \in " + r" \cup ".join(pieces)


def points_of(region: list[Interval]) -> set[float]:
    """The quarters that a region holds."""
    quarters = [quarter / 4 for quarter in range(-20, 21)]
    return {
        point
        for point in quarters
        for low, low_in, high, high_in in region
        if low < point < high or (low_in and point == low) or (high_in and point == high)
    }


def test_regions_are_equal_where_they_hold_the_same_points() -> None:
    rng = random.Random(2)
    seen: set[Equality | None] = set()
    for _ in range(600):
        mine = draw_region(rng)
        ours = mine if rng.random() < 0.4 else draw_region(rng)
        theirs, gold = (canonicalise(write_region(rng, region)) for region in (mine, ours))
        verdict = compare_regions(theirs, gold, None)
        assert verdict == ("equal" if points_of(mine) == points_of(ours) else "different"), (theirs, gold)
        seen.add(verdict)
    assert seen == {"equal", "different"}


def compare_numbers(prediction: str, gold: str, precision: int | None) -> Equality | None:
    del precision
    mine, ours = parse_quantity(prediction), parse_quantity(gold)
    assert mine is not None
    assert ours is not None
    return "equal" if mine.value == ours.value else "different"


@pytest.mark.parametrize("brackets", ["()", "{}", "[]", ""])
def test_lists_are_equal_where_some_order_of_their_items_is(brackets: str) -> None:
    rng = random.Random(3)
    opening, closing = brackets or ("", "")
    for _ in range(300):
        mine = [str(rng.randint(1, 3)) for _ in range(rng.randint(2, 4))]
        ours = [str(rng.randint(1, 3)) for _ in range(len(mine))]
        orders = [tuple(mine)] if brackets in {"()", "[]"} else list(itertools.permutations(mine))
        expected = "equal" if tuple(ours) in orders else "different"
        theirs, gold = (opening + ", ".join(side) + closing for side in (mine, ours))
        assert compare_lists(theirs, gold, None, compare_numbers) == expected


def test_a_measure_equals_itself_in_every_unit_and_no_other() -> None:
    """Sizes in metres, seconds and grams, told in several units."""
    sizes = {"mm": ("m", 0.001), "cm": ("m", 0.01), "m": ("m", 1), "km": ("m", 1000), "min": ("s", 60)}
    sizes |= {"s": ("s", 1), "h": ("s", 3600), "g": ("g", 1), "kg": ("g", 1000)}
    rng = random.Random(4)
    for _ in range(400):
        (mine, (dimension, size)), (ours, (other, factor)) = (
            rng.choice(list(sizes.items())) for _ in range(2)
        )
        number = rng.choice([1, 2, 3, 5, 60, 1000, 3600, 36])
        value = Fraction(number) * Fraction(str(size)) / Fraction(str(factor))
        right = f"{value.numerator}/{value.denominator} {ours}"
        assert check(f"{number} {mine}", right) == ("equal" if dimension == other else "different")
        assert check(f"{number + 1} {mine}", right) == "different"


def test_a_verdict_is_the_same_twice_and_for_equals_both_ways() -> None:
    rng = random.Random(5)
    for _ in range(200):
        number = Fraction(rng.randint(-50, 50), rng.choice([1, 2, 4, 5, 8]))
        spellings = [
            str(number),
            f"{number.numerator}/{number.denominator}",
            str(float(number)),
            f"${number}$",
        ]
        for mine, ours in itertools.permutations(spellings, 2):
            assert check(mine, ours) == check(mine, ours) == "equal", (mine, ours)


PIECES = list("120.,;:=<>()[]{}$xyAB/*^_-+±∞∪½²√°%€&!|'\"~≈：１# 。或")
PIECES += [
    "cm",
    "m",
    "h",
    "PM",
    " and ",
    " or ",
    "to",
    " is ",
    "third",
    "half",
    "March",
    "yes",
    "no",
    "None",
    "2005",
]
PIECES += [
    "answer: ",
    "答案是",
    "because ",
    "if ",
    "since ",
    "not ",
    "<answer>",
    "</answer>",
    "<|im_end|>",
    "1,000",
]
PIECES += ["...", "e3", "0.(3)", "**"]
PIECES += [
    r"\frac",
    r"\sqrt",
    r"\boxed{",
    r"\text{",
    r"\le",
    r"\approx",
    r"\in",
    r"\cup",
    r"\pi",
    r"\mathbb{R}",
    r"\\",
]
PIECES += [r"\begin{pmatrix}", r"\end{pmatrix}", "the answer is ", " ", "\n", "\x00", "\ud800", "🙂"]


def test_no_text_makes_the_rules_fail() -> None:
    """Random texts, gold answers and options: always a verdict, never an error."""
    rng = random.Random(6)

    def draw(most: int) -> str:
        return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, most)))

    for _ in range(3_000):
        prediction = draw(14)
        gold = prediction[: rng.randint(0, 9)] if rng.random() < 0.2 else draw(8)
        choices = [draw(4) for _ in range(rng.randint(0, 5))]
        verdict = _decide(prediction, gold, choices, rng.choice([None, 0, 2, -1, 400]))
        assert not isinstance(verdict, str) or verdict in {"equal", "different", "undecided"}
        extract_answer(prediction)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [("A =", "5"), ("=", "="), ("5 = ", "= 5"), (r"\approx", "3"), ("3 =", r"\approx 3")],
)
def test_half_an_equation_is_no_answer(prediction: str, gold: str) -> None:
    assert check(prediction, gold) in {"different", "undecided"} or prediction == gold


POWERS = {"G": 9, "M": 6, "k": 3, "m": -3, "μ": -6}


@pytest.mark.parametrize("symbol", ["Hz", "N", "Pa", "J", "W", "V", "Ω"])
def test_prefixes_are_powers_of_ten(symbol: str) -> None:
    """Every prefix against every other, the size as written out by hand."""
    used = [prefix for prefix in POWERS if prefix in "GMk" or symbol not in {"Hz", "Pa"}]
    for one, other in itertools.product(used, repeat=2):
        size = f"3*10^{{{POWERS[one] - POWERS[other]}}}"
        assert check(f"3 {one}{symbol}", f"{size} {other}{symbol}") == "equal", (one, other)
        if one != other:
            assert check(f"3 {one}{symbol}", f"3 {other}{symbol}") == "different", (one, other)


def test_temperatures_follow_their_scales() -> None:
    for celsius in range(-50, 120, 7):
        kelvin, fahrenheit = Fraction(27315, 100) + celsius, Fraction(9 * celsius, 5) + 32
        assert check(f"{float(fahrenheit)}°F", f"{celsius}°C") == "equal"
        assert check(f"{celsius}°C", f"{float(kelvin)} K") == "equal"
        assert check(f"{celsius + 30}°C", f"{float(kelvin)} K") == "different"
