"""What a claim says a table's cell holds, against a description's tables and its sentences about cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz, process

from filters.facts.tables import PART, Table
from filters.facts.values import ORDINALS, Judgement, fold, number_of, same_cell

MAX_LINES = 2_000
_COLUMN = re.compile(r"column (\d{1,3})\Z|(?:the )?(\w{5,9}) column\Z")
_PUT = r"(?:is|was|are|were|equals|reads|shows|=)"
_REST = rf"(?P<rest>.{{1,300}}?\s?{_PUT}(?:\s.{{0,300}})?)$"
# the "Steps" value for Karl is 812; the Steps value for Karl is 812; the value of Steps for Karl is 812
_CELL_CLAIMS = [
    re.compile(
        r"\b(?:the\s)?[\"“](?P<column>[^\"”\n]{0,80})[\"”](?:\s(?:value|entry|cell|column|figure))?\s"
        rf"(?:for|of|in|at)\s(?:the\srow\s)?{_REST}"
    ),
    re.compile(
        r"\b(?:the\s)?(?P<column>[\w%$°()#. -]{1,60}?)\s(?:value|entry|cell)\s(?:for|of|in|at)\s"
        rf"(?:the\srow\s)?{_REST}"
    ),
    re.compile(
        r"\bvalue\sof\s(?:the\scolumn\s)?[\"“]?(?P<column>[^\"”\n]{1,60}?)[\"”]?\s(?:for|in|at)\s"
        rf"(?:the\srow\s)?{_REST}"
    ),
]
_SPLIT_IS = re.compile(rf"\s{_PUT}(?=\s|$)")
_LINE_END = re.compile(r"\n|(?<=[^A-Z][.;])\s(?=[A-Z\"“])")
# In a folded line: between a column's name and a row's, and between the later of them and the value.
_BETWEEN = re.compile(r"\s*(?:value\s+)?(?:of|for|in|at|->|→|/|,|-|:)?\s*(?:the\s+|row\s+)*\Z")
_BEFORE_VALUE = re.compile(r"\s*(?:value\s+)?(?:is\b|was\b|=|:|->|→|equals\b|reads\b)")
_IN_COLUMN = re.compile(r"\s(?:in|under|for)\s(?:the\s|column\s)*\Z")
_OTHER_COLUMN = re.compile(r"\b(?:has|shows|contains)\b|\s(?:in|under)\s[^,]{1,60},\s")
_ROW_LEAD = 14  # characters that may stand before a row's name at a line's beginning
_DERIVED = re.compile(
    r"\b(?:more|less|fewer|than|total|sum|altogether|in all|combined|together|both|difference|twice|times|"
    r"half|average|mean|median|mode|plus|minus|product|least|most|highest|lowest|greatest|smallest|each|per)\b|[+*/×÷]",
    re.IGNORECASE,
)
_SAYS = re.compile(
    rf"\b(?:{_PUT}|costs?|has|have|had|scored?|got|sold|made|read|went|arrives?|departs?|begins?|ends?)\b"
)
_MARKS = re.compile(r"['’]s\b|[^\w$.,:% -]|[.,:](?!\d)")
_VALUE = re.compile(r"(?:(?<!\w)-)?\$?-?\d[\d,]{0,15}(?:\.\d{1,6}|:\d{2})?")


@dataclass(frozen=True, slots=True)
class CellClaim:
    """What a claim says a cell holds.

    Attributes:
        rest: `row is value`, to be split where a row's name ends.
        quoted: the column's name stands in quotes, so that the claim can be about nothing but a cell.
    """

    column: str
    rest: str
    quoted: bool = False


def read_cell_claim(claim: str) -> CellClaim | None:
    """The cell that a claim names in so many words, None where it names none."""
    text = claim.strip().removesuffix(".")
    for place, pattern in enumerate(_CELL_CLAIMS):
        match = pattern.search(text)
        if match:
            return CellClaim(match["column"], match["rest"], quoted=place == 0)
    return None


def judge_cell(claim: CellClaim, tables: Sequence[Table], text: str) -> Judgement:
    """A judgement of a claim about one cell: supported where any table or sentence says so."""
    verdicts: set[Judgement] = {verdict for table in tables for verdict in _judge_in(claim, table)}
    if "supported" not in verdicts:
        verdicts |= {*_judge_lines(claim, text), *_judge_untitled(claim, tables, text)}
    return _strongest(verdicts)


def judge_loose(claim: str, tables: Sequence[Table]) -> Judgement:
    """A judgement of a sentence that names one row and gives one value: "Piet scored 91".

    What is derived from several cells ("more than", "total") is unknown.
    """
    if _DERIVED.search(claim) or not _SAYS.search(claim):
        return "unknown"
    verdicts: set[Judgement] = {_judge_row_value(claim, table) for table in tables if table.sure}
    return _strongest(verdicts)


def _strongest(verdicts: set[Judgement]) -> Judgement:
    if "supported" in verdicts:
        return "supported"
    return "contradicted" if "contradicted" in verdicts else "unknown"


# ---------------------------------------------------------------------------------------- against tables


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
            if table.sure and not table.header and all(len(row) == 2 for row in table.rows):
                yield from _judge_in(CellClaim("column 2", claim.rest), table)


def _find_column(name: str, table: Table) -> int | None:
    """The place of a column by its header, else by its number."""
    wanted = _bare(name)
    names = [_last_words(fold(cell), wanted) for cell in table.header or table.rows[0]]
    if wanted in names:
        return names.index(wanted)
    place = _COLUMN.match(fold(name))
    if place:
        number = int(place[1]) if place[1] else ORDINALS.get(place[2], 0)
        return number - 1 if number else None
    best = process.extractOne(wanted, names, scorer=fuzz.ratio, score_cutoff=85)
    return best[2] if best else None


def _last_words(name: str, wanted: str) -> str:
    """The end of a key that has the keys around it in front, where the end is what is wanted."""
    bare = _bare(name)
    return wanted if wanted and bare.endswith(f" {wanted}") else bare


def _bare(name: str) -> str:
    return " ".join(fold(name).removeprefix("the ").split())


def _row_splits(rest: str) -> Iterator[tuple[str, str]]:
    """(row, value) for each place where `row is value` may part."""
    for match in _SPLIT_IS.finditer(rest):
        yield rest[: match.start()], rest[match.end() :]


def _same_label(cell: str, name: str) -> bool:
    one, other = _bare(cell), _bare(name)
    return one == other or (number_of(one) is not None and number_of(one) == number_of(other))


# ------------------------------------------------------------------------------------- against sentences


def _judge_lines(claim: CellClaim, text: str) -> Iterator[Judgement]:
    """Against lines and sentences that name the claim's column and row and put a value beside them."""
    column = _bare(claim.column)
    splits = [(_bare(row), value) for row, value in _row_splits(claim.rest)]
    if not column or column not in fold(text):
        return
    for line in _LINE_END.split(text)[:MAX_LINES]:
        said = f"{fold(line.replace(chr(34), ' '))} " if len(line) <= 600 else ""
        if column not in said:
            continue
        for row, value in splits:
            for found in _values_told(said, column, row) if row in said else ():
                yield "supported" if same_cell(value, found) else "contradicted"


def _values_told(said: str, column: str, row: str) -> Iterator[str]:
    """The values that a folded line gives a cell: `column of row is value`, `row: column = value, ...`,
    `row has value in column`."""
    columns, rows = _places(said, column), _places(said, row)
    for row_start, row_end in rows:
        put = _BEFORE_VALUE.match(said, row_end)
        before = [end for _, end in columns if end <= row_start]
        if put and before and _BETWEEN.match(said[before[-1] : row_start]):
            yield _clean(said[put.end() :])
        after = [place for place in columns if place[0] >= row_end]
        if after and row_start <= _ROW_LEAD:
            yield from _value_at(said, row_end, *after[0])


def _value_at(said: str, row_end: int, column_start: int, column_end: int) -> Iterator[str]:
    """The value beside a column that is named after its row."""
    put = _BEFORE_VALUE.match(said, column_end)
    inside = _IN_COLUMN.search(said[row_end:column_start])
    if put:
        yield _clean(PART.split(said[put.end() :])[0])
    elif inside:
        yield _clean(_OTHER_COLUMN.split(said[row_end : row_end + inside.start()])[-1])


def _places(said: str, name: str) -> list[tuple[int, int]]:
    """Where a name stands in a line, as words of its own; the first eight times."""
    if not name:
        return []
    found = re.finditer(rf"(?<![\w$.,]){re.escape(name)}(?![\w]|[.,:]\d)", said)
    return [match.span() for match, _ in zip(found, range(8), strict=False)]


def _clean(value: str) -> str:
    return value.strip(" .;,")


# ---------------------------------------------------------------------------------------- loose sentences


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
