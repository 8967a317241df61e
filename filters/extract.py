"""Where the answer stands in a text: strictly in a trace, by what is declared in a sentence.

`extract_answer` is strict: tags or a box, else nothing. `final_answer` also reads what a model declared in
prose (`filters.prose`). Neither ever picks a nearest or a random candidate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from filters.prose import declared
from filters.units import unit_after

MAX_TRACE = 1_000_000  # characters; of a longer trace only the end is read

_OPEN, _CLOSE = "<answer>", "</answer>"
_BOX_TOKEN = re.compile(r"\\{1,2}boxed\s{0,3}\{|\\.|[{}]", re.DOTALL)
_TEMPLATE = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|<eos>|<end_of_turn>")
_OPENED = re.compile(r"<\|im_start\|>\s{0,3}assistant\b")
# Between boxes of one list: signs, or a few words that end in "and" ("papers and", "for part (a) and").
_SIGNS = re.compile(r"[\s,;.:$()\[\]\\+&]*")
_JOINED = re.compile(r"(?:[\w()'-]{1,20}\s{1,3}){0,4}(?:and|or|or also|和|et|und|y)")
_REOPENED = re.compile(
    r"\b(?:but|so|thus|then|no|not|wait|actually|hence|therefore|and\s+and)\b", re.IGNORECASE
)
_UNTEXT = re.compile(r"\\(?:text|mbox|textrm)\s?\{([^{}]{0,100})\}|\\q?quad|\\[,;:! ]|[$\\]")

Box = tuple[int, int, str]


def extract_answer(trace: str) -> str | None:
    """The answer a trace commits to.

    Returns: what stands between the last `<answer>` that is closed and the first `</answer>` behind it,
        over several lines if need be; without the tags, the inside of the last balanced `\\boxed{}`; None
        where there is neither or it is blank.
    """
    tagged = _last_tagged(trace)
    if tagged is not None:
        return tagged.strip() or None
    boxes = _boxes(trace[-MAX_TRACE:])
    return boxes[-1][2].strip() or None if boxes else None


def _last_tagged(text: str) -> str | None:
    close = text.rfind(_CLOSE)
    start = text.rfind(_OPEN, 0, close) if close >= 0 else -1
    if start < 0:
        return None
    start += len(_OPEN)
    return text[start : text.find(_CLOSE, start)]


def _boxes(text: str) -> list[Box]:
    """Outermost balanced boxes as (start, end, inside), in one pass over the text."""
    stack: list[tuple[int, int] | None] = []
    found: list[Box] = []
    for token in _BOX_TOKEN.finditer(text):
        symbol = token.group()
        if symbol[-1] == "{" and symbol != "\\{":
            stack.append((token.start(), token.end()) if len(symbol) > 1 else None)
        elif symbol == "}" and stack:
            opened = stack.pop()
            if opened is not None:
                while found and found[-1][0] > opened[0]:
                    found.pop()
                found.append((opened[0], token.end(), text[opened[1] : token.start()]))
    return found


def after_thoughts(text: str) -> str:
    """What follows the thoughts; "" where they never end, or begin again."""
    said = text.rpartition("</think>")[2]
    return "" if "<think>" in said else said


def strip_template(text: str) -> str:
    """A model's turn without its chat template: what follows an end token is another turn."""
    text = _OPENED.split(text)[-1]
    parts = [part for part in _TEMPLATE.split(text) if part.strip()]
    return parts[0] if parts else ""


def final_answer(text: str) -> str | None:
    """The answer a text declares: its tags, its last boxes, or what its last sentence says.

    Args:
        text: at most `MAX_ANSWER` characters for the reading of prose.
    Returns: None where prose declares nothing, denies it, or leaves several candidates.
    """
    text = text.rsplit("</think>", 1)[-1].strip()
    tagged = _last_tagged(text)
    if tagged is not None:
        return final_answer(tagged)
    boxes = _boxes(text)
    if boxes:
        answer = _join(boxes[_first_of_run(text, boxes) :])
        unit = unit_after(text[boxes[-1][1] :][:40])
        return f"{answer} {unit}" if unit and answer[-1:].isdigit() else answer
    return declared(_cut_box(text) or text)


def _join(boxes: Sequence[Box]) -> str:
    return ", ".join(inside.strip() for _, _, inside in boxes)


def _first_of_run(text: str, boxes: Sequence[Box]) -> int:
    """Index of the first box of the list that the last box belongs to."""
    first = len(boxes) - 1
    while first and _connects(text[boxes[first - 1][1] : boxes[first][0]]):
        first -= 1
    return first


def _connects(between: str) -> bool:
    if len(between) > 60:
        return False
    words = _UNTEXT.sub(lambda found: f" {found[1] or ''} ", between).strip(" ,;.")
    return bool(_SIGNS.fullmatch(words) or _JOINED.fullmatch(words)) and not _REOPENED.search(words)


def _cut_box(text: str) -> str | None:
    """The inside of a box that was cut out one brace too late: `7}. The answer is: 7`.

    Returns: None where no brace closes too early, or what follows says something else.
    """
    depth = 0
    for position, symbol in enumerate(text):
        depth += (symbol == "{") - (symbol == "}")
        if depth < 0:
            head, tail = text[:position].strip(), text[position + 1 :].rstrip(" .$")
            missing = max(0, tail.count("{") - tail.count("}"))
            return head if head and (tail + "}" * missing).endswith(head) else None
    return None
