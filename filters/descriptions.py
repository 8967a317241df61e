"""A dataset's annotation of a picture as text: what a perfect description of that picture would say.

The sources annotate in different ways (logic forms, tables, puzzle states, captions, exact scenes). Each is
rendered as prose; `as_json`, `as_lines` give the annotation as it stands. Used where a description is needed
and no teacher wrote one: to measure `filters.grounding.check_claim`, and to judge against known truth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Scene = Mapping[str, Any]

_LOGIC = re.compile(r"([A-Z][A-Za-z]+)\((.*)\)\Z")
_TERM = re.compile(r"([A-Z][A-Za-z]+)\(([^()]*)\)")


def render_scene(dataset: str, scene: Scene) -> str:
    """The annotation of a picture as prose.

    Args:
        dataset: `geometry3k`, `tabmwp`, `puzzlevqa`, `scenes`; any other is told as nested keys.
        scene: the item's `scene`, or a problem's `facts` once parsed.
    Returns: sentences, one to a line where there are many.
    """
    return _RENDERERS.get(dataset, render_lines)(scene)


def render_json(scene: Scene) -> str:
    """The annotation as JSON."""
    return json.dumps(scene, ensure_ascii=False)


def render_lines(scene: Scene) -> str:
    """The annotation as `key: value` lines, keys of nested mappings joined by blanks."""
    return "\n".join(_lines(scene, ""))


def render_rows(scene: Scene) -> str:
    """The annotation in its source's own notation: logic forms, the table's rows, the caption."""
    if "diagram_logic_form" in scene:
        return "\n".join(scene["diagram_logic_form"])
    if "table" in scene:
        return "\n".join(filter(None, (scene.get("title"), scene["table"])))
    return str(scene["caption"]) if "caption" in scene else render_lines(scene)


def _lines(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _lines(inner, f"{key} {name}".strip().replace("_", " "))
    elif isinstance(value, str) and "\n" in value:
        yield f"{key}:\n{value}"
    else:
        yield f"{key}: {value}"


def _geometry(scene: Scene) -> str:
    sentences = [_sentence(form) for form in scene.get("diagram_logic_form", ()) if form]
    lines, points = scene.get("line_instances", ()), scene.get("point_positions", ())
    sentences.append(f"The figure shows the points {', '.join(points)} and the lines {', '.join(lines)}.")
    return "\n".join(filter(None, sentences))


def _sentence(form: str) -> str:
    """One logic form as a sentence."""
    match = _LOGIC.match(form.strip())
    if match is None:
        return ""
    first, last = _arguments(match[2])
    verbs = {
        "Equals": "is",
        "PointLiesOnLine": "lies on",
        "PointLiesOnCircle": "lies on",
        "Perpendicular": "is perpendicular to",
        "Parallel": "is parallel to",
    }
    subject = f"Point {first}" if match[1].startswith("Point") else first
    return f"{subject} {verbs.get(match[1], match[1])} {last}."


def _arguments(text: str) -> tuple[str, str]:
    """The two arguments of a logic form, their terms in words."""
    words = text
    for _ in range(3):
        words = _TERM.sub(_term, words)
    first, _, last = words.partition(", ")
    return first.strip(), last.strip()


def _term(match: re.Match[str]) -> str:
    name, points = match[1], match[2].replace(" ", "").split(",")
    plain = {
        "Line": f"line {''.join(points)}",
        "Angle": f"angle {''.join(points)}",
        "Circle": f"circle {points[0]}",
        "LengthOf": f"the length of {match[2]}",
        "MeasureOf": match[2],
    }
    return plain.get(name, f"{name} {''.join(points)}")


def _table(scene: Scene) -> str:
    """Every cell in a sentence of its own."""
    columns = list(scene["table_for_pd"].items())
    title = [f"The table is titled {scene['title']}."] if scene.get("title") else []
    keys = columns[0][1]
    return "\n".join(
        [
            *title,
            *(
                f'In the row "{key}", the "{name}" value for {key} is {cells[row] or "empty"}.'
                for row, key in enumerate(keys)
                for name, cells in columns[1:]
            ),
        ]
    )


def _caption(scene: Scene) -> str:
    return str(scene["caption"])


def _procedural(scene: Scene) -> str:
    """The exact scene of a procedural problem (`Problem.facts` of the source `scenes`)."""
    if "bars" in scene:
        parts = [
            f"The {bar['colour']} bar reaches {bar['value']}, which is {bar['value'] / scene['step']:.2f} "
            "gridline spacings above the baseline."
            for bar in scene["bars"]
        ]
        return "\n".join([f"There are {len(scene['bars'])} bars.", *parts])
    if "cells" in scene:
        return "\n".join(_cells(scene))
    return "\n".join(_objects(scene["objects"]))


def _cells(scene: Scene) -> Iterator[str]:
    for row, names in enumerate(scene["cells"], start=1):
        for column, name in enumerate(names, start=1):
            hole = [row - 1, column - 1] == list(scene["missing"])
            yield f"Row {row}, column {column} holds {'the question mark' if hole else f'a {name}'}."


def _objects(objects: list[Mapping[str, Any]]) -> Iterator[str]:
    names = [f"{one['colour']} {one['shape']}" for one in objects]
    counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
    yield f"There are {len(objects)} shapes: {counts}."
    for one, name in zip(objects, names, strict=True):
        x, y = 100 * one["x"], 100 * one["y"]
        yield f"There is a {name} centred at ({x:.1f}, {y:.1f})."


_RENDERERS: Mapping[str, Callable[[Scene], str]] = {
    "geometry3k": _geometry,
    "tabmwp": _table,
    "puzzlevqa": _caption,
    "scenes": _procedural,
}
