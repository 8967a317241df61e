"""Works a question out on one reading of a picture; the same steps for the glance and the close look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from synth.narration import place_words
from synth.patterns import Rule, exceptions, fitting_rules, predicted
from synth.questions import Name, Query, parse_name
from synth.vision import Bar, Cell, Chart, Element, Grid, Reading, Scatter
from synth.vocabulary import article, plural

_TIE = {"area": 0.05, "x": 1.0, "y": 1.0}  # area: share of the larger; x, y: percent of the picture
_GREATER = {"area": "covers {} percent of the picture", "x": "has its centre at {} percent from the left"}
_GREATER["y"] = "has its centre at {} percent from the top"
_MOST_STEPS = 12


@dataclass(frozen=True)
class Solution:
    """What a reading gives.

    Attributes:
        answer: plain text; None where the reading leaves the question undecided.
        steps: the way there, sentence by sentence, or why there is none.
        check: a second way to the same answer, one sentence, "" where there is none.
    """

    answer: str | None
    steps: list[str] = field(default_factory=list)
    check: str = ""


def solve(query: Query, reading: Reading) -> Solution:
    """Answers a query from a reading."""
    kinds: dict[str, tuple[type, Callable[..., Solution]]] = {
        "count": (Scatter, _count),
        "extreme": (Scatter, _extreme),
        "pair": (Scatter, _pair),
        "relation": (Scatter, _relation),
        "value": (Chart, _value),
        "difference": (Chart, _difference),
        "above": (Chart, _above),
        "tallest": (Chart, _tallest),
        "pattern": (Grid, _pattern),
    }
    if query.kind not in kinds:
        return Solution(None, ["I do not see what exactly has to be found."])
    wanted, work = kinds[query.kind]
    if not isinstance(reading, wanted):
        return Solution(None, ["The question is about another kind of picture than the one at hand."])
    return work(query, reading)


def match_choice(answer: str, choices: Sequence[str]) -> str | None:
    """The letter of the one option that says the same as `answer`, None where there is not exactly one."""
    same = [place for place, option in enumerate(choices) if _plain(option) == _plain(answer)]
    return chr(ord("A") + same[0]) if len(same) == 1 and same[0] < 26 else None


def called(one: Element) -> str:
    """A noun phrase for an element: "the red circle at the upper left"."""
    return f"the {one.name} at the {place_words(one.x, one.y)}"


def _plain(text: str) -> str:
    name = parse_name(text)
    return " ".join(name).strip() if name else " ".join(text.lower().split()).removeprefix("the ")


# ------------------------------------------------------------------------------------ shapes


def _count(query: Query, reading: Scatter) -> Solution:
    if not query.names:
        return Solution(None, ["It is not clear which things have to be counted."])
    wanted = query.names[0]
    steps, found = [], []
    passed = 0
    for one in reading.elements:
        if _is_a(one, wanted):
            found.append(one)
            steps.append(f"{_upper(called(one))} is what I am looking for: that makes {len(found)}.")
        elif len(steps) < _MOST_STEPS and _near_miss(one, wanted):
            steps.append(f"{_upper(called(one))} is not: {_why_not(one, wanted)}.")
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
    steps += [f"{_upper(called(one))} is hard to make out; I keep my best guess for it." for one in doubts]
    rows = Counter(place_words(one.x, one.y) for one in found)
    where = ", ".join(f"{count} at the {place}" for place, count in rows.items())
    return Solution(str(len(found)), steps, f"Sorted by place I count {where or 'none anywhere'}, {len(found)} in all.")


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


def _extreme(query: Query, reading: Scatter) -> Solution:
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
    check = f"The runner-up is {called(ranked[1])}, which {_measure(ranked[1], query.key)}, so the order is clear."
    return Solution(answer, steps, check)


def _pair(query: Query, reading: Scatter) -> Solution:
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


def _relation(query: Query, reading: Scatter) -> Solution:
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


# ------------------------------------------------------------------------------------ charts


def _scale(reading: Chart) -> tuple[int | None, str]:
    """Units per gridline by the majority of the labels, and a sentence about it."""
    known = [(place, label) for place, label in enumerate(reading.labels) if label is not None and place]
    votes = Counter(label // place for place, label in known if label % place == 0)
    if not votes or votes.most_common(1)[0][1] < 2:
        return None, "The labels of the axis do not give one scale."
    step = votes.most_common(1)[0][0]
    odd = [label for place, label in known if label != step * place]
    unread = len(reading.labels) - 1 - len(known)
    note = f"The labels of the axis rise by {step} from one gridline to the next."
    if odd:
        note += f" The label {odd[0]} breaks the equal steps, so it must be a misreading."
    if unread > 0:
        note += f" {unread} of the labels cannot be read, but the others settle the scale."
    return (step, note) if step else (None, "The labels of the axis do not give one scale.")


def _snapped(height: float) -> float:
    """A height in gridline spacings: on a gridline or half-way where it is near one, else in tenths."""
    halves = round(2 * height) / 2
    return halves if abs(height - halves) < 0.07 else round(10 * height) / 10


def _units(height: float, step: int) -> str:
    value = round(_snapped(height) * step, 4)
    return f"{value:g}"


def _one_bar(colour: str, reading: Chart) -> tuple[Bar | None, str]:
    bars = [bar for bar in reading.bars if bar.colour == colour]
    if len(bars) == 1:
        return bars[0], ""
    return None, f"There {'is no' if not bars else f'are {len(bars)} bars that look'} {colour}{'' if bars else ' bar'}."


def _value(query: Query, reading: Chart) -> Solution:
    step, note = _scale(reading)
    bar, missing = _one_bar(query.names[0][0], reading)
    if bar is None or step is None:
        return Solution(None, [note, missing] if missing else [note])
    value = _units(bar.height, step)
    steps = [note, _reading_of(bar, step)]
    line = f"{float(value) / step:g}"
    return Solution(value, steps, f"The other way round, {value} divided by {step} is {line}, where the bar ends.")


def _reading_of(bar: Bar, step: int) -> str:
    return (
        f"The {bar.colour} bar ends {bar.height:.2f} gridline spacings above the baseline, that is "
        f"{_snapped(bar.height):g} times {step}, which is {_units(bar.height, step)}."
    )


def _difference(query: Query, reading: Chart) -> Solution:
    step, note = _scale(reading)
    bars, missing = zip(*(_one_bar(name[0], reading) for name in query.names), strict=True)
    if bars[0] is None or bars[1] is None or step is None:
        return Solution(None, [note, *filter(None, missing)])
    values = [float(_units(bar.height, step)) for bar in bars]
    answer = f"{abs(values[0] - values[1]):g}"
    steps = [note, *(_reading_of(bar, step) for bar in bars)]
    steps.append(f"The difference is {max(values):g} minus {min(values):g}, which is {answer}.")
    check = f"Adding back, {min(values):g} and {answer} make {min(values) + float(answer):g}, the taller bar again."
    return Solution(answer, steps, check)


def _above(query: Query, reading: Chart) -> Solution:
    bar, missing = _one_bar(query.names[0][0], reading)
    if bar is None:
        return Solution(None, [missing])
    steps = [f"The {bar.colour} bar ends {bar.height:.2f} gridline spacings above the baseline."]
    higher = 0
    for other in reading.bars:
        if other is not bar:
            above = other.height > bar.height + 0.06
            higher += above
            count = f"higher, that makes {higher}" if above else "not higher"
            steps.append(f"The {other.colour} bar ends at {other.height:.2f}: {count}.")
    rest = len(reading.bars) - 1 - higher
    return Solution(str(higher), steps, f"{higher} higher and {rest} not higher make all {higher + rest} other bars.")


def _tallest(query: Query, reading: Chart) -> Solution:
    ranked = sorted(reading.bars, key=lambda bar: bar.height, reverse=query.greatest)
    if len(ranked) < 2:
        return Solution(None, ["There are not enough bars to compare."])
    steps = [f"The {bar.colour} bar ends {bar.height:.2f} gridline spacings above the baseline." for bar in ranked]
    if abs(ranked[0].height - ranked[1].height) < 0.06:
        return Solution(None, [*steps[:2], "These two bars are too close to tell apart."])
    steps.append(f"So the {query.word} bar is the {ranked[0].colour} one.")
    check = f"The next one, the {ranked[1].colour} bar, ends at {ranked[1].height:.2f}, so the order is clear."
    return Solution(ranked[0].colour, steps, check)


# ------------------------------------------------------------------------------------ patterns


def _pattern(query: Query, reading: Grid) -> Solution:
    steps, parts = [], []
    for place, word in ((0, "colour"), (1, "shape")):
        values = {cell: name.split()[place] for cell, name in reading.cells.items()}
        value, told = _continued(values, word, reading)
        steps += told
        parts.append(value)
    if None in parts:
        return Solution(None, steps)
    answer = " ".join(str(part) for part in parts)
    steps.append(f"Colour and shape together: the marked cell should hold {article(answer)}.")
    return Solution(answer, steps, _in_its_row(answer, reading))


def _continued(values: dict[Cell, str], word: str, grid: Grid) -> tuple[str | None, list[str]]:
    """What the rule of one property gives the open cell, and the sentences that say so."""
    fits = fitting_rules(values, grid.rows, grid.columns, allowed=1)
    steps = [f"{word.capitalize()}s, row by row: {_rows_of(values, grid)}."]
    if not fits:
        return None, [*steps, f"I find no simple rule that the {plural(word)} follow."]
    rule = fits[0]
    odd = exceptions(rule, values)
    equal = [other for other in fits if len(exceptions(other, values)) == len(odd)]
    guesses = {predicted(other, values, grid.hole) for other in equal} - {None}
    steps.append(_rule_sentence(rule, odd, values, word))
    if len(guesses) != 1:
        return None, [*steps, f"Other rules fit the {plural(word)} just as well and say something else."]
    value = str(guesses.pop())
    return value, [*steps, f"By this rule the {word} in row {grid.hole[0] + 1}, column {grid.hole[1] + 1} is {value}."]


def _rule_sentence(rule: Rule, odd: list[Cell], values: dict[Cell, str], word: str) -> str:
    sentence = f"The {word} is {rule.words}"
    if not odd:
        return f"{sentence}, and every visible cell obeys."
    row, column = odd[0]
    return (
        f"{sentence}, with one exception: row {row + 1}, column {column + 1} looks {values[odd[0]]}, "
        "which I take for a misreading."
    )


def _rows_of(values: dict[Cell, str], grid: Grid) -> str:
    rows = []
    for row in range(grid.rows):
        cells = ((row, column) for column in range(grid.columns))
        rows.append(", ".join("?" if cell == grid.hole else values.get(cell, "unclear") for cell in cells))
    return "; ".join(rows)


def _in_its_row(answer: str, grid: Grid) -> str:
    row = grid.hole[0]
    names = [
        answer if (row, column) == grid.hole else grid.cells.get((row, column), "something unclear")
        for column in range(grid.columns)
    ]
    return f"Put into its place, row {row + 1} reads {', '.join(names)}, which goes with the other rows."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]

