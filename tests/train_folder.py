"""A finished dataset and a saved student in a folder, as `avar train` finds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schemas.shards import DatasetWriter
from tests.tiny import make_row, new_student
from trainer.checkpoints import save_student


def write_dataset(root: Path, rows: Iterable[Mapping[str, Any]] | None = None, held_out: int = 4) -> Path:
    """`rows` (16 ordinary ones by default) as the train split, and some held-out ones."""
    train = [make_row(index) for index in range(16)] if rows is None else rows
    with DatasetWriter(root) as writer:
        for row in train:
            writer.write("train", dict(row))
        for index in range(held_out):
            writer.write("validation", make_row(100 + index))
    return root


def write_student(folder: Path) -> Path:
    """The tests' student as a model folder."""
    return save_student(*new_student(), folder)


def train_command(data: Path, model: Path, out: Path, *flags: str, **settings: object) -> list[str]:
    """`avar train sft` of that student on that dataset; `settings` are keys of `train`, `__` for a dot."""
    given = {"model": model, "batch_size": 4} | settings
    changes = [
        part
        for name, value in given.items()
        for part in ("--set", f"train.{name.replace('__', '.')}={value}")
    ]
    return ["train", "sft", "demo", "--data", str(data), "--out", str(out), *flags, *changes]
