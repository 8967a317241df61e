"""What dedup and decontamination remember of a problem, and how two of them are compared.

An entry holds no picture, only its prints: about 1 kB for the words and 6 kB for each picture.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from io import BytesIO
from typing import Any

from rapidfuzz import fuzz

from filters.image_hash import (
    FAR_BITS,
    NEAR_BITS,
    ImagePrint,
    count_bits,
    print_image,
    thumb_difference,
)
from filters.ngrams import content_words, deciding_words, joined, number_words, question_words, split_words
from schemas.errors import RowError
from schemas.records import Draft, Image, Problem, Sample, SourceFault

THUMB_LEVELS = 24  # of re-encoded, resized or bordered copies 96% differ less in every pixel and colour
_COMPARED = 4_000  # characters of the content words that two texts are compared by
MAX_NEAR = 20_000  # characters; a longer question is nearly equal to none, it equals or it does not
_LONG_WORDS = 20
_TYPO_LETTERS = 5  # a shorter word with another letter is another word: red, bed
_TYPO_RATIO = 85.0
_PART = 32  # records per task: starting one costs as much as reading a question
_PART_BYTES = 8 * 2**20  # of pictures per task
_THREADS = min(4, os.cpu_count() or 1)  # Pillow decodes outside the interpreter's lock


@dataclass(frozen=True)
class Entry:
    """A problem, remembered, with what comparisons ask of it again and again.

    Attributes:
        words: of the question, without options that stand in it.
        prints: one per picture, in order.
    """

    source: str
    row: str
    id: str
    question: str
    choices: tuple[str, ...]
    answer: str
    words: tuple[str, ...]
    prints: tuple[ImagePrint, ...]

    @cached_property
    def text(self) -> str:
        """The question in one spelling: equal for equal questions."""
        return joined(self.words)

    @cached_property
    def content(self) -> str:
        """The words that say something, as far as texts are compared by them."""
        return joined(content_words(self.words))[:_COMPARED]

    @cached_property
    def answer_words(self) -> tuple[str, ...]:
        """The words of the gold answer, a choice's letter as the choice's text."""
        return tuple(split_words(_answer_text(self)))

    @cached_property
    def answer_key(self) -> str:
        """The gold answer in one spelling."""
        return joined(self.answer_words)

    @cached_property
    def choices_key(self) -> tuple[str, ...]:
        """The choices in one spelling, without their order."""
        return tuple(sorted(joined(split_words(choice)) or choice for choice in self.choices))


Record = Entry | Problem | Draft | Sample | Mapping[str, Any]


class Pictures(StrEnum):
    """How the pictures of two problems relate."""

    SAME = "same"  # the very bytes
    NEAR = "near"  # at most `NEAR_BITS` different, plain or trimmed
    OTHER = "other"  # all readable and all more than `FAR_BITS` apart
    UNKNOWN = "unknown"


def make_entries(records: Iterable[Record]) -> Iterator[Entry]:
    """The entries of records, in order; of the records, at most some hundred are held with their pictures.

    Raises: RowError: a mapping that is no row of a benchmark, with its position.
    """
    source = enumerate(records)
    ahead: deque[Future[list[Entry]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        while part := _take(source):
            ahead.append(pool.submit(_make_part, part))
            if len(ahead) > _THREADS:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


def _take(source: Iterator[tuple[int, Record]]) -> list[tuple[int, Record]]:
    """The records of one task: `_PART`, or fewer where their pictures are large."""
    part: list[tuple[int, Record]] = []
    nbytes = 0
    for position, record in source:
        part.append((position, record))
        nbytes += _picture_bytes(record)
        if len(part) == _PART or nbytes >= _PART_BYTES:
            break
    return part


def _picture_bytes(record: Record) -> int:
    """Of a problem's pictures; a benchmark's item counts none, and its pictures are small."""
    if isinstance(record, Sample):
        record = record.draft
    if isinstance(record, Draft):
        record = record.problem
    return sum(len(image.bytes) for image in record.images) if isinstance(record, Problem) else 0


def _make_part(part: Sequence[tuple[int, Record]]) -> list[Entry]:
    return [make_entry(record, str(position)) for position, record in part]


def make_entry(record: Record, position: str = "0") -> Entry:
    """The entry of one record; an entry is its own.

    A mapping is read as a benchmark's row: `question`, `answer`, `choices` or `options`, `images` or `image`
    (bytes, `{"bytes": ...}`, Pillow pictures or `Image`s, one or a list), `id` or `pid`, `source`, `row`.
    """
    if isinstance(record, Entry):
        return record
    if isinstance(record, Sample):
        record = record.draft
    if isinstance(record, Draft):
        record = record.problem
    if isinstance(record, Problem):
        return _entry(
            (record.source, record.row, record.id),
            record.question,
            record.choices,
            record.answer,
            [image.bytes for image in record.images],
        )
    return _entry_of_row(record, position)


def _entry_of_row(row: Mapping[str, Any], position: str) -> Entry:
    if not isinstance(row, Mapping) or not isinstance(row.get("question"), str):
        raise RowError(
            SourceFault.BAD_ROW, f"row {position}: a problem or a mapping with a `question` is expected"
        )
    choices = _first(row, "choices", "options")
    images = _first(row, "images", "image")
    listed = [images] if isinstance(images, bytes | Mapping | Image) or hasattr(images, "save") else images
    name = str(_first(row, "id", "pid") or position)
    return _entry(
        (str(row.get("source") or ""), str(row.get("row") or name), name),
        row["question"],
        tuple(map(str, choices if isinstance(choices, list | tuple) else ())),
        str(row["answer"]) if row.get("answer") is not None else "",
        [_encoded(image, position) for image in (listed if listed is not None else ())],
    )


def _first(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _encoded(image: Any, position: str) -> bytes:
    """The bytes of a picture; a Pillow picture, whose file is gone, is encoded again."""
    if isinstance(image, Image):
        return image.bytes
    if isinstance(image, Mapping):
        image = image.get("bytes")
    if isinstance(image, bytes):
        return image
    if hasattr(image, "save"):
        buffer = BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()
    raise RowError(
        SourceFault.IMAGE_UNREADABLE,
        f"row {position}: an image is {type(image).__name__}; bytes, {{'bytes': ...}} or a Pillow picture "
        "is expected",
    )


def _entry(
    names: tuple[str, str, str], question: str, choices: Iterable[str], answer: str, images: list[bytes]
) -> Entry:
    prints = tuple(map(print_image, images))
    return Entry(*names, question, tuple(choices), answer, tuple(question_words(question)), prints)


# ------------------------------------------------------------------------------------------- comparison


def compare_pictures(left: Entry, right: Entry, bits: int = NEAR_BITS) -> Pictures:
    """How any picture of one problem relates to any of the other."""
    pairs = [(one, other) for one in left.prints for other in right.prints]
    if any(one.md5 == other.md5 for one, other in pairs):
        return Pictures.SAME
    apart = [count_bits(one, other) for one, other in pairs]
    if any(distance is not None and distance <= bits for distance in apart):
        return Pictures.NEAR
    known = [distance for distance in apart if distance is not None]
    if known and len(known) == len(apart) and min(known) > FAR_BITS:
        return Pictures.OTHER
    return Pictures.UNKNOWN


def thumbs_agree(left: Entry, right: Entry) -> bool:
    """True where some picture of one looks, in colour, as some picture of the other."""
    pairs = ((one, other) for one in left.prints for other in right.prints)
    return any(thumb_difference(one, other) <= THUMB_LEVELS for one, other in pairs)


def text_similarity(left: Entry, right: Entry) -> float:
    """Likeness of two questions in [0, 100], by the words that say something where both have any."""
    if left.content and right.content:
        return fuzz.token_set_ratio(left.content, right.content)
    return fuzz.token_set_ratio(left.text[:_COMPARED], right.text[:_COMPARED])


def near_text(entry: Entry) -> str:
    """The question as near texts are compared; "" without words or beyond `MAX_NEAR` characters."""
    return "" if len(text := entry.text) > MAX_NEAR else text


def word_ratio(left: Entry, right: Entry) -> float:
    """Likeness of two questions letter by letter in order, in [0, 100]; 0 where one is too long for that."""
    first, second = near_text(left), near_text(right)
    return fuzz.ratio(first, second) if first and second else 0.0


def same_numbers(left: Entry, right: Entry) -> bool:
    """True where both questions hold the same numbers in the same order."""
    return number_words(left.words) == number_words(right.words)


def same_meaning(left: Entry, right: Entry) -> bool:
    """True where two like questions differ in fillers and spelling alone, so that they ask one thing.

    Long questions with one answer may hold other words as well: then the words that differ are details.
    """
    if min(len(left.words), len(right.words)) >= _LONG_WORDS and same_answer(left, right):
        return True
    first, second = deciding_words(left.words), deciding_words(right.words)
    if len(first) != len(second):
        return False
    return all(
        one == other or (min(len(one), len(other)) >= _TYPO_LETTERS and fuzz.ratio(one, other) >= _TYPO_RATIO)
        for one, other in zip(first, second, strict=True)
    )


def same_answer(left: Entry, right: Entry) -> bool:
    """True where both problems have an answer and it is the same."""
    return bool(left.answer_key) and left.answer_key == right.answer_key


def answers_differ(left: Entry, right: Entry) -> bool:
    """True where two gold answers are certainly not the same: other numbers, other words, another letter.

    A number says nothing of a word, nor a letter of either: the sources may name the same option.
    """
    first, second = left.answer_words, right.answer_words
    if not first or not second or left.answer_key == right.answer_key:
        return False
    numbers = [{float(word) for word in number_words(words)} for words in (first, second)]
    if numbers[0] and numbers[1]:
        return not numbers[0] & numbers[1]
    if numbers[0] or numbers[1] or _is_letter(first) != _is_letter(second):
        return False
    return not set(first) & set(second)


def _is_letter(words: Sequence[str]) -> bool:
    return len(words) == 1 and len(words[0]) == 1


def _answer_text(entry: Entry) -> str:
    letter = entry.answer.strip().strip("().").upper()
    if len(letter) == 1 and letter.isascii() and letter.isalpha():
        at = ord(letter) - ord("A")
        if at < len(entry.choices):
            return entry.choices[at]
    return entry.answer
