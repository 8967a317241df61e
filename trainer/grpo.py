"""GRPO with the visual-anchored reward on the problems of sample rows.

Source: AVAR, arXiv 2603.03825; docs/method.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
)
from trl.trainer.grpo_config import GRPOConfig

from schemas.config import GrpoSettings
from schemas.errors import ConfigError
from trainer.anchored import VisualGRPOTrainer
from trainer.arguments import RunOptions, common_arguments
from trainer.checkpointing import run_trainer, save_trained, step_history
from trainer.data import batch_rows, images_of
from trainer.lora import add_adapters, finish_adapters, refuse_adapters
from trainer.messages import plain, refuse_placeholder, to_messages
from trainer.resuming import describe_run, find_checkpoint, fingerprint, processes
from trainer.rewards import reward_functions
from trainer.sft import WINDOW, Progress, StepProgress, _quiet, _restore_forward

if TYPE_CHECKING:
    import datasets

__all__ = [
    "GrpoReport",
    "RunOptions",
    "VisualGRPOTrainer",
    "check_groups",
    "describe_grpo",
    "grpo_dataset",
    "train_grpo",
]


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
    options: RunOptions | None = None,
) -> GrpoReport:
    """Train `model` in place on the rows' problems and save it in `out_dir`.

    With `settings.lora` adapters alone are trained; they are merged into `model`, which is saved like any
    other, and saved by themselves in `out_dir`/adapter.

    Args:
        train_rows: columns as in `schemas.records.sample_features`, of which question, choices, images and
            answer are read; a `system` column replaces avar's own system prompt.
        seed: of the order of the rows and of what is sampled.
        progress: called with (step, steps, metrics) after each step.
        options: whether to go on from a checkpoint, what to report to, and when to stop.
    Raises: ConfigError: groups that are not whole, too few rows, or settings that this model cannot have.
        CheckpointError: nothing to go on from. InterruptedRunError: stopped.
        SpanError, AttentionError: a prompt or a model on which r_visual would not be exact.
    """
    options = options or RunOptions()
    check_groups(settings, len(train_rows))
    _refuse_missing_vllm(settings)
    _refuse_reference(model, settings)
    run = describe_grpo(settings, train_rows, seed=seed)
    checkpoint = find_checkpoint(out_dir, run) if options.resume else None
    forward = model.__dict__.get("forward")
    with _quiet(), _left_padding(processor):
        wrapped: Any = add_adapters(model, settings.lora, seed) if settings.lora else model
        try:
            trainer = VisualGRPOTrainer(
                model=wrapped,
                args=_arguments(settings, seed, Path(out_dir), options),
                train_dataset=grpo_dataset(train_rows, processor),
                processing_class=processor,
                rewards=settings.rewards,
            )
            if settings.lora:
                refuse_adapters(trainer)
            trainer.remove_callback(PrinterCallback)
            if progress is not None:
                trainer.add_callback(StepProgress(settings.steps, progress))
            run_trainer(
                trainer, run=run, checkpoint=checkpoint, stop=options.stop, stop_every=settings.iterations
            )
        finally:
            _restore_forward(model, forward)
    if settings.lora:
        finish_adapters(trainer, wrapped, model, out_dir)
    save_trained(trainer, model.eval(), processor, out_dir)
    history = step_history(trainer.state)
    return GrpoReport(
        steps=int(trainer.state.global_step),
        reward_first=_mean(history, "reward", first=True),
        reward_last=_mean(history, "reward", first=False),
        accuracy_first=_mean(history, "rewards/accuracy/mean", first=True),
        accuracy_last=_mean(history, "rewards/accuracy/mean", first=False),
        history=tuple(history),
        model_path=Path(out_dir),
    )


def describe_grpo(settings: GrpoSettings, train_rows: Any, *, seed: int) -> dict[str, Any]:
    """Which training this is: a checkpoint of another one is refused. Where a vLLM server is counts not."""
    run = describe_run("grpo", settings, seed, block="grpo", rows=fingerprint(train_rows))
    run["grpo"]["vllm"] = settings.vllm is not None
    return run


def grpo_dataset(dataset: datasets.Dataset, processor: ProcessorMixin) -> datasets.Dataset:
    """Sample rows as prompts with images, answer and choices, made when a row is read: nothing is copied.

    A row whose text holds an image token is a SpanError that names the row.
    """
    return dataset.with_transform(partial(_to_columns, processor))


def _to_columns(processor: ProcessorMixin, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in ("prompt", "images", "answer", "choices")}
    for row in batch_rows(batch):
        prompt = to_messages(row, with_response=False)
        refuse_placeholder(processor, prompt, f"row {row['id']}")
        columns["prompt"].append(plain(prompt))
        columns["images"].append(images_of(prompt))
        columns["answer"].append(row["answer"])
        columns["choices"].append(row["choices"])
    return columns


def check_groups(settings: GrpoSettings, rows: int) -> None:
    """Raises: ConfigError: a step does not hold whole groups, or there are fewer rows than it needs."""
    together = processes()
    completions = settings.batch_size * settings.gradient_accumulation * together
    prompts, rest = divmod(completions, settings.generations)
    if rest:
        raise ConfigError(
            f"grpo.batch_size: {settings.batch_size} x gradient_accumulation "
            f"{settings.gradient_accumulation} x {together} processes = {completions} completions are no "
            f"whole groups of {settings.generations}: set grpo.batch_size={settings.generations}, or another "
            "grpo.generations"
        )
    if settings.save_every % settings.iterations:
        raise ConfigError(
            f"grpo.save_every: {settings.save_every} would keep a checkpoint between two updates on the same "
            f"completions, which it does not hold: a multiple of grpo.iterations={settings.iterations}"
        )
    if rows < prompts:
        raise ConfigError(
            f"{rows} rows for {prompts} prompts a step: fewer completions a step (grpo.batch_size, "
            "grpo.gradient_accumulation), or more rows"
        )


def _refuse_missing_vllm(settings: GrpoSettings) -> None:
    """TRL's client of a vLLM server imports vllm itself, to send it the weights."""
    if settings.vllm is not None and not any(distributions(name="vllm")):
        raise ConfigError(
            "grpo.vllm: TRL's client needs the package vllm 0.22 to 0.31 in the trainer's own environment, "
            "which then cannot hold Prefect (docs/training.md); without it the trainer samples itself"
        )


def _refuse_reference(model: PreTrainedModel, settings: GrpoSettings) -> None:
    """TRL loads the reference model by the policy's own name, which a model built on the spot has not."""
    if settings.beta and not settings.lora and not model.config.name_or_path:
        raise ConfigError(
            "grpo.beta: the KL term needs the model a second time, from its folder: save it and name the "
            "folder as grpo.model, or set grpo.beta=0"
        )


def _arguments(
    settings: GrpoSettings, seed: int, out_dir: Path, options: RunOptions | None = None
) -> GRPOConfig:
    _, weights = reward_functions(settings.rewards)
    server: dict[str, Any] = {"use_vllm": False}
    if settings.vllm is not None:
        server = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": settings.vllm.rstrip("/")}
    return GRPOConfig(
        **common_arguments(settings, seed, out_dir, options),
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


def _mean(history: Sequence[Mapping[str, float]], name: str, *, first: bool) -> float:
    """Over the first or the last steps that have this figure."""
    values = [entry[name] for entry in history if name in entry]
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
