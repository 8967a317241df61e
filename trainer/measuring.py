"""What the trainers of SFT and GRPO share: figures right under several processes, and the bare model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from trainer.attention import bare_model
from trainer.checkpointing import CheckpointingTrainer
from trainer.diagnostics import Figures


class MeasuringTrainer(CheckpointingTrainer):
    """First base of one of TRL's trainers: what it notes in `figures` is in the next log."""

    _metrics: Any  # TRL's

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._figures = {True: Figures(), False: Figures()}  # training, evaluation

    @property
    def bare_model(self) -> Any:
        """The model itself, out of whatever accelerate and peft put around it."""
        return bare_model(self.accelerator.unwrap_model(self.model))

    @property
    def figures(self) -> Figures:
        """What the next log will say."""
        return self._figures[self._training]

    @property
    def _training(self) -> bool:
        return self.model is not None and self.model.training

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As TRL's, with the figures of all processes: every process must call it."""
        self._metrics["train" if self._training else "eval"].update(self._take_metrics())
        super().log(logs, start_time)

    def _take_metrics(self) -> dict[str, list[float]]:
        """What is logged in place of or beside TRL's own, as TRL keeps it."""
        found = self.figures.take(self._sum_over_processes, self.accelerator.device)
        return {name: [value] for name, value in found.items()}

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        total: Any = self.accelerator.reduce(values)
        return total
