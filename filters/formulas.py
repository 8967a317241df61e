"""What a canonical answer is as a formula: readable by computer algebra, or a value with a name."""

from __future__ import annotations

import re

from filters.prose import is_negated, is_prose
from filters.quantities import parse_quantity

_LABEL = re.compile(r"[A-Za-z\\ (),:'°△]*(?:_(?:\{[^{}]{0,20}\}|\w)[A-Za-z\\ (),:'°△]*){0,3}")
_DANGLING = re.compile(r"[-+*/^=<>]\s*$|^\s*[*/^=]")
_MATHEMATICS = re.compile(r"[\d\\=<>+*/^()\[\]|]|^-?\w$")


def is_algebraic(text: str) -> bool:
    """True where computer algebra can read a canonical answer as it stands.

    A sentence or a denial is none, nor is a fragment with unmatched braces or an operator at its edge, or
    anything with a colon: it would read a part.
    """
    if ":" in text or not _braces_match(text) or _DANGLING.search(text):
        return False
    return bool(_MATHEMATICS.search(text)) and not is_prose(text) and not is_negated(text)


def _braces_match(text: str) -> bool:
    depth = 0
    for symbol in text:
        depth += (symbol == "{") - (symbol == "}")
        if depth < 0:
            return False
    return depth == 0


def split_label(text: str) -> tuple[str, str]:
    """(`x`, `3`) for `x=3` and `3=x`; ("", text) where neither side is a mere name (`2x=3`, `7=2a`)."""
    left, sign, right = text.partition("=")
    if not sign or "=" in right or not right.strip() or not left.strip() or left.rstrip()[-1] in "<>!\\":
        return "", text
    left, right = left.strip(), right.strip()
    if _is_name(left):
        return left, right
    return (right, left) if _is_name(right) and parse_quantity(left) is not None else ("", text)


def _is_name(text: str) -> bool:
    return bool(_LABEL.fullmatch(text)) and not re.search(r"\\(?!angle|triangle|overline)", text)
