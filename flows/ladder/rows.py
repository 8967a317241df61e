"""The rows that the ladder's students are trained on and measured with, as columns of sample rows.

Several system prompts stand in the training, each with what it asks for, so that obedience can be lost.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from flows.ladder.scenes import Puzzle, draw_puzzles, grey_picture
from flows.ladder.traces import DESCRIBE, anchored_trace, describe, description, plain_trace, short_answer
from trainer.obedience import RULES, obedience_rows

if TYPE_CHECKING:
    import datasets

Trace = Literal["short", "plain", "anchored"]
SYSTEM = "You solve problems by looking at the image. Think first, then give the final answer."
_DESCRIPTIONS, _RULES = 0.2, 0.1  # shares of the base's rows; the rest are questions
_SFT_DESCRIPTIONS, _SFT_RULES = 0.1, 0.15

Row = dict[str, Any]


def tokenizer_texts() -> list[str]:
    """What the students' tokenizer is made of: every word that they read or write."""
    texts = [SYSTEM, DESCRIBE]
    for index, puzzle in enumerate(draw_puzzles("tokenizer", 300)):
        row = _row(puzzle, index)
        texts += [
            *description(puzzle.grid, random.Random(index)),
            puzzle.question,
            describe(puzzle.grid),
            _traces("anchored")(puzzle, random.Random(index)),
        ]
        texts += [plain_trace(puzzle), short_answer(puzzle)]
        texts += [
            rule["system"] + RULES[rule["rule"]].respond(puzzle.answer) for rule in obedience_rows([row])
        ]
    texts += [rule.instruction + rule.respond("red") for rule in RULES.values()]
    return texts


def seeing_rows(seed: int, count: int) -> datasets.Dataset:
    """Descriptions alone, of ordered and of mixed pictures: what a student learns to see by."""
    puzzles = draw_puzzles(f"seeing/{seed}", count, orders=("mixed", "rows", "uniform"))

    def make(index: int, puzzle: Puzzle) -> Row:
        asked, said = description(puzzle.grid, random.Random(f"{seed}/{index}"))
        return _row(puzzle, index) | {"question": asked, "trace": said}

    return _dataset(make(index, puzzle) for index, puzzle in enumerate(puzzles))


def base_rows(seed: int, count: int) -> datasets.Dataset:
    """Short answers, with some descriptions and rules among them."""
    return _mix(draw_puzzles(f"base/{seed}", count), seed, "short", _DESCRIPTIONS, _RULES)


def sft_rows(seed: int, count: int, trace: Trace) -> datasets.Dataset:
    """Traces, with some descriptions and rules among them. The same rows whatever the trace is."""
    return _mix(draw_puzzles(f"sft/{seed}", count), seed, trace, _SFT_DESCRIPTIONS, _SFT_RULES)


def grpo_rows(seed: int, count: int) -> datasets.Dataset:
    """Problems to answer; their traces are not read."""
    return _dataset(_row(puzzle, index) for index, puzzle in enumerate(draw_puzzles(f"grpo/{seed}", count)))


def held_out_rows(count: int, trace: Trace, *, kind: str = "held out", hard: bool = False) -> list[Row]:
    """Problems that no student is trained on, the same for every seed and rung.

    Args:
        kind: names a stream of problems; two streams have none in common but by chance.
    """
    write = _traces(trace)
    return [
        _row(puzzle, index) | {"trace": write(puzzle, random.Random(index))}
        for index, puzzle in enumerate(draw_puzzles(kind, count, hard=hard))
    ]


def blindfold(rows: Sequence[Row], kind: str) -> list[Row]:
    """The same questions with a grey picture each (`blank`), or the next row's picture (`shuffled`)."""
    if kind == "blank":
        return [row | {"images": [{"bytes": grey_picture(), "path": "grey.png"}]} for row in rows]
    return [row | {"images": rows[(place + 1) % len(rows)]["images"]} for place, row in enumerate(rows)]


def world_mark() -> str:
    """Sixteen hex digits of what the rows of every stream are: another world gives others."""
    streams = [seeing_rows(0, 24), base_rows(0, 24), sft_rows(0, 24, "anchored"), sft_rows(0, 24, "plain")]
    rows = [row for stream in [*streams, grpo_rows(0, 6)] for row in stream.data.to_pylist()]
    rows += held_out_rows(12, "anchored") + held_out_rows(12, "short", hard=True)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()[:16]


def _mix(
    puzzles: Iterator[Puzzle], seed: int, trace: Trace, descriptions: float, rules: float
) -> datasets.Dataset:
    write, dice = _traces(trace), random.Random(f"{seed}/kinds")
    names = tuple(RULES)

    def make(index: int, puzzle: Puzzle) -> Row:
        row, draw, turn = _row(puzzle, index), dice.random(), dice.choice(names)
        own = random.Random(f"{seed}/{index}")
        if draw < descriptions:
            asked, said = description(puzzle.grid, own)
            return row | {"question": asked, "trace": said}
        if draw < descriptions + rules:
            rule = RULES[turn]
            return row | {"system": rule.instruction, "trace": rule.respond(puzzle.answer)}
        return row | {"trace": write(puzzle, own)}

    return _dataset(make(index, puzzle) for index, puzzle in enumerate(puzzles))


def _traces(trace: Trace) -> Callable[[Puzzle, random.Random], str]:
    if trace == "anchored":
        return anchored_trace
    plain = short_answer if trace == "short" else plain_trace
    return lambda puzzle, _: plain(puzzle)


def _row(puzzle: Puzzle, index: int) -> Row:
    return {
        "id": f"{puzzle.family}/{index}",
        "system": SYSTEM,
        "category": puzzle.family,
        "question": puzzle.question,
        "choices": list(puzzle.choices),
        "answer": puzzle.answer,
        "images": [{"bytes": puzzle.grid.png, "path": f"{index}.png"}],
        "trace": "",
    }


def _dataset(rows: Iterator[Row]) -> datasets.Dataset:
    import datasets

    text, listed = datasets.Value("string"), datasets.List
    features = datasets.Features(
        dict.fromkeys(("id", "system", "category", "question", "answer", "trace"), text)
        | {"choices": listed(text), "images": listed(datasets.Image())}
    )
    return datasets.Dataset.from_list(list(rows), features=features)
