"""Supervised fine-tuning on sample rows, with the attention-guided loss or, as control, without it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProcessorMixin,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging
from trl.trainer.sft_config import SFTConfig

from schemas.config import TrainSettings
from schemas.errors import AttentionError
from trainer.arguments import RunOptions, common_arguments
from trainer.attention import prepared
from trainer.checkpointing import run_trainer, save_trained, step_history
from trainer.data import sft_dataset
from trainer.diagnostics import refuse_sharded
from trainer.guided import ControlSFTTrainer, GuidedSFTTrainer
from trainer.lora import add_adapters, finish_adapters, refuse_adapters
from trainer.resuming import describe_run, find_checkpoint, fingerprint
from trainer.vas import VasReport, measure_vas
from trainer.watch import GainWatch, WatchPoint

if TYPE_CHECKING:
    import datasets

__all__ = [
    "ControlSFTTrainer",
    "GuidedSFTTrainer",
    "Progress",
    "RunOptions",
    "SftReport",
    "describe_sft",
    "train_sft",
]

Progress = Callable[[int, int, Mapping[str, float]], None]
WINDOW = 5  # logged steps that loss_first and loss_last are means of


@dataclass(frozen=True, kw_only=True)
class SftReport:
    """What a training did.

    Attributes:
        guided: with the attention-guided loss, or the control without it.
        steps: optimizer steps done.
        loss_first, loss_last: language-model loss per response token, nats, mean of the first and of the
            last five steps; the guided terms are not in it.
        history: one mapping per step: `step`, `loss_lm`, `loss` (what was minimised), and the logged parts.
        watch: held-out measurements, the first one before the first step; empty where nothing was held out.
        warnings: one line each, in the order they came up.
        model_path: folder of the trained model.
    """

    guided: bool
    steps: int
    loss_first: float
    loss_last: float
    history: tuple[Mapping[str, float], ...]
    watch: tuple[WatchPoint, ...]
    warnings: tuple[str, ...]
    model_path: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self) | {"model_path": str(self.model_path), "history": [dict(h) for h in self.history]}


def train_sft(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    train_rows: datasets.Dataset,
    settings: TrainSettings,
    *,
    seed: int,
    out_dir: str | Path,
    guided: bool,
    held_out: Sequence[Mapping[str, Any]] | datasets.Dataset | None = None,
    progress: Progress | None = None,
    options: RunOptions | None = None,
) -> SftReport:
    """Fine-tune `model` in place on sample rows and save it in `out_dir`.

    With `settings.lora` adapters alone are trained; they are merged into `model`, which is saved like any
    other, and saved by themselves in `out_dir`/adapter.

    Args:
        train_rows: columns as in `schemas.records.sample_features`; every row is trained on.
        seed: of the order of the rows.
        guided: False trains the control: the same steps on the same batches, without the guided loss.
        held_out: rows of the same columns; the first `settings.watch_rows` are watched (trainer/watch.py).
        progress: called with (step, steps, metrics) after each step.
        options: whether to go on from a checkpoint, what to report to, and when to stop.
    Raises: SpanError, AttentionError: a batch or a model that the guided loss, the diagnostics or the watch
        cannot be exact on. ConfigError: diagnostics, the watch or adapters on sharded parameters, or settings
        that do not fit the model. CheckpointError: nothing to go on from. InterruptedRunError: stopped.
    """
    options = options or RunOptions()
    run = describe_sft(settings, train_rows, held_out, seed=seed, guided=guided)
    checkpoint = find_checkpoint(out_dir, run) if options.resume else None
    forward = model.__dict__.get("forward")
    with _quiet(), prepared(model) if guided else nullcontext():
        wrapped: Any = add_adapters(model, settings.lora, seed) if settings.lora else model
        try:
            arguments = _arguments(settings, seed, Path(out_dir), options)
            trainer = _make_trainer(wrapped, processor, train_rows, settings, arguments, guided)
            if settings.lora:
                refuse_adapters(trainer)
            trainer.remove_callback(PrinterCallback)
            watch = _add_watch(trainer, settings, held_out)
            if progress is not None:
                trainer.add_callback(StepProgress(settings.steps, progress))
            parts = {"watch": watch} if watch else {}
            run_trainer(trainer, run=run, checkpoint=checkpoint, parts=parts, stop=options.stop)
        finally:
            _restore_forward(model, forward)
    if settings.lora:
        finish_adapters(trainer, wrapped, model, out_dir)
    save_trained(trainer, model.eval(), processor, out_dir)
    history = [{"loss_lm": step["loss"]} | step for step in step_history(trainer.state)]
    return SftReport(
        guided=guided,
        steps=int(trainer.state.global_step),
        loss_first=_mean(history[:WINDOW]),
        loss_last=_mean(history[-WINDOW:]),
        history=tuple(history),
        watch=tuple(watch.points) if watch else (),
        warnings=tuple(watch.warnings) if watch else (),
        model_path=Path(out_dir),
    )


def describe_sft(
    settings: TrainSettings, train_rows: Any, held_out: Any, *, seed: int, guided: bool
) -> dict[str, Any]:
    """Which training this is: a checkpoint of another one is refused."""
    return describe_run(
        "sft" if guided else "sft --plain",
        settings,
        seed,
        rows=fingerprint(train_rows),
        held_out=fingerprint(held_out),
    )


def _make_trainer(
    model: Any,
    processor: ProcessorMixin,
    rows: datasets.Dataset,
    settings: TrainSettings,
    arguments: SFTConfig,
    guided: bool,
) -> GuidedSFTTrainer | ControlSFTTrainer:
    parts: dict[str, Any] = {
        "model": model,
        "args": arguments,
        "train_dataset": sft_dataset(rows, processor),
        "processing_class": processor,
        "diagnostics_every": settings.diagnostics_every,
    }
    return GuidedSFTTrainer(**parts, guided=settings.guided) if guided else ControlSFTTrainer(**parts)


def _add_watch(
    trainer: GuidedSFTTrainer | ControlSFTTrainer,
    settings: TrainSettings,
    held_out: Sequence[Mapping[str, Any]] | datasets.Dataset | None,
) -> GainWatch | None:
    """A gain watch on the first held-out rows, where there are any and it is not turned off."""
    if held_out is None or not settings.watch_every:
        return None
    model = trainer.bare_model
    processor: Any = trainer.processing_class
    refuse_sharded(trainer.accelerator.distributed_type.value, model.parameters(), ["train.watch_every"])
    rows: list[Any] = [held_out[number] for number in range(min(settings.watch_rows, len(held_out)))]

    def measure() -> VasReport:
        try:
            return measure_vas(model, processor, rows)
        except AttentionError as error:
            raise AttentionError(f"{error}; to train without a gain watch: train.watch_every=0") from error

    def note(point: WatchPoint) -> None:
        if point.step == 0:  # no step is logged that it could stand with
            trainer.log(point.figures())
            return
        for name, value in point.figures().items():
            trainer.figures.add_mean(name, value)

    watch = GainWatch(measure, settings.watch_every, note)
    if rows:
        trainer.add_callback(watch)
    else:
        watch.warn("the image gain is not watched: no row is held out; hold some out, or train.watch_every=0")
    return watch


def _arguments(
    settings: TrainSettings, seed: int, out_dir: Path, options: RunOptions | None = None
) -> SFTConfig:
    return SFTConfig(
        **common_arguments(settings, seed, out_dir, options),
        max_length=None,  # cutting a row would cut its image tokens
        remove_unused_columns=False,  # rows are turned into prompts as they are read
    )


class StepProgress(TrainerCallback):
    """Passes on what the trainer logs at each step."""

    def __init__(self, steps: int, progress: Progress) -> None:
        self.steps, self.progress = steps, progress

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        if logs is not None and "loss" in logs:  # not the closing summary
            metrics = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
            self.progress(state.global_step, self.steps, metrics)


def _mean(history: Sequence[Mapping[str, float]]) -> float:
    return math.fsum(entry["loss_lm"] for entry in history) / len(history)


def _restore_forward(model: PreTrainedModel, forward: Any) -> None:
    """Take off the fused language-model head that TRL hangs onto the model."""
    model.__dict__.pop("forward", None)
    if forward is not None:
        model.__dict__["forward"] = forward


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' and TRL's own lines off; errors still show."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
