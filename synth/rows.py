"""One line of a folder's table, made by a stranger, as a problem; or the one reason why it is none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.config import Columns, FolderSource
from schemas.errors import RowError
from schemas.records import AnswerType, Image, Problem, SourceFault, problem_id
from synth.fetch import fetch_image, is_url, show_url
from synth.folders import MAX_ROW_BYTES, read_file, shorten
from synth.images import check_image
from synth.markers import find_marker

MAX_QUESTION_CHARS = 100_000  # of the question; of the choices together; of the answer
MAX_IMAGES = 100
_NUMBER = re.compile(r"[-+]?\d[\d,]{0,30}(\.\d{1,30})?%?")
_LETTER = re.compile(r"\(?([A-Z])\)?\.?")


def parse_problem(line: bytes, index: int, source_name: str, row: str, source: FolderSource) -> Problem:
    """The problem that a line of a table is; its images are read here, once.

    Args:
        line: a JSON object in UTF-8.
        index: the row's place in the table, from 0.
        row: the row's name where it has no id of its own.
    Raises: RowError: with the reason.
    """
    data = _parse_row(line)
    columns = source.columns
    question = _text(data, columns.question)
    if not question:
        raise RowError(SourceFault.NO_QUESTION, f"no text in column {columns.question!r}")
    choices = _choices(data, columns)
    answer = _answer(data, columns, choices)
    _check_texts({columns.question: (question,), columns.choices: choices, columns.answer: (answer,)})
    images = tuple(_read_images(source, _image_names(data, columns)))
    return Problem(
        id=problem_id(question, choices, answer, images),
        index=index,
        source=source_name,
        row=shorten(str(data.get(columns.id) or row)),
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


def _check_texts(columns: Mapping[str, tuple[str, ...]]) -> None:
    """Everything of a row that becomes part of a prompt or stands beside one.

    Raises: RowError: too long, or words that a model would take for its own structure.
    """
    for column, texts in columns.items():
        length = sum(map(len, texts))
        if length > MAX_QUESTION_CHARS:
            raise RowError(
                SourceFault.QUESTION_TOO_LONG,
                f"column {column!r}: {length:,} characters, the limit is {MAX_QUESTION_CHARS:,}",
            )
        marker = next(filter(None, map(find_marker, texts)), None)
        if marker:
            raise RowError(
                SourceFault.TEMPLATE_MARKERS,
                f"column {column!r}: holds {marker!r}, which belongs to prompts: write it in other words",
            )


def _image_names(data: Mapping[str, Any], columns: Columns) -> list[str]:
    """File names from the image column, from its plural, or from `file_name` (Hugging Face's imagefolder)."""
    for column in (columns.image + "s", columns.image, "file_name", "file_names"):
        value = data.get(column)
        if value:
            names = value if isinstance(value, list) else [value]
            if not all(isinstance(name, str) for name in names):
                raise RowError(SourceFault.BAD_ROW, f"column {column!r} must hold file names")
            if len(names) > MAX_IMAGES:
                detail = f"column {column!r}: {len(names):,} images, the limit is {MAX_IMAGES}"
                raise RowError(SourceFault.BAD_ROW, detail)
            return names
    raise RowError(SourceFault.NO_IMAGE, f"no file name in column {columns.image!r}")


def _read_images(source: FolderSource, names: list[str]) -> Iterator[Image]:
    """Each image as it lies in the folder or on an allowed host; together they take what one may."""
    left = source.max_pixels * 4 + 2**20  # bytes
    for name in names:
        if is_url(name):
            shown, data = show_url(name), fetch_image(name, source.allowed_hosts, left)
        else:
            shown, data = name, read_file(source.path, name, left)
        check_image(data, shorten(shown), source.max_pixels)
        left -= len(data)
        yield Image(bytes=data, path=shown)
