"""Lists and mappings inside a text: JSON, Python literals, `key: [..]` in a sentence.

One pass over tokens with a stack of bounded depth, so that neither a huge text nor deep brackets can hurt.
What does not parse is left out: a description is prose, and brackets in it need not match.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_DEPTH = 32
MAX_TOKENS = 60_000
_TOKEN = re.compile(
    r"\"(?:[^\"\\\n]|\\.){0,20000}\"|(?<!\w)'(?:[^'\\\n]|\\.|(?<=\w)'(?=\w)){0,400}'(?!\w)"
    r"|[-+]?\d{1,15}(?:\.\d{1,15})?(?!\w)|[\[\](){},:\n;]|[^\s\[\](){},:;\"']{1,200}|[\"']"
)
_DASHED = re.compile(
    r"^[ \t]{0,20}(?P<key>[^\n:]{1,60}):[ \t]{0,4}\n(?P<list>(?:[ \t]{0,20}-[^\n]{0,200}(?:\n|\Z)){2,500})",
    re.M,
)
_DASH = re.compile(r"^[ \t]*-[ \t]*")
_CLOSING = {"]": "[", ")": "(", "}": "{"}


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of scalars with the words that name it.

    Attributes:
        key: the words before it, outermost first: the keys around it, or the sentence's last words.
        group: number of the mapping or line that it stands in; columns of one table share it.
    """

    key: str
    values: tuple[str, ...]
    group: int


@dataclass(slots=True)
class _Open:
    """A bracket that is still open: its kind, the words before it, and what it holds so far."""

    bracket: str
    key: str
    number: int
    values: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    after_comma: bool = True
    nested: bool = False


def find_listings(text: str) -> list[Listing]:
    """All lists of scalars in a text, in order; a list of lists gives its inner ones."""
    found: list[Listing] = []
    stack: list[_Open] = []
    words: list[str] = []
    opened = 0
    for count, match in enumerate(_TOKEN.finditer(text)):
        token = match[0]
        if count >= MAX_TOKENS:
            break
        if token in "[({" and len(stack) < MAX_DEPTH:
            opened += 1
            holder = stack[-1] if stack else None
            stack.append(_Open(token, " ".join((holder.words if holder else words)[-12:]), opened))
            if holder:
                holder.nested = True
        elif token in _CLOSING:
            _close(stack, token, found)
            words = words if stack else []
        elif stack:
            _put(stack[-1], token)
        elif token != ":":
            words = [] if token in "\n;" else [*words[-11:], unquote(token)]
    return found


def find_dashed(text: str) -> list[Listing]:
    """Lists with one value a line, each after a dash, under a line that ends in a colon."""
    return [
        Listing(
            match["key"].strip(),
            tuple(_DASH.sub("", line).strip() for line in match["list"].splitlines()),
            -1,
        )
        for match in _DASHED.finditer(text)
    ]


def find_texts(text: str) -> Iterator[str]:
    """The quoted strings of a text that hold line breaks once unescaped: tables inside JSON."""
    for match in _TOKEN.finditer(text):
        if match[0][0] in "\"'" and "\\n" in match[0]:
            yield unquote(match[0])


def unquote(token: str) -> str:
    """A token without its quotes, escapes resolved."""
    if len(token) < 2 or token[0] not in "\"'" or token[-1] != token[0]:
        return token
    inner = token[1:-1]
    if token[0] == "'":
        return inner.replace("\\n", "\n").replace("\\'", "'")
    try:
        return json.loads(token, strict=False)
    except ValueError:
        return inner.replace("\\n", "\n")


def _put(holder: _Open, token: str) -> None:
    """One token inside a bracket: a value, or a word of the key of what comes next."""
    if token == ",":
        holder.after_comma, holder.words = True, []
    elif token == "\n":
        return
    elif holder.bracket == "{" or token == ":":
        holder.words = [*holder.words[-11:], unquote(token)] if token != ":" else holder.words
    elif holder.after_comma:
        holder.values.append(unquote(token))
        holder.after_comma = False
    else:
        holder.values[-1] = f"{holder.values[-1]} {unquote(token)}"


def _close(stack: list[_Open], token: str, found: list[Listing]) -> None:
    """Ends the innermost bracket where it is of the right kind; drops the stack where it is not."""
    if not stack or stack[-1].bracket != _CLOSING[token]:
        stack.clear()
        return
    closed = stack.pop()
    if closed.bracket in "[(" and closed.values and not closed.nested:
        keys = [holder.key for holder in stack] + [closed.key]
        group = stack[-1].number if stack else 0
        found.append(Listing(" ".join(filter(None, keys)), tuple(closed.values), group))
