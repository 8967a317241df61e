"""The reader of pictures: what it makes of scenes, and that it refuses what is none."""

from __future__ import annotations

import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from schemas.config import SceneFamily, ScenesSource
from schemas.records import Problem
from synth.scenes import draw_problem, draw_problems
from synth.seeing.regions import PROTOTYPES, name_colour, name_shape
from synth.seeing.vision import Chart, Grid, Scatter, UnreadableImage, look
from synth.thinking.narration import parse_description, write_description
from synth.vocabulary import COLOURS, SHAPES, outline
from tests.conftest import SHARED_DATA

EASY = (0.0, 0.1)


def _pixels(problem: Problem) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(problem.images[0].bytes)).convert("RGB"))


def _easy(family: SceneFamily, count: int = 10) -> list[Problem]:
    return list(draw_problems(ScenesSource(count=count, families=(family,), difficulty=EASY), 21))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [24, 60])
def test_a_clean_outline_is_named(shape: str, side: int):
    picture = Image.new("1", (3 * side, 3 * side), 0)
    corners = [(1.5 * side + 0.5 * side * x, 1.5 * side + 0.5 * side * y) for x, y in outline(shape, 5)]
    ImageDraw.Draw(picture).polygon(corners, fill=1)
    name, fit = name_shape(np.asarray(picture))
    assert name == shape
    assert 0.8 < fit <= 1


@pytest.mark.parametrize("colour", COLOURS)
def test_a_prototype_has_its_own_name(colour: str):
    assert name_colour(np.array(PROTOTYPES[colour], np.float64)) == (colour, "")


def test_between_two_colours_the_name_changes_and_is_doubtful():
    red, orange = np.array(PROTOTYPES["red"], np.float64), np.array(PROTOTYPES["orange"], np.float64)
    names = [name_colour(red + (orange - red) * share) for share in np.linspace(0, 1, 41)]
    firsts = [first for first, _ in names]
    assert firsts == sorted(firsts, reverse=True), "red up to a point, orange after it"
    change = firsts.index("orange")
    assert names[change - 1] == ("red", "orange")
    assert names[change] == ("orange", "red")


def test_easy_shapes_are_seen_closely_as_they_are():
    for problem in _easy("count"):
        seen = look(_pixels(problem)).close
        assert isinstance(seen, Scatter)
        truth = Counter(f"{one['colour']} {one['shape']}" for one in json.loads(problem.facts)["objects"])
        wrong = truth - Counter(element.name for element in seen.elements)
        assert wrong.total() <= 1, problem.row


def test_easy_charts_are_read_closely_as_they_are():
    for problem in _easy("chart"):
        facts, seen = json.loads(problem.facts), look(_pixels(problem)).close
        assert isinstance(seen, Chart)
        assert seen.labels == tuple(place * facts["step"] for place in range(facts["ticks"] + 1))
        assert [bar.colour for bar in seen.bars] == [bar["colour"] for bar in facts["bars"]]
        heights = [bar["value"] / facts["step"] for bar in facts["bars"]]
        assert [bar.height for bar in seen.bars] == pytest.approx(heights, abs=0.12)


def test_easy_patterns_are_read_closely_as_they_are():
    for problem in _easy("pattern"):
        facts, seen = json.loads(problem.facts), look(_pixels(problem)).close
        assert isinstance(seen, Grid)
        assert (seen.rows, seen.columns) == (len(facts["cells"]), len(facts["cells"][0]))
        assert seen.hole == tuple(facts["missing"])
        wrong = [cell for cell, name in seen.cells.items() if facts["cells"][cell[0]][cell[1]] != name]
        assert len(wrong) <= 1, problem.row


def test_the_glance_is_coarser_than_the_close_look():
    differ = 0
    for problem in draw_problems(ScenesSource(count=24, difficulty=(0.2, 0.6)), 4):
        try:
            seen = look(_pixels(problem))
        except UnreadableImage:
            continue
        differ += seen.glance != seen.close
    assert differ >= 12


@pytest.mark.parametrize("family", ["count", "compare", "chart", "pattern"])
@pytest.mark.parametrize("encoding", [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95})])
def test_a_picture_encoded_again_is_read_alike(family: SceneFamily, encoding: tuple[str, dict[str, int]]):
    """What is read comes from the pixels: neither the file nor its name says anything."""
    for problem in _easy(family, count=3):
        buffer = io.BytesIO()
        Image.fromarray(_pixels(problem)).save(buffer, encoding[0], **encoding[1])
        again = np.asarray(Image.open(buffer).convert("RGB"))
        first, second = look(_pixels(problem)).close, look(again).close
        assert type(first) is type(second)
        if isinstance(first, Scatter) and isinstance(second, Scatter):
            names = [Counter(one.name for one in seen.elements) for seen in (first, second)]
            assert (names[0] - names[1]).total() <= 1
        if isinstance(first, Grid) and isinstance(second, Grid):
            assert sum(first.cells[cell] != second.cells.get(cell) for cell in first.cells) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_a_description_holds_both_readings(seed: int):
    """Writing and reading back is exact up to the printed precision."""
    for index in range(12):
        problem = draw_problem(ScenesSource(), seed, index)
        try:
            seen = look(_pixels(problem))
        except UnreadableImage:
            continue
        told = parse_description(write_description(seen, seed))
        assert told is not None
        if isinstance(seen.close, Grid):
            assert told == seen
        elif isinstance(seen.close, Chart) and isinstance(told.close, Chart):
            assert told.close.labels == seen.close.labels
            assert [bar.colour for bar in told.close.bars] == [bar.colour for bar in seen.close.bars]
        elif isinstance(told.close, Scatter) and isinstance(seen.close, Scatter):
            assert [(one.name, one.unclear, one.other_colour) for one in told.close.elements] == [
                (one.name, one.unclear, one.other_colour) for one in seen.close.elements
            ]


# ------------------------------------------------------------------------------------ refusals


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _clouds() -> np.ndarray:
    """A smooth, photograph-like field of colours."""
    small = Image.fromarray(_noise(9, 9))
    return np.asarray(small.resize((320, 320), Image.Resampling.BICUBIC))


def _text_page() -> np.ndarray:
    page = Image.new("RGB", (320, 320), "white")
    drawn = ImageDraw.Draw(page)
    for line in range(20):
        for word in range(9):
            drawn.rectangle(
                (20 + 32 * word, 15 + 15 * line, 40 + 32 * word, 22 + 15 * line), fill=(30, 30, 30)
            )
    return np.asarray(page)


REFUSED = {
    "noise": _noise(256, 256),
    "clouds": _clouds(),
    "blank": np.full((256, 256, 3), 255, np.uint8),
    "black": np.zeros((256, 256, 3), np.uint8),
    "one colour": np.full((256, 256, 3), (200, 40, 40), np.uint8),
    "text": _text_page(),
    "tiny": _noise(8, 8),
    "one row": _noise(1, 4000),
    "ramp": np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 256, 3)).copy(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_picture_of_another_kind_is_refused_with_a_reason(kind: str):
    with pytest.raises(UnreadableImage) as caught:
        look(REFUSED[kind])
    assert str(caught.value)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the shared data sets are not beside the project")
def test_public_puzzles_are_refused():
    files = sorted(SHARED_DATA.glob("*/images/*"))[::12]
    read = []
    for file in files:
        try:
            look(np.asarray(Image.open(file).convert("RGB")))
            read.append(file.name)
        except UnreadableImage:
            pass
    assert len(files) > 20
    assert len(read) <= 0.02 * len(files), read
