"""`avar train`: SFT and GRPO on a curated dataset."""

from __future__ import annotations

from pathlib import Path

import click

from flows.commands import (
    Folder,
    find_recipe,
    is_main_process,
    json_option,
    local_folder,
    open_console,
    report_option,
    resume_option,
    set_option,
    split_names,
    write_json_line,
)
from schemas.errors import ConfigError


@click.group()
def train() -> None:
    """Train a model on a curated dataset."""


data_option = click.option("--data", type=Folder(), default=None, help="Dataset; RECIPE where it is a run.")
model_folder_option = click.option(
    "--out", type=Folder(), required=True, help="Folder for the model and its checkpoints."
)


def _dataset(recipe: str, data: Path | None) -> Path:
    """Where the rows are.

    Raises: ConfigError: RECIPE is no run, and no dataset is named.
    """
    if data is None and not Path(recipe).is_dir():
        raise ConfigError(f"{recipe} is not a run's folder: say which dataset with --data DIR")
    return data or Path(recipe)


@train.command()
@click.argument("recipe")
@data_option
@model_folder_option
@click.option("--guided/--plain", default=True, show_default=True, help="With or without the guided loss.")
@resume_option
@report_option
@set_option
@json_option
def sft(
    recipe: str,
    data: Path | None,
    out: Path,
    guided: bool,
    resume: bool,
    report_to: tuple[str, ...],
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """SFT with the attention-guided loss. RECIPE: a shipped name, a YAML file, or a run's folder.

    Ctrl-C once ends it after the step, with a checkpoint where train.save_every is set; twice at once.

    \b
    Example:
        avar train sft runs/demo --out runs/model --set train.steps=100 --set train.save_every=20
        avar train sft runs/demo --out runs/model --set train.steps=100 --set train.save_every=20 --resume
        avar train sft runs/demo --out runs/lora --set train.lora.rank=16 --report-to tensorboard
        accelerate launch --config_file docs/accelerate/multi_gpu.yaml -m flows.cli \\
            train sft runs/mine --out runs/model --set train.model=Qwen/Qwen2.5-VL-7B-Instruct
    """
    from flows.train import train_run

    dataset = _dataset(recipe, data)
    report = train_run(
        find_recipe(recipe, assignments),
        dataset,
        local_folder(out),
        guided=guided,
        resume=resume,
        report_to=split_names(report_to),
    )
    if not is_main_process():
        return
    if as_json:
        write_json_line(report.to_dict())
    else:
        line = f"loss {report.loss_first:.3f} -> {report.loss_last:.3f}; model in {report.model_path}"
        open_console().print(line, markup=False, highlight=False)


@train.command()
@click.argument("recipe")
@data_option
@model_folder_option
@click.option("--model", default=None, help="Model to start from, as --set grpo.model=MODEL.")
@resume_option
@report_option
@set_option
@json_option
def grpo(
    recipe: str,
    data: Path | None,
    out: Path,
    model: str | None,
    resume: bool,
    report_to: tuple[str, ...],
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """GRPO with the visual-anchored reward. RECIPE: a shipped name, a YAML file, or a run's folder.

    Ctrl-C once ends it after the step, with a checkpoint where grpo.save_every is set; twice at once.

    \b
    Example:
        avar train grpo runs/demo --model runs/demo/models/guided --out runs/demo-grpo --set grpo.steps=20
    """
    from flows.train_grpo import train_run

    dataset = _dataset(recipe, data)
    if model is not None:
        assignments = (*assignments, f"grpo.model={model}")
    report = train_run(
        find_recipe(recipe, assignments),
        dataset,
        local_folder(out),
        resume=resume,
        report_to=split_names(report_to),
    )
    if not is_main_process():
        return
    if as_json:
        write_json_line(report.to_dict())
    else:
        line = (
            f"reward {report.reward_first:.3f} -> {report.reward_last:.3f}, accuracy "
            f"{report.accuracy_first:.3f} -> {report.accuracy_last:.3f}; model in {report.model_path}"
        )
        open_console().print(line, markup=False, highlight=False)
