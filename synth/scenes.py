"""Procedural visual problems with exact answers, in four families.

Problem i is a function of (source, seed, i) alone: it has a random stream of its own, so that it does not
depend on how many problems are drawn, nor in which order. Difficulty sets the number of things, how much
they overlap, how near their colours lie, and the noise.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator

from schemas.config import SceneFamily, ScenesSource
from schemas.records import Image, Problem, problem_id
from synth.drawing.canvas import add_noise, encode_png, light
from synth.drawing.figures import draw_chart, draw_pattern
from synth.drawing.scatter import Scene, Setting, draw_compare, draw_count

LICENCE = "Apache-2.0"

_FAMILIES: dict[SceneFamily, Callable[[Setting], Scene]] = {
    "count": draw_count,
    "compare": draw_compare,
    "chart": draw_chart,
    "pattern": draw_pattern,
}


def draw_problems(source: ScenesSource, seed: int) -> Iterator[Problem]:
    """The `source.count` problems of a source, in order; families take turns.

    The same source and seed give the same bytes.
    """
    for index in range(source.count):
        yield draw_problem(source, seed, index)


def draw_problem(source: ScenesSource, seed: int, index: int) -> Problem:
    """Problem `index` of a source, whatever its count.

    Args:
        seed: any integer; part of the problem's random stream.
        index: from 0.
    Returns: a problem with one PNG, its exact answer, and the true scene as JSON in `facts`.
    """
    rng = _stream(seed, index)
    family = source.families[index % len(source.families)]
    setting = Setting(rng, rng.randint(*source.size), rng.uniform(*source.difficulty))
    scene = _FAMILIES[family](setting)
    picture = Image(bytes=_develop(scene, setting), path=f"scene_{index:06d}.png")
    facts = {
        "family": family,
        "difficulty": round(setting.difficulty, 4),
        "side": setting.side,
        **scene.facts,
    }
    return Problem(
        id=problem_id(scene.question, scene.choices, scene.answer, (picture,)),
        index=index,
        source="scenes",
        row=f"scenes/{index}",
        category=family,
        question=scene.question,
        choices=scene.choices,
        answer=scene.answer,
        answer_type=scene.answer_type,
        images=(picture,),
        facts=json.dumps(facts, sort_keys=True),
        licence=LICENCE,
    )


def _stream(seed: int, index: int) -> random.Random:
    digest = hashlib.sha256(f"scenes/{seed}/{index}".encode()).digest()
    return random.Random(int.from_bytes(digest, "big"))


def _develop(scene: Scene, setting: Setting) -> bytes:
    """Focus, light, grain and PNG bytes. The easiest pictures are perfectly clean."""
    hard = setting.difficulty
    pixels = scene.canvas.pixels(blur=1.1 * max(0.0, hard - 0.2) * setting.side / 336)
    if hard > 0.3:
        pixels = light(pixels, 0.22 * hard, setting.rng)
    if hard > 0.15:
        pixels = add_noise(pixels, 12 * hard, setting.rng)
    return encode_png(pixels)
