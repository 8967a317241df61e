"""Which option of a multiple-choice question an answer names: by letter, by text, by value."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapidfuzz import fuzz

from filters.compare import compare_plain
from filters.normalize import canonicalise, fold, tighten
from filters.prose import is_negated, is_prose, is_refusal, last_sentence
from filters.quantities import NUMBER_WORDS

MIN_SIMILARITY = 90.0  # one wrong letter in a word of ten, one missing in a word of five
_MAX_OPTION = 300  # characters of an option that are compared letter by letter
_WHOLE = re.compile(
    r"(?:(?:the )?(?:correct )?(?:option|choice|answer)\s{0,3}(?:is|:)?\s{0,3}|选[项择]?)?"
    r"[(\[{]?([A-Za-z])[)\]}]?[.:)]?",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:(?:option|choice|answer)\s{0,3}:?\s{0,3}|选[项择]?)?"
    r"(?:[(\[]([A-Za-z])[)\]]\s{0,3}[.:]?|([A-Za-z])(?:\s?[.):]\s|:(?=\S)))"
    r"(?!\s{0,3}(?:(?:or|and|not)\b|[,/&]|[(\[]?(?-i:[A-Z])(?![A-Za-z])))\s{0,3}(.+)",
    re.IGNORECASE | re.DOTALL,
)
_NUMBERED = re.compile(
    r"(?:(?:the )?(?:answer is )?)?(?:option|choice)\s?(?:number |no\.? |#\s?)?\(?(\d{1,2})\)?", re.IGNORECASE
)
_NEXT_LEAD = re.compile(r"(?:^|\s)[(\[]?[A-H][.):\]]\s")
_DECLARED = re.compile(
    r"(?:answer|option|choice|réponse|respuesta(?: correcta)?|antwort|ответ|答案|答え|정답|답"
    r"|(?<![不没非])选[项择]?)\s{0,3}(?:is|est|es|ist|:|为|是|选|[은는は])?\s{0,3}"
    r"(?:la |el |the |der |die )?(?:letter |lettre |letra |buchstabe )?"
    r"(?:for sure |clearly |therefore |option |choice )?"
    r"[(\[]?([A-Z])[)\]]?(?![A-Za-z0-9'])(?!\s(?:or|and)\s|\s?[,/&或和与、]\s?[A-Z](?![A-Za-z]))"
)
_MENTION = re.compile(r"(?<![A-Za-z0-9'\\])[(\[]?([A-HJ-Z])[)\]]?(?![A-Za-z0-9'])")
# A letter after another word names an object ("triangle B"), unless that word commits to an option.
_BEFORE = re.compile(r"([A-Za-z]{1,30})[\s:]{1,3}$")
_COMMITTING = frozenset(
    (
        *(
            "is",
            "be",
            "are",
            "was",
            "to",
            "as",
            "with",
            "and",
            "or",
            "thus",
            "so",
            "therefore",
            "hence",
            "then",
        ),
        *("choose", "chose", "chosen", "pick", "picked", "select", "selected"),
        *("option", "options", "choice", "choices", "answer", "letter", "either", "both", "neither", "s"),
    )
)
# "dark blue" is not the option "blue".
_MODIFIERS = frozenset(
    (
        "dark",
        "light",
        "pale",
        "deep",
        "bright",
        "very",
        "almost",
        "nearly",
        "half",
        "semi",
        "non",
        "more",
        "less",
    )
)
_ATTACHED = re.compile(r"(?<=[\d)}])(?=[a-z]$)")
_ARTICLE = re.compile(r"\s(?!is\b|or\b|and\b|because\b|was\b)[a-z]")
_AFFIRMED = re.compile(
    r"(?<![A-Za-z0-9'\\])[(\[]?([A-HJ-Z])[)\]]?\s(?:is|must be)\s(?:the\s)?(?:only\s)?"
    r"(?:valid|correct|right|true|best|answer)\b"
)
_REJECTED = re.compile(
    r"\s(?:is|are|was|can|must|cannot|does)(?:\s(?:not|be|clearly|obviously)|n't)?\s?(?:wrong|incorrect|false|invalid|impossible"
    r"|ruled|eliminated|excluded|not)\b|\scannot\b|\s(?:is|does|can)n't\b|\s?=",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:\bnot\b|n't\b|\bcannot\b|\bneither\b|\bnor\b|\bexcept\b|不)[^.,;。]{0,20}$", re.IGNORECASE
)


def letter_of(text: str) -> str | None:
    """The option letter that a text commits to, upper case, without knowing the options.

    A bare letter, a declaration ("the answer is (B) 12"), a leading "B. ..." or the only letter that a
    sentence names and does not deny. None where there is none, or several.
    """
    text = canonicalise(text)
    whole = bare_letter(text)
    if whole is not None:
        return whole
    lead = _lead(text)
    if lead and (lead[1] or "").isupper() | (lead[2] or "").isupper():
        return (lead[1] or lead[2]).upper()
    declared = {match[1] for match in _DECLARED.finditer(text)} or {
        match[1] for match in _AFFIRMED.finditer(text) if not _DENIED.search(text, 0, match.start())
    }
    if len(declared) == 1:
        return declared.pop()
    mentioned = {match[1] for match in _MENTION.finditer(text) if _asserted(text, match)}
    return mentioned.pop() if len(mentioned) == 1 and not declared else None


def _lead(text: str) -> re.Match[str] | None:
    """A leading "B. ..."; None where further letters follow in the same way: a copied list of options."""
    lead = _LEAD.match(text)
    return None if lead and _NEXT_LEAD.search(lead[3]) else lead


def bare_letter(text: str) -> str | None:
    """The upper-case letter of canonical text that is nothing but a letter: "B", "(b)", "Option B"."""
    whole = _WHOLE.fullmatch(text.strip())
    return whole[1].upper() if whole else None


def _asserted(text: str, mention: re.Match[str]) -> bool:
    before = _BEFORE.search(text, max(0, mention.start() - 33), mention.start())
    named = before and not (len(before[1]) == 1 and before[1].isupper())
    if before and named and mention.group().isalpha() and before[1].lower() not in _COMMITTING:
        return False
    article = mention.group() == "A" and _ARTICLE.match(text, mention.end())
    if article or _REJECTED.match(text, mention.end()):
        return False
    return not _DENIED.search(text, max(0, mention.start() - 40), mention.start())


def gold_options(gold: str, choices: Sequence[str]) -> frozenset[int] | None:
    """Positions of the gold answer among the options: its text first, then its letter, then its value.

    Text comes first because options may themselves be letters ("A" may be the second option's text).
    Returns: several positions where options repeat, None where the gold answer is not among them.
    """
    by_text = _text_positions(gold, choices)
    if by_text:
        return frozenset(by_text)
    plain = canonicalise(gold)
    letter = bare_letter(plain)
    at = _at(letter, choices) if letter else None
    if at:
        return at
    lead = _lead(plain)
    return _by_value(gold, choices) or (_at(lead[1] or lead[2], choices) if lead else None)


def named_options(prediction: str, choices: Sequence[str]) -> frozenset[int] | None:
    """Positions of the options that a prediction names.

    Returns: None where no rule can tell; several positions where options repeat; none at all for a letter
        beyond the options. A letter whose text contradicts it ("(D) 12" where 12 is option C) is None.
    """
    plain = canonicalise(prediction)
    by_text = _text_positions(prediction, choices)
    if by_text:
        return frozenset(by_text)
    letter = bare_letter(plain)
    if letter is not None:
        return _at(letter, choices) or frozenset()
    lead = _lead(plain)
    if lead and ord((lead[1] or lead[2]).upper()) - ord("A") < len(choices):
        return _reconcile(_at(lead[1] or lead[2], choices), lead[3], choices)
    if is_refusal(plain):
        return None
    found = _by_value(prediction, choices) or _by_spelling(prediction, choices)
    if found:
        return found
    return _mentioned(plain, choices) if is_prose(plain) or is_negated(plain) else None


def is_ambiguous(prediction: str, right: frozenset[int], choices: Sequence[str]) -> bool:
    """True where a prediction names two options, or may.

    "(D) 12" where 12 is option C; "option 2" where nobody can tell whether the options are counted or
    quoted, and the gold answer is one of the two.
    """
    plain = canonicalise(prediction)
    numbered = _NUMBERED.fullmatch(plain)
    if numbered:
        quoted = _by_value(numbered[1], choices) or frozenset()
        return bool(right & (quoted | {int(numbered[1]) - 1, int(numbered[1])}))
    lead = _lead(plain)
    letter = _at(lead[1] or lead[2], choices) if lead else None
    return lead is not None and letter is not None and _reconcile(letter, lead[3], choices) is None


def _at(letter: str, choices: Sequence[str]) -> frozenset[int] | None:
    position = ord(letter.upper()) - ord("A")
    return frozenset({position}) if position < len(choices) else None


def _reconcile(letter: frozenset[int] | None, rest: str, choices: Sequence[str]) -> frozenset[int] | None:
    text = frozenset(_text_positions(rest, choices)) or _by_value(rest, choices)
    if letter is None or not text:
        return letter
    return letter if letter <= text else None


def _text_positions(text: str, choices: Sequence[str]) -> list[int]:
    wanted = fold(canonicalise(text))
    tight = tighten(wanted)
    folded = [fold(canonicalise(choice)) for choice in choices]
    exact = [i for i, choice in enumerate(folded) if choice == wanted and wanted]
    if len(exact) > 1:  # 2 mW and 2 MW
        exact = [i for i in exact if choices[i] == text] or exact
    return exact or [i for i, choice in enumerate(folded) if tighten(choice) == tight and tight]


def _by_spelling(text: str, choices: Sequence[str]) -> frozenset[int] | None:
    """The one option whose words are those of the text but for misspelt letters; None if two are close.

    Every word must start alike and be similar by at least `MIN_SIMILARITY` (rapidfuzz's ratio, in percent);
    words of four letters or less, number words and anything with a digit or a sign must be the same. Runs in
    this process: both sides are capped in length, and the ratio takes a time proportional to their product.
    """
    if len(text) > _MAX_OPTION:
        return None
    wanted = fold(canonicalise(text))
    close = [
        i for i, choice in enumerate(choices) if _alike(wanted, fold(canonicalise(choice[:_MAX_OPTION])))
    ]
    return frozenset(close) if len(close) == 1 else None


def _alike(text: str, choice: str) -> bool:
    mine, ours = text.split(), choice.split()
    return 0 < len(mine) == len(ours) and all(map(_alike_word, mine, ours))


def _alike_word(mine: str, ours: str) -> bool:
    if mine == ours:
        return True
    if mine[0] != ours[0] or min(len(mine), len(ours)) < 5 or not (mine.isalpha() and ours.isalpha()):
        return False
    return not {mine, ours} & NUMBER_WORDS.keys() and fuzz.ratio(mine, ours) >= MIN_SIMILARITY


def _by_value(text: str, choices: Sequence[str]) -> frozenset[int] | None:
    """Options of one and the same value as the text; None where there is none, or they differ."""
    found = [i for i, choice in enumerate(choices) if _same(text, choice)]
    if not all(_same(choices[found[0]], choices[i]) for i in found[1:]):
        return None
    return frozenset(found) or None


def _same(text: str, choice: str) -> bool:
    """Equal by rule; among options a letter set against a number (`34m`) is a unit."""
    left, right = (_ATTACHED.sub(" ", canonicalise(side)) for side in (text, choice))
    return compare_plain(left, right) == "equal"


def _mentioned(text: str, choices: Sequence[str]) -> frozenset[int] | None:
    """The one option that a sentence names: by a declared letter, else by its words."""
    letter = letter_of(text)
    if letter is not None and ord(letter) - ord("A") < len(choices):
        return _at(letter, choices)
    sentence = fold(last_sentence(text))
    if is_negated(sentence):
        return None
    folded = {i: fold(canonicalise(choice)) for i, choice in enumerate(choices)}
    present = {i: words for i, words in folded.items() if _is_word(words) and _contains(sentence, words)}
    longest = {i for i, a in present.items() if not any(a != b and a in b for b in present.values())}
    texts = {present[i] for i in longest}
    if len(texts) != 1 or len(next(iter(texts))) < 3:
        return None
    before = sentence[: sentence.find(next(iter(texts)))].rsplit(maxsplit=1)
    return None if before and before[-1] in _MODIFIERS else frozenset(longest)


def _is_word(words: str) -> bool:
    return len(words) > 1 or words.isdigit()


def _contains(sentence: str, words: str) -> bool:
    start = sentence.find(words)
    end = start + len(words)
    return start >= 0 and not sentence[start - 1 : start].isalnum() and not sentence[end : end + 1].isalnum()
