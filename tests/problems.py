"""Problems, pictures and mutations for the tests of dedup and decontamination."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from io import BytesIO

from PIL import Image as PillowImage
from PIL import ImageDraw

from schemas.records import AnswerType, Image, Problem, problem_id

WORDS = """
    cube sphere ladder river engine garden signal window basket market planet feather copper bridge lantern
    harbour thread velvet marble orchard saddle tunnel whistle anchor beacon candle dragon ember falcon
    glacier hammer island jacket kettle lemon meadow needle oyster pepper quarry ribbon
    """.split()  # noqa: SIM905


@cache
def drawing(seed: int, kind: str = "PNG", size: int = 240, border: int = 0, quality: int = 90) -> bytes:
    """A picture of a few shapes, the same shapes for the same seed whatever the size or encoding."""
    rng = random.Random(seed)
    picture = PillowImage.new("RGB", (960, 960), "white")
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = rng.randrange(32, 640), rng.randrange(32, 640)
        box = (x, y, x + rng.randrange(80, 288), y + rng.randrange(80, 288))
        colour = rng.choice(("red", "blue", "green", "black", "orange", "purple"))
        rng.choice((pen.ellipse, pen.rectangle))(box, fill=colour)
    picture = picture.resize((size, size), PillowImage.Resampling.LANCZOS)
    if border:
        framed = PillowImage.new("RGB", (size + 2 * border, size + border), "white")
        framed.paste(picture, (border, border // 2))
        picture = framed
    buffer = BytesIO()
    picture.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def problem(
    question: str,
    *pictures: bytes,
    answer: str = "",
    choices: Sequence[str] = (),
    index: int = 0,
    source: str = "train",
) -> Problem:
    """A problem about some pictures."""
    images = tuple(Image(bytes=picture, path="") for picture in pictures)
    return Problem(
        id=problem_id(question, tuple(choices), answer, images),
        index=index,
        source=source,
        row=f"{source}/{index}",
        category="",
        question=question,
        choices=tuple(choices),
        answer=answer,
        answer_type=AnswerType.CHOICE if choices else AnswerType.TEXT,
        images=images,
        facts="",
        licence="",
    )


def sentence(rng: random.Random, words: int) -> str:
    """A sentence of random words of `WORDS`."""
    return " ".join(rng.choices(WORDS, k=words))
