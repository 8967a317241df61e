"""What `avar vas` does: models measured one after the other on the same rows, correlated, written out.

Torch, transformers, scipy and matplotlib are imported when a function runs, never with this module.
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.text import one_line
from flows.train import load_rows, open_saved, score, torch_device
from flows.vas.correlation import Correlation, correlate, read_accuracy
from flows.vas.output import FORMAT, output_folder, write_run
from schemas.errors import AttentionError, ConfigError, SpanError

if TYPE_CHECKING:
    import datasets

    from trainer.vas import VasReport

_MOST_LAYERS = 10_000
_PACKAGES = ("avar", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class VasSettings:
    """How models are measured.

    Attributes:
        limit: rows at most; batch_size: rows at once.
        split: of the dataset; `accepted` is train and validation.
        layers: None for all softmax-attention layers.
        gains: also the image and the blank gain, at two more passes a row.
    """

    limit: int = 200
    batch_size: int = 8
    split: str = "validation"
    layers: tuple[int, ...] | None = None
    gains: bool = True


@dataclass(frozen=True, kw_only=True)
class VasRun:
    """A measurement: what was measured on what, and the reports by the models' names.

    Attributes:
        paths: name -> folder or hub name as it was given.
        split, rows: which rows of the dataset, and how many.
        device: where the models ran.
        versions: of avar, torch and transformers.
    """

    paths: Mapping[str, str]
    dataset: str
    split: str
    rows: int
    settings: VasSettings
    device: str
    versions: Mapping[str, str]
    reports: Mapping[str, VasReport]
    correlation: Correlation | None = None

    def to_dict(self) -> dict[str, Any]:
        """What vas.json holds: no clock time, so that equal runs give equal files."""
        facts = ("dataset", "split", "rows", "settings", "device", "versions")
        plain = asdict(replace(self, reports={}))
        return {"format": FORMAT} | {name: plain[name] for name in facts} | self.results()

    def results(self) -> dict[str, Any]:
        """The reports by model, and the correlation or None."""
        models = {
            name: {"model": self.paths[name]} | report.to_dict() for name, report in self.reports.items()
        }
        return {"models": models, "correlation": self.correlation.to_dict() if self.correlation else None}

    def summary(self) -> dict[str, Any]:
        """The object of `--json`: of one model its report, of several `results`."""
        results = self.results()
        return next(iter(results["models"].values())) if len(self.reports) == 1 else results


def run_vas(
    models: Sequence[str], data: Path, settings: VasSettings, *, accuracy: Path | None, out: Path | None
) -> VasRun:
    """Measures models on a split of a dataset, on its train rows where that is empty.

    Args:
        accuracy: a JSON object of accuracies in percent, by model: as it was given, or its last folder name.
        out: folder for vas.json, index.html and figures/; nothing is written without one.
    Raises: ConfigError: bad arguments, all of them found before the first model is measured.
        ShardError: no dataset, or an empty one. AttentionError: no row can be scored.
    """
    rows = load_rows(data, settings.split, fallback="train")
    paths = name_models(models)
    accuracies = read_accuracy(accuracy, paths) if accuracy else None
    if out is None:
        return _measure(paths, data, rows, settings, accuracies)
    with output_folder(out) as staging:
        run = _measure(paths, data, rows, settings, accuracies)
        write_run(run, staging)
    return run


def parse_layers(text: str) -> tuple[int, ...]:
    """ "0-3,7" as (0, 1, 2, 3, 7).

    Raises: ConfigError: anything else.
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part, re.ASCII)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not first <= last < _MOST_LAYERS:
            raise ConfigError(
                f"--layers {text!r}: {part.strip()!r} is no layer or range; write for example 0-3,7"
            )
        found |= set(range(first, last + 1))
    return tuple(sorted(found))


def name_models(models: Sequence[str]) -> dict[str, str]:
    """Short names for models: the last folder name where that is unique, else the path as it was given.

    Raises: ConfigError: a model is named twice.
    """
    twice = [
        path for path, times in Counter(one_line(str(Path(model))) for model in models).items() if times > 1
    ]
    if twice:
        raise ConfigError(f"model {twice[0]!r} is named twice")
    last = {model: one_line(Path(model).name or Path(model).resolve().name) for model in models}
    times = Counter(last.values())
    return {last[model] if times[last[model]] == 1 else one_line(model): model for model in models}


# ------------------------------------------------------------------------------------------ measuring


def _measure(
    paths: Mapping[str, str],
    data: Path,
    rows: datasets.Dataset,
    settings: VasSettings,
    accuracies: Mapping[str, float] | None,
) -> VasRun:
    _require_models(paths, settings)
    reports = {name: _measure_model(name, paths, rows, settings) for name in paths}
    scores = {name: report.vas for name, report in reports.items()}
    return VasRun(
        paths={name: one_line(path) for name, path in paths.items()},
        dataset=one_line(str(data)),
        split=str(rows.split or settings.split),
        rows=min(settings.limit, len(rows)),
        settings=settings,
        device=torch_device(),
        versions={package: version(package) for package in _PACKAGES},
        reports=reports,
        correlation=correlate(scores, accuracies) if accuracies else None,
    )


def _require_models(paths: Mapping[str, str], settings: VasSettings) -> None:
    """A mistake in the last model's name is found before the first is measured."""
    from transformers import AutoConfig

    for path in paths.values():
        try:
            config = AutoConfig.from_pretrained(path).get_text_config()
        except (OSError, ValueError, KeyError, TypeError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"model {path!r}: cannot be opened: {line}") from error
        count = getattr(config, "num_hidden_layers", _MOST_LAYERS)
        beyond = [layer for layer in settings.layers or () if layer >= count]
        if beyond:
            raise ConfigError(f"--layers: model {path!r} has no layer {beyond[0]}: it has 0 to {count - 1}")


def _measure_model(
    name: str, paths: Mapping[str, str], rows: datasets.Dataset, settings: VasSettings
) -> VasReport:
    """The report of one model, which is in memory no longer than that."""
    title = f"VAS {name}" if len(paths) > 1 else "VAS"
    options = {"batch_size": settings.batch_size, "layers": settings.layers, "gains": settings.gains}
    try:
        return _load_and_score(paths[name], rows, settings.limit, title, options)
    except (AttentionError, SpanError) as error:
        raise type(error)(f"{name}: {error}") from error
    finally:
        _free_memory()


def _load_and_score(
    path: str, rows: datasets.Dataset, limit: int, title: str, options: Mapping[str, Any]
) -> VasReport:
    model, processor = open_saved(path)
    return score(model, processor, rows, limit, title, **options)


def _free_memory() -> None:
    import torch

    gc.collect()  # a model's modules refer to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
