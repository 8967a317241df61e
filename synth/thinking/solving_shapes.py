"""Questions about scattered shapes, worked out on one reading: count, rank, compare, relate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from synth.seeing.vision import Element, Scatter
from synth.thinking.narration import place_words
from synth.thinking.questions import Name, Query
from synth.thinking.solution import Solution
from synth.vocabulary import article

_TIE = {"area": 0.05, "x": 1.0, "y": 1.0}  # area: share of the larger; x, y: percent of the picture
_GREATER = {"area": "covers {} percent of the picture", "x": "has its centre at {} percent from the left"}
_GREATER["y"] = "has its centre at {} percent from the top"
_MOST_STEPS = 12


def called(one: Element) -> str:
    """A noun phrase for an element: "the red circle at the upper left"."""
    return f"the {one.name} at the {place_words(one.x, one.y)}"


def count_kind(query: Query, reading: Scatter) -> Solution:
    """How many shapes are of the colour and shape asked for."""
    if not query.names:
        return Solution(None, ["It is not clear which things have to be counted."])
    wanted = query.names[0]
    steps, found = [], []
    passed = 0
    for one in reading.elements:
        if _is_a(one, wanted):
            found.append(one)
            steps.append(f"{_upper(called(one))} counts: that makes {len(found)}.")
        elif len(steps) < _MOST_STEPS and _near_miss(one, wanted):
            steps.append(f"{_upper(called(one))} does not count: {_why_not(one, wanted)}.")
        else:
            passed += 1
    if passed:
        steps.append(f"The other {passed} of the {len(reading.elements)} shapes are of other kinds.")
    doubts = [one for one in reading.elements if _doubtful(one, wanted)]
    if len(doubts) > 2:
        steps.append(
            f"But {len(doubts)} shapes that decide the count are hard to make out, among them "
            f"{called(doubts[0])} and {called(doubts[1])}."
        )
        return Solution(None, steps)
    steps += [
        f"{_upper(called(one))} is hard to make out, but I keep my best guess for it." for one in doubts
    ]
    rows = Counter(place_words(one.x, one.y) for one in found)
    where = ", ".join(f"{count} at the {place}" for place, count in rows.items())
    return Solution(
        str(len(found)), steps, f"Sorted by place I count {where or 'none anywhere'}, {len(found)} in all."
    )


def _is_a(one: Element, wanted: Name) -> bool:
    return wanted[0] in ("", one.colour) and wanted[1] in ("", one.shape)


def _near_miss(one: Element, wanted: Name) -> bool:
    return one.colour == wanted[0] or one.shape == wanted[1]


def _why_not(one: Element, wanted: Name) -> str:
    if wanted[0] not in ("", one.colour):
        return f"its colour is {one.colour}, not {wanted[0]}"
    return f"it is {article(one.shape)}, not {article(wanted[1])}"


def _doubtful(one: Element, wanted: Name) -> bool:
    """True where what is unclear about an element decides whether it counts."""
    colour_fits = wanted[0] in ("", one.colour)
    if wanted[1] and one.unclear and colour_fits:
        return True
    return bool(wanted[0] and one.other_colour) and wanted[0] in (one.colour, one.other_colour)


def find_extreme(query: Query, reading: Scatter) -> Solution:
    """Which shape is the largest, the leftmost, ...; undecided where two are too close."""
    ranked = sorted(reading.elements, key=lambda one: getattr(one, query.key), reverse=query.greatest)
    if not ranked:
        return Solution(None, ["No shape can be made out."])
    steps = [f"{_upper(called(one))} {_measure(one, query.key)}." for one in ranked[:4]]
    best = ranked[0]
    steps.append(f"So the {query.word} is {called(best)}.")
    answer = best.colour if query.wants_colour else best.name
    if len(ranked) == 1:
        return Solution(answer, steps)
    if _tied(best, ranked[1], query.key):
        return Solution(None, [*steps[:2], "These two are too close to tell apart."])
    second = f"{_upper(called(ranked[1]))} comes next: it {_measure(ranked[1], query.key)}"
    check = f"{second}, so the order is clear."
    return Solution(answer, steps, check)


def compare_pair(query: Query, reading: Scatter) -> Solution:
    """Which of two named shapes is larger or smaller."""
    found = [_find(name, reading.elements) for name in query.names]
    if found[0] is None or found[1] is None:
        return _not_found(query, found)
    one, other = found[0], found[1]
    steps = [f"{_upper(called(thing))} {_measure(thing, query.key)}." for thing in (one, other)]
    if _tied(one, other, query.key):
        return Solution(None, [*steps, "The two are too close to tell apart."])
    best = one if (one.area > other.area) == query.greatest else other
    steps.append(f"So the {query.word} of the two is {called(best)}.")
    wide = sorted((one, other), key=lambda thing: thing.width * thing.height)
    check = f"Measured by its width and height, {called(wide[1])} is the larger of the two as well."
    return Solution(best.name, steps, check if (wide[1] is best) == query.greatest else "")


def check_relation(query: Query, reading: Scatter) -> Solution:
    """Whether one named shape lies on a given side of another: yes or no."""
    found = [_find(name, reading.elements) for name in query.names]
    if found[0] is None or found[1] is None:
        return _not_found(query, found)
    one, other = found[0], found[1]
    steps = [f"{_upper(called(thing))} {_measure(thing, query.key)}." for thing in (one, other)]
    if _tied(one, other, query.key):
        return Solution(None, [*steps, "The two are level, so neither answer is safe."])
    before = getattr(one, query.key) < getattr(other, query.key)
    answer = "yes" if before == query.greatest else "no"
    steps.append(f"So the {one.name} {'is' if answer == 'yes' else 'is not'} {query.word} the {other.name}.")
    gap = abs(getattr(one, query.key) - getattr(other, query.key))
    return Solution(answer, steps, f"The centres lie {gap:.1f} percent apart, more than any slip of reading.")


def _find(name: Name, elements: Sequence[Element]) -> Element | None:
    """The element of a name, the largest of several; where none is, the only unclear one of its colour."""
    exact = [one for one in elements if _is_a(one, name)]
    guesses = [one for one in elements if one.unclear and one.colour == name[0]]
    if exact:
        return max(exact, key=lambda one: one.area)
    return guesses[0] if len(guesses) == 1 else None


def _not_found(query: Query, found: Sequence[Element | None]) -> Solution:
    missing = [" ".join(name).strip() for name, one in zip(query.names, found, strict=True) if one is None]
    return Solution(None, [f"There is no {name} among the shapes that can be made out." for name in missing])


def _measure(one: Element, key: str) -> str:
    return _GREATER[key].format(f"{getattr(one, key):.2f}" if key == "area" else f"{getattr(one, key):.1f}")


def _tied(one: Element, other: Element, key: str) -> bool:
    first, second = getattr(one, key), getattr(other, key)
    scale = max(first, second, 1e-9) if key == "area" else 1.0
    return abs(first - second) / scale < _TIE[key]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
