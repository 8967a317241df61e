"""Dataset -> model -> score: what `avar train`, `avar vas` and the demo's second half do.

Torch, transformers and trl are imported when a function runs, never with this module.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands import is_main_process
from flows.interrupts import stop_after_step
from flows.progress import step
from flows.text import sanitize
from schemas.config import OptimizerSettings, Recipe
from schemas.errors import ConfigError, ShardError
from schemas.shards import load_dataset_dict, write_json

if TYPE_CHECKING:
    import datasets

    from trainer.arguments import RunOptions
    from trainer.sft import SftReport
    from trainer.vas import VasReport

TINY = "tiny"
ACCEPTED = "accepted"  # both splits of accepted rows
TRAINING_FILE = "training.json"  # beside the model: what it was trained with, and every step's figures


@dataclass(frozen=True)
class Comparison:
    """The score before training, after it, and after the same training without the guided loss."""

    sft: SftReport
    before: VasReport
    after: VasReport
    control: VasReport | None


def train_run(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    guided: bool = True,
    resume: bool = False,
    report_to: tuple[str, ...] = (),
) -> SftReport:
    """SFT of the recipe's model on the train split at `data`; the model is saved in `out`.

    Args:
        resume: go on from the latest checkpoint in `out`.
        report_to: what hears the figures, by transformers' names.
    Raises: ShardError: no dataset. ConfigError: no such model, `out` is taken, or something is not installed.
        CheckpointError: nothing to go on from. InterruptedRunError: stopped by a person.
    """
    rows = load_rows(data, "train")
    held_out = load_dataset_dict(data)["validation"]
    if not resume:
        require_empty(out, "model", or_resume=True)
    from trainer.sft import RunOptions, describe_sft

    options = RunOptions(resume=resume, report_to=report_to)
    run = describe_sft(recipe.train, rows, held_out, seed=recipe.seed, guided=guided)
    check_start(recipe.train, run, out, options)
    model, processor = open_model(recipe, rows)
    with stop_after_step(what_is_kept(recipe.train, "train")) as stop:
        options = replace(options, stop=stop)
        return _train(recipe, rows, held_out, model, processor, out, "train", guided=guided, options=options)


def check_start(settings: OptimizerSettings, run: Mapping[str, Any], out: Path, options: RunOptions) -> None:
    """What would fail a training later is refused before its model is loaded, which may take minutes.

    Args:
        run: which training it is (`trainer.resuming.describe_run`).
    Raises: ConfigError: a package that is not installed. CheckpointError: nothing to go on from.
    """
    from trainer.arguments import find_reporters
    from trainer.lora import require_peft
    from trainer.resuming import find_checkpoint

    find_reporters(options.report_to)
    if settings.lora:
        require_peft()
    if options.resume:
        find_checkpoint(out, run)


def compare(recipe: Recipe, data: Path, out: Path) -> Comparison:
    """Trains the recipe's model with the guided loss and, as control, without; measures all on held-out rows.

    Models are saved in `out`/guided and `out`/control; what was there before is replaced.
    """
    train_rows, held_out = load_rows(data, "train"), load_rows(data, "validation")
    model, processor = open_model(recipe, train_rows)
    before = score(model, processor, held_out, recipe.train.vas_samples, "VAS before")
    arms: dict[str, VasReport] = {}
    sft = None
    for name in ("guided", "control") if recipe.train.control else ("guided",):
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        model, processor = open_model(recipe, train_rows)
        report = _train(
            recipe, train_rows, held_out, model, processor, folder, f"SFT {name}", guided=name == "guided"
        )
        arms[name] = score(model, processor, held_out, recipe.train.vas_samples, f"VAS {name}")
        sft = sft or report
    assert sft is not None
    return Comparison(sft=sft, before=before, after=arms["guided"], control=arms.get("control"))


def open_model(recipe: Recipe, rows: datasets.Dataset) -> tuple[Any, Any]:
    """The recipe's model and processor: loaded, or for `tiny` built with a tokenizer of the rows' text."""
    from trainer.student import build_student, load_model

    if recipe.train.model == TINY:
        return build_student(recipe.train.student, training_texts(rows), recipe.seed)
    return load_model(recipe.train.model)


def open_saved(path: str) -> tuple[Any, Any]:
    """A saved model, on the GPU where there is one, and its processor.

    Raises: ConfigError: no such model.
    """
    from trainer.checkpoints import load_model

    model, processor = load_model(path)
    model.to(torch_device())  # type: ignore[arg-type]
    return model, processor


def torch_device() -> str:
    """Where models run: `cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def training_texts(rows: datasets.Dataset) -> list[str]:
    """Every text a student reads or writes, in the order of the rows."""
    columns = (rows["question"], rows["trace"], rows["choices"])
    return [
        text
        for question, trace, choices in zip(*columns, strict=True)
        for text in (question, trace, *choices)
    ]


def score(
    model: Any,
    processor: Any,
    rows: datasets.Dataset,
    limit: int,
    title: str,
    *,
    batch_size: int = 8,
    layers: Collection[int] | None = None,
    gains: bool = True,
) -> VasReport:
    """The Visual Attention Score over the first `limit` rows, which are decoded as they are needed."""
    from trainer.vas import measure_vas

    samples: Any = rows.select(range(min(limit, len(rows))))
    with step(title, len(samples)) as reporter:
        return measure_vas(
            model,
            processor,
            samples,
            batch_size=batch_size,
            layers=layers,
            gains=gains,
            progress=reporter.advance,
        )


def load_rows(data: Path, split: str, fallback: str | None = None) -> datasets.Dataset:
    """A split of a finished dataset; `accepted` stands for train and validation together.

    Raises: ShardError: no dataset, or the split is empty.
    """
    splits = load_dataset_dict(data)
    if split == ACCEPTED:
        splits[ACCEPTED] = _joined(splits["train"], splits["validation"])
    for name in filter(None, (split, fallback)):
        if len(splits[name]):
            return splits[name]
    raise ShardError(
        f"{data}: the {split} split is empty: more problems, or looser filters, or another `validation` share"
    )


def _joined(*parts: datasets.Dataset) -> datasets.Dataset:
    from datasets import concatenate_datasets

    return concatenate_datasets(list(parts))


def _train(
    recipe: Recipe,
    rows: datasets.Dataset,
    held_out: datasets.Dataset,
    model: Any,
    processor: Any,
    out: Path,
    title: str,
    *,
    guided: bool,
    options: RunOptions | None = None,
) -> SftReport:
    """One training; what it warns of is a line on standard error at once."""
    from trainer.sft import train_sft

    with train_progress(title, recipe.train.steps) as heard:
        report = train_sft(
            model,
            processor,
            rows,
            recipe.train,
            seed=recipe.seed,
            out_dir=out,
            guided=guided,
            held_out=held_out,
            progress=heard,
            options=options,
        )
    settings = {"recipe": recipe.name, "seed": recipe.seed, "train": recipe.train.model_dump(mode="json")}
    if is_main_process():
        write_json(out / TRAINING_FILE, settings | report.to_dict())
    return report


def what_is_kept(settings: OptimizerSettings, block: str) -> str:
    """Of a training that is stopped, in words; `block`: where in the recipe its settings are."""
    return "with a checkpoint" if settings.save_every else f"keeping nothing ({block}.save_every=0)"


@contextmanager
def train_progress(
    title: str, steps: int, figure: str = "loss"
) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """What hears of each step shows it on standard error, where warnings are lines as well.

    Steps before a checkpoint count as done earlier. Only the main process of several shows anything.

    Args:
        figure: the name of what is shown of a step.
    """
    if not is_main_process():
        yield lambda number, total, metrics: None
        return
    with step(title, steps, unit="steps") as reporter, _said_on_stderr(logging.getLogger("trainer"), title):
        last = 0

        def heard(number: int, total: int, metrics: Mapping[str, float]) -> None:
            nonlocal last
            if number > last + 1:
                reporter.advance(number - last - 1, earlier=True)
            last = number
            value = metrics.get(figure)
            reporter.advance(1, f"{figure} {value:.3f}" if value is not None else "")

        yield heard


@contextmanager
def _said_on_stderr(logger: logging.Logger, title: str) -> Iterator[None]:
    """What `logger` is told inside is one line on standard error, above a progress bar where one stands."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(f"avar: {title}: {sanitize(record.getMessage())}", file=sys.stderr, flush=True)

    handler, propagated = Lines(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False  # Prefect's own handler would say it again
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def require_empty(out: Path, what: str, *, or_resume: bool = False) -> None:
    """Raises: ConfigError: `out`, where `what` is to go, holds something already or cannot be made."""
    ground = next(path for path in (out, *out.absolute().parents) if path.exists())
    if ground != out and not (ground.is_dir() and os.access(ground, os.W_OK | os.X_OK)):
        raise ConfigError(f"{out}: cannot be made in {ground}; choose another --out for the {what}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        resume = "; --resume goes on from its latest checkpoint" if or_resume else ""
        raise ConfigError(f"{out}: not empty; choose another --out for the {what}{resume}")
