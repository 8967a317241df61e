"""A short guided training, as one of several processes or alone: `train_in_processes.py OUT BATCH_SIZE`.

The main process writes OUT: the history of the steps, and every weight after the last one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import torch
from accelerate import PartialState

from schemas.config import GuidedLossSettings, TrainSettings
from schemas.records import sample_features
from tests.tiny import SETTINGS, make_row, new_student
from trainer.sft import train_sft

STEPS, SEED = 6, 3


def main(out: Path, batch_size: int) -> None:
    model, processor = new_student()
    settings = TrainSettings(
        student=SETTINGS,
        steps=STEPS,
        batch_size=batch_size,
        learning_rate=1e-3,
        guided=GuidedLossSettings(form="paper", alpha=0.05, beta=0.05),
        diagnostics_every=3,
        watch_every=4,
        watch_rows=4,
    )
    report = train_sft(
        model,
        processor,
        rows(),
        settings,
        seed=SEED,
        out_dir=out.with_suffix(""),
        guided=True,
        held_out=[make_row(100 + index) for index in range(4)],
    )
    state = PartialState()
    if state.is_main_process:
        result = {"history": report.history, "weights": model.state_dict(), "processes": state.num_processes}
        torch.save(result, out)


def rows() -> datasets.Dataset:
    """Rows of very different lengths, and one without an image: processes count different things."""
    made = []
    for index in range(16):
        row = make_row(index)
        row["trace"] *= 1 + index % 5
        row["question"] += " Look twice." * (index % 3)
        made.append(row | ({"images": []} if index == 5 else {}))
    return datasets.Dataset.from_list(made, features=sample_features())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
