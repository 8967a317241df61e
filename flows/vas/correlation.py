"""Accuracies of models, and the correlation of VAS with them (the paper's figure 1)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError

FEWEST_MODELS = 3  # a correlation of two points is always 1 or -1


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """VAS against accuracy, one point per model. A figure that is not defined is None.

    Attributes:
        models: number of points.
        pearson_r, pearson_p: Pearson's r and its two-sided p; pearson_interval: 95%, by Fisher's z.
        spearman_rho, spearman_p: the same of ranks.
        vas, accuracy: the points by model; accuracy in percent.
    """

    models: int
    pearson_r: float | None
    pearson_p: float | None
    pearson_interval: tuple[float, float] | None
    spearman_rho: float | None
    spearman_p: float | None
    vas: Mapping[str, float]
    accuracy: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self) | {"vas": {name: _finite(value) for name, value in self.vas.items()}}


def read_accuracy(file: Path, models: Mapping[str, str]) -> dict[str, float]:
    """The models' accuracies, percent, by name. The file may name further models.

    Args:
        models: name -> path; a model is looked up by either.
    Raises: ConfigError: too few models, no such file, no value for a model, or no percentages.
    """
    if len(models) < FEWEST_MODELS:
        raise ConfigError(f"--accuracy: r needs at least {FEWEST_MODELS} models, here are {len(models)}")
    given = read_object(file)
    missing = [name for name, path in models.items() if name not in given and path not in given]
    if missing:
        raise ConfigError(f"{file}: no accuracy for {missing[0]!r}; it has {', '.join(given) or 'none'}")
    found = {name: given[path] if path in given else given[name] for name, path in models.items()}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
            raise ConfigError(f"{file}: {name!r}: {value!r} is no accuracy in percent, 0 to 100")
    if max(found.values()) <= 1:
        raise ConfigError(f"{file}: no accuracy above 1: write percent (62.5), not fractions (0.625)")
    if len(set(found.values())) == 1:
        raise ConfigError(f"{file}: all accuracies are {next(iter(found.values()))}: r needs two that differ")
    return {name: float(value) for name, value in found.items()}


def read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ConfigError(f'{file}: not an object of accuracies by model, such as {{"name": 62.5}}')
    return value


def correlate(vas: Mapping[str, float], accuracy: Mapping[str, float]) -> Correlation:
    """Pearson's and Spearman's correlation of VAS with accuracy, over models.

    Source: AVAR, arXiv 2603.03825, figure 1 (Pearson); Spearman: ours, since VAS is heavy-tailed.
    """
    import warnings

    from scipy import stats

    scores, accuracies = [vas[name] for name in vas], [accuracy[name] for name in vas]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal values have no r, which is said with None
        pearson: Any = stats.pearsonr(scores, accuracies)
        spearman: Any = stats.spearmanr(scores, accuracies)
        low, high = (float(end) for end in pearson.confidence_interval(0.95))
    return Correlation(
        models=len(scores),
        pearson_r=_finite(pearson.statistic),
        pearson_p=_finite(pearson.pvalue),
        pearson_interval=(low, high) if math.isfinite(low + high) else None,
        spearman_rho=_finite(spearman.statistic),
        spearman_p=_finite(spearman.pvalue),
        vas=dict(vas),
        accuracy={name: accuracy[name] for name in vas},
    )


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
