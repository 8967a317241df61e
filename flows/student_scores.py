"""Visual attention scores of a run's rows, as `avar vas --out` wrote them, for curation.

The score is of the question's tokens, which stand before any response: a problem has one, whatever is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.vas.output import FORMAT, RESULT_FILE
from schemas.config import EvidenceThresholds
from schemas.errors import ConfigError
from schemas.records import Draft

Scores = Mapping[str, float]


def read_scores(settings: EvidenceThresholds) -> Scores:
    """The score of each problem that was measured, by the problem's id; of several files the last one's.

    Raises: ConfigError: a file is no result of `avar vas`, or it is not clear which of its models is meant.
    """
    return dict(pair for path in settings.vas_scores for pair in _read_file(path, settings.vas_model))


def _read_file(path: Path, model: str | None) -> Iterator[tuple[str, float]]:
    file = path / RESULT_FILE if path.is_dir() else path
    try:
        result: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"filters.evidence.vas_scores: {file} cannot be read: {error}") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise ConfigError(f"filters.evidence.vas_scores: {file} is not a result of `avar vas --out`")
    rows = result["models"][_choose(file, list(result["models"]), model)]["rows"]
    return ((row["id"], row["vas"]) for row in rows if row["vas"] is not None)


def _choose(file: Path, models: Sequence[str], wanted: str | None) -> str:
    if wanted is None and len(models) == 1:
        return models[0]
    if wanted is None or wanted not in models:
        raise ConfigError(
            f"filters.evidence.vas_model: {wanted!r} is none of {', '.join(models)}, the models of {file}"
        )
    return wanted


def with_score(draft: Draft, scores: Scores) -> Draft:
    """The draft with its problem's score, where it was measured."""
    score = scores.get(draft.problem.id)
    return draft if score is None else replace(draft, evidence=replace(draft.evidence, vas=score))
