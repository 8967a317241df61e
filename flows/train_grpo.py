"""Dataset and model -> model, by GRPO: what `avar train grpo` does.

Torch, transformers and trl are imported when a function runs, never with this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.progress import step
from flows.train import TRAINING_FILE, load_rows, open_model, require_empty
from schemas.config import Recipe
from schemas.shards import write_json

if TYPE_CHECKING:
    import datasets

    from trainer.grpo import GrpoReport


def train_run(recipe: Recipe, data: Path, out: Path) -> GrpoReport:
    """GRPO of `recipe.grpo.model` on the train split at `data`; the model is saved in `out`.

    Raises: ShardError: no dataset. ConfigError: no such model, groups that are not whole, or `out` is taken.
    """
    from trainer.grpo import check_groups, train_grpo

    rows = load_rows(data, "train")
    require_empty(out, "model")
    check_groups(recipe.grpo, len(rows))
    model, processor = open_policy(recipe, rows)
    with step("train", recipe.grpo.steps, unit="steps") as reporter:

        def heard(number: int, total: int, metrics: Mapping[str, float]) -> None:
            reward = metrics.get("reward")
            reporter.advance(1, f"reward {reward:.3f}" if reward is not None else "")

        report = train_grpo(
            model, processor, rows, recipe.grpo, seed=recipe.seed, out_dir=out, progress=heard
        )
    settings = {"recipe": recipe.name, "seed": recipe.seed, "grpo": recipe.grpo.model_dump(mode="json")}
    write_json(out / TRAINING_FILE, settings | report.to_dict())
    return report


def open_policy(recipe: Recipe, rows: datasets.Dataset) -> tuple[Any, Any]:
    """The model that GRPO starts from: loaded, or for `tiny` a random student as `train.student` says."""
    named = recipe.train.model_copy(update={"model": recipe.grpo.model})
    return open_model(recipe.model_copy(update={"train": named}), rows)
