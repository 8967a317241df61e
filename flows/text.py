"""Teachers' texts on a terminal: shown as they are, never obeyed."""

from __future__ import annotations

import re

from rich.text import Text

STATUS_STYLES = {"accepted": "green", "rejected": "yellow", "failed": "red"}

# Control characters but for tab and newline, C1 controls, and the marks that turn the reading direction.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str, limit: int | None = None) -> Text:
    """`text` without control characters and without markup, cut to `limit` characters where one is given."""
    clean = sanitize(text)
    if limit is not None and len(clean) > limit:
        clean = clean[: limit - 1] + "…"
    return Text(clean)


def sanitize(text: str) -> str:
    """Control characters become a visible replacement character."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """A name that any terminal, page, figure and JSON file can hold."""
    return " ".join(sanitize(text).encode("utf-8", "replace").decode().split())
