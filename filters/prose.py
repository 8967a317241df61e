"""What a sentence declares, in the languages models answer in: a number, a formula, nothing.

Reads the end of a sentence ("the answer is 12", "... = 12", "答案是12") or its only number. A denial, a
refusal or several candidates declare nothing: no nearest and no random candidate is ever picked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from filters.units import unit_after

# A dollar behind a backslash is a sign of money inside a formula, not its end.
_SEGMENT = re.compile(
    r"(?<!\\)\$\$((?:[^$\\]|\\.){1,2000})\$\$|(?<!\\)\$((?:[^$\\]|\\.){1,2000})\$"
    r"|\\\((.{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]",
    re.DOTALL,
)
_CONNECTOR = re.compile(r"(?:[\s,;.$()\[\]\\]|\band\b|\bor\b|\\quad|\\text\s?\{\s?(?:and|or)\s?\})*")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<![Rr]s\.)\s+|(?<=[。！？।])|\n+|(?<=[^\d]\.)(?=[A-Z])")
_WORD = re.compile("[^\\W\\d_](?:[^\\W\\d_]|[\u0900-\u0dff])+")
_CJK = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
_PRONOUN = re.compile(r"(?:It|She|He|They|There|This|That|We|You|I)\s[a-z]{2,20}\b")
_VERBS = (
    r"\b(?:is|are|was|were|be|equals?|becomes|gives|it's|est|sont|es|son|ist|sind|lautet|beträgt|è|é|são|sono"
    r"|adalah|là|равен|равна|равно|составляет|هو|هي)\b"
)
_DECLARATION = re.compile(
    rf"(?:{_VERBS}|=|≈|\\approx|(?<!\d)(?<!\d\s)[:：]|[:：](?!\s?\d)|答案|答え|[为是は은는]|等于|共有)\s{{0,3}}"
    r"(?:(?:exactly|therefore|thus|about|approximately|equal to|option|choice|answer|at|on|located at)"
    r"\s{1,3})?"
)
_HEADLINE = re.compile(
    r"(?:\b(?:final )?answer|\bsolution|\bresult|réponse|respuesta|resposta|risposta|antwort|antwoord"
    r"|lösung|ответ|odpowiedź|cevap|jawaban(?:nya)?|đáp án|उत्तर|الجواب|الإجابة|答案|结果|答え|答|정답|답)"
    r"(?:\s(?:to|of|for)\s[^.:=]{1,60}?)?\s{0,3}"
    r"(?:\b(?:is|est|es|ist|lautet|é|è|adalah|là|هو|هي)\b|:|：|=|[为是は은는](?!不))\s{0,3}(?:\bthat\b)?"
    r"(?P<rest>.{1,300})",
    re.IGNORECASE | re.DOTALL,
)
_ADVERB = re.compile(
    r"^(?:dus|donc|also|so|thus|hence|then|dann|alors|entonces|então|quindi)\s", re.IGNORECASE
)
_SUBORDINATE = re.compile(
    r"^(?:since|if|as|when|given|because|with|si|wenn|da|cuando|como|puisque|若|如果|由于)\b[^,，]{1,120}[,，]\s(?:then\s)?",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.\\])[-+]?[$€£]?\d[\d,]{0,30}(?:\.\d{1,30})?(?:\s?/\s?\d{1,10})?(?!\d)")
_NEGATION = re.compile(
    r"\b(?:not|never|no|neither|nor|isn't|aren't|cannot|can't|wasn't|except|wrong|incorrect|nicht|kein|keine|não|niet"
    r"|не|нет|không|bukan|değil|nie|ليس"
    r"|anything but)\b|\bn'|n't\b|\bpas\b|[不没非]|ではな|아니|아닙|아님|नहीं",
    re.IGNORECASE,
)
_DENIED_BEFORE = re.compile(r"(?:\b(?:not|no|non|não|не|ne|nie)|n't|[不没非])\s{0,2}$", re.IGNORECASE)
_DENIED_AFTER = re.compile(r"\s{0,2}(?:not|nicht|pas|niet)\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"cannot|can't|could not|couldn't|unable|impossible|insufficient"
    r"|not (?:enough|possible|provided|clear|given|available)|n't (?:have|provide|know|answer|enough)"
    r"|does not provide|no (?:correct |extracted )?answer|sorry"
    r"|(?:is|are) missing|missing (?:information|data|image)|undetermined"
    r"|mistake|unknown|not sure|n/a\b",
    re.I,
)
_CORRECTION = re.compile(
    r"\b(?:no|wait|actually|sorry|correction|instead|rather|oops|hmm|mistake|recheck|wrong)\b", re.IGNORECASE
)
# When or where something happens, which is not what was asked: "after 5 days", "dans 12 mois".
_CIRCUMSTANCE = re.compile(
    r"(?:\b(?:in|after|within|for|during|every|over|dans|pendant|après|en|durante|dentro de|nach"
    r"|innerhalb von)|d'ici)"
    r"\s{1,3}(?:the next |the first |\w{1,8} )?\d[\d.,]{0,12}\s?"
    r"(?:seconds?|minutes?|hours?|days?|weeks?|months?|years?|mois|ans?|jours?|semaines?|heures?|meses|mes|años?|días?|horas?"
    r"|semanas?|monate?n?|jahre?n?|tage?n?|stunden?|wochen?)\b|\bfor\s\d[\d.,]{0,12}\s[a-z]{2,20}(?=[.\s]{0,3}$)",
    re.IGNORECASE,
)
_LABELLED = re.compile(r"(?:[^\W\d_]{2,30}\s){0,3}[^\W\d_]{2,30}\s?[:：]\s{1,3}(\S.*)", re.DOTALL)
_CUT_WORD = re.compile(r"\s[^\W\d_]{1,20}(?:\.{2,}|…)$")
_DOUBTED = re.compile(r"(?:n't|not|never)\s(?:think|believe|say|claim|mean)|\bdoubt", re.IGNORECASE)
_LEAD_IN = re.compile(
    r"^(?:(?:so|thus|then|hence|therefore)(?:\s*[,:]\s*|\s+)|(?:所以|因此|故|即|解|答|从而|综上|最终)\s*[,，:：]?\s*)?"
    r"(?:总共|一共|共有|共|合計|총|итого|total)?\s*",
    re.IGNORECASE,
)
_UNTEXT = re.compile(r"\\(?:text|mbox|textrm|textbf|mathrm)\s?\{([^{}]{0,200})\}")
_REVERSED = re.compile(
    r"(?:(?:therefore|thus|so|hence|then),?\s)?(.{1,120}?)\s(?:is|are|must be)\s(?:the|my|our)\s"
    r"(?:final\s|correct\s|right\s)?(?:answer|solution|result)s?\W*",
    re.IGNORECASE | re.DOTALL,
)
_LABEL = re.compile(r"(?<![A-Za-z])[A-Za-z](?:_\w|\([a-z]\))?\s{0,3}$")
_REASON = re.compile(
    r"[,\s(]\s?(?:because|since|as|due to|parce que|car|porque|weil|denn)\s|,?\s?因为", re.IGNORECASE
)
_CONTRAST = re.compile(r"(?:,\s?|\s(?:and|but)\s)not\s[^,;]{1,60}$", re.IGNORECASE)
_BOUND = re.compile(
    r"\b(?:at (?:least|most)|(?:more|less|fewer|greater|larger|smaller|higher|lower|longer|shorter) than"
    r"|over|under|above|below"
    r"|up to|exceeds?|nearly|almost|between)\s[$€£]?\s?\d",
    re.IGNORECASE,
)
_MEASURES = (
    re.compile(r"\b\d{1,2}:\d\d(?::\d\d)?(?:\s?[ap]\.?m\b\.?)?", re.IGNORECASE),
    re.compile(
        r"\b\d{1,6}(?:\.\d{1,6})?\s?[^\W\d_]{1,8}(?:,?\s(?:and\s)?\d{1,6}(?:\.\d{1,6})?\s?[^\W\d_]{1,8}){1,3}\b"
    ),
)
_EQUATIONS = re.compile(
    r"\s?[A-Za-z][\w{}]{0,5}\s?=[^=,;]{1,40}(?:(?:,|;|\band\b|\bor\b)\s?[A-Za-z][\w{}]{0,5}\s?=[^=,;]{1,40}){1,6}"
)
_POLITE = re.compile(r"\s?(?:です|である|だ|입니다|이다|है)$")


def is_prose(text: str) -> bool:
    """True for a sentence rather than an answer: several words outside any formula, or "It costs ..."."""
    if _PRONOUN.match(text):
        return True
    plain = re.sub(r"\\[A-Za-z]+(?:\{[^{}]{0,200}\})?", " ", _SEGMENT.sub(" ", text))
    return len(_WORD.findall(plain)) >= 3 or len(_CJK.findall(plain)) >= 4


def is_refusal(text: str) -> bool:
    """True where a text says that it does not answer."""
    return bool(_REFUSAL.search(text))


def is_negated(text: str) -> bool:
    """True where a text denies something ("not 12")."""
    return bool(_NEGATION.search(text))


def last_sentence(text: str) -> str:
    """The last sentence or line that holds a word or a digit."""
    parts = _sentences(text)
    return parts[-1] if parts else ""


def declared(text: str) -> str | None:
    """The answer that a text without tags and boxes declares.

    Args:
        text: at most `MAX_ANSWER` characters.
    Returns: the text itself where it is no sentence; None where a sentence declares nothing, denies it, or
        leaves several candidates.
    """
    unwrapped = _UNTEXT.sub(r" \1 ", text)
    if unwrapped != text and _HEADLINE.search(unwrapped):
        text = unwrapped
    reversed_headline = _REVERSED.fullmatch(last_sentence(text))
    if reversed_headline and not is_prose(reversed_headline[1]):
        return None if is_negated(reversed_headline[1]) else _unlabelled(reversed_headline[1])
    headline = _headline(text)
    if headline is not None:
        return _concluded(headline)
    if not is_prose(text):
        return last_segments(text) or _unlabelled(text)
    sentence = last_sentence(text)
    return None if is_refusal(sentence) else _concluded(_main_clause(sentence), needs_verb=True)


def _main_clause(sentence: str) -> str:
    """A sentence without the "since a = 3," or "if x = 2," that it begins with."""
    return _SUBORDINATE.sub("", sentence, count=1) or sentence


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_END.split(text) if part and re.search(r"\w", part)]


def _unlabelled(text: str) -> str:
    """`12 cm` for `Area: 12 cm`; a word that was cut off at the end is dropped."""
    reason = _REASON.search(text)
    if reason and reason.start():
        text = text[: reason.start()]
    text = _main_clause(text)
    labelled = _LABELLED.fullmatch(_CUT_WORD.sub("", text))
    return labelled[1] if labelled else _POLITE.sub("", _LEAD_IN.sub("", text))


def _headline(text: str) -> str | None:
    """What follows the last "answer is", up to the end of its sentence; None where it is taken back."""
    rest = None
    for match in _HEADLINE.finditer(text):
        rest = match["rest"]
    if rest is None:
        return None
    parts = [part for part in _SENTENCE_END.split(rest) if part and part.strip(" .*")]
    if not parts or is_refusal(parts[0]) or any(map(_CORRECTION.search, parts[1:])):
        return None
    return parts[0].strip()


def _concluded(clause: str, *, needs_verb: bool = False) -> str | None:
    """What a clause ends on: the words after its last verb, a formula, a bold part, or its only number.

    Args:
        needs_verb: a clause without a verb is not itself the answer.
    """
    clause = _without_asides(_POLITE.sub("", clause.strip(" .。*।")))
    start, end = _last_verb(clause)
    tail = _ADVERB.sub("", clause[end:].strip(" .。*"))
    denied = _DENIED_AFTER.match(tail) or (end and _DENIED_BEFORE.search(clause[:start]))
    if denied or _DOUBTED.search(clause):
        return None
    if tail and (end or not needs_verb) and not is_prose(tail) and not is_negated(tail):
        return last_segments(tail) or tail
    segment = last_segments(clause)
    if segment is not None:
        return None if is_negated(clause) and not end else segment
    for bold in reversed(_BOLD.findall(clause)):
        if _NUMBER.search(bold):
            return bold
    return _only_number(tail, clause)


def _without_asides(clause: str) -> str:
    """A clause without the reason it gives and without what it says is not the answer."""
    reason = _REASON.search(clause)
    if reason and _NUMBER.search(clause[: reason.start()]):
        clause = clause[: reason.start()]
    return _CONTRAST.sub("", clause)


def _only_number(tail: str, clause: str) -> str | None:
    """The one number of the words after the verb, else of the clause; a circumstance does not count."""
    if is_negated(clause) or _BOUND.search(clause):
        return None
    for text in (tail, clause):
        for measure in _MEASURES:
            found = measure.findall(text)
            if len(found) == 1 and not _NUMBER.search(measure.sub(" ", _CIRCUMSTANCE.sub(" ", text))):
                return found[0]
        numbers = _measures(_CIRCUMSTANCE.sub(" ", text)) or _measures(text)
        if numbers:
            return numbers[0] if len(numbers) == 1 else None
    return None


def _measures(text: str) -> list[str]:
    """The different numbers of a text, each with its unit."""
    found = (f"{number.group()} {unit_after(text[number.end() :][:40])}" for number in _NUMBER.finditer(text))
    return list(dict.fromkeys(measure.strip() for measure in found))


def _last_verb(clause: str) -> tuple[int, int]:
    """Where the last "is", "=" or ":" outside a formula begins and ends; (0, 0) where there is none."""
    formulas = [match.span() for match in _SEGMENT.finditer(clause)]
    found = (0, 0)
    for match in _DECLARATION.finditer(clause):
        if not any(start <= match.start() < stop for start, stop in formulas):
            if match.group()[0] == "=" and found[1] and _EQUATIONS.fullmatch(clause[found[1] :]):
                continue
            label = _LABEL.search(clause, max(0, match.start() - 12), match.start())
            keeps_label = label and match.group()[0] == "="
            found = (label.start(), label.start()) if label and keeps_label else match.span()
    return found


def last_segments(text: str) -> str | None:
    """The last formula between delimiters; with those before it where only "," or "and" stands between."""
    matches = list(_SEGMENT.finditer(text))
    if not matches:
        return None
    first = len(matches) - 1
    unit = unit_after(text[matches[-1].end() :][:40])
    while first and _CONNECTOR.fullmatch(text[matches[first - 1].end() : matches[first].start()]):
        first -= 1
    joined = ", ".join(_inside(match.groups()) for match in matches[first:])
    return f"{joined} {unit}" if unit and joined[-1:].isdigit() else joined


def _inside(groups: Sequence[str | None]) -> str:
    return next(filter(None, groups)).strip().lstrip("= ")
