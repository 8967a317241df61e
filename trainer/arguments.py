"""Arguments of transformers' Trainer that every training here has in common."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from schemas.config import OptimizerSettings


def common_arguments(settings: OptimizerSettings, seed: int, out_dir: Path) -> dict[str, Any]:
    """Keywords of `TrainingArguments`, the same for SFT and GRPO."""
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
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
    }
