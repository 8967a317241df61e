"""A claim against a description: which facts both state, and what follows for the claim."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from filters.facts import assertions, cells, geometry, labels, readings, tables, things, words
from filters.facts.values import Judgement

MAX_DESCRIPTION = 100_000  # characters of a description that are read
MAX_CLAIM = 2_000
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")  # of JSON, in names that are compared as they stand
_MINUS = re.compile(r"−|\bnegative\s(?=\d)|(?<=\b(?:is|at|to|of)\s)minus\s(?=\d)", re.IGNORECASE)
_KEPT = 8  # descriptions in memory: all claims of a trace are about one


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that a description states, by kind."""

    text: str
    figure: geometry.Figure
    tables: list[tables.Table]
    times: list[readings.ClockTime]
    sequences: list[readings.Listed]
    labels: list[labels.Label]
    things: things.Scene


@lru_cache(maxsize=_KEPT)
def read_description(description: str) -> Known:
    """The facts of a description; the last few are remembered."""
    text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), description[:MAX_DESCRIPTION])
    text = _with_signs(text)
    return Known(
        text,
        geometry.read_figure(text),
        tables.read_tables(text),
        readings.read_times(text),
        readings.read_sequences(text),
        labels.read_labels(text),
        things.read_scene(text),
    )


def judge_claim(claim: str, description: str) -> Judgement:
    """What a description makes of a claim; see `filters.grounding.check_claim`."""
    known = read_description(description)
    return combine(tuple(_judgements(_with_signs(claim[:MAX_CLAIM]), known)))


def _with_signs(text: str) -> str:
    """A text in which a minus sign before a number is "-", however it is written."""
    return _MINUS.sub("-", text)


def holds_fact(sentence: str) -> bool:
    """True where a sentence states a measure, a table's cell, or the colour or number of a thing."""
    if geometry.read_figure(sentence).measures or cells.read_cell_claim(sentence) is not None:
        return True
    return any(mention.number is not None or mention.colour for mention in words.find_mentions(sentence))


def combine(verdicts: Sequence[Judgement]) -> Judgement:
    """One contradicted fact contradicts the claim; it is supported where every fact that was found is."""
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts and set(verdicts) == {"supported"} else "unknown"


def _judgements(claim: str, known: Known) -> Iterator[Judgement]:
    """The judgement of every fact in the claim; one that is only supposed is not held against it."""
    doubted = bool(words.DOUBT.search(claim) or words.NO_STATEMENT.search(claim))
    formal = tuple(_judge_formal(claim, known))
    for verdict in formal:
        yield words.forgive(verdict, doubted)
    if not formal:
        yield from _judge_prose(claim, known, doubted)


def _judge_formal(claim: str, known: Known) -> Iterator[Judgement]:
    """Judgements of a cell, of geometry, or of a clock: of the first kind that the claim is."""
    cell = cells.read_cell_claim(claim)
    verdict = cells.judge_cell(cell, known.tables, known.text) if cell else "unknown"
    if verdict != "unknown" or (cell and cell.quoted):
        yield verdict
        return
    figure = geometry.read_figure(claim)
    if figure:
        yield from geometry.judge_figure(figure, known.figure)
        return
    if geometry.names_derived(claim):
        yield "unknown"
        return
    time = readings.judge_time(claim, known.times)
    if time is not None:
        yield time


def _judge_prose(claim: str, known: Known, doubted: bool) -> Iterator[Judgement]:
    listed = tuple(readings.judge_sequences(claim, known.sequences))
    for verdict in listed:
        if verdict != "unknown":
            yield words.forgive(verdict, doubted)
    quoted = tuple(labels.judge_labels(claim, known.labels, known.text))
    for verdict in quoted:
        yield words.forgive(verdict, doubted)
    found = tuple(assertions.judge_scene(readings.without_lists(claim), known.things))
    yield from found
    if not found and not quoted:
        loose = cells.judge_loose(claim, known.tables)
        if loose != "unknown":
            yield words.forgive(loose, doubted)
