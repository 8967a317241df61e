"""The price of the score: `measure_vas` over samples against one plain forward pass over the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from schemas.config import StudentSettings
from tests.bench.meter import make_meter
from tests.tiny import make_row, texts
from trainer.messages import encode, to_messages
from trainer.student import build_student
from trainer.vas import measure_vas

BATCH = 8
STUDENT = StudentSettings(layers=6, hidden_size=256, heads=8, kv_heads=2, image_side=336)


@dataclass(frozen=True, kw_only=True)
class VasPrice:
    """CPU time of the score over that of plain forward passes, and its memory on few and on all samples.

    Attributes:
        seq: tokens of a sample, about.
        time_ratio: without the gains, which are two further passes over every sample. The plain passes build
            the logits of the last token alone.
        memory_ratio: peak with all samples over that with `few`.
        few, few_megabytes, megabytes: peak over the model's own, with `few` samples and with all.
    """

    device: str = "cpu"
    seq: int
    variant: str = "vas"
    time_ratio: float
    memory_ratio: float
    samples: int
    few: int
    few_megabytes: float
    megabytes: float

    def sentence(self) -> str:
        """For people."""
        return (
            f"VAS of {self.samples} samples: {self.time_ratio:.3f}x the CPU time of a plain forward pass; "
            f"peak {self.few_megabytes:.0f} MB with {self.few} samples, {self.megabytes:.0f} MB with all"
        )


def measure_vas_price(samples: int) -> VasPrice:
    """Measures it on a student of 6 layers and pictures of 144 tokens; both read the samples anew."""
    model, processor = build_student(STUDENT, texts(), seed=0)
    rows = Rows(samples)
    few = min(samples, max(BATCH, samples // 4))
    turn = max(1, samples // 4)
    meter = make_meter("cpu")
    measure_vas(model, processor, Rows(BATCH), gains=False)  # warm
    score, forward = 0.0, 0.0
    for start in range(0, samples, turn):  # in turns
        part = Rows(min(turn, samples - start), start)
        forward += meter.seconds(lambda part=part: read_plainly(model, processor, part))
        score += meter.seconds(lambda part=part: measure_vas(model, processor, part, gains=False))
    few_peak = meter.peak(lambda: measure_vas(model, processor, Rows(few), gains=False))
    peak = meter.peak(lambda: measure_vas(model, processor, rows, gains=False))
    return VasPrice(
        seq=encode(processor, [to_messages(rows[0])])["input_ids"].shape[1],
        time_ratio=round(score / forward, 4),
        memory_ratio=round(peak / few_peak, 4),
        samples=samples,
        few=few,
        few_megabytes=round(few_peak / 2**20, 1),
        megabytes=round(peak / 2**20, 1),
    )


class Rows(Sequence[Any]):
    """Sample rows that are drawn when they are read."""

    def __init__(self, number: int, start: int = 0) -> None:
        self.number, self.start = number, start

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.number:
            raise IndexError(index)
        row = make_row(self.start + index)
        steps = " ".join(f"I look at disc {number} once more: it is there." for number in range(12))
        return row | {"trace": row["trace"].replace("<think>", f"<think>{steps} ")}


def read_plainly(model: Any, processor: Any, rows: Rows) -> None:
    """One forward pass over the rows, nothing recorded."""
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            talks = [to_messages(rows[place]) for place in range(start, min(start + BATCH, len(rows)))]
            model(**encode(processor, talks), use_cache=False, logits_to_keep=1)
