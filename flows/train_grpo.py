"""Dataset and model -> model, by GRPO: what `avar train grpo` does.

Torch, transformers and trl are imported when a function runs, never with this module.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands import is_main_process
from flows.interrupts import stop_after_step
from flows.train import (
    TRAINING_FILE,
    check_start,
    load_rows,
    open_model,
    require_empty,
    train_progress,
    what_is_kept,
)
from schemas.config import Recipe
from schemas.shards import write_json

if TYPE_CHECKING:
    import datasets

    from trainer.grpo import GrpoReport


def train_run(
    recipe: Recipe, data: Path, out: Path, *, resume: bool = False, report_to: tuple[str, ...] = ()
) -> GrpoReport:
    """GRPO of `recipe.grpo.model` on the train split at `data`; the model is saved in `out`.

    Args:
        resume: go on from the latest checkpoint in `out`.
        report_to: what hears the figures, by transformers' names.
    Raises: ShardError: no dataset. ConfigError: no such model, groups that are not whole, `out` is taken, or
        something is not installed. CheckpointError: nothing to go on from. InterruptedRunError: stopped.
    """
    rows = once_each(load_rows(data, "train"))
    if not resume:
        require_empty(out, "model", or_resume=True)
    from trainer.grpo import RunOptions, check_groups, describe_grpo, train_grpo

    check_groups(recipe.grpo, len(rows))
    options = RunOptions(resume=resume, report_to=report_to)
    check_start(recipe.grpo, describe_grpo(recipe.grpo, rows, seed=recipe.seed), out, options)
    model, processor = open_policy(recipe, rows)
    with (
        stop_after_step(what_is_kept(recipe.grpo, "grpo")) as stop,
        train_progress("train", recipe.grpo.steps, "reward") as heard,
    ):
        report = train_grpo(
            model,
            processor,
            rows,
            recipe.grpo,
            seed=recipe.seed,
            out_dir=out,
            progress=heard,
            options=replace(options, stop=stop),
        )
    settings = {"recipe": recipe.name, "seed": recipe.seed, "grpo": recipe.grpo.model_dump(mode="json")}
    if is_main_process():
        write_json(out / TRAINING_FILE, settings | report.to_dict())
    return report


def once_each(rows: datasets.Dataset) -> datasets.Dataset:
    """The first row of each problem: several accepted traces of one are still one problem to answer."""
    first: dict[str, int] = {}
    for place, problem in enumerate(rows["id"]):
        first.setdefault(problem, place)
    return rows.select(list(first.values()), keep_in_memory=True)  # else a file beside the dataset's own


def open_policy(recipe: Recipe, rows: datasets.Dataset) -> tuple[Any, Any]:
    """The model that GRPO starts from: loaded, or for `tiny` a random student as `train.student` says."""
    named = recipe.train.model_copy(update={"model": recipe.grpo.model})
    return open_model(recipe.model_copy(update={"train": named}), rows)
