"""Facts of geometry figures: lengths, angles, incidences, relations, polygons; logic forms and prose.

Names are sets of points: line AB is line BA, and angle ABC is angle CBA. A logic form is what Geometry3K
annotates, e.g. `Equals(LengthOf(Line(P, Q)), 7)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from filters.facts.values import Judgement, is_amount, same_value
from filters.facts.words import is_governed

Subject = tuple[str, object]

_POINTS = r"[A-Z](?:'(?![,:\])}])|_?[0-9])?"  # A' is a point, in 'AB', the mark closes a literal
_NAME = rf"(?:{_POINTS}){{2,8}}"
# Logic forms, innermost first: a term without parentheses inside.
_TERM = re.compile(r"\b([A-Z][A-Za-z]{2,24})\(([^()]{0,200})\)")
_MAX_ROUNDS = 6
MAX_VALUES = 16  # that are kept of what a text writes for one length or angle

_LINE_WORD = (
    r"(?:(?:line\s)?segments?|lines?|sides?|rays?|chords?|diameters?|radi(?:us|i)|edges?|base|height|arcs?)"
)
_IS = (
    r"(?:=|≈|\bis(?:\sequal\sto|\slabell?ed|\smarked(?:\sas)?|\sof)?|\bequals|\bmeasures|\breads|\bof(?:\slength)?|:"
    r"|\bhas\s(?:a\s)?(?:length|measure)(?:\sof)?)"
)
_VALUE = r"(?P<value>(?:about\s)?[^\s,;:=][^,;:=\n]{0,60}?)"
_STOP = r"(?=\s{0,2}(?:[,;\n\]\"]|\.(?:\s|$)|$|\band\b|\bso\b|\bwhile\b|\bwhich\b|=))"
_MEASURES = re.compile(
    rf"(?P<angle>(?:\b[Aa]ngle|∠|\bm∠|\\angle)\s?(?P<corner>{_NAME}|[A-Z]\b|\d\b))\s{{0,2}}{_IS}\s{{0,2}}{_VALUE}{_STOP}"
    rf"|(?:\b(?:the\s)?(?:length\sof\s)?(?P<kind>{_LINE_WORD}\s)?)(?<![A-Za-z])(?P<line>{_POINTS}{_POINTS})(?![A-Za-z])"
    rf"\s{{0,2}}{_IS}\s{{0,2}}(?P<length>(?:about\s)?[^\s,;:=][^,;:=\n]{{0,60}}?){_STOP}"
)
# Before a name: it is part of a larger term, of which the value is.
_IN_TERM = re.compile(
    r"(?:[-+*/·×÷^√]\s?|\d\s?|\b(?:sin|cos|tan|cot|twice|double|half(?:\sof)?|plus|minus|times|sum\sof|third\sof)\s)"
    r"(?:\(|the\s|m)?\Z"
)
# Before a name that is not what the value is said of: "the distance from A to BC is 5", "the strip on AB".
_NO_SUBJECT = re.compile(
    r"(?:\b(?:to|from|above|below|on|onto|over|under|by|between|than|along|per|beside|across|through)"
    r"|\b(?:to|from|through|between|with|of)\s[A-Z]{1,2}\s(?:and|or)"
    r"|(?<!length)(?<!lengths)(?<!measure)(?<!size)(?<!value)(?<!that)\sof)\s(?:the\s)?"
    rf"(?:{_LINE_WORD}\s)?\Z",
    re.IGNORECASE,
)
_ON = re.compile(
    rf"\b(?:points?\s)?(?<![A-Za-z])(?P<points>{_POINTS}(?:(?:,\s|,?\sand\s)(?:point\s)?{_POINTS}){{0,11}})\s"
    rf"(?:(?:both|all|each)\s)?(?:lies?|is|are|falls?|sits?)?\s?(?:located\s|lying\s)?(?:on|at)\s(?:the\s)?"
    rf"(?P<what>circle|⊙|{_LINE_WORD})?\s?(?:(?:with\s)?cent(?:re|er)(?:e?d)?\s(?:at\s)?)?(?P<name>{_POINTS}(?:{_POINTS})?)(?![A-Za-z])"
)
_RELATED = re.compile(
    rf"(?<![A-Za-z])(?P<one>{_POINTS}{_POINTS})\s{{0,2}}(?:(?:is|are)\s)?"
    rf"(?:(?P<perpendicular>perpendicular|⊥|\\perp)|(?P<parallel>parallel|∥|\|\||\\parallel))\s{{0,2}}(?:to\s)?"
    rf"(?:(?:the\s)?{_LINE_WORD}\s)?(?P<two>{_POINTS}{_POINTS})(?![A-Za-z])"
)
_POLYGON = re.compile(
    r"\b(?:(?i:triangle|quadrilateral|parallelogram|rectangle|square|rhombus|trapezoid|pentagon|hexagon)s?|△|▱)"
    rf"\s?(?P<name>(?:{_POINTS}){{3,6}})(?![A-Za-z])"
)
_ANGLE_NAMED = re.compile(rf"(?:(?i:angle)|∠)\s?({_NAME})")
_LINE_NAME = re.compile(rf"(?<![A-Za-z])({_POINTS}{_POINTS})(?![A-Za-z(])")
_POINT_NAME = re.compile(rf"(?<![A-Za-z])(?i:point|vertex|centre|center|circle)s?\s({_POINTS})(?![A-Za-z(])")
_KEYED_POINT = re.compile(rf"[\"']?\b({_POINTS})[\"']?\s?[:=]?\s?[\[(]\s?-?\d")


@dataclass(slots=True)
class Figure:
    """The geometry that a text states.

    Attributes:
        measures: (kind, name) to the values written for it.
        incidences: (point, "line" or "circle", name).
        relations: (kind, the two lines).
        polygons: sets of corners that the text names as one polygon.
        lines, points: every line and point that the text names.
    """

    measures: dict[Subject, list[str]] = field(default_factory=dict)
    incidences: set[tuple[str, str, frozenset[str]]] = field(default_factory=set)
    relations: set[tuple[str, frozenset[frozenset[str]]]] = field(default_factory=set)
    polygons: set[frozenset[str]] = field(default_factory=set)
    lines: set[frozenset[str]] = field(default_factory=set)
    points: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.measures or self.incidences or self.relations or self.polygons)


def read_figure(text: str) -> Figure:
    """All geometry in a text, logic forms and prose."""
    figure = Figure()
    prose = _spell_out(text)
    for subject, value in _measures(prose):
        known = figure.measures.setdefault(subject, [])
        if value not in known and len(known) < MAX_VALUES:
            known.append(value)
    figure.incidences.update(_incidences(prose))
    figure.relations.update(_relations(prose))
    figure.polygons.update(_corners(match["name"]) for match in _POLYGON.finditer(prose))
    _name_all(prose, figure)
    return figure


def judge_figure(claim: Figure, known: Figure) -> list[Judgement]:
    """A judgement for each fact of the claim."""
    return [
        *(
            _judge_measure(subject, value, known)
            for subject, values in claim.measures.items()
            for value in values
        ),
        *_among(claim.incidences, known.incidences),
        *_among(claim.relations, known.relations),
        *(_judge_polygon(corners, known) for corners in claim.polygons),
    ]


def _among(claimed: set, known: set) -> Iterator[Judgement]:
    """What a text does not say of lines may hold all the same."""
    for fact in claimed:
        yield "supported" if fact in known else "unknown"


def _judge_measure(subject: Subject, value: str, known: Figure) -> Judgement:
    verdicts = {same_value(value, other) for other in known.measures.get(subject, ())}
    if "supported" in verdicts:
        return "supported"
    return "contradicted" if verdicts == {"contradicted"} else "unknown"


def _judge_polygon(corners: frozenset[str], known: Figure) -> Judgement:
    """There where it is named or a triangle's sides are drawn; not there where a corner is no point."""
    if corners in known.polygons:
        return "supported"
    if len(corners) == 3 and all(corners - {corner} in known.lines for corner in corners):
        return "supported"
    enough = len(known.points) >= 3
    return "contradicted" if enough and not corners <= known.points else "unknown"


# ------------------------------------------------------------------------------------------ logic forms


def _spell_out(text: str) -> str:
    """The text with its logic forms as prose, innermost first."""
    for _ in range(_MAX_ROUNDS if "(" in text else 0):
        text, replaced = _TERM.subn(_in_words, text)
        if not replaced:
            break
    return text


def _in_words(match: re.Match[str]) -> str:
    name, arguments = match[1], [part.strip() for part in match[2].split(",")]
    joined = "".join(arguments)
    first, last = arguments[0], arguments[-1]
    forms = {
        "Line": joined,
        "Angle": f"angle {joined}",
        "Arc": f"arc {joined}",
        "Circle": f"circle {first}",
        "LengthOf": first,
        "MeasureOf": first,
        "PointLiesOnLine": f"\nPoint {first} lies on line {last}\n",
        "PointLiesOnCircle": f"\nPoint {first} lies on {last}\n",
        "Perpendicular": f"\n{first} is perpendicular to {last}\n",
        "Parallel": f"\n{first} is parallel to {last}\n",
        "Equals": f"\n{first} = {last}\n" if len(arguments) == 2 else "\n",
        "Find": "\n",
    }
    return forms.get(name, f"\n{name} {joined}\n" if len(joined) <= 12 else "\n")


# -------------------------------------------------------------------------------------------------- prose


def _measures(text: str) -> Iterator[tuple[Subject, str]]:
    for match in _MEASURES.finditer(text):
        name = match.start("line") if match["line"] else match.start("angle")
        if _is_derived(text[max(0, name - 140) : name]):
            continue
        if match["corner"]:
            yield ("angle", _angle(match["corner"])), _angles_named(match["value"])
        elif is_amount(match["length"]):
            kind = "arc" if (match["kind"] or "").startswith("arc") else "length"
            yield (kind, _corners(match["line"])), match["length"]


def _is_derived(before: str) -> bool:
    """True where the words before a name say that a value behind it is of something else."""
    return bool(_IN_TERM.search(before[-20:]) or _NO_SUBJECT.search(before[-40:]) or is_governed(before))


def names_derived(text: str) -> bool:
    """True where a text gives a value reckoned from a line or an angle: of neither it is a fact."""
    names = (match.start("line" if match["line"] else "angle") for match in _MEASURES.finditer(text))
    return any(_is_derived(text[max(0, name - 140) : name]) for name in names)


def _angle(name: str) -> object:
    """The vertex and the ends of an angle; a single letter or number stands for itself."""
    corners = re.findall(_POINTS, name)
    if len(corners) != 3:
        return name
    return corners[1], frozenset((corners[0], corners[2]))


def _angles_named(value: str) -> str:
    """A value in which the angles it speaks of have their corners in one order."""

    def ordered(match: re.Match[str]) -> str:
        corners = re.findall(_POINTS, match[1])
        return f"angle {''.join(corners if corners[0] <= corners[-1] else corners[::-1])}"

    return _ANGLE_NAMED.sub(ordered, value)


def _incidences(text: str) -> Iterator[tuple[str, str, frozenset[str]]]:
    for match in _ON.finditer(text):
        corners = _corners(match["name"])
        circle = len(corners) == 1
        if circle != (match["what"] in ("circle", "⊙")):
            continue
        for point in re.findall(_POINTS, match["points"].replace("and", "").replace("point", "")):
            yield point, "circle" if circle else "line", corners


def _relations(text: str) -> Iterator[tuple[str, frozenset[frozenset[str]]]]:
    for match in _RELATED.finditer(text):
        kind = "parallel" if match["parallel"] else "perpendicular"
        yield kind, frozenset((_corners(match["one"]), _corners(match["two"])))


def _corners(name: str) -> frozenset[str]:
    return frozenset(re.findall(_POINTS, name))


def _name_all(text: str, figure: Figure) -> None:
    """Collects the lines and points that a text names anywhere."""
    figure.lines.update(_corners(match[1]) for match in _LINE_NAME.finditer(text))
    figure.points.update(match[1] for match in _POINT_NAME.finditer(text))
    figure.points.update(match[1] for match in _KEYED_POINT.finditer(text))
    named = [name for kind, name in figure.measures if kind == "angle" and isinstance(name, tuple)]
    figure.points.update(point for vertex, ends in named for point in (vertex, *ends))
    for line in (*figure.lines, *figure.polygons):
        figure.points.update(line)
