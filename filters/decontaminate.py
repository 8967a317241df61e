"""Which problems stand in a benchmark, and in which item of it.

A problem is found by its pictures or by its words:

- the very bytes of an item's picture (a blank one only with a like question);
- a picture within 4 of 64 bits of an item's, plain or without white borders, with a like question;
- 8 words in a row of an item's question (open-r1's rule), where they are specific (`filters.ngrams`);
- all words of an item's question, for what has no such words: with a few words or with general ones the
  picture or the answer and the choices must agree as well;
- nearly all words in the same order with the same numbers (MinHash, confirmed by rapidfuzz).

Words prove nothing where both the pictures and the answers are known to be others: that is another problem
made from the same template.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from filters.entries import (
    Entry,
    Pictures,
    Record,
    answers_differ,
    compare_pictures,
    make_entries,
    same_answer,
    same_numbers,
    text_similarity,
    thumbs_agree,
    word_ratio,
)
from filters.image_hash import NearHashes
from filters.index_file import read_entries, write_entries
from filters.minhash import Bands, make_bands
from filters.ngrams import MIN_CONTENT, NgramTable, content_words, joined
from filters.reasons import Reason, Verdict, dropped, kept
from schemas.config import DecontaminateSettings

__all__ = ["NAME", "Hit", "HitReason", "Index", "judge_hits"]

NAME = "decontamination"


class HitReason(StrEnum):
    """By what a problem was found, the strongest first."""

    IMAGE_BYTES = "image_bytes"
    IMAGE_NEAR = "image_near"
    QUESTION = "question"
    NGRAM = "ngram"
    NEAR_TEXT = "near_text"

    @property
    def verdict(self) -> Reason:
        """The reason that a dropped row gets."""
        by_image = self in {HitReason.IMAGE_BYTES, HitReason.IMAGE_NEAR}
        return Reason.CONTAMINATED_IMAGE if by_image else Reason.CONTAMINATED_TEXT


@dataclass(frozen=True, slots=True)
class Hit:
    """A problem found in an item of a benchmark.

    Attributes:
        source, row, id, question: of the item.
        similarity: of the two questions, in [0, 100].
        detail: one line for people: the words or the picture that gave it away.
    """

    reason: HitReason
    source: str
    row: str
    id: str
    question: str
    similarity: float
    detail: str


def judge_hits(hits: Sequence[Hit]) -> Verdict:
    """The verdict on a problem with these hits. Score: 1 without any, else 0."""
    if not hits:
        return kept(NAME, 1.0)
    first = hits[0]
    more = f" (and {len(hits) - 1} more)" if len(hits) > 1 else ""
    detail = f"{first.source} {first.id}: {first.detail}{more}"
    return dropped(NAME, first.reason.verdict, 0.0, detail)


@dataclass(slots=True)
class _Evidence:
    """What speaks for one pair of a problem and an item before both are looked at."""

    ngram: str = ""
    shared: int = 0
    picture: bool = False
    proposed: bool = False  # by MinHash
    same_text: bool = False

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Sorts what may be the strongest reason first."""
        return not self.picture, not self.same_text, -self.shared


class Index:
    """The items of benchmarks, by their pictures and their words.

    Args:
        problems: problems, drafts, or mappings as `filters.entries.make_entry` reads them; read once, and
            their pictures are not kept.
    Raises: RowError: a mapping without a question, or a picture of an unknown kind, with its position.
    """

    def __init__(self, problems: Iterable[Record], settings: DecontaminateSettings | None = None) -> None:
        self._set_up(tuple(make_entries(problems)), settings or DecontaminateSettings())

    def _set_up(self, entries: tuple[Entry, ...], settings: DecontaminateSettings) -> None:
        self._entries, self._settings = entries, settings
        words = [entry.words for entry in entries]
        self._ngrams = NgramTable(words, settings.ngram, settings.max_items)
        self._bands = Bands(make_bands(words))
        self._by_text: dict[str, list[int]] = {}
        self._by_problem: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
        self._by_md5: dict[bytes, list[int]] = {}
        for position, entry in enumerate(entries):
            _file(self._by_text, entry.text, position)
            _file(self._by_problem, (entry.text, entry.answer_key, entry.choices_key), position)
            for image in entry.prints:
                _file(self._by_md5, image.md5, position)
        self._plain, self._trimmed = (
            _Pictures(entries, settings.bits, trimmed=kind) for kind in (False, True)
        )

    def __len__(self) -> int:
        """Items of the index."""
        return len(self._entries)

    def save(self, path: Path) -> None:
        """Writes one Arrow file, the same bytes for the same items.

        Raises: ShardError: the disk is full or the folder cannot be written.
        """
        write_entries(Path(path), self._entries)

    @classmethod
    def load(cls, path: Path, settings: DecontaminateSettings | None = None) -> Index:
        """The index of a file that `save` wrote.

        Raises: ShardError: no such file, or not an index of this version.
        """
        index = cls.__new__(cls)
        index._set_up(read_entries(Path(path)), settings or DecontaminateSettings())
        return index

    def hits(self, problem: Record) -> list[Hit]:
        """The items that a problem stands in, strongest reason first, then in the items' order."""
        return next(self.find_hits([problem]))

    def find_hits(
        self, problems: Iterable[Record], batch_rows: int = 4096, most: int | None = None
    ) -> Iterator[list[Hit]]:
        """The hits of each of many problems, in order, with `batch_rows` of them in memory at one time.

        Args:
            most: hits per problem, None for all. Items are judged by how much speaks for them, pictures
                first, until so many are hits; a row is dropped for one as for many.
        """
        entries = make_entries(problems)
        while batch := list(islice(entries, batch_rows)):
            evidence = self._collect(batch)
            for position, entry in enumerate(batch):
                yield self._judge_all(entry, evidence.get(position, {}), most)

    def _collect(self, batch: list[Entry]) -> dict[int, dict[int, _Evidence]]:
        """The pairs worth a look: problem -> item -> what speaks for it."""
        found: dict[int, dict[int, _Evidence]] = {}

        def at(problem: int, item: int) -> _Evidence:
            return found.setdefault(problem, {}).setdefault(item, _Evidence())

        words = [entry.words for entry in batch]
        shared = self._ngrams.find(words)
        columns = (shared.query, shared.text, shared.start, shared.count)
        for problem, item, start, count in zip(*(column.tolist() for column in columns), strict=True):
            evidence = at(problem, item)
            evidence.ngram = joined(words[problem][start : start + self._settings.ngram])
            evidence.shared = count
        for problem, item in self._bands.find(make_bands(words), self._settings.max_items).tolist():
            at(problem, item).proposed = True
        for pictures in (self._plain, self._trimmed):
            for problem, item in pictures.find(batch):
                at(problem, item).picture = True
        for problem, entry in enumerate(batch):
            for item in self._same_words(entry):
                at(problem, item).same_text = True
            for item in {item for image in entry.prints for item in self._by_md5.get(image.md5, ())}:
                at(problem, item).picture = True
        return found

    def _same_words(self, entry: Entry) -> list[int]:
        """Items with the same question: all where they are few, else those with the same answer too."""
        items = self._by_text.get(entry.text, []) if entry.words else []
        if len(items) <= self._settings.max_items:
            return items
        alike = self._by_problem.get((entry.text, entry.answer_key, entry.choices_key), [])
        return alike[: self._settings.max_items]

    def _judge_all(self, entry: Entry, evidence: dict[int, _Evidence], most: int | None) -> list[Hit]:
        ranked = sorted(evidence.items(), key=lambda found: (found[1].rank, found[0]))
        judged = (self._judge(entry, self._entries[item], found) for item, found in ranked)
        hits = list(islice(filter(None, judged), most))
        order = list(HitReason)
        return sorted(hits, key=lambda hit: order.index(hit.reason))

    def _judge(self, entry: Entry, item: Entry, evidence: _Evidence) -> Hit | None:
        pictures = compare_pictures(entry, item, self._settings.bits)
        reason = self._by_picture(entry, item, pictures)
        reason = reason or self._by_words(entry, item, pictures, evidence)
        if reason is None:
            return None
        detail = {
            HitReason.IMAGE_BYTES: "the same picture, byte for byte",
            HitReason.IMAGE_NEAR: "nearly the same picture and a like question",
            HitReason.QUESTION: "the same question",
            HitReason.NGRAM: f"{evidence.shared} shared runs of words, the first: {evidence.ngram}",
            HitReason.NEAR_TEXT: "nearly the same question, word for word",
        }[reason]
        similarity = text_similarity(entry, item)
        return Hit(reason, item.source, item.row, item.id, item.question, similarity, detail)

    def _by_picture(self, entry: Entry, item: Entry, pictures: Pictures) -> HitReason | None:
        if pictures not in {Pictures.SAME, Pictures.NEAR}:
            return None
        worded = bool(entry.words) and bool(item.words)
        # An item whose question stands in its picture has no words to confirm it: the colours do.
        similar = text_similarity(entry, item) >= self._settings.similarity
        like = similar if worded else thumbs_agree(entry, item)
        if pictures is Pictures.SAME:
            alone = self._settings.image_alone and _shares_a_picture_with_content(entry, item)
            return HitReason.IMAGE_BYTES if alone or like else None
        if pictures is Pictures.NEAR and like:
            other = answers_differ(entry, item) and not thumbs_agree(entry, item)
            return None if other else HitReason.IMAGE_NEAR
        return None

    def _by_words(
        self, entry: Entry, item: Entry, pictures: Pictures, evidence: _Evidence
    ) -> HitReason | None:
        other_pictures, other_answer = pictures is Pictures.OTHER, answers_differ(entry, item)
        if other_pictures and other_answer:
            return None
        if evidence.same_text and self._speaks(entry, item, evidence, other_pictures, other_answer):
            return HitReason.QUESTION
        if evidence.ngram:
            return HitReason.NGRAM
        if evidence.proposed and self._nearly(entry, item):
            return HitReason.NEAR_TEXT
        return None

    def _speaks(
        self, entry: Entry, item: Entry, evidence: _Evidence, other_pictures: bool, other_answer: bool
    ) -> bool:
        """True where the same words are enough, or are confirmed by the answer and the choices."""
        if evidence.ngram:
            return True
        if other_pictures or other_answer:
            return False
        few_items = len(self._by_text[item.text]) <= self._settings.max_items
        if few_items and len(set(content_words(entry.words))) >= MIN_CONTENT:
            return True
        return same_answer(entry, item) and entry.choices_key == item.choices_key

    def _nearly(self, entry: Entry, item: Entry) -> bool:
        if min(len(entry.words), len(item.words)) < self._settings.ngram or not same_numbers(entry, item):
            return False
        if len(set(content_words(entry.words)) & set(content_words(item.words))) < MIN_CONTENT:
            return False
        return word_ratio(entry, item) >= self._settings.near_text


class _Pictures:
    """The hashes of the items' pictures, and which items each belongs to."""

    def __init__(self, entries: tuple[Entry, ...], bits: int, *, trimmed: bool) -> None:
        self._trimmed = trimmed
        self._items: dict[int, list[int]] = {}
        for position, hashed in self._hashes(entries):
            _file(self._items, hashed, position)
        self._known = np.fromiter(self._items, np.uint64, len(self._items))
        self._near = NearHashes(self._known, bits)

    def _hashes(self, entries: Iterable[Entry]) -> Iterator[tuple[int, int]]:
        for position, entry in enumerate(entries):
            for image in entry.prints:
                hashed = image.trimmed if self._trimmed else image.phash
                if hashed is not None:
                    yield position, hashed

    def find(self, batch: list[Entry]) -> Iterator[tuple[int, int]]:
        """Pairs (problem, item) with a near picture."""
        asked = list(self._hashes(batch))
        hashes = np.fromiter((hashed for _, hashed in asked), np.uint64, len(asked))
        for query, known in self._near.find(hashes).tolist():
            for item in self._items[int(self._known[known])]:
                yield asked[query][0], item


def _file(shelves: dict[Any, list[int]], key: Hashable, position: int) -> None:
    shelf = shelves.setdefault(key, [])
    if not shelf or shelf[-1] != position:
        shelf.append(position)


def _shares_a_picture_with_content(entry: Entry, item: Entry) -> bool:
    readable = {image.md5 for image in entry.prints if image.phash is not None}
    return any(image.md5 in readable for image in item.prints)
