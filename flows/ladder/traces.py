"""What the ladder's students learn to say: descriptions, short answers, traces with anchors and without."""

from __future__ import annotations

import random
from collections.abc import Sequence

from flows.ladder.scenes import COLOURS, PLACES, SIDE, Grid, Puzzle

DESCRIBE = "Describe the image."
_KINDS = ("all", "all", "all", "some", "some", "census")
_OPENINGS = ("", "looking back at the image , ", "at first glance . ", "let me look . ")


def describe(grid: Grid) -> str:
    """Every place with what is there."""
    return _say(grid, PLACES)


def description(grid: Grid, dice: random.Random) -> tuple[str, str]:
    """Something to say of a picture, with what asks for it: all of it, some places in any order, or a census.

    A short answer alone teaches one token a picture; these teach to see, to find a place, and to count. They
    begin in several ways, so that a place is found by its name and not by how far it stands from the start.
    """
    opening = dice.choice(_OPENINGS)
    kind = dice.choice(_KINDS)
    if kind == "census":
        return "Count the discs.", " ".join(f"{colour} {grid.cells.count(colour)}" for colour in COLOURS)
    if kind == "all":
        return DESCRIBE, opening + describe(grid)
    places = dice.sample(PLACES, dice.randint(1, 4))
    return f"Describe the {', the '.join(places)}.", opening + _say(grid, places)


def short_answer(puzzle: Puzzle) -> str:
    """The answer alone."""
    return f"<answer>{puzzle.answer}</answer>"


def plain_trace(puzzle: Puzzle) -> str:
    """The steps to the answer, without a word about the image."""
    return _close(" . ".join(_steps(puzzle)) + " .", puzzle)


def anchored_trace(puzzle: Puzzle, dice: random.Random) -> str:
    """The same steps looking back at the image, after a first glance that they confirm or correct."""
    glance = _glance(puzzle, dice)
    steps = " . ".join(f"looking back at the image , {step}" for step in _steps(puzzle))
    verdict = (
        "the close look agrees ."
        if glance == puzzle.answer
        else f"wait , the first glance said {glance} , so I correct it ."
    )
    return _close(f"at first glance {glance} . {steps} . {verdict}", puzzle)


def _glance(puzzle: Puzzle, dice: random.Random) -> str:
    """What a quick look gives: right one time in three, since more often a student just repeats it."""
    if dice.random() < 1 / 3:
        return puzzle.answer
    if puzzle.family == "count":
        return str(max(0, int(puzzle.answer) + dice.choice((-1, 1))))
    if puzzle.family == "more":
        return dice.choice([*puzzle.subject, "equal"])
    return dice.choice(puzzle.grid.cells)


def _steps(puzzle: Puzzle) -> Sequence[str]:
    """One step for a place that is asked for, else one for each row: what is there, does it count, the count.

    Each word follows from few others; a count without the yes or no before it was not learned in 400 steps.
    """
    grid = puzzle.grid
    if puzzle.family == "where":
        return [_say(grid, puzzle.subject)]
    counted = dict.fromkeys(puzzle.subject, 0)
    steps = []
    for start in range(0, len(PLACES), SIDE):
        said = []
        for place in PLACES[start : start + SIDE]:
            seen = grid.at(place)
            if seen in counted:
                counted[seen] += 1
            said += [place, seen, "yes" if seen in counted else "no", *map(str, counted.values())]
        steps.append(" ".join(said))
    return steps


def _say(grid: Grid, places: Sequence[str]) -> str:
    return " ".join(f"{place} {grid.at(place)}" for place in places)


def _close(chain: str, puzzle: Puzzle) -> str:
    return f"<think>{chain}</think><answer>{puzzle.answer}</answer>"
