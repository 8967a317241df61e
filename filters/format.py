"""Form of a trace: how its stages ended, its blocks, its length.

    <think> reasoning </think> <answer> final answer </answer>

and nothing but white space around and between (AVAR, arXiv 2603.03825). All checks are linear in the text,
and a text too long to be kept is refused by its number of characters before any regular expression.
"""

from __future__ import annotations

import re

from filters.reasons import Reason, Verdict, dropped, kept
from schemas.config import FilterSettings
from schemas.records import Draft

FINISH = "finish"
FORMAT = "format"
LENGTH = "length"
ANSWERS = "final_answers"

CHARS_PER_TOKEN = 32  # no language averages more per word or mark; above it the text is no prose
_CUT_OFF = {"length", "content_filter", "abort"}  # finish reasons that leave a text unfinished
_WIDE = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"  # kana, Han, Hangul: one token per character
TOKEN = re.compile(rf"[{_WIDE}]|[^\W{_WIDE}]+|[^\w\s]")
MAX_READ = 400_000  # characters of a chain that are searched for final answers
_FINAL = re.compile(
    r"\bfinal answer\W{0,4}(?:is\s)?[:：]?\s?\**\s?([^\n*]{1,60}?)(?:\.?\**\s*(?:\n|$)|\.\s)", re.IGNORECASE
)
_BOX = re.compile(r"\\boxed\s?\{([^{}]{1,80}(?:\{[^{}]{0,40}\}[^{}]{0,40}){0,4})\}")
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def count_tokens(text: str) -> int:
    """Words and punctuation marks: a run of letters, digits and `_` is one, every other mark is one.

    Han, kana and Hangul count one per character. Needs no model, so that thresholds mean the same for all.
    """
    return sum(1 for _ in TOKEN.finditer(text))


def split_trace(trace: str) -> tuple[str, str] | None:
    """(think, answer) of a well-formed trace, white space stripped; None where `find_fault` objects."""
    if find_fault(trace) not in (None, Reason.NO_ANSWER):
        return None
    think, answer = trace.split("</think>")
    opening = answer.index("<answer>") + len("<answer>")
    return think.strip()[len("<think>") :].strip(), answer[opening : answer.rindex("</answer>")].strip()


def think_part(trace: str, limit: int) -> str:
    """The reasoning of any trace, well formed or not: what precedes the first `</think>` or `<answer>`.

    Args:
        limit: characters read at most.
    """
    ends = [end for end in (trace.find("</think>"), trace.find("<answer>")) if end >= 0]
    text = trace[: min(*ends, limit + len("<think>"))] if ends else trace[: limit + len("<think>")]
    return text.replace("<think>", "", 1)[:limit]


def find_fault(trace: str) -> Reason | None:
    """The first thing wrong with the blocks of a trace, None where it is well formed."""
    counts = [trace.count(tag) for tag in _TAGS]
    if counts[2] > 1 and counts[3] > 1:
        return Reason.SEVERAL_ANSWERS
    if counts != [1, 1, 1, 1]:
        return Reason.BAD_FORMAT
    think_end, answer_start = trace.index("</think>"), trace.index("<answer>")
    text = trace.strip()
    framed = text.startswith("<think>") and text.endswith("</answer>") and think_end < answer_start
    if not framed or trace[think_end + len("</think>") : answer_start].strip():
        return Reason.BAD_FORMAT
    if not trace[trace.index("<think>") + len("<think>") : think_end].strip():
        return Reason.BAD_FORMAT
    answer = trace[answer_start + len("<answer>") : trace.index("</answer>")]
    return None if answer.strip() else Reason.NO_ANSWER


def check_finish(draft: Draft, settings: FilterSettings) -> Verdict:
    """Drop a draft of which a stage did not end by itself.

    Score: share of the stages that ended by themselves, 1 where none is recorded.
    """
    del settings
    ended = [call.finish_reason not in _CUT_OFF | {"repetition"} for call in draft.calls]
    score = sum(ended) / len(ended) if ended else 1.0
    for call in draft.calls:
        detail = f"stage {call.stage} ended with {call.finish_reason!r} after {call.completion_tokens} tokens"
        if call.finish_reason in _CUT_OFF:
            return dropped(FINISH, Reason.TRUNCATED, score, f"{detail}, limit {call.max_tokens}")
        if call.finish_reason == "repetition":
            return dropped(FINISH, Reason.REPETITIVE, score, detail)
    return kept(FINISH, score)


def check_length(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace of `min_tokens` to `max_tokens` tokens (`count_tokens`).

    Score: 1 within the limits, else the shorter of length and limit over the longer.
    """
    longest = settings.max_tokens * CHARS_PER_TOKEN
    if len(draft.trace) > longest:
        detail = f"{len(draft.trace)} characters, at most {longest} ({CHARS_PER_TOKEN} per token) are counted"
        return dropped(LENGTH, Reason.TOO_LONG, longest / len(draft.trace), detail)
    tokens = count_tokens(draft.trace)
    detail = f"{tokens} tokens, limits {settings.min_tokens} to {settings.max_tokens}"
    if tokens > settings.max_tokens:
        return dropped(LENGTH, Reason.TOO_LONG, settings.max_tokens / tokens, detail)
    if tokens < settings.min_tokens:
        return dropped(LENGTH, Reason.TOO_SHORT, tokens / settings.min_tokens, detail)
    return kept(LENGTH, 1.0, detail)


def check_format(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace of exactly one filled `<think>` block followed by one filled `<answer>` block.

    Score: 1 or 0.
    """
    del settings
    fault = find_fault(draft.trace)
    if fault is None:
        return kept(FORMAT, 1.0)
    return dropped(FORMAT, fault, 0.0, _describe(draft.trace, fault))


def check_final_answers(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a chain that commits itself at most once: to one final answer, in one box.

    An answer that is only considered ("that would be 4") is none; "Final answer: 4" and `\\boxed{4}` are.
    Score: 1 / number of different final answers, 1 where there is none besides the `<answer>` block's.
    """
    del settings
    think = think_part(draft.trace, MAX_READ)
    for pattern in (_FINAL, _BOX):
        given = {"".join(match[1].casefold().split()).rstrip(".") for match in pattern.finditer(think)}
        if len(given) > 1:
            detail = f"{len(given)} different: {', '.join(sorted(given))}"
            return dropped(ANSWERS, Reason.SEVERAL_ANSWERS, 1 / len(given), detail)
    return kept(ANSWERS, 1.0)


def _describe(trace: str, fault: Reason) -> str:
    if fault is Reason.NO_ANSWER:
        return "the <answer> block is empty"
    counts = ", ".join(f"{trace.count(tag)} {tag}" for tag in _TAGS)
    if any(trace.count(tag) != 1 for tag in _TAGS):
        return f"{counts}; need one of each"
    return "the blocks are out of order, <think> is empty, or text stands outside the blocks"
