"""Words of a question, which of them say something, and an exact lookup of shared n-grams.

Words follow open-r1's decontamination script (lower case, split at white space, 8 words in a row) with four
additions that make copies of one question equal: picture placeholders (`<image1>`), lettered options that
stand in the question, LaTeX fonts and punctuation do not count, and a CJK character is a word of its own.

An n-gram speaks for one problem only where it is *specific*: at least `MIN_CONTENT` different words of it
are none of the words that any question about a picture is made of (`GENERIC`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sys import intern

import numpy as np

from filters.pairs import expand_ranges, unique_pairs

NGRAM = 8  # open-r1, scripts/decontaminate.py
MIN_CONTENT = 3
# Words that may come and go without another question being asked.
FILLER = frozenset(
    """
    a an the this that these those it its there here we our you your i me of in on at by to from for with into
    onto as and then so such is are was were be been being am do does did has have had having can could will
    would shall should may might must let lets figure figures image images picture pictures diagram diagrams
    drawing photo graph chart shown show shows showing given following see seen look depicted drawn
    illustrated represented represents indicated denoted please write give what which find calculate compute
    determine
    evaluate solve choose choices choice select pick question answer answers options option express form terms
    using use according based know known suppose assume imagehere placeholder
    的 了 是 在 为 则 若 已 知 如 图 所 示 求 问 请 此 题
    """.split()  # noqa: SIM905 - a list of two hundred quoted words reads worse
)
# Words that any question about a picture may hold, and that still decide which question it is.
_COMMON = frozenset(
    """
    they their them he she his her one another other others each every all any some both either none no not
    only just also than same without or but if when while where who whose whom why how many much long far done
    table above below left right side sides part parts marked labeled labelled mark correct true false value
    values number numbers total sum amount result missing rest different first second third next last equal
    equals units unit length width height area volume surface perimeter size measure round rounded nearest
    most least more less possible best cm mm km m frac sqrt circ angle degree degrees triangle line point
    有 和 中 下 列 一 个 以 上 与 其 对 于 这 那 哪 什 么 多 少 答 案
    """.split()  # noqa: SIM905
)
GENERIC = FILLER | _COMMON
_PLACEHOLDER = re.compile(r"<\|?/?(?:image|img|vision)[^<>\s]{0,20}(?:\s{0,2}\d{1,3})?\s?\|?>", re.IGNORECASE)
_FONT = re.compile(
    r"\\(?:mathrm|mathbf|mathit|mathsf|mathbb|text|textbf|textit|textrm|operatorname|displaystyle|left|right"
    r"|q?quad)(?![A-Za-z])|\\[dt](?=frac)|\\[,;:! ]"
)
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
_OPTION = re.compile(r"(?:^|[\s(])([A-D])[.):](?=\s)")


def split_words(text: str) -> list[str]:
    """The words of a text: runs of letters, whole numbers and decimals, single CJK characters."""
    text = unicodedata.normalize("NFKC", _FONT.sub(" ", _PLACEHOLDER.sub(" ", text))).casefold()
    if not text.isascii():
        text = _CJK.sub(r" \g<0> ", text)
    return [intern(word) for word in _WORD.findall(text)]  # one object per word: a fifth of the memory


def question_words(question: str) -> list[str]:
    """The words of a question without the lettered options that some sources append to it."""
    return split_words(strip_options(question)) or split_words(question)


def strip_options(question: str) -> str:
    """The text before `A. ... B. ... C. ...`; all of it where no three options follow in order."""
    wanted, start = "A", 0
    for marker in _OPTION.finditer(question):
        if marker[1] == wanted:
            start = marker.start() if wanted == "A" else start
            if wanted == "C":
                return question[:start]
            wanted = chr(ord(wanted) + 1)
        elif marker[1] == "A":
            wanted, start = "B", marker.start()
    return question


def is_content(word: str) -> bool:
    """True for a word that says which question this is: no single Latin letter, no word of `GENERIC`."""
    return word not in GENERIC and not (len(word) == 1 and word.isascii() and word.isalpha())


def content_words(words: Sequence[str]) -> list[str]:
    """The words that say which question this is, in order."""
    return [word for word in words if is_content(word)]


def number_words(words: Sequence[str]) -> tuple[str, ...]:
    """The numbers in digits among words, in order."""
    return tuple(word for word in words if word[0].isdecimal())


def deciding_words(words: Sequence[str]) -> list[str]:
    """The words of which none may be another for the question to stay the same, sorted."""
    return sorted(word for word in words if word not in FILLER)


@dataclass(frozen=True, slots=True)
class SharedNgrams:
    """Which questions share a specific n-gram with which texts. One entry per pair, sorted by pair.

    Attributes:
        query, text: positions of the question asked about and of the text found.
        start: the first word of the first shared n-gram within the question.
        count: shared n-grams of the pair.
    """

    query: np.ndarray
    text: np.ndarray
    start: np.ndarray
    count: np.ndarray


class NgramTable:
    """The specific n-grams of many texts, found again without a loop over pairs.

    Words become numbers of a vocabulary, so that equal numbers are equal words: an n-gram is looked up by a
    64-bit hash of its numbers, and a hit counts only where the numbers themselves agree.

    Args:
        texts: each the words of one text.
        n: words per n-gram.
        max_texts: an n-gram that stands in more texts is boiler-plate and speaks for none.
    """

    def __init__(self, texts: Sequence[Sequence[str]], n: int = NGRAM, max_texts: int = 32) -> None:
        self._n = n
        self._vocabulary: dict[str, int] = {}
        for words in texts:
            for word in words:
                self._vocabulary.setdefault(word, len(self._vocabulary))
        windows, owners, _ = self._windows(texts)
        windows, owners = _specific(windows, owners, self._content_flags())
        grams, of = _unique_rows(windows)
        pairs = unique_pairs(of, owners)
        spread = np.bincount(pairs[:, 0], minlength=len(grams))
        pairs = pairs[spread[pairs[:, 0]] <= max_texts]
        counts = np.bincount(pairs[:, 0], minlength=len(grams))
        first = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(grams) else np.empty(0, np.int64)
        order = np.argsort(_hash_rows(grams), kind="stable")
        self._grams, self._hashes = grams[order], _hash_rows(grams)[order]
        self._first, self._counts, self._owners = first[order], counts[order], pairs[:, 1]

    def find(self, questions: Sequence[Sequence[str]]) -> SharedNgrams:
        """The texts that share a specific n-gram with each question."""
        windows, queries, starts = self._windows(questions)
        found, at = expand_ranges(
            np.searchsorted(self._hashes, hashes := _hash_rows(windows), "left"),
            np.searchsorted(self._hashes, hashes, "right"),
        )
        equal = (windows[found] == self._grams[at]).all(axis=1)  # a collision of hashes ends here
        found, at = found[equal], at[equal]
        window, owner = expand_ranges(self._first[at], self._first[at] + self._counts[at])
        found = found[window]
        return _per_pair(queries[found], self._owners[owner], starts[found])

    def _content_flags(self) -> np.ndarray:
        return np.fromiter(map(is_content, self._vocabulary), bool, len(self._vocabulary))

    def _windows(self, texts: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every n-gram of known words as a row of word numbers, with its text and its first word."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        known = self._vocabulary.get
        flat = np.fromiter((known(word, -1) for words in texts for word in words), np.int32, lengths.sum())
        if len(flat) < self._n:
            return np.empty((0, self._n), np.int32), np.empty(0, np.int64), np.empty(0, np.int64)
        owner = np.repeat(np.arange(len(texts)), lengths)
        begin = np.repeat(np.cumsum(lengths) - lengths, lengths)
        whole = owner[: 1 - self._n or None] == owner[self._n - 1 :]
        unknown = np.concatenate([[0], np.cumsum(flat < 0)])
        whole &= unknown[self._n :] == unknown[: -self._n]
        at = np.flatnonzero(whole)
        windows = np.lib.stride_tricks.sliding_window_view(flat, self._n)[at]
        return windows, owner[at], at - begin[at]


def _specific(windows: np.ndarray, owners: np.ndarray, content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(windows):
        return windows, owners
    ordered = np.sort(windows, axis=1)
    fresh = np.ones(ordered.shape, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    keep = (fresh & content[ordered]).sum(axis=1) >= min(MIN_CONTENT, windows.shape[1])
    return windows[keep], owners[keep]


def _unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(rows):
        return rows, np.empty(0, np.int64)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    return unique, inverse.reshape(-1)


def _hash_rows(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row of numbers (multiply and xor-shift, one round per column)."""
    hashed = np.full(len(rows), 0x9E3779B97F4A7C15, np.uint64)
    for column in rows.T:
        hashed = (hashed ^ column.astype(np.uint64)) * np.uint64(0xFF51AFD7ED558CCD)
        hashed ^= hashed >> np.uint64(32)
    return hashed


def _per_pair(queries: np.ndarray, texts: np.ndarray, starts: np.ndarray) -> SharedNgrams:
    """Hits by pair. They come by query and first word, which a stable sort keeps within each pair."""
    width = int(texts.max(initial=0)) + 1
    keys = queries * width + texts
    order = np.argsort(keys, kind="stable")
    at = np.flatnonzero(np.diff(keys[order], prepend=-1))
    first = order[at]
    return SharedNgrams(queries[first], texts[first], starts[first], np.diff(np.append(at, len(keys))))


def joined(words: Iterable[str]) -> str:
    """Words as one line, by which equal questions are equal texts."""
    return " ".join(words)
