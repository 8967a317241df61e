"""Rows of public benchmarks as rows that a model is asked and `trainer.evaluate` scores.

What their columns are called stands in the table (`filters.benchmark_table`); here is what they hold.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image

from filters.benchmark_rows import BenchmarkRow
from filters.benchmark_table import Benchmark
from filters.choices import bare_letter
from schemas.errors import SourceError
from schemas.records import choice_letter

Row = dict[str, Any]

IN_PICTURE = "Answer the question in the image."
_SENT_AS_THEY_ARE = {"PNG", "JPEG", "WEBP", "GIF"}
_MARKER = re.compile(r"<image\s?(\d{0,2})>")
_LONE = re.compile(rf"^\s*{_MARKER.pattern}\s*|(?:^|(?<=[.?!:\n]))\s*{_MARKER.pattern}\s*$")
_MIDDLE = re.compile(r"^[a-z]+_(.+)_\d+$")
# As MMStar writes them on one line, and MathVerse one on each.
_OPTIONS = re.compile(r"\b(?:Options|Choices):\s*(.+)\Z", re.DOTALL)
_DOUBLED = re.compile(r"\{\{([^{}]*)\}\}")  # MathVerse writes √{{3}}
_OPTION = re.compile(r"(?:^|[,;]?\s)\(?([A-J])\)?[:.)]\s?")


def adapt(raw: BenchmarkRow, where: str = "") -> Row:
    """A benchmark's row as an evaluation reads it.

    Returns: `id`, `source`, `category`, `question` (with `image 1` for a marker of an image among several),
        `choices` (to show), `options` (all that are known, for the check), `answer`, `answers` (all that are
        right), `decimals` (None: as the gold answer is written), `group`, and `images` as `{"bytes", "path"}`
        in a format that servers take.
    Raises: SourceError: a column is missing, there is no gold answer, or an image cannot be read.
    """
    columns = raw.columns
    listed = raw.choices
    pictures = raw.images
    images = [encode_image(image, where or raw.where) for image in pictures]
    asked, *shown = name_images([raw.question, *listed], _numbers(raw, pictures))
    if columns.in_picture:
        question, choices = IN_PICTURE, []
    else:
        question, choices = asked + _unit(raw), shown
    if not question.strip():
        raise SourceError(f"{raw.where}: the question is empty")
    answers = _answers(raw)
    return {
        "id": _id(raw),
        "source": raw.source,
        "category": _category(raw),
        "question": question,
        "choices": choices,
        "options": _checkable(shown or (find_options(raw.question) if columns.in_text else []), columns),
        "answer": answers[0],
        "answers": answers,
        "decimals": _decimals(raw),
        "group": [str(raw.value(column)) for column in columns.group],
        "images": images,
    }


def hash_question(row: Mapping[str, Any]) -> str:
    """Hash of what a model is asked and what is right, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    images = [image["bytes"] for image in row["images"]]
    texts = [row.get("system") or "", row["question"], *row["choices"], "\0", *row["answers"]]
    for part in (*(text.encode("utf-8", "surrogatepass") for text in texts), *images):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def name_images(texts: Sequence[str], numbers: Mapping[int, int]) -> list[str]:
    """Texts with plain references instead of markers: `<image 2>` and `<image2>` become "image 2".

    The images stand before the question, in order. A lone marker that begins the question, or stands behind
    its last sentence, only says that there is an image, and is dropped.

    Args:
        texts: the question, and its options.
        numbers: the image's place, from 1, by its number in the markers.
    """
    if sum(len(_MARKER.findall(text)) for text in texts) == 1:
        texts = [_LONE.sub("", texts[0]), *texts[1:]]

    def refer(match: re.Match[str]) -> str:
        number = int(match[1] or 1)
        return f"image {numbers.get(number, number)}"

    return [_MARKER.sub(refer, text) for text in texts]


def find_options(question: str) -> list[str]:
    """The options that stand lettered at the end of a question, in order; none where A, B, ... do not follow
    one another."""
    tail = _OPTIONS.search(question)
    if tail is None:
        return []
    parts = _OPTION.split(tail[1])
    letters, texts = parts[1::2], [_DOUBLED.sub(r"{\1}", text.strip(" ,;\n")) for text in parts[2::2]]
    expected = [chr(ord("A") + place) for place in range(len(letters))]
    return texts if len(letters) > 1 and letters == expected and all(texts) else []


def encode_image(data: bytes, where: str) -> dict[str, Any]:
    """An image as a row holds it; a format that servers do not take is encoded anew as PNG.

    Raises: SourceError: it cannot be read.
    """
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            if image.format not in _SENT_AS_THEY_ARE:
                buffer = io.BytesIO()
                image.convert("RGB").save(buffer, "PNG")
                data = buffer.getvalue()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise SourceError(f"{where}: an image of {len(data)} bytes cannot be read: {error}") from error
    return {"bytes": data, "path": where}


def _numbers(raw: BenchmarkRow, pictures: Sequence[bytes]) -> dict[int, int]:
    """Places of the images that there are: of image_1 and image_3 alone, the third is the second."""
    columns = enumerate(map(raw.images_in, raw.columns.images), 1)
    return {number: pictures.index(found[0]) + 1 for number, found in columns if found}


def _checkable(options: list[str], columns: Benchmark) -> list[str]:
    """The options; none where the text of one is the letter of another: then "A" is that letter alone."""
    letters = [bare_letter(option.strip()) for option in options]
    known = {choice_letter(place) for place in range(len(options))}
    crossed = any(letter in known and letter != choice_letter(place) for place, letter in enumerate(letters))
    return [] if columns.lettered and crossed else options


def _id(raw: BenchmarkRow) -> str:
    if raw.columns.group:
        return "_".join(str(raw.value(column)) for column in raw.columns.group)
    return str(raw.values.get(raw.columns.id, raw.where))


def _category(raw: BenchmarkRow) -> str:
    if raw.columns.category == "id":
        middle = _MIDDLE.match(_id(raw))
        return middle[1].replace("_", " ") if middle else ""
    value: Any = raw.values
    for name in raw.columns.category.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)


def _unit(raw: BenchmarkRow) -> str:
    """The unit as MathVista's own prompt puts it."""
    unit = raw.value(raw.columns.unit) if raw.columns.unit else None
    return f" (Unit: {unit})" if unit else ""


def _decimals(raw: BenchmarkRow) -> int | None:
    """Decimals that count of an answer of MathVista's type `float`; of others its own spelling decides."""
    if not raw.columns.decimals or raw.values.get("answer_type") != "float":
        return None
    value = raw.value(raw.columns.decimals)
    return None if value is None else int(value)


def _answers(raw: BenchmarkRow) -> list[str]:
    """All right answers; MMMU writes several as the text of a Python list.

    Raises: SourceError: there is none.
    """
    gold = raw.answer.strip()
    if not gold:
        raise SourceError(f"{raw.where}: no gold answer: is this split published with answers?")
    if raw.columns.truth:
        if gold not in {"0", "1"}:
            raise SourceError(f"{raw.where}: the answer is {gold!r}, need 0 or 1")
        return ["Yes" if gold == "1" else "No"]
    if raw.columns.several and gold.startswith("[") and not raw.choices:
        try:
            several = ast.literal_eval(gold)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [gold]
        if isinstance(several, list) and several:
            return [str(one) for one in several]
    return [gold]
