"""A short guided training with sharded parameters (FSDP2): `train_in_processes.py MODEL OUT` under torchrun.

accelerate shards on GPUs alone. Here it takes two processes that talk over gloo for such, so that what is
sharded, recorded, saved and resumed is what a GPU's would be, but for the device.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.distributed
from accelerate import PartialState
from accelerate.state import DistributedType

from schemas.config import TrainSettings
from schemas.errors import InterruptedRunError
from schemas.records import sample_features
from tests.tiny import SETTINGS, make_dataset, make_row
from trainer.arguments import RunOptions
from trainer.checkpoints import load_model
from trainer.sft import SftReport, train_sft

STEPS, SEED = 4, 3


def train(model_folder: Path, out: Path, batch_size: int, **options: Any) -> SftReport:
    model, processor = load_model(model_folder)
    settings = TrainSettings(
        student=SETTINGS,
        steps=STEPS,
        batch_size=batch_size,
        learning_rate=1e-3,
        diagnostics_every=0,
        watch_every=0,
        save_every=2,
    )
    return train_sft(
        model,
        processor,
        make_dataset(16),
        settings,
        seed=SEED,
        out_dir=out,
        guided=True,
        options=RunOptions(**options),
    )


def take_cpus_for_gpus() -> None:
    """Before accelerate looks: the launcher's FSDP settings then count here, too."""
    torch.distributed.init_process_group("gloo")
    replaced: dict[str, Any] = {
        "_prepare_backend": lambda self, *args, **keywords: ("gloo", DistributedType.MULTI_GPU),
        "set_device": lambda self: setattr(self, "device", torch.device("cpu")),
        "default_device": property(lambda self: torch.device("cpu")),
    }
    for name, value in replaced.items():
        setattr(PartialState, name, value)


def main(model_folder: Path, out: Path) -> None:
    """Stops after two steps, and goes on."""
    take_cpus_for_gpus()
    asked = iter([False, True])
    try:
        train(model_folder, out, 2, stop=lambda: next(asked))
    except InterruptedRunError as stopped:
        print(stopped, flush=True)
    report = train(model_folder, out, 2, resume=True)
    if PartialState().is_main_process:
        torch.save({"history": report.history}, out / "report.pt")


def rows() -> datasets.Dataset:
    """Rows of very different lengths, and one without an image: processes count different things."""
    return datasets.Dataset.from_list(uneven_rows(), features=sample_features())


def uneven_rows() -> list[dict[str, Any]]:
    made = []
    for index in range(16):
        row = make_row(index)
        row["trace"] *= 1 + index % 5
        row["question"] += " Look twice." * (index % 3)
        made.append(row | ({"images": []} if index == 5 else {}))
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
