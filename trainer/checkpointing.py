"""Checkpoints that open like any model, and trainings that go on from them as if nothing had happened.

For any of transformers' trainers: SFT's and GRPO's take `CheckpointingTrainer` as their first base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import (
    PreTrainedModel,
    ProcessorMixin,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import SaveStrategy

from schemas.errors import CheckpointError, InterruptedRunError
from trainer.checkpoints import hide_progress_bars, save_processor, save_student
from trainer.resuming import RECORD, Checkpoint


class Lasting(Protocol):
    """A part of a training that a checkpoint keeps beside the weights."""

    def keep(self) -> dict[str, Any]:
        """What it needs to go on, ready for JSON."""
        ...

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `keep` gave."""
        ...


class RunRecord(TrainerCallback, ExportableState):
    """Puts what avar keeps into the trainer's own state, and with it into every checkpoint."""

    def __init__(
        self, run: Mapping[str, Any], parts: Mapping[str, Lasting], tokens: Callable[[], float]
    ) -> None:
        self.run, self.parts, self.tokens = run, parts, tokens

    def state(self) -> dict[str, Any]:
        parts = {name: part.keep() for name, part in self.parts.items()}
        return {"args": {}, "attributes": {"run": self.run, "tokens": self.tokens(), "parts": parts}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        state.compute_steps(args, state.max_steps)  # a checkpoint's state brings its own `save_every`
        if state.global_step >= state.max_steps:
            raise _AllStepsDone


assert RunRecord.__name__ == RECORD


class _AllStepsDone(Exception):  # noqa: N818 no error: transformers would train one step more
    """The checkpoint is of the last step: there is nothing left to train."""


class StopWhenAsked(TrainerCallback):
    """Ends a training after the step in which some process was asked to, all processes together.

    Attributes:
        step: the step it was ended after, None while it was not.
    """

    def __init__(self, trainer: Trainer, asked: Callable[[], bool], every: int = 1) -> None:
        """`every`: steps that belong together; it never ends between two of them."""
        self.trainer, self.asked, self.every = trainer, asked, every
        self.step: int | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        whole = state.global_step % self.every == 0
        if whole and state.global_step < state.max_steps and self._anybody():
            self.step = state.global_step
            control.should_training_stop = True
            control.should_save = args.save_strategy == SaveStrategy.STEPS

    def _anybody(self) -> bool:
        accelerator = self.trainer.accelerator
        if accelerator.num_processes == 1:
            return self.asked()
        asked: Any = accelerator.reduce(torch.tensor(float(self.asked()), device=accelerator.device))
        return bool(asked > 0)


class CheckpointingTrainer(Trainer):
    """Saves checkpoints that transformers and vLLM open, and loads them whole."""

    _total_train_tokens: float  # TRL's, which it forgets between two runs

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        with hide_progress_bars():
            super()._save(output_dir, state_dict)
        if self.args.should_save and isinstance(self.processing_class, ProcessorMixin):
            save_processor(self.processing_class, output_dir or str(self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As transformers', but whole models are loaded under the names that their files have.

        `save_pretrained` writes the names of the published format (`visual.*` and `model.layers.*` for
        Qwen2.5-VL) and `from_pretrained` turns them back. transformers' Trainer compares them with the
        model's own (`model.visual.*`), finds none, and goes on with the weights it had, with a warning alone.
        """
        target = self.model if model is None else model
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not isinstance(target, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        try:
            with hide_progress_bars():
                loaded: Any = type(target).from_pretrained(resume_from_checkpoint, output_loading_info=True)
        except (OSError, ValueError, RuntimeError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{resume_from_checkpoint}: its weights cannot be loaded: {line}"
            ) from error
        saved, info = loaded
        lost = sorted({*info["missing_keys"], *info["unexpected_keys"]})
        if lost:
            raise CheckpointError(
                f"{resume_from_checkpoint}: {len(lost)} weights are not this model's, as {lost[0]}: was the "
                "folder changed?"
            )
        target.load_state_dict(saved.state_dict())


def run_trainer(
    trainer: CheckpointingTrainer,
    *,
    run: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
    parts: Mapping[str, Lasting] | None = None,
    stop: Callable[[], bool] | None = None,
    stop_every: int = 1,
) -> None:
    """Train to the last step, from a checkpoint where one is given. Every process must call it.

    Args:
        run: which training this is (`resuming.describe_run`).
        parts: what is kept in checkpoints beside the weights, by name.
        stop: asked after every step, or after every `stop_every`-th where those belong together.
    Raises: InterruptedRunError: `stop` said so; the message says how to go on.
        CheckpointError: the checkpoint's weights cannot be loaded.
    """
    parts = parts or {}
    if checkpoint is not None:
        trainer._total_train_tokens = checkpoint.tokens
        for name, part in parts.items():
            if name in checkpoint.parts:
                part.restore(checkpoint.parts[name])
    stopper = StopWhenAsked(trainer, stop or (lambda: False), stop_every)
    trainer.add_callback(stopper)
    # The last one, so that the others have done with a step before it is kept; the first to begin.
    trainer.add_callback(RunRecord(run, parts, lambda: trainer._total_train_tokens))
    with suppress(_AllStepsDone):
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint is not None else None)
    if stopper.step is not None:
        raise InterruptedRunError(_farewell(trainer, stopper.step))


def _farewell(trainer: Trainer, step: int) -> str:
    where = f"stopped after step {step} of {trainer.state.max_steps}"
    if trainer.args.save_strategy != SaveStrategy.STEPS:
        return f"{where}; nothing is kept: save_every=N in the recipe keeps checkpoints to go on from"
    path = Path(str(trainer.args.output_dir)) / f"checkpoint-{step}"
    return f"{where}; {path} is kept: the same command with --resume goes on from it"


def step_history(state: TrainerState) -> list[dict[str, float]]:
    """What was logged at each step, one mapping each with its `step`; steps before a checkpoint are there."""
    found = []
    for entry in state.log_history:
        if "loss" not in entry:  # the closing summary, and measurements before the first step
            continue
        figures = {name: float(value) for name, value in entry.items() if isinstance(value, int | float)}
        found.append({"step": figures.pop("step"), **figures})
    return found


def save_trained(
    trainer: Trainer, model: PreTrainedModel, processor: ProcessorMixin, folder: str | Path
) -> None:
    """Write the trained model as any model is written. Every process must call it; the main one writes."""
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    whole = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if trainer.is_world_process_zero():
        save_student(model, processor, folder, state_dict=whole)
    trainer.accelerator.wait_for_everyone()
