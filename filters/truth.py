"""What a text answers to a question of yes or no: by first clause, declaration, or a clause of one word."""

from __future__ import annotations

import re

from filters.normalize import fold

_TRUE = {"yes", "true", "correct", "right", "是", "对", "正确", "oui", "sí", "ja", "да", "はい", "네"}
_FALSE = {
    "no",
    "false",
    "incorrect",
    "wrong",
    "否",
    "不是",
    "错",
    "错误",
    "non",
    "nein",
    "нет",
    "いいえ",
    "아니오",
}
_CLAUSE = re.compile(r"[,.;:!?\n]")
_MARKUP = " \t*_`\"'“”()[]{}$"
# Not "right" and its like: "the discs on the left, right, and below" answers nothing.
_ALONE = re.compile(r"(?:(?:so|thus|hence|then|therefore|and|well)\s)?(yes|no)", re.IGNORECASE)
# "The answer is no, ..." and "... is yes because", but not "is yes or no" and not "is no more than 5".
_DECLARED = re.compile(
    r"\banswer\b[*_]{0,3}\s{0,3}(?:is|:)[\W_]{0,8}(yes|no|true|false)\b"
    r"(?=[*_`\"'”)}$]{0,4}\s{0,3}(?:$|[,.;:!?\n]|\b(?:because|since|as|for)\b))",
    re.IGNORECASE,
)


def is_truth(text: str) -> bool:
    """True where a text says yes or no and nothing else."""
    return _truth(text) is not None


def read_truth(text: str) -> bool | None:
    """What a text says: "Yes, it is.", "The answer is no.", "They are equal, so no."

    The first clause decides where it says one of them. Else what is declared as the answer does, and what
    stands alone between marks.
    Returns: None where the text says neither, or both.
    """
    clauses = [clause.strip(_MARKUP) for clause in _CLAUSE.split(text)]
    first = _truth(clauses[0])
    if first is not None:
        return first
    found = [*_DECLARED.finditer(text), *filter(None, map(_ALONE.fullmatch, clauses))]
    said = {_truth(match[1]) for match in found}
    return said.pop() if len(said) == 1 else None


def _truth(text: str) -> bool | None:
    word = fold(text)
    return True if word in _TRUE else False if word in _FALSE else None
