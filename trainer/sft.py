"""Supervised fine-tuning with the attention-guided loss: a thin subclass of TRL's trainer.

The masses come from the very forward pass that the language-model loss comes from; a step without masses
is an error, never plain SFT.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
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
from trl.trainer.sft_trainer import SFTTrainer

from schemas.config import GuidedLossSettings, TrainSettings
from schemas.errors import SpanError
from trainer.attention import full_attention_layers, prepare, prepared, start_recording
from trainer.checkpoints import save_student
from trainer.data import REGION_LABELS, RegionCollator, sft_dataset
from trainer.losses import attention_guided_loss
from trainer.regions import Regions

if TYPE_CHECKING:
    import datasets

Progress = Callable[[int, int, Mapping[str, float]], None]
WINDOW = 5  # logged steps that loss_first and loss_last are means of


class GuidedSFTTrainer(SFTTrainer):
    """TRL's SFTTrainer with alpha * L_enhance + beta * L_suppress added to its loss.

    Args:
        guided: weights, form and queries of the objective.
        guided_layers: layers it acts on, by default those without a sliding window.
    Logs `loss_lm`, `enhance`, `suppress`, `image_share`, `system_share` and what was left out.
    Raises: AttentionError: the model cannot be recorded, or a step recorded nothing.
    """

    def __init__(
        self,
        *args: Any,
        guided: GuidedLossSettings,
        guided_layers: Collection[int] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(*args, **keywords)
        recorded = self.accelerator.unwrap_model(self.model)
        prepare(recorded)
        self.guided = guided
        self.guided_layers = (
            full_attention_layers(recorded) if guided_layers is None else tuple(guided_layers)
        )
        processor: Any = self.processing_class
        self.data_collator: Any = RegionCollator(self.data_collator, processor)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        labels_BS = inputs.pop(REGION_LABELS, None)
        if labels_BS is None:
            raise SpanError(
                f"the batch has no {REGION_LABELS!r}: the guided loss needs RegionCollator's batches"
            )
        regions = Regions.from_labels(labels_BS)
        recorder = start_recording(self.accelerator.unwrap_model(model), regions, layers=self.guided_layers)
        result = super().compute_loss(
            model,
            inputs | recorder.keywords,
            return_outputs=return_outputs,
            num_items_in_batch=num_items_in_batch,
        )
        recorder.check()
        loss_lm, outputs = result if return_outputs else (result, None)
        options = self.guided.model_dump(exclude={"alpha", "beta"})
        term, parts = attention_guided_loss(
            recorder.masses,
            regions,
            self.guided.alpha,
            self.guided.beta,
            visible=recorder.visible,
            **options,
        )
        # TRL's loss is then already divided by the tokens of all accumulated micro-batches.
        steps = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
        self._log_parts(loss_lm * steps, parts.to_floats())
        loss = loss_lm + term.to(loss_lm.device) / steps
        return (loss, outputs) if return_outputs else loss

    def _log_parts(self, loss_lm: Tensor, parts: Mapping[str, float]) -> None:
        training = self.model is not None and self.model.training
        metrics = self._metrics["train" if training else "eval"]
        metrics["loss_lm"].append(loss_lm.detach().item())
        for name, value in parts.items():
            if not math.isnan(value):
                metrics[name].append(value)


@dataclass(frozen=True, kw_only=True)
class SftReport:
    """What a training did.

    Attributes:
        guided: with the attention-guided loss, or the control without it.
        steps: optimizer steps done.
        loss_first, loss_last: language-model loss per response token, nats, mean of the first and of the
            last five steps; the guided terms are not in it.
        history: one mapping per step: `step`, `loss_lm`, `loss` (what was minimised), and the logged parts.
        model_path: folder of the trained model.
    """

    guided: bool
    steps: int
    loss_first: float
    loss_last: float
    history: tuple[Mapping[str, float], ...]
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
    progress: Progress | None = None,
) -> SftReport:
    """Fine-tune `model` in place on sample rows and save it in `out_dir`.

    Args:
        train_rows: columns as in `schemas.records.sample_features`; every row is trained on.
        seed: of the order of the rows.
        guided: False trains the control: the same steps on the same batches, without the guided loss.
        progress: called with (step, steps, metrics) after each step.
    Raises: SpanError, AttentionError: a batch or a model that the guided loss cannot be exact on.
    """
    forward = model.__dict__.get("forward")
    log = _StepLog(settings.steps, progress)
    with _quiet(), prepared(model) if guided else nullcontext():
        try:
            trainer = _make_trainer(model, processor, train_rows, settings, seed, Path(out_dir), guided)
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(log)
            trainer.train()
        finally:
            _restore_forward(model, forward)
    return SftReport(
        guided=guided,
        steps=int(trainer.state.global_step),
        loss_first=_mean(log.history[:WINDOW]),
        loss_last=_mean(log.history[-WINDOW:]),
        history=tuple(log.history),
        model_path=save_student(model.eval(), processor, out_dir),
    )


def _make_trainer(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    rows: datasets.Dataset,
    settings: TrainSettings,
    seed: int,
    out_dir: Path,
    guided: bool,
) -> SFTTrainer:
    parts: dict[str, Any] = {
        "model": model,
        "args": _arguments(settings, seed, out_dir),
        "train_dataset": sft_dataset(rows, processor),
        "processing_class": processor,
    }
    return GuidedSFTTrainer(**parts, guided=settings.guided) if guided else SFTTrainer(**parts)


def _arguments(settings: TrainSettings, seed: int, out_dir: Path) -> SFTConfig:
    cuda = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(out_dir),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warmup_ratio * settings.steps),
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        max_length=None,  # cutting a row would cut its image tokens
        remove_unused_columns=False,  # rows are turned into prompts as they are read
        bf16=cuda and torch.cuda.is_bf16_supported(),
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )


class _StepLog(TrainerCallback):
    """Keeps what the trainer logs at each step, and passes it on."""

    def __init__(self, steps: int, progress: Progress | None) -> None:
        self.steps, self.progress = steps, progress
        self.history: list[dict[str, float]] = []

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        if logs is None or "loss" not in logs:  # the closing summary
            return
        metrics = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
        metrics.setdefault("loss_lm", metrics["loss"])
        self.history.append({"step": float(state.global_step), **metrics})
        if self.progress is not None:
            self.progress(state.global_step, self.steps, metrics)


def _mean(history: list[dict[str, float]]) -> float:
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
