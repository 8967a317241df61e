"""Tables, read from whatever way a text tells them.

Pipe rows (also on one line), tabs, commas; lists of one length under their keys, bracketed or dashed; lines
that give a row's values by name. The first row may be a header or data.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from filters.facts.literals import Listing, find_dashed, find_listings, find_texts

MAX_ROWS = 2_000
_LONGEST = 2_000  # characters of a line that can be a row
_RULE = re.compile(r"[\s|:+-]*\Z")
_LEAD = re.compile(r"[\s,{\[(\"']*(?:(?:In\s)?row\s\d{1,4}\s?[:,.]\s?|[-*•]\s)?", re.IGNORECASE)
PART = re.compile(r";\s?|(?:,\s?|\sand\s)(?=[^,;:=]{1,60}(?::|=|\sis\s|->))")
_NAMES = re.compile(r"\s?(?::(?!\d)|=|\sis\b)\s?")
_KEYED = re.compile(r"(?P<key>[^:=\n]{1,80}):\s(?P<pairs>[^:=\n]{1,60}=.*)\Z")
_TOLD_LIST = re.compile(
    r"(?:^|\n|\.\s)(?P<key>[A-Za-z][^:.\n]{0,40}):\s(?P<list>[^\n\[\]{}|]{1,600}?)(?=\.\s[A-Za-z][^:.\n]{0,40}:|\.?\s?(?:\n|\Z))"
)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells.

    Attributes:
        header: names the columns; empty where the first row may do so.
        sure: False where the lines may be prose with commas.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sure: bool = True


def read_tables(text: str) -> list[Table]:
    """All tables in a text."""
    tables = [*_pipe_tables(text), *_listed_tables(find_listings(text)), *_listed_tables(find_dashed(text))]
    for inner in (*find_texts(text), *([text.replace("\\n", "\n")] if "\\n" in text else [])):
        tables += _pipe_tables(inner)
    return [*tables, *_told_rows(text), *_listed_tables(_told_lists(text)), *_comma_tables(text)]


def _pipe_tables(text: str) -> Iterator[Table]:
    """Blocks of lines with `|` (or tabs) between the cells, and lines that hold several rows."""
    rows: list[tuple[str, ...]] = []
    for line in [*text.split("\n"), ""]:
        mark = "|" if "|" in line else "\t"
        if mark not in line or len(rows) >= MAX_ROWS:
            if len(rows) > 1:
                yield Table((), tuple(rows))
            rows = []
        elif not _RULE.match(line):
            rows.append(_cells(line, mark))
            parts = line.split(";")
            if len(parts) > 1 and len({part.count(mark) for part in parts}) == 1:
                yield Table((), tuple(_cells(part, mark) for part in parts[:MAX_ROWS]))


def _cells(line: str, mark: str) -> tuple[str, ...]:
    bare = line.strip(" ").removeprefix("|").removesuffix("|") if line.count("|") > 2 else line
    return tuple(cell.strip() for cell in bare.split(mark))


def _listed_tables(listings: Iterable[Listing]) -> Iterator[Table]:
    """Lists of one length, one after the other in one mapping or on lines of their own, are columns."""
    for _, block in groupby(listings, key=lambda one: (one.group, len(one.values), bool(one.key))):
        columns = list(block)
        if len({one.key for one in columns}) > 1 and len(columns[0].values) <= MAX_ROWS:
            yield Table(
                tuple(one.key for one in columns), tuple(zip(*(one.values for one in columns), strict=True))
            )


def _told_lists(text: str) -> Iterator[Listing]:
    """Lists without brackets: `Price: $3, $4, $9.`"""
    for match in _TOLD_LIST.finditer(text):
        values = tuple(match["list"].split(", "))
        if len(values) > 1:
            yield Listing(match["key"], values, -2)


def _told_rows(text: str) -> Iterator[Table]:
    """Rows told as `name: value` pairs: several pairs a line under the same names, or one pair a line."""
    lines = [line for line in re.split(r"\n|(?<=})", text)[:MAX_ROWS] if len(line) <= _LONGEST]
    told = [_pairs(line) for line in lines]
    for names, block in groupby(
        told, key=lambda pairs: tuple(name for name, _ in pairs) if len(pairs) > 1 else ()
    ):
        rows = [pairs for pairs in block if pairs]
        if len(rows) > 1:
            yield Table(names, tuple(tuple(value for _, value in row) if names else row[0] for row in rows))


def _pairs(line: str) -> tuple[tuple[str, str], ...]:
    """The names and values of one row; its own name, where it has one, comes first under the name ""."""
    lead = _LEAD.match(line)
    bare = line[lead.end() :] if lead else line
    keyed = _KEYED.match(bare)
    parts = [_NAMES.split(part, maxsplit=1) for part in PART.split(keyed["pairs"] if keyed else bare)]
    if any(len(part) != 2 or not 0 < len(part[0].strip()) <= 60 for part in parts):
        return ()
    pairs = tuple((part[0].strip(" \"'"), part[1].strip(" \"'.}]")) for part in parts)
    return (("", keyed["key"].strip(" \"'")), *pairs) if keyed else pairs


def _comma_tables(text: str) -> Iterator[Table]:
    """Blocks of lines with as many cells between commas; a cell with commas stands in double quotes."""
    lines = [line.strip() for line in text.split("\n")[:MAX_ROWS]]
    cells = [_comma_cells(line) for line in lines]
    for count, block in groupby(cells, key=len):
        rows = list(block)
        if len(rows) > 1 and 2 <= count <= 20:
            yield Table((), tuple(rows), sure=False)


def _comma_cells(line: str) -> tuple[str, ...]:
    if "," not in line or len(line) > _LONGEST or "\0" in line:
        return ()
    rows: Sequence[Sequence[str]] = list(csv.reader([line.replace("\r", " ")]))
    return tuple(cell.strip() for cell in rows[0]) if rows else ()
