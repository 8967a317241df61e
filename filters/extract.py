"""Where the answer stands in a text: strictly in a trace, by what is declared in a sentence.

`extract_answer` is strict: tags or a box, else nothing. `final_answer` reads what a model declared in
prose ("the answer is 12", "... = 12", the only number of the last sentence); a negation, a refusal or
several candidates give nothing. Neither ever picks a nearest or a random candidate.
"""

from __future__ import annotations

import re

MAX_TRACE = 1_000_000  # characters; of a longer trace only the end is read

_OPEN, _CLOSE = "<answer>", "</answer>"
_BOX_TOKEN = re.compile(r"\\{1,2}boxed\s{0,3}\{|\\.|[{}]", re.DOTALL)
_CONNECTOR = re.compile(r"(?:[\s,;.$()\[\]\\]|\band\b|\bor\b|\\quad|\\text\s?\{\s?(?:and|or)\s?\})*")
_SEGMENT = re.compile(
    r"\$\$([^$]{1,2000})\$\$|\$([^$\n]{1,2000})\$|\\\((.{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]", re.DOTALL
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？।])|\n+|(?<=[^\d]\.)(?=[A-Z])")
_WORD = re.compile("[^\\W\\d_](?:[^\\W\\d_]|[\u0900-\u0dff])+")
_CJK = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
_DECLARATION = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|est|sont|es|son|ist|sind|it's|becomes|gives)\b|=|≈|\\approx|:|：|答案|为|是|等于)\s{0,3}"
    r"(?:(?:exactly|therefore|thus|about|approximately|equal to|option|choice|answer)\s{1,3})?"
)
_HEADLINE = re.compile(
    r"(?:\b(?:final )?answer|\bsolution|\bresult|réponse|respuesta|antwort|答案|结果)"
    r"(?:\s(?:to|of|for)\s[^.:=]{1,60}?)?\s{0,3}(?:\bis\b|\best\b|\bes\b|\bist\b|:|：|=|为|是)\s{0,3}(?:\bthat\b)?(?P<rest>.{1,300})",
    re.IGNORECASE | re.DOTALL,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.\\])[-+]?[$€£]?\d[\d,]{0,30}(?:\.\d{1,30})?(?:\s?/\s?\d{1,10})?(?!\d)")
_NEGATION = re.compile(
    r"\b(?:not|never|no|neither|nor|isn't|aren't|cannot|can't|wasn't|except|wrong|incorrect)\b|n't\b|不", re.I
)
_REFUSAL = re.compile(
    r"cannot|can't|could not|couldn't|unable|impossible|insufficient"
    r"|not (?:enough|possible|provided|clear|given|available)|n't (?:have|provide|know|answer|enough)"
    r"|does not provide|no (?:correct |extracted )?answer|sorry|missing|undetermined"
    r"|mistake|unknown|not sure|n/a\b",
    re.I,
)


def extract_answer(trace: str) -> str | None:
    """The answer a trace commits to.

    Returns: what stands in the last `<answer>...</answer>`, over several lines if need be; without the
        tags, the inside of the last balanced `\\boxed{}`; None where there is neither or it is blank.
    """
    tagged = _last_tagged(trace)
    if tagged is not None:
        return tagged.strip() or None
    boxes = _boxes(trace[-MAX_TRACE:])
    return boxes[-1][2].strip() or None if boxes else None


def _last_tagged(text: str) -> str | None:
    close = text.rfind(_CLOSE)
    start = text.rfind(_OPEN, 0, close) if close >= 0 else -1
    return text[start + len(_OPEN) : close] if start >= 0 else None


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Outermost balanced boxes as (start, end, inside), in one pass over the text."""
    stack: list[tuple[int, int] | None] = []
    found: list[tuple[int, int, str]] = []
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
    boxed = _last_boxes(text)
    if boxed is not None:
        return boxed
    headline = _headline(text)
    if headline is not None:
        return _concluded(headline)
    if not is_prose(text):
        return _last_segments(text) or text
    sentence = last_sentence(text)
    return None if is_refusal(sentence) else _concluded(sentence)


def _last_boxes(text: str) -> str | None:
    """The last run of boxes with nothing but connecting words between them, joined as a list."""
    boxes = _boxes(text)
    if not boxes:
        return None
    run = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = text[box[1] : run[0][0]]
        if len(between) > 40 or not _CONNECTOR.fullmatch(between):
            break
        run.insert(0, box)
    return ", ".join(inside.strip() for _, _, inside in run)


def is_prose(text: str) -> bool:
    """True for a sentence rather than an answer: several words outside any formula."""
    plain = re.sub(r"\\[A-Za-z]+(?:\{[^{}]{0,200}\})?", " ", _SEGMENT.sub(" ", text))
    return len(_WORD.findall(plain)) >= 3 or len(_CJK.findall(plain)) >= 4


def is_refusal(text: str) -> bool:
    """True where a text says that it does not answer."""
    return bool(_REFUSAL.search(text))


def is_negated(text: str) -> bool:
    """True where a text denies something ("not 12")."""
    return bool(_NEGATION.search(text))


def _headline(text: str) -> str | None:
    """What follows the last "answer is", up to the end of its sentence; None where it is a refusal."""
    rest = None
    for match in _HEADLINE.finditer(text):
        rest = match["rest"]
    if rest is None:
        return None
    parts = [part for part in _SENTENCE_END.split(rest) if part and part.strip(" .*")]
    return parts[0].strip() if parts and not is_refusal(parts[0]) else None


def _concluded(clause: str) -> str | None:
    """What a clause ends on: the words after its last verb, a formula, a bold part, or its only number."""
    tail = clause[_last_verb(clause) :].strip(" .。*")
    if tail and not is_prose(tail) and not is_negated(tail):
        return _last_segments(tail) or tail
    segment = _last_segments(clause)
    if segment is not None:
        return segment
    for bold in reversed(_BOLD.findall(clause)):
        if _NUMBER.search(bold):
            return bold
    numbers = _NUMBER.findall(clause)
    return numbers[0] if len(numbers) == 1 and not is_negated(clause) else None


def _last_verb(clause: str) -> int:
    """Where the last "is", "=" or ":" outside a formula ends, 0 where there is none."""
    formulas = [match.span() for match in _SEGMENT.finditer(clause)]
    end = 0
    for match in _DECLARATION.finditer(clause):
        if not any(start <= match.start() < stop for start, stop in formulas):
            end = match.end()
    return end


def last_sentence(text: str) -> str:
    """The last sentence or line that holds a word or a digit."""
    parts = [part for part in _SENTENCE_END.split(text) if part and re.search(r"\w", part)]
    return parts[-1].strip() if parts else ""


def _last_segments(text: str) -> str | None:
    """The last formula between delimiters; with those before it where only "," or "and" stands between."""
    matches = list(_SEGMENT.finditer(text))
    if not matches:
        return None
    first = len(matches) - 1
    while first and _CONNECTOR.fullmatch(text[matches[first - 1].end() : matches[first].start()]):
        first -= 1
    return ", ".join(next(filter(None, match.groups())).strip().lstrip("= ") for match in matches[first:])
