"""Whether the embedded teacher's trace says something wrong of its scene: from the scene, not from filters.

An oracle in the teacher's own words. Only what the trace repeats from the close look is judged; what it says
of the first glance it doubts itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.records import Draft
from synth.seeing.vision import Chart, Element, Grid, Scatter
from synth.thinking.narration import parse_description, place_words

_NEAR = 8.0  # percent of the picture between a shape's centre as seen and as drawn
_LEVEL = 0.2  # gridline spacings between a bar's end as seen and as drawn


def says_wrong(draft: Draft) -> bool:
    """True where a thing that the trace names from the close look is not so in the scene."""
    facts = json.loads(draft.problem.facts)
    look = parse_description(draft.description)
    if look is None:
        return False
    close = look.close
    if isinstance(close, Chart):
        return any(_wrong_bars(draft.trace, close, facts))
    if isinstance(close, Grid):
        return any(_wrong_cells(draft.trace, close, facts))
    assert isinstance(close, Scatter)
    return any(_wrong_shapes(draft.trace, close, facts))


def _wrong_bars(trace: str, close: Chart, facts: Mapping[str, Any]) -> Iterator[bool]:
    heights = {bar["colour"]: bar["value"] / facts["step"] for bar in facts["bars"]}
    for bar in close.bars:
        if re.search(rf"\b{bar.height:.2f}\b", trace):
            yield bar.colour not in heights or abs(heights[bar.colour] - bar.height) > _LEVEL


def _wrong_cells(trace: str, close: Grid, facts: Mapping[str, Any]) -> Iterator[bool]:
    if "from left to right" not in trace:
        return
    for (row, column), name in close.cells.items():
        yield facts["cells"][row][column] != name


def _wrong_shapes(trace: str, close: Scatter, facts: Mapping[str, Any]) -> Iterator[bool]:
    total = re.search(r"of the (\d+) shapes", trace)
    if total:
        yield int(total[1]) != len(facts["objects"])
    for one in close.elements:
        if f"{one.name} at the {place_words(one.x, one.y)}" in trace:
            yield not any(_is_there(one, drawn) for drawn in facts["objects"])


def _is_there(seen: Element, drawn: Mapping[str, Any]) -> bool:
    apart = ((seen.x - 100 * drawn["x"]) ** 2 + (seen.y - 100 * drawn["y"]) ** 2) ** 0.5
    return seen.name == f"{drawn['colour']} {drawn['shape']}" and apart <= _NEAR
