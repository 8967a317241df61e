"""GRPO with the visual-anchored reward on the problems of sample rows.

Source: AVAR, arXiv 2603.03825; docs/method.md.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import distributions
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
from trl.trainer.grpo_config import GRPOConfig

from schemas.config import GrpoSettings
from schemas.errors import ConfigError
from trainer.anchored import VisualGRPOTrainer
from trainer.arguments import common_arguments
from trainer.checkpoints import save_student
from trainer.messages import iterate_parts, plain, refuse_placeholder, to_messages
from trainer.rewards import reward_functions
from trainer.sft import WINDOW, Progress, _quiet, _restore_forward

if TYPE_CHECKING:
    import datasets

__all__ = ["GrpoReport", "VisualGRPOTrainer", "check_groups", "grpo_dataset", "train_grpo"]


@dataclass(frozen=True, kw_only=True)
class GrpoReport:
    """What a training did.

    Attributes:
        steps: optimizer steps done.
        reward_first, reward_last: mean reward of a completion over the first and the last five steps that
            sampled; accuracy_first, accuracy_last: the same of r_accuracy.
        history: one mapping per step, what docs/training.md lists.
        model_path: folder of the trained model.
    """

    steps: int
    reward_first: float
    reward_last: float
    accuracy_first: float
    accuracy_last: float
    history: tuple[Mapping[str, float], ...]
    model_path: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self) | {"model_path": str(self.model_path), "history": [dict(h) for h in self.history]}


def train_grpo(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    train_rows: datasets.Dataset,
    settings: GrpoSettings,
    *,
    seed: int,
    out_dir: str | Path,
    progress: Progress | None = None,
) -> GrpoReport:
    """Train `model` in place on the rows' problems and save it in `out_dir`.

    Args:
        train_rows: columns as in `schemas.records.sample_features`, of which question, choices, images and
            answer are read; a `system` column replaces avar's own system prompt.
        seed: of the order of the rows and of what is sampled.
        progress: called with (step, steps, metrics) after each step.
    Raises: ConfigError: groups that are not whole, too few rows, or settings that this model cannot have.
        SpanError, AttentionError: a prompt or a model on which r_visual would not be exact.
    """
    check_groups(settings, len(train_rows))
    _refuse_unbuilt(settings)
    _refuse_missing_vllm(settings)
    _refuse_reference(model, settings)
    forward = model.__dict__.get("forward")
    log = _StepLog(settings.steps, progress)
    with _quiet(), _left_padding(processor):
        try:
            trainer = VisualGRPOTrainer(
                model=model,
                args=_arguments(settings, seed, Path(out_dir)),
                train_dataset=grpo_dataset(train_rows, processor),
                processing_class=processor,
                rewards=settings.rewards,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(log)
            trainer.train()
        finally:
            _restore_forward(model, forward)
    if trainer.is_world_process_zero():
        save_student(model.eval(), processor, out_dir)
    trainer.accelerator.wait_for_everyone()
    return GrpoReport(
        steps=int(trainer.state.global_step),
        reward_first=log.mean("reward", first=True),
        reward_last=log.mean("reward", first=False),
        accuracy_first=log.mean("rewards/accuracy/mean", first=True),
        accuracy_last=log.mean("rewards/accuracy/mean", first=False),
        history=tuple(log.history),
        model_path=Path(out_dir),
    )


def grpo_dataset(dataset: datasets.Dataset, processor: ProcessorMixin) -> datasets.Dataset:
    """Sample rows as prompts with images, answer and choices, made when a row is read: nothing is copied.

    A row whose text holds an image token is a SpanError that names the row.
    """
    return dataset.with_transform(partial(_to_columns, processor))


def _to_columns(processor: ProcessorMixin, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    names = list(batch)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    columns: dict[str, list[Any]] = {name: [] for name in ("prompt", "images", "answer", "choices")}
    for row in rows:
        prompt = to_messages(row, with_response=False)
        refuse_placeholder(processor, prompt, f"row {row['id']}")
        images = [part["image"] for _, part in iterate_parts(prompt) if part["type"] == "image"]
        for name, value in zip(columns, (plain(prompt), images, row["answer"], row["choices"]), strict=True):
            columns[name].append(value)
    return columns


def check_groups(settings: GrpoSettings, rows: int) -> None:
    """Raises: ConfigError: a step does not hold whole groups, or there are fewer rows than it needs."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    completions = settings.batch_size * settings.gradient_accumulation * processes
    prompts, rest = divmod(completions, settings.generations)
    if rest:
        raise ConfigError(
            f"grpo.batch_size: {settings.batch_size} x gradient_accumulation "
            f"{settings.gradient_accumulation} x {processes} processes = {completions} completions are no "
            f"whole groups of {settings.generations}: set grpo.batch_size={settings.generations}, or another "
            "grpo.generations"
        )
    if rows < prompts:
        raise ConfigError(
            f"{rows} rows for {prompts} prompts a step: fewer completions a step (grpo.batch_size, "
            "grpo.gradient_accumulation), or more rows"
        )


def _refuse_unbuilt(settings: GrpoSettings) -> None:
    """Settings that SFT has and GRPO has not yet: an error, not a run without them."""
    for name, asked in (("lora", settings.lora is not None), ("save_every", settings.save_every > 0)):
        if asked:
            raise ConfigError(f"grpo.{name}: not available in GRPO; leave it out")


def _refuse_missing_vllm(settings: GrpoSettings) -> None:
    """TRL's client of a vLLM server imports vllm itself, to send it the weights."""
    if settings.vllm is not None and not any(distributions(name="vllm")):
        raise ConfigError(
            "grpo.vllm: TRL's client needs the package vllm 0.22 to 0.31 in the trainer's own environment, "
            "which then cannot hold Prefect (docs/training.md); without it the trainer samples itself"
        )


def _refuse_reference(model: PreTrainedModel, settings: GrpoSettings) -> None:
    """TRL loads the reference model by the policy's own name, which a model built on the spot has not."""
    if settings.beta and not model.config.name_or_path:
        raise ConfigError(
            "grpo.beta: the KL term needs the model a second time, from its folder: save it and name the "
            "folder as grpo.model, or set grpo.beta=0"
        )


def _arguments(settings: GrpoSettings, seed: int, out_dir: Path) -> GRPOConfig:
    _, weights = reward_functions(settings.rewards)
    server: dict[str, Any] = {"use_vllm": False}
    if settings.vllm is not None:
        server = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": settings.vllm.rstrip("/")}
    return GRPOConfig(
        **common_arguments(settings, seed, out_dir),
        **server,
        reward_weights=weights,
        multi_objective_aggregation="sum_then_normalize",
        num_generations=settings.generations,
        num_iterations=settings.iterations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        beta=settings.beta,
        epsilon=settings.epsilon,
        loss_type=settings.loss_type,
        scale_rewards=settings.scale_rewards,
        importance_sampling_level="token",
        mask_truncated_completions=False,
        remove_unused_columns=False,  # rows are turned into prompts as they are read
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
        self.history.append({"step": float(state.global_step), **metrics})
        if self.progress is not None:
            self.progress(state.global_step, self.steps, metrics)

    def mean(self, name: str, *, first: bool) -> float:
        """Over the first or the last steps that have this figure."""
        values = [entry[name] for entry in self.history if name in entry]
        chosen = values[:WINDOW] if first else values[-WINDOW:]
        return math.fsum(chosen) / len(chosen)


@contextmanager
def _left_padding(processor: ProcessorMixin) -> Iterator[None]:
    """Prompts padded on the left, as sampling needs; the processor is saved as it was."""
    tokenizer: Any = getattr(processor, "tokenizer")  # noqa: B009
    before, tokenizer.padding_side = tokenizer.padding_side, "left"
    try:
        yield
    finally:
        tokenizer.padding_side = before
