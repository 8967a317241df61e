"""The reasoning stage: from a description and a question to a chain that checks itself.

It works the question out twice, from the first glance and from the close reading that the description holds,
and says where the second corrects the first. What the description leaves open stays open.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from synth.seeing.vision import Chart, Element, Grid, Look, Scatter
from synth.thinking.narration import listed, parse_description, place_words
from synth.thinking.questions import Query, understand
from synth.thinking.solution import Solution
from synth.thinking.solving import match_choice, solve
from synth.thinking.solving_shapes import called
from synth.vocabulary import article, plural

_OPENINGS = (
    "Let me work this out step by step.",
    "I will take this one step at a time and check myself on the way.",
    "Let me first see what is asked, then what there is to see.",
)
_CHECKING = (
    "A first impression can be wrong, so let me check it against the close reading in the description.",
    "That was only a quick look. According to the description, the close reading has more to say.",
    "Before I trust this, let me go through what the description gives, element by element.",
)
_AGREE = (
    "Both ways lead to the same result, so the first impression holds.",
    "This agrees with the first glance, which was a separate look.",
    "The quick look and the close one say the same, which makes a slip unlikely.",
)
_VERIFYING = (
    "Let me verify this another way.",
    "To be sure, I check the result once more.",
    "Let me double-check before I settle on it.",
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
        parts.append(_comparison(glance, close, look, query, rng))
        parts.append(f"{rng.choice(_VERIFYING)} {close.check}" if close.check else "")
        parts.append(_conclusion(query, close.answer))
    return "\n\n".join(part for part in parts if part)


# ------------------------------------------------------------------------------------ paragraphs


def _task(query: Query) -> str:
    names = [" ".join(part for part in name if part) for name in query.names]
    counted = plural(f"{query.names[0][0]} {query.names[0][1] or 'shape'}".strip()) if names else ""
    asked = {
        "count": f"The task is to count the {counted}." if names else "",
        "extreme": f"I have to find the {query.word} shape.",
        "pair": f"I have to find the {query.word} one of two shapes, the {' and the '.join(names)}.",
        "relation": f"I have to see whether the {f' is {query.word} the '.join(names)}.",
        "value": f"I have to read off how high the {names[0]} bar reaches." if names else "",
        "difference": f"I need the values of two bars, {' and '.join(names)}, and then their difference.",
        "above": f"I have to compare every other bar with the {names[0]} bar." if names else "",
        "tallest": f"I have to find the {query.word} bar.",
        "pattern": "I have to find the rule of the grid and carry it on into the marked cell.",
    }.get(query.kind, "")
    return asked or "First I need to see what is asked for."


def _no_ground() -> str:
    return (
        "The description holds no element by element reading that I could work from, so whatever I said "
        "would be a guess. I leave the question without an answer."
    )


def _glance_part(query: Query, glance: Solution, look: Look) -> str:
    seen = f"The description says that at first glance there are {_overview(look, query)}."
    if glance.answer is None:
        return f"{seen} That alone does not settle it. {glance.steps[-1]}"
    return f"{seen} Going by that alone, the answer would be {glance.answer}."


def _overview(look: Look, query: Query) -> str:
    reading = look.glance
    if isinstance(reading, Scatter):
        kinds = listed(one.name for one in reading.elements)
        return f"{len(reading.elements)} shapes: {kinds or 'none of them clear'}"
    if isinstance(reading, Chart):
        bars = ", ".join(f"{bar.colour} at about gridline {bar.height:g}" for bar in reading.bars)
        return f"{len(reading.bars)} bars: {bars or 'none of them clear'}"
    row = reading.hole[0]
    names = [name for (at, _), name in sorted(reading.cells.items()) if at == row]
    where = f"{reading.rows} rows and {reading.columns} columns, with the open cell in row {row + 1}"
    return f"{where} beside {listed(names) or 'nothing clear'}"


def _close_part(close: Solution, rng: random.Random) -> str:
    return " ".join([rng.choice(_CHECKING), *close.steps])


def _undecided(glance: Solution) -> str:
    hint = (
        f" The first glance suggested {glance.answer}, but I do not trust it alone." if glance.answer else ""
    )
    return (
        f"So the description does not settle the question.{hint} "
        "Rather than guess, I leave it without an answer."
    )


def _comparison(glance: Solution, close: Solution, look: Look, query: Query, rng: random.Random) -> str:
    slips = " ".join(_slips(look, query))
    if glance.answer == close.answer:
        agree = rng.choice(_AGREE)
        return f"{agree} Some details of it were off, though, and I correct them. {slips}" if slips else agree
    slips = slips or "The sizes and places of the glance were only rough."
    if glance.answer is None:
        settled = f"I correct my first impression: the result is {close.answer}."
        return f"The glance had left this open. {slips} {settled}"
    return (
        f"{rng.choice(_DOUBT)} The glance gave {glance.answer}, the close reading gives {close.answer}. "
        f"Where does that come from? {slips} The close reading saw more detail, so I correct myself: "
        f"{close.answer}, not {glance.answer}."
    )


def _conclusion(query: Query, answer: str) -> str:
    if not query.choices:
        return f"Final answer: {answer}"
    letter = match_choice(answer, query.choices)
    if letter is None:
        options = "; ".join(query.choices)
        return (
            f"Now the choices: {options}. My result, {answer}, is not among them, so I must have misread "
            "something that I cannot find again in the description. I leave the question without an answer."
        )
    return f"Among the choices, {answer} is option {letter}.\n\nFinal answer: {letter}"


# ------------------------------------------------------------------------------------ what differed


def _slips(look: Look, query: Query) -> list[str]:
    """Where the glance differs from the close reading, a few instances, what the question names first."""
    glance, close = look.glance, look.close
    if isinstance(glance, Scatter) and isinstance(close, Scatter):
        return _scatter_slips(glance.elements, close.elements, query)[:3]
    if isinstance(glance, Chart) and isinstance(close, Chart):
        return _chart_slips(glance, close, query)[:3]
    if isinstance(glance, Grid) and isinstance(close, Grid):
        return _grid_slips(glance, close)
    return []


def _scatter_slips(glance: Sequence[Element], close: Sequence[Element], query: Query) -> list[str]:
    left = list(glance)
    told = []
    for one in close:
        twin = min(left, key=lambda other: _apart(one, other), default=None)
        if twin is None or _apart(one, twin) > 6:
            told.append((one, f"{_upper(called(one))} was missed at first glance."))
            continue
        left.remove(twin)
        if twin.name != one.name:
            told.append((one, f"{_upper(called(one))} looked like {article(twin.name)} at first glance."))
    told.sort(key=lambda entry: not any(_touches(entry[0], name) for name in query.names))
    extra = [
        f"The {one.name} that seemed to be at the {place_words(one.x, one.y)} is not there." for one in left
    ]
    return [sentence for _, sentence in told] + extra


def _touches(one: Element, name: tuple[str, str]) -> bool:
    return one.colour == name[0] or one.shape == name[1]


def _apart(one: Element, other: Element) -> float:
    return ((one.x - other.x) ** 2 + (one.y - other.y) ** 2) ** 0.5


def _chart_slips(glance: Chart, close: Chart, query: Query) -> list[str]:
    lines = {bar.colour: bar.height for bar in glance.bars}
    asked = {name[0] for name in query.names}
    told = []
    for bar in sorted(close.bars, key=lambda bar: bar.colour not in asked):
        if bar.colour not in lines:
            told.append(f"The {bar.colour} bar was missed at first glance.")
        elif abs(lines[bar.colour] - bar.height) > 0.2:
            line = f"gridline {lines[bar.colour]:g}, not {bar.height:.2f}"
            told.append(f"The {bar.colour} bar seemed to end at {line}.")
    return told


def _grid_slips(glance: Grid, close: Grid) -> list[str]:
    told = []
    for (row, column), name in sorted(close.cells.items()):
        seen = glance.cells.get((row, column))
        if seen != name:
            what = f"took it for {article(seen)}" if seen else "missed it"
            told.append(f"Row {row + 1}, column {column + 1} holds {article(name)}; the glance {what}.")
    more = [f"The same goes for {len(told) - 3} more cells."] if len(told) > 3 else []
    return told[:3] + more


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
