"""Pairs of problems that may be duplicates, without a loop over all pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from filters.entries import Entry
from filters.image_hash import ImagePrint, NearHashes
from filters.minhash import make_bands
from filters.ngrams import number_words

_ROWS = 1 << 16  # pairs per block


def propose_pairs(entries: Sequence[Entry], bits: int) -> Iterator[np.ndarray]:
    """Blocks of pairs (later, earlier) that share a bucket, int64 [pairs, 2]; a pair may come again.

    A bucket is the cluster of the first picture, the numbers, and a band of the MinHash. Within a bucket the
    near pictures are looked up again, so that a cluster of look-alikes is no loop over pairs.
    """
    if entries:
        yield from _blocks(_propose(entries, bits))


def _propose(entries: Sequence[Entry], bits: int) -> Iterator[np.ndarray]:
    bands = make_bands([entry.words or (entry.question,) for entry in entries])
    numbers = (number_words(entry.words) for entry in entries)
    salts = _numbered((_cluster_keys(entries, bits), numbers)) * np.uint64(0x9E3779B97F4A7C15)
    for column in bands.T:
        yield from _bucket_pairs(column ^ salts, entries, bits)


def _numbered(columns: tuple[Iterable[object], ...]) -> np.ndarray:
    """Equal rows of columns as equal numbers."""
    numbers: dict[object, int] = {}
    rows = [numbers.setdefault(row, len(numbers)) for row in zip(*columns, strict=True)]
    return np.fromiter(rows, np.uint64, len(rows))


def _cluster_keys(entries: Sequence[Entry], bits: int) -> list[tuple[object, ...]]:
    """What the first pictures of two duplicates have in common: a cluster of near ones, or the very bytes."""
    readable = [at for at, entry in enumerate(entries) if entry.prints and entry.prints[0].phash is not None]
    labels = dict(
        zip(readable, _near_clusters([entries[at].prints[0] for at in readable], bits), strict=True)
    )
    keys: list[tuple[object, ...]] = []
    for at, entry in enumerate(entries):
        first = entry.prints[0].md5 if entry.prints else None
        keys.append((len(entry.prints), labels.get(at, first)))
    return keys


def _near_clusters(prints: Sequence[ImagePrint], bits: int) -> list[int]:
    """A number for each picture, the same for pictures that near ones join."""
    labels = np.arange(len(prints))
    for trimmed in (False, True):
        hashes = _hash_array(prints, trimmed=trimmed)
        distinct, row, of = np.unique(hashes, return_index=True, return_inverse=True)
        labels = _join(labels, np.stack([labels, labels[row[of.reshape(-1)]]], axis=1))
        for pairs in NearHashes(distinct, bits).find_blocks(distinct):
            labels = _join(labels, labels[row[pairs]])
    return labels.tolist()


def _join(labels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Labels after those at the two ends of each edge have become one."""
    size = int(max(labels.max(initial=0), edges.max(initial=0))) + 1
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)[1][labels]


def _hash_array(prints: Sequence[ImagePrint], *, trimmed: bool) -> np.ndarray:
    hashes = (image.trimmed if trimmed else image.phash for image in prints)
    return np.fromiter((hashed or 0 for hashed in hashes), np.uint64, len(prints))


def _bucket_pairs(keys: np.ndarray, entries: Sequence[Entry], bits: int) -> Iterator[np.ndarray]:
    """Arrays of pairs (later, earlier) within the buckets of one band."""
    order = np.argsort(keys, kind="stable")
    new = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1]))
    sizes = np.diff(np.append(new, len(order)))
    twos = new[sizes == 2]
    yield np.stack([order[twos + 1], order[twos]], axis=1)
    for start, size in zip(new[sizes > 2].tolist(), sizes[sizes > 2].tolist(), strict=True):
        members = order[start : start + size]
        yield from _near_pairs(members, [entries[at] for at in members], bits)


def _near_pairs(members: np.ndarray, entries: Sequence[Entry], bits: int) -> Iterator[np.ndarray]:
    """Arrays of pairs (later, earlier) of a bucket with near first pictures; all pairs without hashes."""
    prints = [entry.prints[0] for entry in entries if entry.prints]
    if len(prints) < len(members) or any(image.phash is None for image in prints):
        for at in range(1, len(members)):
            yield np.stack([np.full(at, members[at]), members[:at]], axis=1)
        return
    for trimmed in (False, True):
        hashes = _hash_array(prints, trimmed=trimmed)
        for pairs in NearHashes(hashes, bits).find_blocks(hashes):
            yield members[pairs[pairs[:, 0] > pairs[:, 1]]]


def _blocks(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Arrays of pairs put together until a block has `_ROWS` of them."""
    pending, size = [], 0
    for array in arrays:
        pending.append(array)
        size += len(array)
        if size >= _ROWS:
            yield np.concatenate(pending)
            pending, size = [], 0
    if size:
        yield np.concatenate(pending)
