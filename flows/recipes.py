"""Finds and reads recipes: a shipped name, a YAML file, or the recipe saved with a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from schemas.config import Recipe, override, parse_recipe, read_yaml
from schemas.errors import ConfigError
from schemas.runs import RECIPE_FILE

_FOLDER = Path(__file__).parent / "recipes"


def shipped_recipes() -> list[str]:
    """The names of the recipes that come with avar."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_recipe(name: str, assignments: Iterable[str] = ()) -> Recipe:
    """A recipe by name or path, with overrides applied.

    Args:
        name: a shipped name, a YAML file's path, or a run's folder.
        assignments: `key.sub=value`, the value in YAML.
    Raises: ConfigError: not found, not YAML, or not a recipe; with the key and the mend.
    """
    path = _find(name)
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of keys, found {type(data).__name__}")
    recipe = parse_recipe(override(data, parse_assignments(assignments)), where=path.name)
    return _with_absolute_paths(recipe)


def _find(name: str) -> Path:
    path = Path(name)
    if name in shipped_recipes():
        return _FOLDER / f"{name}.yaml"
    if (path / RECIPE_FILE).is_file():
        return path / RECIPE_FILE
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        if not path.is_file():
            raise ConfigError(f"{name}: no such recipe file")
        return path
    raise ConfigError(
        f"no recipe named {name!r}: shipped are {', '.join(shipped_recipes())}; or give a .yaml file's path"
    )


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """What `--set key.sub=value` says, the value in YAML, by key.

    Raises: ConfigError: not that form, or no YAML.
    """
    return dict(map(_assignment, assignments))


def _assignment(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {text}: write key.sub=value, e.g. --set source.count=50")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not YAML") from error


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with local benchmarks, index and scores named so that it can be used from any folder."""
    decontaminate, evidence = recipe.decontaminate, recipe.filters.evidence
    benchmarks = tuple(
        str(Path(name).absolute()) if Path(name).exists() else name for name in decontaminate.benchmarks
    )
    index = decontaminate.index and decontaminate.index.absolute()
    scores = tuple(path.absolute() for path in evidence.vas_scores)
    thresholds = evidence.model_copy(update={"vas_scores": scores})
    return recipe.model_copy(
        update={
            "decontaminate": decontaminate.model_copy(update={"benchmarks": benchmarks, "index": index}),
            "filters": recipe.filters.model_copy(update={"evidence": thresholds}),
        }
    )
