"""Questions about bar charts and pattern grids, worked out on one reading."""

from __future__ import annotations

from collections import Counter

from synth.patterns import Rule, exceptions, fitting_rules, predicted
from synth.seeing.vision import Bar, Cell, Chart, Grid
from synth.thinking.questions import Query
from synth.thinking.solution import Solution
from synth.vocabulary import article, plural

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
    if bars:
        return None, f"There are {len(bars)} bars that look {colour}."
    return None, f"There is no {colour} bar."


def read_value(query: Query, reading: Chart) -> Solution:
    """The value of one bar, from the gridlines and the labels."""
    step, note = _scale(reading)
    bar, missing = _one_bar(query.names[0][0], reading)
    if bar is None or step is None:
        return Solution(None, [note, missing] if missing else [note])
    value = _units(bar.height, step)
    steps = [note, _reading_of(bar, step)]
    line = f"{float(value) / step:g}"
    return Solution(
        value, steps, f"The other way round, {value} divided by {step} is {line}, where the bar ends."
    )


def _reading_of(bar: Bar, step: int) -> str:
    return (
        f"The {bar.colour} bar ends {bar.height:.2f} gridline spacings above the baseline, that is "
        f"{_snapped(bar.height):g} times {step}, which is {_units(bar.height, step)}."
    )


def subtract_values(query: Query, reading: Chart) -> Solution:
    """The difference between two bars."""
    step, note = _scale(reading)
    bars, missing = zip(*(_one_bar(name[0], reading) for name in query.names), strict=True)
    if bars[0] is None or bars[1] is None or step is None:
        return Solution(None, [note, *filter(None, missing)])
    values = [float(_units(bar.height, step)) for bar in bars]
    answer = f"{abs(values[0] - values[1]):g}"
    steps = [note, *(_reading_of(bar, step) for bar in bars)]
    steps.append(f"The difference is {max(values):g} minus {min(values):g}, which is {answer}.")
    check = f"Adding back, {min(values):g} and {answer} make {max(values):g}, the taller bar again."
    return Solution(answer, steps, check)


def count_higher(query: Query, reading: Chart) -> Solution:
    """How many bars are higher than the one named."""
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
    return Solution(
        str(higher), steps, f"{higher} higher and {rest} not higher make all {higher + rest} other bars."
    )


def find_tallest(query: Query, reading: Chart) -> Solution:
    """The colour of the tallest or shortest bar; undecided where two are too close."""
    ranked = sorted(reading.bars, key=lambda bar: bar.height, reverse=query.greatest)
    if len(ranked) < 2:
        return Solution(None, ["There are not enough bars to compare."])
    steps = [
        f"The {bar.colour} bar ends {bar.height:.2f} gridline spacings above the baseline." for bar in ranked
    ]
    if abs(ranked[0].height - ranked[1].height) < 0.06:
        return Solution(None, [*steps[:2], "These two bars are too close to tell apart."])
    steps.append(f"So the {query.word} bar is the {ranked[0].colour} one.")
    check = f"The {ranked[1].colour} bar comes next, at {ranked[1].height:.2f}, so the order is clear."
    return Solution(ranked[0].colour, steps, check)


# ------------------------------------------------------------------------------------ patterns


def complete_pattern(query: Query, reading: Grid) -> Solution:
    """What belongs into the marked cell, by the simplest rule of the colours and of the shapes."""
    del query
    steps = [f"{_row_of(row, reading)}." for row in range(reading.rows)]
    parts = []
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
    if not fits:
        return None, [f"I find no simple rule that the {plural(word)} follow."]
    rule = fits[0]
    odd = exceptions(rule, values)
    equal = [other for other in fits if len(exceptions(other, values)) == len(odd)]
    guesses = {predicted(other, values, grid.hole) for other in equal} - {None}
    steps = [_rule_sentence(rule, odd, values, word)]
    if len(guesses) != 1:
        return None, [*steps, f"Other rules fit the {plural(word)} just as well and say something else."]
    value = str(guesses.pop())
    where = f"row {grid.hole[0] + 1}, column {grid.hole[1] + 1}"
    return value, [*steps, f"By this rule {where} has the {word} {value}."]


def _rule_sentence(rule: Rule, odd: list[Cell], values: dict[Cell, str], word: str) -> str:
    sentence = f"The {word} is {rule.words}"
    if not odd:
        return f"{sentence}, and every visible cell obeys."
    row, column = odd[0]
    return (
        f"{sentence}, with one exception: row {row + 1}, column {column + 1} looks {values[odd[0]]}, "
        "which I take for a misreading."
    )


def _row_of(row: int, grid: Grid) -> str:
    """One row in words."""
    cells = [(row, column) for column in range(grid.columns)]
    held = ", ".join(
        "the open cell" if cell == grid.hole else grid.cells.get(cell, "unclear") for cell in cells
    )
    return f"Row {row + 1} holds, from left to right: {held}"


def _in_its_row(answer: str, grid: Grid) -> str:
    row = grid.hole[0]
    names = [
        answer if (row, column) == grid.hole else grid.cells.get((row, column), "something unclear")
        for column in range(grid.columns)
    ]
    return f"Put into its place, row {row + 1} reads {', '.join(names)}, which goes with the other rows."
