"""A short scripted GRPO, as one of several processes or alone: `grpo_in_processes.py OUT BATCH_SIZE`.

The main process writes OUT: the history of the steps, and every weight after the last one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import datasets
import torch
from accelerate import PartialState

from schemas.config import GrpoSettings
from schemas.records import sample_features
from tests.test_grpo import Line, Scripted, right
from tests.tiny import make_row, new_student
from trainer import grpo

STEPS = 2


def script(place: int, answer: str) -> Line:
    """More right answers in the first half of a group than in the second, as two processes share it."""
    return (right(answer if place in (0, 1, 2, 7) else "99", " again" * place), place != 1)


def main(out: Path, batch_size: int) -> None:
    model, processor = new_student()
    Scripted.script = staticmethod(script)
    grpo.VisualGRPOTrainer = Scripted
    settings = GrpoSettings(steps=STEPS, batch_size=batch_size, learning_rate=1e-3, warmup_ratio=0)
    rows = datasets.Dataset.from_list([make_row(index) for index in range(4)], features=sample_features())
    report = grpo.train_grpo(model, processor, rows, settings, seed=3, out_dir=out.with_suffix(""))
    state = PartialState()
    if state.is_main_process:
        result = {"history": report.history, "weights": model.state_dict(), "processes": state.num_processes}
        torch.save(result, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
