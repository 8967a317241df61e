"""A tiny student and a few sample rows that the trainer's tests share."""

from __future__ import annotations

import io
import random
from functools import cache
from typing import Any

import datasets
import PIL.Image
import PIL.ImageDraw
import torch

from schemas.config import StudentSettings
from schemas.records import sample_features
from trainer.messages import SYSTEM_PROMPT
from trainer.student import build_student

COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (30, 160, 60)}
SETTINGS = StudentSettings(layers=2, hidden_size=64, heads=2, kv_heads=1, vocab_size=640)


def picture(colour: str, count: int = 1, size: int = 112) -> PIL.Image.Image:
    """`count` discs of a colour on white."""
    image = PIL.Image.new("RGB", (size, size), "white")
    draw = PIL.ImageDraw.Draw(image)
    for index in range(count):
        left, top = index % 3 * size // 3, index // 3 * size // 3
        draw.ellipse([left + 4, top + 4, left + size // 3 - 4, top + size // 3 - 4], fill=COLOURS[colour])
    return image


def make_row(index: int, **changes: Any) -> dict[str, Any]:
    """A sample row, its image encoded as a shard holds it."""
    dice = random.Random(index)
    colour, count = dice.choice(list(COLOURS)), dice.randint(1, 6)
    buffer = io.BytesIO()
    picture(colour, count).save(buffer, "PNG")
    row = dict.fromkeys(sample_features(), "") | {
        "id": f"{index:020d}",
        "index": index,
        "question": f"How many {colour} discs are there?",
        "choices": [],
        "answer": str(count),
        "images": [{"bytes": buffer.getvalue(), "path": f"{index}.png"}],
        "sample_index": 0,
        "trace": f"<think>I look at the image: {count} {colour} discs.</think><answer>{count}</answer>",
        "calls": [],
        "evidence_blind": None,
        "evidence_description": None,
        "evidence_claims": None,
        "evidence_likelihood": None,
        "evidence_swap": None,
        "evidence_vas": None,
        "evidence_faults": [],
        "evidence_calls": [],
        "verdicts": [],
        "status": "accepted",
    }
    return row | changes


def make_dataset(count: int) -> datasets.Dataset:
    """Sample rows as a finished run's dataset holds them."""
    return datasets.Dataset.from_list([make_row(index) for index in range(count)], features=sample_features())


def texts() -> list[str]:
    """What the student's tokenizer is trained on."""
    rows = [make_row(index) for index in range(40)]
    return [SYSTEM_PROMPT, *(row[name] for row in rows for name in ("question", "trace"))]


def new_student(seed: int = 0) -> tuple[Any, Any]:
    """A student of a test's own, with attention far from uniform."""
    model, processor = build_student(SETTINGS, texts(), seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(12.0)
    return model, processor


@cache
def student() -> tuple[Any, Any]:
    """A student that no test may change."""
    return new_student()
