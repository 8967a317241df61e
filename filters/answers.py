"""The only answer checker: for filters, rewards and evaluation.

`check` decides by rule where a rule decides (same text, options, numbers with units, times, lists, regions,
words), asks computer algebra for formulas (`filters.algebra`), and says "undecided" otherwise. It never
guesses: no nearest option, no number picked from several. A bare comma is never a decimal point
(`filters.compare`). `check_async` and `is_correct_async` are the same for an event loop. Importing this
module loads neither sympy nor Math-Verify.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from filters.algebra import compare_algebraically, compare_algebraically_async
from filters.choices import bare_letter, gold_options, is_ambiguous, letter_of, named_options
from filters.compare import compare_plain, compare_truth, is_same_text, results
from filters.extract import extract_answer, final_answer, strip_template
from filters.formulas import is_algebraic
from filters.normalize import MAX_ANSWER, canonicalise
from filters.prose import is_negated
from filters.quantities import Equality
from filters.reasons import Reason, Verdict, dropped, kept
from filters.truth import is_truth
from schemas.config import FilterSettings
from schemas.records import Draft

__all__ = [
    "Equality",
    "check",
    "check_answer",
    "check_async",
    "extract_answer",
    "is_correct",
    "is_correct_async",
]

NAME = "answer"
MAX_FORMULA = 1_000  # characters that computer algebra is asked to read
_MAX_CHOICES = 64
_SHORT = 60  # characters of a prediction that may be an answer as a whole ("all real numbers")
# Values nobody can write down: towers of powers, factorials of factorials or of thousands, huge exponents.
_EXPLOSIVE = re.compile(
    r"[\dA-Za-z)}]\s?(?:\^|\*\*)[\s{(]*\d+\s?(?:\^|\*\*)[\s{(]*\d+\s?(?:\^|\*\*)"
    r"|!\s?[)}]+\s?!|\d{4}\s?!|(?:\^|\*\*)[\s{(-]*\d{6}|\d{400}"
)


@dataclass(frozen=True, slots=True)
class Formulas:
    """The pair that no rule decides and computer algebra is to compare."""

    prediction: str
    gold: str


def check(
    prediction: str, gold: str, choices: Sequence[str] | None = None, precision: int | None = None
) -> Equality:
    """Whether a prediction equals the gold answer.

    Args:
        prediction: an answer, or prose that declares one; more than `MAX_ANSWER` characters are undecided
            unless they are the gold answer itself, or tags or a box hold a shorter answer.
        gold: the right answer; for a multiple-choice question its text or its letter.
        choices: the options in order, None or empty for an open question.
        precision: decimals at which numbers are compared; None: as many as the gold is written with.
    Returns: "undecided" where no rule and no computer algebra can tell, or a limit is reached.
    Raises: filters.algebra.WorkerError: the algebra worker cannot start.
    """
    decided = _decide(prediction, gold, choices, precision)
    if isinstance(decided, Formulas):
        return compare_algebraically(decided.prediction, decided.gold)
    return decided


async def check_async(
    prediction: str, gold: str, choices: Sequence[str] | None = None, precision: int | None = None
) -> Equality:
    """`check` for an event loop: only the rules run in it, and of long texts not even they.

    May be cancelled at any moment; the workers stay usable (`filters.algebra`).
    """
    if max(len(prediction), len(gold)) > MAX_ANSWER:
        decided = await asyncio.to_thread(_decide, prediction, gold, choices, precision)
    else:
        decided = _decide(prediction, gold, choices, precision)
    if isinstance(decided, Formulas):
        return await compare_algebraically_async(decided.prediction, decided.gold)
    return decided


def is_correct(
    prediction: str, gold: str, choices: Sequence[str] | None = None, precision: int | None = None
) -> bool:
    """True where `check` says "equal"; undecided is not correct."""
    return check(prediction, gold, choices, precision) == "equal"


async def is_correct_async(
    prediction: str, gold: str, choices: Sequence[str] | None = None, precision: int | None = None
) -> bool:
    """`is_correct` for an event loop."""
    return await check_async(prediction, gold, choices, precision) == "equal"


def check_answer(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a draft whose trace ends in the gold answer.

    Score: 1 equal, 0.5 undecided, 0 different or absent. Rejection sampling on the answer: AVAR,
    arXiv 2603.03825.
    """
    del settings
    answer = extract_answer(draft.trace)
    if answer is None:
        return dropped(NAME, Reason.NO_ANSWER, 0.0, "the trace holds no <answer> and no box")
    problem = draft.problem
    verdict = check(answer, problem.answer, problem.choices or None)
    if verdict == "equal":
        return kept(NAME, 1.0)
    detail = f"said {answer[:120]!r}, gold {problem.answer[:120]!r}"
    if verdict == "undecided":
        return dropped(NAME, Reason.ANSWER_UNDECIDED, 0.5, detail)
    return dropped(NAME, Reason.ANSWER_WRONG, 0.0, detail)


def _decide(
    prediction: str, gold: str, choices: Sequence[str] | None, precision: int | None
) -> Equality | Formulas:
    """The verdict of the rules, or the formulas that they leave to computer algebra."""
    if prediction == gold and gold.strip():
        return "equal"
    said = _said(prediction)
    if said is None or len(gold) > MAX_ANSWER:
        return "undecided"
    if choices and len(choices) <= _MAX_CHOICES and max(map(len, choices)) <= MAX_ANSWER:
        return _decide_choices(said, gold, choices, precision)
    return _decide_open(said, gold, precision)


def _said(prediction: str) -> str | None:
    """The prediction without reasoning and tags; None where what remains is too long to read."""
    text = prediction.rsplit("</think>", 1)[-1]
    if len(text) > MAX_ANSWER or "<answer>" in text:
        text = extract_answer(text) or ("" if len(text) <= MAX_ANSWER else text)
    return strip_template(text) if len(text) <= MAX_ANSWER else None


def _decide_choices(
    said: str, gold: str, choices: Sequence[str], precision: int | None
) -> Equality | Formulas:
    right = gold_options(gold, choices)
    if right is None:
        return _decide_open(said, gold, precision)
    answer = final_answer(said)
    for candidate in dict.fromkeys(text for text in (answer, said) if text):
        named = named_options(candidate, choices)
        if named is not None:
            return "equal" if right & named else "different"
        if is_ambiguous(candidate, right, choices):
            return "undecided"
    return _decide_open(said, choices[min(right)], precision)


def _decide_open(said: str, gold: str, precision: int | None) -> Equality | Formulas:
    wanted = canonicalise(final_answer(gold) or gold)
    whole = canonicalise(said)
    letters = bare_letter(wanted), bare_letter(whole)
    if letters[0] is not None and letters[0] in wanted:
        return _compare_letter(said, letters[0])
    if letters[1] is not None and letters[1] in whole and letter_of(gold) is not None:
        return "equal" if letter_of(gold) == letters[1] else "different"
    if is_same_text(whole, wanted):
        return "equal"
    answer = final_answer(said)
    as_a_whole = answer != said and len(whole) <= _SHORT and not is_negated(whole)
    if as_a_whole and compare_plain(whole, wanted, precision) == "equal":
        return "equal"
    if answer is None:
        return compare_truth(whole, wanted) or ("undecided" if whole else "different")
    plain = canonicalise(answer)
    if is_truth(wanted) and not is_truth(plain):
        return compare_truth(whole, wanted) or "different"
    return _decide_answer(plain, wanted, precision)


def _decide_answer(plain: str, wanted: str, precision: int | None) -> Equality | Formulas:
    verdict = compare_plain(plain, wanted, precision)
    if verdict is not None:
        return verdict
    if max(len(plain), len(wanted)) > MAX_FORMULA or not (is_algebraic(plain) and is_algebraic(wanted)):
        return "undecided"
    explosive = _EXPLOSIVE.search(plain) or _EXPLOSIVE.search(wanted)
    return "undecided" if explosive else Formulas(results(plain)[0], results(wanted)[0])


def _compare_letter(said: str, letter: str) -> Equality:
    found = letter_of(final_answer(said) or said) or letter_of(said)
    if found is not None:
        return "equal" if found == letter else "different"
    return "undecided" if len(canonicalise(said)) > 24 else "different"
