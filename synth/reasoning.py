"""The reasoning stage: from a description and a question to a chain that checks itself.

It works the question out twice, from the first glance and from the close reading that the description holds,
and says where the second corrects the first. What the description leaves open stays open.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from synth.narration import listed, parse_description, place_words
from synth.questions import Query, understand
from synth.solving import Solution, called, match_choice, solve
from synth.vision import Chart, Element, Grid, Look, Scatter
from synth.vocabulary import article

_OPENINGS = (
    "Let me work this out step by step.",
    "I will take this one step at a time and check myself on the way.",
    "Let me first see what is asked, then what there is to see.",
)
_CHECKING = (
    "A first impression can be wrong, so let me check it against the close reading in the description.",
    "That was only a quick look. According to the description, the close reading has more to say.",
    "Before I trust this, let me go through what the description gives element by element.",
)
_AGREE = (
    "Both ways lead to the same result, so the first impression holds.",
    "This agrees with the first glance, which was a separate look.",
    "The quick look and the close one say the same, which makes a slip unlikely.",
)
_DOUBT = ("Wait, this does not agree with the first glance.", "Hold on, the two readings differ.")


def reason(description: str, question: str, seed: int) -> str:
    """A chain that ends in `Final answer: X`, or says honestly why there is none.

    Args:
        question: with its choices as lines `A. ...` after a line `Choices:`, if it has any.
        seed: chooses among phrasings, never the answer.
    """
    rng = random.Random(seed)
    query, look = understand(question), parse_description(description)
    opening = f"{rng.choice(_OPENINGS)} {_task(query)}"
    if look is None:
        return f"{opening}\n\n{_no_ground()}"
    glance, close = solve(query, look.glance), solve(query, look.close)
    parts = [opening, _glance_part(query, glance, look), _close_part(close, rng)]
    if close.answer is None:
        parts.append(_undecided(glance))
    else:
        parts += [_comparison(glance, close, look, query, rng), close.check and f"One more check. {close.check}"]
        parts.append(_conclusion(query, close.answer))
    return "\n\n".join(part for part in parts if part)


# ------------------------------------------------------------------------------------ paragraphs


def _task(query: Query) -> str:
    names = [" ".join(part for part in name if part) for name in query.names]
    asked = {
        "count": f"The task is to count: {names[0] or 'all'} shapes are what matters." if names else "",
        "extreme": f"I have to find the {query.word} shape.",
        "pair": f"I have to compare two shapes, the {' and the '.join(names)}, and find the {query.word} one.",
        "relation": f"I have to see whether the {f' is {query.word} the '.join(names)}.",
        "value": f"I have to read off how high the {names[0]} bar reaches." if names else "",
        "difference": f"I need the values of two bars, {' and '.join(names)}, and then their difference.",
        "above": f"I have to compare every other bar with the {names[0]} bar." if names else "",
        "tallest": f"I have to find the {query.word} bar.",
        "pattern": "I have to find the rule of the grid and carry it on into the marked cell.",
    }.get(query.kind, "")
    return asked.replace("shapes shapes", "shapes") or "First I need to see what is asked for."


def _no_ground() -> str:
    return (
        "The description holds no element by element reading that I could work from, so whatever I said would be "
        "a guess. I leave the question without an answer."
    )


def _glance_part(query: Query, glance: Solution, look: Look) -> str:
    seen = f"The description says that at first glance there are {_overview(look, query)}."
    if glance.answer is None:
        return f"{seen} From that alone I cannot tell: {_lower(glance.steps[-1])}"
    return f"{seen} Going by that alone, the answer would be {glance.answer}."


def _overview(look: Look, query: Query) -> str:
    reading = look.glance
    if isinstance(reading, Scatter):
        return f"{len(reading.elements)} shapes, {listed(one.name for one in reading.elements) or 'none of them clear'}"
    if isinstance(reading, Chart):
        bars = ", ".join(f"{bar.colour} at about gridline {bar.height:g}" for bar in reading.bars)
        return f"{len(reading.bars)} bars, {bars or 'none of them clear'}"
    row = reading.hole[0]
    names = [name for (at, _), name in sorted(reading.cells.items()) if at == row]
    where = f"{reading.rows} rows and {reading.columns} columns, with the open cell in row {row + 1}"
    return f"{where} beside {listed(names) or 'nothing clear'}"


def _close_part(close: Solution, rng: random.Random) -> str:
    return " ".join([rng.choice(_CHECKING), *close.steps])


def _undecided(glance: Solution) -> str:
    hint = f" The first glance suggested {glance.answer}, but I do not trust it alone." if glance.answer else ""
    return (
        f"So the description does not settle the question.{hint} Rather than guess, I leave it without an answer."
    )


def _comparison(glance: Solution, close: Solution, look: Look, query: Query, rng: random.Random) -> str:
    if glance.answer == close.answer:
        return rng.choice(_AGREE)
    first = glance.answer or "no answer"
    return (
        f"{rng.choice(_DOUBT)} The glance gave {first}, the close reading gives {close.answer}. Where does that "
        f"come from? {_difference(look, query)} The close reading saw more detail, so I correct myself: "
        f"{close.answer}, not {first}."
    )


def _conclusion(query: Query, answer: str) -> str:
    if not query.choices:
        return f"Final answer: {answer}"
    letter = match_choice(answer, query.choices)
    if letter is None:
        options = "; ".join(query.choices)
        return (
            f"Now the choices: {options}. My result, {answer}, is not among them, so I must have misread something "
            "that I cannot find again in the description. I leave the question without an answer."
        )
    return f"Among the choices, {answer} is option {letter}.\n\nFinal answer: {letter}"


# ------------------------------------------------------------------------------------ what differed


def _difference(look: Look, query: Query) -> str:
    """Where the glance and the close reading part, one or two instances."""
    glance, close = look.glance, look.close
    if isinstance(glance, Scatter) and isinstance(close, Scatter):
        return _scatter_difference(glance.elements, close.elements, query)
    if isinstance(glance, Chart) and isinstance(close, Chart):
        return _chart_difference(glance, close, query)
    if isinstance(glance, Grid) and isinstance(close, Grid):
        return _grid_difference(glance, close)
    return ""


def _scatter_difference(glance: Sequence[Element], close: Sequence[Element], query: Query) -> str:
    left = list(glance)
    told = []
    for one in close:
        twin = min(left, key=lambda other: _apart(one, other), default=None)
        if twin is None or _apart(one, twin) > 6:
            told.append((one, f"The glance missed {called(one)}."))
            continue
        left.remove(twin)
        if twin.name != one.name:
            told.append((one, f"The glance took {called(one)} for {article(twin.name)}."))
    told.sort(key=lambda entry: not any(_touches(entry[0], name) for name in query.names))
    extra = [f"What it took for {article(one.name)} at the {place_words(one.x, one.y)} is not there." for one in left]
    sentences = [sentence for _, sentence in told] + extra
    return " ".join(sentences[:3]) or "The shapes are the same, but their sizes and places were only rough."


def _touches(one: Element, name: tuple[str, str]) -> bool:
    return one.colour == name[0] or one.shape == name[1]


def _apart(one: Element, other: Element) -> float:
    return ((one.x - other.x) ** 2 + (one.y - other.y) ** 2) ** 0.5


def _chart_difference(glance: Chart, close: Chart, query: Query) -> str:
    lines = {bar.colour: bar.height for bar in glance.bars}
    told = []
    for bar in close.bars:
        if bar.colour not in lines:
            told.append(f"The glance missed the {bar.colour} bar.")
        elif abs(lines[bar.colour] - bar.height) > 0.2:
            told.append(f"The glance put the {bar.colour} bar at gridline {lines[bar.colour]:g}, not {bar.height:.2f}.")
    asked = {name[0] for name in query.names}
    told.sort(key=lambda sentence: not any(f" {colour} " in sentence for colour in asked))
    return " ".join(told[:3]) or "The glance saw whole gridlines only."


def _grid_difference(glance: Grid, close: Grid) -> str:
    told = []
    for (row, column), name in sorted(close.cells.items()):
        seen = glance.cells.get((row, column))
        if seen != name:
            what = f"took it for {article(seen)}" if seen else "missed it"
            told.append(f"Row {row + 1}, column {column + 1} holds {article(name)}; the glance {what}.")
    more = f" The same goes for {len(told) - 3} more cells." if len(told) > 3 else ""
    return " ".join(told[:3]) + more


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
