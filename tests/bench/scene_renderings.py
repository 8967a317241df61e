"""A picture's annotation as text, in the ways that a description may be written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping

from filters.descriptions import Scene, render_json, render_lines, render_rows, render_scene


def _markdown(scene: Scene) -> str:
    if "table_for_pd" not in scene:
        return "; ".join(scene.get("diagram_logic_form", ())) or ", ".join(
            f"{k}={v}" for k, v in scene.items()
        )
    columns = scene["table_for_pd"]
    rows = [tuple(columns), ("---",) * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _records(scene: Scene) -> str:
    """Tables row by row as `name: value` pairs, all else as one sentence."""
    if "table_for_pd" not in scene:
        return ". ".join(f"{key.replace('_', ' ')} is {value}" for key, value in scene.items()) + "."
    columns = scene["table_for_pd"]
    rows = zip(*columns.values(), strict=True)
    pairs = (
        "; ".join(f"{name.strip()}: {cell}" for name, cell in zip(columns, row, strict=True)) for row in rows
    )
    return "\n".join(f"Row {number}: {row}" for number, row in enumerate(pairs, start=1))


def _sentences(scene: Scene) -> str:
    """Tables cell by cell, all else as `key = value` on one line."""
    if "table_for_pd" not in scene:
        return "; ".join(f"{key} = {value}" for key, value in scene.items())
    (_, keys), *columns = scene["table_for_pd"].items()
    cells = ((name, key, column[row]) for row, key in enumerate(keys) for name, column in columns)
    return "\n".join(f"The {name.strip()} of {key} is {value}." for name, key, value in cells)


def _comma_separated(scene: Scene) -> str:
    """Tables as CSV, all else as lists under their keys, a line for each value."""
    text = io.StringIO()
    if "table_for_pd" in scene:
        columns = scene["table_for_pd"]
        csv.writer(text).writerows([tuple(columns), *zip(*columns.values(), strict=True)])
        return text.getvalue()
    for key, value in scene.items():
        entries = "".join(f"\n  - {entry}" for entry in value) if isinstance(value, list) else f" {value}"
        text.write(f"{key}:{entries}\n")
    return text.getvalue()


RENDERINGS: Mapping[str, Callable[[str, Scene], str]] = {
    "prose": render_scene,
    "json": lambda _, scene: render_json(scene),
    "key-value lines": lambda _, scene: render_lines(scene),
    "own notation": lambda _, scene: render_rows(scene),
    "python": lambda _, scene: str(scene),
    "markdown": lambda _, scene: _markdown(scene),
    "records": lambda _, scene: _records(scene),
    "sentences": lambda _, scene: _sentences(scene),
    "comma-separated": lambda _, scene: _comma_separated(scene),
}
