"""The golden trajectory of the tiny student, and how to write it anew: `python -m tests.golden.regenerate`.

`sft.json` pins, for both forms of the guided loss, the losses of 20 steps and the score before and after
them. Write it anew only for a change that is meant to alter the method, and say so in that commit: a change
that is not meant to must leave every figure within the test's tolerance (tests/test_golden.py).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from schemas.config import GuidedLossSettings, TrainSettings
from tests.tiny import SETTINGS, make_dataset, make_row, new_student
from trainer.sft import train_sft
from trainer.vas import measure_vas

FILE = Path(__file__).parent / "sft.json"
FORMS = ("bounded", "paper")
LOSSES = ("loss", "loss_lm", "enhance", "suppress")
SCORES = ("vas", "median", "ratio_of_means", "image_gain")
STEPS, SEED, ROWS, HELD_OUT = 20, 3, 16, 8

Trajectory = dict[str, Any]


def settings_of(form: str, **guided: float) -> TrainSettings:
    """What is trained; `guided` replaces keys of the guided loss."""
    return TrainSettings(
        student=SETTINGS,
        steps=STEPS,
        batch_size=4,
        learning_rate=1e-3,
        guided=GuidedLossSettings.model_validate({"form": form, **guided}),
        diagnostics_every=0,
        watch_every=0,
    )


def run(settings: TrainSettings) -> Trajectory:
    """One training of a new student: `steps`, a mapping per step; the score `before` and `after`."""
    model, processor = new_student()
    held_out = [make_row(100 + index) for index in range(HELD_OUT)]
    before = measure_vas(model, processor, held_out)
    with tempfile.TemporaryDirectory() as folder:
        report = train_sft(
            model, processor, make_dataset(ROWS), settings, seed=SEED, out_dir=folder, guided=True
        )
    after = measure_vas(model, processor, held_out)
    return {
        "steps": [{name: entry[name] for name in LOSSES} for entry in report.history],
        "before": {name: getattr(before, name) for name in SCORES},
        "after": {name: getattr(after, name) for name in SCORES},
    }


def main() -> None:
    found = {form: run(settings_of(form)) for form in FORMS}
    made = {"torch": torch.__version__, "train": settings_of("bounded").model_dump(mode="json")}
    FILE.write_text(json.dumps({"made": made, "forms": found}, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE}: {', '.join(FORMS)}, {STEPS} steps")


if __name__ == "__main__":
    main()
