"""Tables and what a claim says of a cell.

A table is read from pipe rows, from lists of one length under their keys, and from lines that give a row's
values by name. The first row may be a header or data: a column is found by its header, or as "column 2".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz, process

from filters.facts.literals import Listing, find_listings, find_texts
from filters.facts.values import ORDINALS, Judgement, fold, number_of, same_cell

MAX_ROWS = 2_000
_RULE = re.compile(r"[\s|:+-]*\Z")
_COLUMN = re.compile(r"column (\d{1,3})\Z|(?:the )?(\w{5,9}) column\Z")
_PUT = r"(?:is|was|are|were|equals|reads|shows|=)"
# the "Leaf" value for 3 is 4, 9; the value of Miles for Leon is 949; in the row "a", the value of "b" is "c"
_CELL_CLAIMS = [
    re.compile(
        r"\b(?:the\s)?[\"“](?P<column>[^\"”\n]{0,80})[\"”](?:\s(?:value|entry|cell|column|figure))?\s"
        rf"(?:for|of|in|at)\s(?:the\srow\s)?(?P<rest>.{{1,300}}?\s?{_PUT}(?:\s.{{0,300}})?)$"
    ),
    re.compile(
        r"\b(?:the\s)?(?P<column>[\w%$°()#. -]{1,60}?)\s(?:value|entry|cell)\s(?:for|of|in|at)\s"
        rf"(?:the\srow\s)?(?P<rest>.{{1,300}}?\s?{_PUT}(?:\s.{{0,300}})?)$"
    ),
    re.compile(
        r"\bvalue\sof\s(?:the\scolumn\s)?[\"“]?(?P<column>[^\"”\n]{1,60}?)[\"”]?\s(?:for|in|at)\s(?:the\srow\s)?"
        rf"(?P<rest>.{{1,300}}?\s?{_PUT}(?:\s.{{0,300}})?)$"
    ),
]
# for Leon, the Miles is 949; Leon's Miles is 949
_TURNED = re.compile(
    r"(?:\b[Ff]or\s(?:the\s(?:row\s)?)?[\"“]?(?P<row>[^,\"”\n]{1,80})[\"”]?,\s(?:the\s)?)"
    rf"[\"“]?(?P<column>[^\"”,\n]{{1,60}}?)[\"”]?(?:\svalue)?\s{_PUT}\s(?P<value>.{{0,300}})$"
)
_ROW_NUMBER = re.compile(r"[\s{\[(\"']*(?:(?:In\s)?row\s\d{1,4}\s?[:,.]\s?|[-*•]\s)?", re.IGNORECASE)
_PART = re.compile(r";\s?|(?:,\s?|\sand\s)(?=[^,;:=]{1,60}(?::|=|\sis\s))")
_NAMES = re.compile(r"\s?(?::(?!\d)|=|\sis\b)\s?")
_SPLIT_IS = re.compile(rf"\s{_PUT}(?=\s|$)")
_DERIVED = re.compile(
    r"\b(?:more|less|fewer|than|total|sum|altogether|in all|combined|together|both|difference|"
    r"twice|times|half|average|mean|median|mode|"
    r"plus|minus|product|least|most|highest|lowest|greatest|smallest|each|per)\b|[+*/×÷]",
    re.IGNORECASE,
)
_SAYS = re.compile(
    rf"\b(?:{_PUT}|costs?|has|have|had|scored?|got|sold|made|read|went|arrives?|departs?|begins?|ends?)\b"
)
_MARKS = re.compile(r"['’]s\b|[^\w$.,:% -]|[.,:](?!\d)")
_VALUE = re.compile(r"\$?-?\d[\d,]{0,15}(?:\.\d{1,6}|:\d{2})?")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; `header` names the columns, or is empty where the first row may do so."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class CellClaim:
    """What a claim says a cell holds; `rest` is `row is value`, to be split where a row's name ends."""

    column: str
    rest: str


def read_tables(text: str) -> list[Table]:
    """All tables in a text."""
    tables = [*_pipe_tables(text), *_listed_tables(find_listings(text))]
    for inner in find_texts(text):
        tables += _pipe_tables(inner)
    return [*tables, *_told_rows(text)]


def read_cell_claim(claim: str) -> CellClaim | None:
    """The cell that a claim names in so many words, None where it names none."""
    text = claim.strip().removesuffix(".")
    for pattern in _CELL_CLAIMS:
        match = pattern.search(text)
        if match:
            return CellClaim(match["column"], match["rest"])
    turned = _TURNED.search(text)
    return CellClaim(turned["column"], f"{turned['row']} is {turned['value']}") if turned else None


def judge_cell(claim: CellClaim, tables: Sequence[Table], text: str) -> Judgement:
    """A judgement of a claim about one cell: supported where any table says so."""
    verdicts = {verdict for table in tables for verdict in _judge_in(claim, table)}
    if not verdicts:
        verdicts = set(_judge_sentences(claim, text)) | set(_judge_untitled(claim, tables, text))
    for verdict in ("supported", "contradicted"):
        if verdict in verdicts:
            return verdict
    return "unknown"


def judge_loose(claim: str, tables: Sequence[Table]) -> Judgement:
    """A judgement of a sentence that names one row and gives one value: "Sam scored 236".

    What is derived from several cells ("more than", "total") is unknown.
    """
    if _DERIVED.search(claim) or not _SAYS.search(claim):
        return "unknown"
    verdicts = {_judge_row_value(claim, table) for table in tables}
    for verdict in ("supported", "contradicted"):
        if verdict in verdicts:
            return verdict
    return "unknown"


# ------------------------------------------------------------------------------------------------- reading


def _pipe_tables(text: str) -> Iterator[Table]:
    """Blocks of lines with `|` (or tabs) between the cells."""
    rows: list[tuple[str, ...]] = []
    for line in [*text.split("\n"), ""]:
        mark = "|" if "|" in line else "\t"
        if mark not in line or len(rows) >= MAX_ROWS:
            if len(rows) > 1:
                yield Table((), tuple(rows))
            rows = []
        elif not _RULE.match(line):
            bare = line.strip(" ").removeprefix("|").removesuffix("|") if line.count("|") > 2 else line
            rows.append(tuple(cell.strip() for cell in bare.split(mark)))


def _listed_tables(listings: Sequence[Listing]) -> Iterator[Table]:
    """Lists of one length, one after the other in one mapping or on lines of their own, are columns."""
    block: list[Listing] = []
    for listing in [*listings, Listing("", (), -1)]:
        fits = bool(block) and listing.key and listing.key != block[-1].key
        if fits and listing.group == block[-1].group and len(listing.values) == len(block[-1].values):
            block.append(listing)
            continue
        if len(block) > 1:
            columns = [one.values for one in block]
            yield Table(tuple(one.key for one in block), tuple(zip(*columns, strict=True)))
        block = [listing]


def _told_rows(text: str) -> Iterator[Table]:
    """Rows told as `name: value` pairs: several pairs a line under the same names, or one pair a line."""
    rows: list[tuple[str, ...]] = []
    header: tuple[str, ...] = ()
    for line in [*re.split(r"\n|(?<=})", text)[:MAX_ROWS], ""]:
        pairs = _pairs(line) if len(line) <= 2_000 else ()
        names = tuple(name for name, _ in pairs)
        if rows and (names != header if len(header) > 1 else len(pairs) != 1):
            if len(rows) > 1:
                yield Table(header if len(header) > 1 else (), tuple(rows))
            rows = []
        if pairs:
            header = names
            rows.append(pairs[0] if len(pairs) == 1 else tuple(value for _, value in pairs))


def _pairs(line: str) -> tuple[tuple[str, str], ...]:
    bare = line[_ROW_NUMBER.match(line).end() :] if line else ""  # type: ignore[union-attr]
    parts = [_NAMES.split(part, maxsplit=1) for part in _PART.split(bare)]
    if any(len(part) != 2 or not 0 < len(part[0].strip()) <= 60 for part in parts):
        return ()
    return tuple((part[0].strip(" \"'"), part[1].strip(" \"'.}]")) for part in parts)


# ------------------------------------------------------------------------------------------------- judging


def _judge_in(claim: CellClaim, table: Table) -> Iterator[Judgement]:
    column = _find_column(claim.column, table)
    if column is None:
        return
    for row, value in _row_splits(claim.rest):
        cells = [line for line in table.rows if len(line) > column and _same_label(line[0], row)]
        if cells:
            right = any(same_cell(value, line[column]) for line in cells)
            yield "supported" if right else "contradicted"


def _judge_untitled(claim: CellClaim, tables: Sequence[Table], text: str) -> Iterator[Judgement]:
    """Against two columns without names, where the text speaks of the claim's column elsewhere."""
    if _bare(claim.column) in fold(text):
        for table in tables:
            if not table.header and all(len(row) == 2 for row in table.rows):
                yield from _judge_in(CellClaim("column 2", claim.rest), table)


def _find_column(name: str, table: Table) -> int | None:
    header = table.header or table.rows[0]
    wanted = _bare(name)
    names = [_last_words(fold(cell), wanted) for cell in header]
    if wanted in names:
        return names.index(wanted)
    place = _COLUMN.match(fold(name))
    if place:
        return (
            int(place[1]) - 1 if place[1] else ORDINALS.get(place[2], 0) - 1 if place[2] in ORDINALS else None
        )
    best = process.extractOne(wanted, names, scorer=fuzz.ratio, score_cutoff=85)
    return best[2] if best else None


def _last_words(name: str, wanted: str) -> str:
    """The end of a key that has the keys around it in front, where the end is what is wanted."""
    bare = _bare(name)
    return wanted if wanted and bare.endswith(f" {wanted}") else bare


def _bare(name: str) -> str:
    return re.sub(r"\s+", " ", fold(name).removeprefix("the ").strip())


def _row_splits(rest: str) -> Iterator[tuple[str, str]]:
    """(row, value) for each place where `row is value` may part."""
    for match in _SPLIT_IS.finditer(rest):
        yield rest[: match.start()], rest[match.end() :]


def _same_label(cell: str, name: str) -> bool:
    one, other = _bare(cell), _bare(name)
    return one == other or (number_of(one) is not None and number_of(one) == number_of(other))


def _judge_sentences(claim: CellClaim, text: str) -> Iterator[Judgement]:
    """Against sentences or lines of the text that name a cell in so many words themselves."""
    column = _bare(claim.column)
    for line in re.split(r"\n|(?<=[^.\d][.;])\s", text):
        known = read_cell_claim(line) if len(line) <= 600 else None
        if known is None or _bare(known.column) != column:
            continue
        for row, value in _row_splits(claim.rest):
            for other, cell in _row_splits(known.rest):
                if _same_label(other, row):
                    yield "supported" if same_cell(value, cell.removesuffix(".")) else "contradicted"


def _judge_row_value(claim: str, table: Table) -> Judgement:
    """A sentence with one row's name and one number, against that row."""
    said = f" {_spoken(claim)} "
    named = [row for row in table.rows if len(row) > 1 and row[0] and f" {_spoken(row[0])} " in said]
    if len(named) != 1 or number_of(named[0][0]) is not None:
        return "unknown"
    row = named[0]
    rest = said.replace(f" {_spoken(row[0])} ", " ", 1)
    values = _VALUE.findall(rest)
    columns = [place for place in range(1, len(row)) if len(row) == 2 or _names(rest, table, place)]
    cells = [row[place] for place in columns]
    if len(values) != 1 or not cells:
        return "unknown"
    if any(same_cell(values[0], cell) for cell in cells):
        return "supported"
    return "contradicted" if all(number_of(cell) is not None for cell in cells) else "unknown"


def _spoken(text: str) -> str:
    """A text without marks but those inside numbers, for finding names in it."""
    return _bare(_MARKS.sub(" ", text))


def _names(said: str, table: Table, place: int) -> bool:
    header = table.header or table.rows[0]
    return len(header) > place and len(_bare(header[place])) > 1 and _bare(header[place]) in said
