"""Which problems of a run are asked twice.

Two problems are duplicates where all of this holds:

- the questions are equal word for word, or proposed by MinHash and alike in at least `similarity` percent
  (rapidfuzz), with the same numbers in the same order and, where they are short or their answers are not
  equal, with no other difference than fillers (`a`, `shown`, `picture`) and spelling;
- the choices are the same, in any order, or the answer is, or one of the two has no choices;
- the pictures are the same, one for one in order: the same bytes, or at most `bits` of 64 different, plain or
  trimmed, with thumbnails that agree in colour. A problem with pictures is no duplicate of one without;
- the answers are not known to differ, unless words and bytes are all the same: then one label is wrong.

So two questions about one picture stay, and so does one question about two pictures.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.process import cpdist

from filters.dedup_candidates import propose_pairs
from filters.entries import (
    THUMB_LEVELS,
    Entry,
    Record,
    answers_differ,
    make_entries,
    near_text,
    same_answer,
    same_meaning,
    same_numbers,
)
from filters.image_hash import ImagePrint, count_bits, thumb_difference
from filters.reasons import Reason, Verdict, dropped, kept
from schemas.config import DedupSettings
from schemas.records import Draft, Sample

__all__ = ["NAME", "Duplicate", "DuplicateReason", "Group", "find_duplicates", "judge_duplicate"]

NAME = "dedup"


class DuplicateReason(StrEnum):
    """How a problem equals the one that is kept, the strongest first."""

    EXACT = "exact"  # the same words and the same picture files
    SAME_TEXT = "same_text"  # the same words, nearly the same pictures
    NEAR_TEXT = "near_text"  # nearly the same words


@dataclass(frozen=True, slots=True)
class Duplicate:
    """One row that asks what the kept row of its group asks.

    Attributes:
        position: among the records, from 0.
        similarity: of the two questions, in [0, 100].
    """

    position: int
    id: str
    reason: DuplicateReason
    similarity: float


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that ask one thing. The first of them in the records' order is the one to keep.

    Attributes:
        keep, keep_id: position and id of the row to keep.
        duplicates: the others in order; each was compared with the kept row itself.
    """

    keep: int
    keep_id: str
    duplicates: tuple[Duplicate, ...]

    @property
    def drop(self) -> tuple[int, ...]:
        """Positions of the rows to drop."""
        return tuple(duplicate.position for duplicate in self.duplicates)

    @property
    def reason(self) -> DuplicateReason:
        """The weakest reason in the group."""
        order = list(DuplicateReason)
        return max((duplicate.reason for duplicate in self.duplicates), key=order.index)

    @property
    def similarity(self) -> float:
        """The least likeness in the group, in [0, 100]."""
        return min(duplicate.similarity for duplicate in self.duplicates)


def judge_duplicate(duplicate: Duplicate | None, group: Group | None) -> Verdict:
    """The verdict on a row: a duplicate in its group, or None for a row to keep. Score: 1 or 0."""
    if duplicate is None or group is None:
        return kept(NAME, 1.0)
    likeness = f"{duplicate.reason}, {duplicate.similarity:.0f}% alike"
    return dropped(NAME, Reason.NEAR_DUPLICATE, 0.0, f"asks what problem {group.keep_id} asks: {likeness}")


def find_duplicates(records: Iterable[Record], settings: DedupSettings | None = None) -> tuple[Group, ...]:
    """The groups of records that ask one thing, by their first row.

    Several drafts of one problem are its samples, not duplicates: they stand in a group together or not at
    all, and none of them is dropped for another. The records are read once, and their pictures not kept.

    Raises: RowError: a mapping without a question, with its position.
    """
    rows = _Rows()
    entries = list(rows.read(records))
    leaders = _find_leaders(entries, settings or DedupSettings())
    groups: dict[int, list[Duplicate]] = defaultdict(list)
    for unit, (leader, reason, similarity) in leaders.items():
        for position in rows.positions[unit]:
            groups[leader].append(Duplicate(position, entries[unit].id, reason, similarity))
    return tuple(
        Group(rows.positions[leader][0], entries[leader].id, tuple(sorted(found, key=lambda d: d.position)))
        for leader, found in sorted(groups.items())
    )


class _Rows:
    """Gives the drafts of one problem one entry, and remembers where they stand."""

    def __init__(self) -> None:
        self.positions: list[list[int]] = []
        self._units: dict[str, int] = {}

    def read(self, records: Iterable[Record]) -> Iterator[Entry]:
        """One entry per problem, in order."""
        return make_entries(self._fresh(records))

    def _fresh(self, records: Iterable[Record]) -> Iterator[Record]:
        for position, record in enumerate(records):
            draft = record.draft if isinstance(record, Sample) else record
            if isinstance(draft, Draft):
                unit = self._units.setdefault(draft.problem.id, len(self.positions))
                if unit < len(self.positions):
                    self.positions[unit].append(position)
                    continue
            self.positions.append([position])
            yield record


Leader = tuple[int, DuplicateReason, float]


def _find_leaders(entries: Sequence[Entry], settings: DedupSettings) -> dict[int, Leader]:
    """For every row to drop, the row that is kept in its stead."""
    exact = _exact_copies(entries)
    firsts = [at for at in range(len(entries)) if at not in exact]
    leaders: dict[int, Leader] = {}
    for (right, left), ratio in sorted(_alike([entries[at] for at in firsts], settings).items()):
        kept, other = firsts[left], firsts[right]
        if other not in leaders and kept not in leaders:
            reason = _compare(entries[kept], entries[other], settings.bits)
            if reason is not None:
                leaders[other] = (kept, reason, ratio)
    for row, first in exact.items():
        # What equals a dropped row is dropped for the same row.
        leaders[row] = leaders.get(first, (first, DuplicateReason.EXACT, 100.0))
    return leaders


def _alike(entries: Sequence[Entry], settings: DedupSettings) -> dict[tuple[int, int], float]:
    """The pairs (later, earlier) of a bucket whose questions are equal or alike, with their likeness.

    Candidates are compared in blocks as they come: only the alike ones are kept, so memory stays bounded.
    """
    texts = [near_text(entry) or _digest(_text(entry)) for entry in entries]
    found: dict[tuple[int, int], float] = {}
    for pairs in propose_pairs(entries, settings.bits):
        later, earlier = ([texts[at] for at in side] for side in pairs.T.tolist())
        cutoff = settings.similarity
        ratios = cpdist(later, earlier, scorer=fuzz.ratio, score_cutoff=cutoff, dtype=np.float64)
        alike = np.flatnonzero(ratios)
        found.update(zip(map(tuple, pairs[alike].tolist()), ratios[alike].tolist(), strict=True))
    return found


def _digest(text: str) -> str:
    """Stands for a text that equals another or does not: two digests are never alike."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()


def _exact_copies(entries: Sequence[Entry]) -> dict[int, int]:
    """Rows with the words, choices and picture files of an earlier one -> that one."""
    first: dict[tuple[object, ...], int] = {}
    copies: dict[int, int] = {}
    for position, entry in enumerate(entries):
        key = (_text(entry), entry.choices_key, tuple(image.md5 for image in entry.prints))
        earlier = first.setdefault(key, position)
        if earlier != position:
            copies[position] = earlier
    return copies


def _text(entry: Entry) -> str:
    """The question in one spelling; one without any word stands for itself."""
    return entry.text or entry.question


def _compare(kept: Entry, other: Entry, bits: int) -> DuplicateReason | None:
    """The reason where two problems with like questions are one."""
    if not _same_choices(kept, other) or not same_numbers(kept, other):
        return None
    same_files = [image.md5 for image in kept.prints] == [image.md5 for image in other.prints]
    same_text = _text(kept) == _text(other)
    if same_files and same_text:
        return DuplicateReason.EXACT
    if answers_differ(kept, other) or not (same_files or _same_pictures(kept, other, bits)):
        return None
    if same_text:
        return DuplicateReason.SAME_TEXT
    return DuplicateReason.NEAR_TEXT if same_meaning(kept, other) else None


def _same_choices(left: Entry, right: Entry) -> bool:
    if not left.choices or not right.choices or left.choices_key == right.choices_key:
        return True
    return same_answer(left, right)


def _same_pictures(left: Entry, right: Entry, bits: int) -> bool:
    if len(left.prints) != len(right.prints):
        return False
    return all(_same_picture(*pair, bits) for pair in zip(left.prints, right.prints, strict=True))


def _same_picture(left: ImagePrint, right: ImagePrint, bits: int) -> bool:
    if left.md5 == right.md5:
        return True
    apart = count_bits(left, right)
    return apart is not None and apart <= bits and thumb_difference(left, right) <= THUMB_LEVELS
