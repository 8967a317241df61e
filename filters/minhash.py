"""MinHash signatures of many short texts at once, and the pairs that locality-sensitive hashing proposes.

Vectorised numpy instead of `datasketch`, which hashes and files one text at a time: see docs/filters-dedup.md
for both measured. A text is the set of its words and of its pairs of neighbouring words, so that a changed
word costs three members whatever the text's length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from filters.pairs import expand_ranges, unique_pairs

ROWS = 4  # signatures per band
BANDS = 16  # proposes a pair of Jaccard similarity 0.5 with probability 0.64, of 0.7 with 0.99
_GENERATOR = np.random.Generator(np.random.PCG64(20260303))
_FACTORS = _GENERATOR.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_SHIFTS = _GENERATOR.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64)
_MAX_WORDS = 5_000  # of a text; what follows is left to the comparison of the whole
_EMPTY = np.uint64(0x2545F4914F6CDD1D)


def make_bands(texts: Sequence[Sequence[str]], block: int = 4096) -> np.ndarray:
    """The band keys of texts, uint64 [texts, BANDS]: two texts that share one are a candidate pair.

    Args:
        texts: each the words of one text.
        block: texts worked on at one time, which bounds the memory; the keys do not depend on it.
    """
    known: dict[str, int] = {}
    blocks = [_bands_of(texts[start : start + block], known) for start in range(0, len(texts), block)]
    return np.concatenate(blocks) if blocks else np.empty((0, BANDS), np.uint64)


def _bands_of(texts: Sequence[Sequence[str]], known: dict[str, int]) -> np.ndarray:
    shingles, offsets = _shingles(texts, known)
    keys = np.empty((len(texts), BANDS), np.uint64)
    for band in range(BANDS):
        key = np.full(len(texts), _EMPTY)
        for row in range(band * ROWS, (band + 1) * ROWS):
            scrambled = _mix(shingles * _FACTORS[row] + _SHIFTS[row])
            key = _mix(key ^ np.minimum.reduceat(scrambled, offsets))
        keys[:, band] = key
    return keys


def _shingles(texts: Sequence[Sequence[str]], known: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The members of every text one after the other, and where each text begins; each has at least one."""
    texts = [text[:_MAX_WORDS] for text in texts]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    flat = np.empty(lengths.sum(), np.uint64)
    ends = np.cumsum(lengths)
    inner = np.ones(len(flat), bool)
    inner[ends - 1] = False
    hashed = (_hash_word(word, known) for text in texts for word in text)
    flat[inner] = np.fromiter(hashed, np.uint64, int(inner.sum()))
    flat[~inner] = _EMPTY  # closes each text: the pair with it marks the last word
    pairs = _mix(flat * np.uint64(3) + np.roll(flat, -1))
    members = np.empty(2 * len(flat), np.uint64)
    members[0::2], members[1::2] = flat, pairs
    members[1::2][~inner] = _EMPTY  # no pair from one text to the next
    return members, 2 * (ends - lengths)


def _hash_word(word: str, known: dict[str, int]) -> int:
    value = known.get(word)
    if value is None:
        encoded = word.encode("utf-8", "surrogatepass")
        value = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")
        known[word] = value
    return value


def _mix(values: np.ndarray) -> np.ndarray:
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xFF51AFD7ED558CCD)
    return values ^ (values >> np.uint64(29))


class Bands:
    """Band keys of texts, found again."""

    def __init__(self, keys: np.ndarray) -> None:
        self._orders = [np.argsort(column, kind="stable") for column in keys.T]
        self._sorted = [column[order] for column, order in zip(keys.T, self._orders, strict=True)]

    def find(self, keys: np.ndarray, most: int = 64) -> np.ndarray:
        """Pairs (query, text) that share a band key, int64 [pairs, 2], sorted, each once.

        Args:
            most: a key that more texts share is boiler-plate and proposes none.
        """
        found = [np.empty((0, 2), np.int64)]
        for band, (order, values) in enumerate(zip(self._orders, self._sorted, strict=True)):
            first = np.searchsorted(values, keys[:, band], "left")
            end = np.searchsorted(values, keys[:, band], "right")
            query, at = expand_ranges(first, np.where(end - first > most, first, end))
            found.append(np.stack([query, order[at]], axis=1))
        return unique_pairs(*np.concatenate(found).T)
