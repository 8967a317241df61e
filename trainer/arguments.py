"""Arguments of transformers' Trainer that every training here has in common."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from schemas.config import OptimizerSettings
from schemas.errors import ConfigError

# What transformers reports to, and the package that each needs, where it is called something else.
_PACKAGES = {"azure_ml": "azureml-mlflow", "comet_ml": "comet-ml", "flyte": "flytekitplugins-deck-standard"}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How one run of a training goes; nothing here changes what is trained.

    Attributes:
        resume: go on from the latest checkpoint in the output folder.
        report_to: transformers' names of what hears the figures (`tensorboard`, `wandb`, ...), `all`, `none`.
        stop: asked after every step; True ends the run there, with a checkpoint where any are kept.
    """

    resume: bool = False
    report_to: tuple[str, ...] = ()
    stop: Callable[[], bool] | None = None


def common_arguments(
    settings: OptimizerSettings, seed: int, out_dir: Path, options: RunOptions | None = None
) -> dict[str, Any]:
    """Keywords of `TrainingArguments`, the same for SFT and GRPO.

    Raises: ConfigError: an integration that is unknown or not installed.
    """
    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(out_dir),
        "max_steps": settings.steps,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": math.ceil(settings.warmup_ratio * settings.steps),
        "gradient_checkpointing": settings.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": cuda and torch.cuda.is_bf16_supported(),
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "logging_steps": 1,
        "save_strategy": "steps" if settings.save_every else "no",
        "save_steps": settings.save_every or 500,  # 500: transformers' own, unused without a strategy
        "save_total_limit": settings.keep_checkpoints,
        "report_to": find_reporters((options or RunOptions()).report_to),
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
    }


def find_reporters(names: Collection[str]) -> list[str]:
    """transformers' `report_to` for these names; `none` or nothing is ["none"].

    Raises: ConfigError: a name that transformers does not know, or whose package is not installed.
    """
    from transformers.integrations import integration_utils

    if not set(names) - {"none"}:
        return ["none"]
    if "none" in names:
        raise ConfigError("--report-to none: stands alone, since it means that nothing is reported to")
    installed = integration_utils.get_available_reporting_integrations()
    known = integration_utils.INTEGRATION_TO_CALLBACK
    for name in names:
        if name == "all":
            continue
        if name not in known:
            raise ConfigError(f"--report-to {name}: unknown; transformers knows {', '.join(sorted(known))}")
        if name not in installed and not (name == "flyte" and importlib.util.find_spec("flytekit")):
            raise ConfigError(f"--report-to {name}: not installed: pip install {_PACKAGES.get(name, name)}")
    return ["all"] if "all" in names else list(dict.fromkeys(names))
