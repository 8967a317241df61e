"""Which checkpoint a training goes on from, and whether it is one of the same training.

A checkpoint is a folder `checkpoint-N` of transformers' Trainer. Its `trainer_state.json` is written last,
so that one that was cut off has none; in it stands, as the state of a callback, what avar keeps beside the
weights: which training this is, and what its parts need to go on. Free of torch, trl and datasets.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.config import OptimizerSettings
from schemas.errors import CheckpointError

STATE_FILE = "trainer_state.json"
RECORD = "RunRecord"  # the name of the callback whose state is kept (trainer/checkpointing.py)
_SHOWN = 3  # differences that a refusal names
# What may change between a checkpoint and what goes on from it: it decides no weight and no loss.
_FREE = frozenset(
    {
        *("save_every", "keep_checkpoints", "gradient_checkpointing"),
        *("diagnostics_every", "watch_every", "vas_samples", "control"),
    }
)

LOG = logging.getLogger(__name__)
LOG.addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        path: its folder.
        step: optimizer steps done.
        run: which training it is of (`describe_run`).
        tokens: tokens trained on.
        parts: what each part of the training kept, by its name.
    """

    path: Path
    step: int
    run: Mapping[str, Any]
    tokens: float
    parts: Mapping[str, Mapping[str, Any]]


def describe_run(
    method: str, settings: OptimizerSettings, seed: int, *, block: str = "train", **data: Any
) -> dict[str, Any]:
    """What makes two trainings the same: they take the same steps. Plain data, ready for JSON.

    Args:
        method: `sft`, or whatever else is trained.
        block: where in a recipe its settings are.
        data: further things that must agree, as the fingerprint of the rows.
    """
    train = settings.model_dump(mode="json", exclude=set(_FREE))
    described = {"method": method, "seed": seed, "processes": processes(), block: train, **data}
    return json.loads(json.dumps(described))


def fingerprint(rows: Any) -> str:
    """Of a dataset's content, as `datasets` keeps it; the length of any other sequence, `none` for None."""
    if rows is None:
        return "none"
    return str(getattr(rows, "_fingerprint", f"{len(rows)} rows"))


def processes() -> int:
    """Processes that train together, as `accelerate launch` and `torchrun` say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def find_checkpoint(folder: str | Path, run: Mapping[str, Any]) -> Checkpoint:
    """The latest whole checkpoint in `folder`, which must be of this very training.

    A later one that was cut off while it was written is left alone, and this module's logger told.
    Raises: CheckpointError: there is none, or it is of another training: what differs is named.
    """
    checkpoint = latest_checkpoint(folder)
    differences = list(_differences(checkpoint.run, run))
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise CheckpointError(
            f"{checkpoint.path}: of another training: {'; '.join(differences[:_SHOWN])}{more}: resume with "
            "what it was made with, or choose another --out"
        )
    return checkpoint


def latest_checkpoint(folder: str | Path) -> Checkpoint:
    """The whole checkpoint with the most steps in `folder`.

    Raises: CheckpointError: there is none.
    """
    cut_off = []
    for path in sorted(_checkpoint_folders(Path(folder)), key=_steps_of, reverse=True):
        found = _read_checkpoint(path)
        if found is not None:
            if cut_off:
                names = ", ".join(broken.name for broken in cut_off)
                LOG.warning(f"{names} was cut off while it was written: going on from {path.name}")
            return found
        cut_off.append(path)
    raise CheckpointError(
        f"{folder}: no {'whole ' if cut_off else ''}checkpoint to go on from: train without --resume into an "
        "empty --out; save_every=N in the recipe keeps a checkpoint every N steps"
    )


def _checkpoint_folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if re.fullmatch(r"checkpoint-\d+", path.name))


def _steps_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _read_checkpoint(path: Path) -> Checkpoint | None:
    """None where it is not whole. Raises: CheckpointError: it was not made by avar."""
    try:
        state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    try:
        kept = state["stateful_callbacks"][RECORD]["attributes"]
        return Checkpoint(
            path=path,
            step=int(state["global_step"]),
            run=kept["run"],
            tokens=kept["tokens"],
            parts=kept["parts"],
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: was not made by `avar train`: choose another --out") from error


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = dict(_flatten(then)), dict(_flatten(now))
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name) != after.get(name):
            yield f"{name} was {before.get(name)}, is {after.get(name)}"


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flatten(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, inner
