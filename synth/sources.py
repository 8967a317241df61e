"""Where problems come from: procedural scenes or a local folder.

`read_source` yields one item per row of the source, in its order: a `Problem`, or the failed `Draft` that
stands for a row which cannot become one. Nothing is skipped.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.config import Columns, FolderSource, ScenesSource, Source
from schemas.errors import RowError, SourceError
from schemas.records import (
    AnswerType,
    Draft,
    Image,
    Problem,
    SourceFault,
    problem_id,
    rejected_at_source,
)
from synth.images import check_image
from synth.scenes import draw_problems

TABLES = ("items.jsonl", "metadata.jsonl")
MAX_ROW_BYTES = 4 * 2**20
MAX_QUESTION_CHARS = 100_000
_NUMBER = re.compile(r"[-+]?\d[\d,]{0,30}(\.\d{1,30})?%?")
_LETTER = re.compile(r"\(?([A-Z])\)?\.?")


def read_source(source: Source, seed: int) -> Iterator[Problem | Draft]:
    """The rows of a source in order; a second row with the same content is a failed row.

    Args:
        seed: the run's seed; only procedural sources use it.
    Raises: SourceError: the source as a whole cannot be read.
    """
    items = draw_problems(source, seed) if isinstance(source, ScenesSource) else _read_folder(source)
    seen: dict[str, str] = {}
    for item in items:
        if isinstance(item, Problem) and item.id in seen:
            yield _failed(item, SourceFault.DUPLICATE, f"same question, answer and images as {seen[item.id]}")
            continue
        if isinstance(item, Problem):
            seen[item.id] = item.row
        yield item


def count_source(source: Source) -> int:
    """How many rows `read_source` will yield.

    Raises: SourceError: as `read_source`.
    """
    if isinstance(source, ScenesSource):
        return source.count
    with _find_table(source).open("rb") as file:
        rows = sum(1 for line in file if line.strip())
    return min(rows, source.limit or rows)


def _failed(problem: Problem, reason: SourceFault, detail: str) -> Draft:
    return rejected_at_source(
        index=problem.index,
        source=problem.source,
        row=problem.row,
        reason=reason,
        detail=detail,
        question=problem.question,
    )


# ----------------------------------------------------------------------------------------- folders


def _read_folder(source: FolderSource) -> Iterator[Problem | Draft]:
    table = _find_table(source)
    name = source.name or source.path.resolve().name
    rows = (line for line in _lines(table) if line.strip())
    for index, line in enumerate(rows):
        if source.limit is not None and index >= source.limit:
            return
        row_name = f"{table.name}:{index + 1}"
        try:
            yield _read_row(line, index, name, row_name, source)
        except RowError as fault:
            yield rejected_at_source(
                index=index, source=name, row=row_name, reason=SourceFault(fault.reason), detail=str(fault)
            )


def _lines(table: Path) -> Iterator[bytes]:
    """Lines of the table; one that is over the limit is cut, so that it fails as a row, not as memory."""
    with table.open("rb") as file:
        while line := file.readline(MAX_ROW_BYTES):
            yield line
            while not line.endswith(b"\n") and line:
                line = file.readline(MAX_ROW_BYTES)


def _find_table(source: FolderSource) -> Path:
    """Raises: SourceError: no folder, no table, or no image in it."""
    if not source.path.is_dir():
        raise SourceError(f"source.path: {source.path} is not a folder")
    names = (source.table,) if source.table else TABLES
    for name in names:
        if (source.path / name).is_file():
            _require_images(source.path)
            return source.path / name
    raise SourceError(
        f"source.path: {source.path} holds no {' or '.join(names)}: one JSON object per line with a "
        "question, an answer and an image's file name"
    )


def _require_images(folder: Path) -> None:
    suffixes = {".png", ".jpg", ".jpeg", ".webp", ".gif"}
    if not any(path.suffix.lower() in suffixes for path in folder.rglob("*")):
        raise SourceError(f"source.path: {folder} holds no image (.png, .jpg, .jpeg, .webp or .gif)")


def _read_row(line: bytes, index: int, source_name: str, row: str, source: FolderSource) -> Problem:
    data = _parse_row(line)
    columns = source.columns
    question = _text(data, columns.question)
    if not question:
        raise RowError(SourceFault.NO_QUESTION, f"no text in column {columns.question!r}")
    if len(question) > MAX_QUESTION_CHARS:
        raise RowError(
            SourceFault.BAD_ROW, f"a question of {len(question):,} characters, the limit is 100,000"
        )
    choices = _choices(data, columns)
    answer = _answer(data, columns, choices)
    images = tuple(_read_image(source, name) for name in _image_names(data, columns))
    return Problem(
        id=problem_id(question, choices, answer, images),
        index=index,
        source=source_name,
        row=str(data.get(columns.id) or row),
        category=_text(data, columns.category),
        question=question,
        choices=choices,
        answer=answer,
        answer_type=_answer_type(answer, choices),
        images=images,
        facts=json.dumps(data[columns.facts], ensure_ascii=False) if data.get(columns.facts) else "",
        licence=source.licence,
    )


def _parse_row(line: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(line.decode("utf-8"))
        json.dumps(data, ensure_ascii=False).encode("utf-8")  # a lone surrogate parses but cannot be stored
    except (ValueError, RecursionError) as error:
        reason = "over 4 MiB" if len(line) >= MAX_ROW_BYTES else f"{error}"
        raise RowError(SourceFault.BAD_ROW, f"not a JSON row ({reason})") from error
    if not isinstance(data, dict):
        raise RowError(SourceFault.BAD_ROW, f"not a JSON object but {type(data).__name__}")
    return data


def _text(data: Mapping[str, Any], column: str) -> str:
    value = data.get(column)
    return "" if value is None or isinstance(value, bool | list | dict) else str(value).strip()


def _choices(data: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    value = data.get(columns.choices) or []
    if not isinstance(value, list):
        raise RowError(SourceFault.BAD_ROW, f"column {columns.choices!r} is not a list")
    return tuple(str(choice).strip() for choice in value)


def _answer(data: Mapping[str, Any], columns: Columns, choices: tuple[str, ...]) -> str:
    """The gold answer; a letter that is not itself an option's text becomes the option's text."""
    value = data.get(columns.answer)
    answer = ("Yes" if value else "No") if isinstance(value, bool) else _text(data, columns.answer)
    if not answer:
        raise RowError(SourceFault.NO_ANSWER, f"no answer in column {columns.answer!r}")
    letter = _LETTER.fullmatch(answer)
    if choices and answer not in choices and letter:
        position = ord(letter[1]) - ord("A")
        if position >= len(choices):
            raise RowError(SourceFault.NO_ANSWER, f"answer {answer!r} names none of {len(choices)} choices")
        return choices[position]
    return answer


def _answer_type(answer: str, choices: tuple[str, ...]) -> AnswerType:
    if choices:
        return AnswerType.CHOICE
    return AnswerType.NUMBER if _NUMBER.fullmatch(answer) else AnswerType.TEXT


def _image_names(data: Mapping[str, Any], columns: Columns) -> list[str]:
    """File names from the image column, from its plural, or from `file_name` (Hugging Face's imagefolder)."""
    for column in (columns.image + "s", columns.image, "file_name", "file_names"):
        value = data.get(column)
        if value:
            names = value if isinstance(value, list) else [value]
            if not all(isinstance(name, str) for name in names):
                raise RowError(SourceFault.BAD_ROW, f"column {column!r} must hold file names")
            return names
    raise RowError(SourceFault.NO_IMAGE, f"no file name in column {columns.image!r}")


def _read_image(source: FolderSource, name: str) -> Image:
    path = _resolve(source.path, name)
    try:
        status = path.stat()
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or stat.S_ISCHR(status.st_mode):
            raise RowError(SourceFault.IMAGE_UNREADABLE, f"{shorten(name)}: not a regular file")
        size = status.st_size
        if size > source.max_pixels * 4 + 2**20:
            raise RowError(SourceFault.IMAGE_TOO_LARGE, f"{name}: a file of {size:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise RowError(SourceFault.IMAGE_MISSING, f"{shorten(name)}: {error.strerror}") from error
    check_image(data, name, source.max_pixels)
    return Image(bytes=data, path=name)


def shorten(name: str, limit: int = 120) -> str:
    """A stranger's file name as one short line."""
    line = " ".join(name.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _resolve(folder: Path, name: str) -> Path:
    """Raises: RowError: the name leads out of the folder, through `..`, a root or a link."""
    root = folder.resolve()
    try:
        path = (root / name).resolve()
    except (OSError, ValueError) as error:  # a null byte, a name that is too long
        raise RowError(SourceFault.IMAGE_MISSING, f"{shorten(name)}: not a file name ({error})") from error
    if not path.is_relative_to(root):
        raise RowError(
            SourceFault.IMAGE_OUTSIDE, f"{shorten(name)}: leads out of {folder.name}; images lie below it"
        )
    return path
