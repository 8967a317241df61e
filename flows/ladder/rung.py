"""One rung of one seed: trained, saved, measured; finished once its result is on disk."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.ladder.arms import ARMS, Arm
from flows.ladder.settings import LadderSettings
from schemas.config import GuidedLossSettings, OptimizerSettings, TrainSettings
from schemas.shards import write_json

RESULT_FILE, MODEL = "result.json", "model"

Advance = Callable[[int], object]


def rung_folder(out: Path, seed: int, name: str) -> Path:
    """Where a rung's model and result are."""
    return out / f"seed-{seed}" / name


def is_finished(out: Path, seed: int, name: str) -> bool:
    """True once a rung's result is on disk; nothing is read."""
    return (rung_folder(out, seed, name) / RESULT_FILE).is_file()


def read_result(out: Path, seed: int, name: str) -> dict[str, Any] | None:
    """A finished rung's result; None where it is not finished."""
    if not is_finished(out, seed, name):
        return None
    return json.loads((rung_folder(out, seed, name) / RESULT_FILE).read_text(encoding="utf-8"))


def run_rung(out: Path, seed: int, name: str, settings: LadderSettings, advance: Advance) -> None:
    """Trains an arm of one seed from what it starts from, measures it and writes its result.

    What an unfinished try left is replaced.

    Args:
        advance: hears of optimizer steps and of measured batches.
    """
    from flows.ladder.measure import Measurer
    from flows.train import open_saved

    arm, folder = ARMS[name], rung_folder(out, seed, name)
    shutil.rmtree(folder, ignore_errors=True)
    start = choose_start(out, seed, arm)
    origin = rung_folder(out, seed, start) / MODEL if start else None
    began = time.process_time()
    training = _Training(arm, settings, seed, origin, folder / MODEL, advance).run()
    trained = time.process_time()
    path = folder / MODEL if training else origin
    model, processor = open_saved(str(path))
    found = Measurer(arm, settings, model, processor, advance).measure()
    measured = time.process_time()
    about = {"arm": name, "seed": seed, "start": start}
    seconds = {"training_cpu_s": trained - began, "measuring_cpu_s": measured - trained}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULT_FILE, about | seconds | found | {"training": training})


def choose_start(out: Path, seed: int, arm: Arm) -> str | None:
    """The arm that an arm starts from: of several the best one on the problems set aside for choosing."""
    found = {name: read_result(out, seed, name) for name in arm.start}
    return max(found, key=lambda name: (found[name] or {})["choosing"]) if found else None


class _Training:
    """The training of one arm."""

    def __init__(
        self,
        arm: Arm,
        settings: LadderSettings,
        seed: int,
        start: Path | None,
        folder: Path,
        advance: Advance,
    ) -> None:
        self.arm, self.settings, self.seed = arm, settings, seed
        self.start, self.folder, self.advance = start, folder, advance

    def run(self) -> dict[str, Any] | None:
        """Trains and saves; what the trainer reports, None where there is nothing to train."""
        steps = {"base": self._base, "sft": self._sft, "grpo": self._grpo, "steer": lambda: None}
        return steps[self.arm.kind]()

    def _base(self) -> dict[str, Any]:
        """First to see, then to answer: mixed from the start, most students learn neither in time."""
        from flows.ladder.rows import base_rows, seeing_rows, tokenizer_texts
        from trainer.student import build_student

        pair = build_student(self.settings.student, tokenizer_texts(), self.seed)
        seeing, base = self.settings.seeing, self.settings.base
        seen = self._supervise(pair, seeing_rows(self.seed, self._rows(seeing)), seeing)
        return {"seeing": seen} | self._supervise(pair, base_rows(self.seed, self._rows(base)), base)

    def _sft(self) -> dict[str, Any]:
        from flows.ladder.rows import sft_rows

        rows = sft_rows(self.seed, self._rows(self.settings.sft), self.arm.trace)
        return self._supervise(self._open(), rows, self.settings.sft)

    def _supervise(self, pair: tuple[Any, Any], rows: Any, size: OptimizerSettings) -> dict[str, Any]:
        from trainer.sft import train_sft

        guided = self.arm.guided
        settings = TrainSettings(
            **size.model_dump(),
            guided=guided or GuidedLossSettings(),
            diagnostics_every=25 if self.arm.kind == "sft" else 0,
            watch_every=0,  # the ladder measures every rung itself
        )
        report = train_sft(
            *pair,
            rows,
            settings,
            seed=self.seed,
            out_dir=self.folder,
            guided=guided is not None,
            progress=self._heard,
        )
        return report.to_dict()

    def _grpo(self) -> dict[str, Any]:
        from flows.ladder.rows import grpo_rows
        from trainer.grpo import train_grpo

        assert self.arm.rewards is not None
        settings = self.settings.grpo.model_copy(update={"rewards": self.arm.rewards})
        rows = grpo_rows(self.seed, self._rows(settings) // settings.generations)
        report = train_grpo(
            *self._open(), rows, settings, seed=self.seed, out_dir=self.folder, progress=self._heard
        )
        return report.to_dict()

    def _open(self) -> tuple[Any, Any]:
        from trainer.checkpoints import load_model

        assert self.start is not None
        return load_model(self.start)

    def _rows(self, size: OptimizerSettings) -> int:
        """As many rows as the steps take: none is seen twice."""
        return size.steps * size.batch_size * size.gradient_accumulation

    def _heard(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        self.advance(1)
