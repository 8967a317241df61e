"""The work of the synthesis benchmark: problems with small pictures, and a simulated bound."""

from __future__ import annotations

import heapq
import json
import pickle
import random
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image as PillowImage

from schemas.records import AnswerType, Image, Problem, problem_id
from synth.prompts import STAGES
from synth.seeds import derive_seed
from tests.stub_answers import ANSWER, Latency

PICTURES = 2000  # distinct ones in a folder, however many rows refer to them
SIDES = (80, 256)  # pixels
PHOTOS, PHOTO = 8, (4000, 3000)
_CELLS = 24


def draw_picture(number: int) -> bytes:
    """A PNG of coloured cells, 80-256 pixels square, 3-4 kilobytes."""
    draw = random.Random(number)
    side = draw.randint(*SIDES)
    cells = PillowImage.frombytes("RGB", (_CELLS, _CELLS), draw.randbytes(3 * _CELLS * _CELLS))
    buffer = BytesIO()
    cells.resize((side, side), PillowImage.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def make_problems(count: int) -> list[Problem]:
    """Problems that differ in question and picture; the stub's answer is right for all of them."""
    return [_make_problem(index) for index in range(count)]


def _make_problem(index: int) -> Problem:
    question = f"How many red circles are there in picture {index}?"
    images = (Image(bytes=draw_picture(index), path=f"{index}.png"),)
    return Problem(
        id=problem_id(question, (), ANSWER, images),
        index=index,
        source="bench",
        row=f"bench/{index}",
        category="count",
        question=question,
        choices=(),
        answer=ANSWER,
        answer_type=AnswerType.NUMBER,
        images=images,
        facts="",
        licence="CC0-1.0",
    )


def save_problems(problems: Sequence[Problem], path: Path) -> None:
    """For another process of the benchmark (`load_problems`)."""
    with path.open("wb") as file:
        pickle.dump(list(problems), file)


def load_problems(path: Path) -> list[Problem]:
    """The inverse of `save_problems`."""
    with path.open("rb") as file:
        return pickle.load(file)


def draw_photo(number: int) -> bytes:
    """A JPEG of 12 megapixels, about 2 megabytes, of which a decoder makes 36."""
    draw = random.Random(number)
    grain = PillowImage.frombytes("RGB", (500, 375), draw.randbytes(3 * 500 * 375))
    buffer = BytesIO()
    grain.resize(PHOTO, PillowImage.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_folder(folder: Path, rows: int, *, photos: bool = False) -> None:
    """A folder source: `items.jsonl` and up to `PICTURES` pictures, each with many questions about it.

    Args:
        photos: a few large ones instead.
    """
    pictures, draw = min(rows, PHOTOS if photos else PICTURES), draw_photo if photos else draw_picture
    (folder / "images").mkdir(parents=True)
    for number in range(pictures):
        (folder / "images" / f"{number}.png").write_bytes(draw(number))
    with (folder / "items.jsonl").open("w") as table:
        for index in range(rows):
            table.write(json.dumps(_folder_row(index, index % pictures)) + "\n")


def _folder_row(index: int, picture: int) -> dict[str, str]:
    return {
        "id": str(index),
        "question": f"How many red circles does person {index} count in the picture?",
        "answer": ANSWER,
        "image": f"images/{picture}.png",
    }


def row_latencies(problems: Iterable[Problem], latency: Latency) -> Iterator[list[float]]:
    """Seconds that the stub takes for each of a row's three calls, by their seeds."""
    for problem in problems:
        yield [latency.of(derive_seed(0, problem.id, stage, 0)) for stage in STAGES]


def streaming_bound(rows: Iterable[Sequence[float]], in_flight: int) -> float:
    """Seconds that rows take at least if they begin in order and a row once begun goes on without a pause.

    With rows already begun first, a place that a row's call leaves is taken by its next call: a row has one
    place from its first call to its last.
    """
    free = [0.0] * in_flight
    for calls in rows:
        heapq.heapreplace(free, free[0] + sum(calls))
    return max(free)
