"""The language of a trace: loops, a second script, and text of a prompt that slipped in.

All measures are linear in the text and need no model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set

from filters.anchors import MAX_CHARS, compile_patterns, flatten
from filters.format import TOKEN, think_part
from filters.reasons import Reason, Verdict, dropped, kept
from schemas.config import FilterSettings
from schemas.records import Draft

REPETITION = "repetition"
LANGUAGE = "language"
PROMPT = "prompt"

NGRAM = 8  # words; shorter runs come back in any careful chain
_SEED = 4  # words by which a loop is followed
_ROUNDS = 5  # times that a loop goes round
_SCRIPTS = {
    "Latin": "A-Za-zÀ-ÖØ-öø-ɏ",
    "Cyrillic": "\u0400-\u04ff",
    "Arabic": "\u0600-\u06ff",
    "Hebrew": "\u0590-\u05ff",
    "Indic": "\u0900-\u0dff",
    "Thai": "\u0e00-\u0e7f",
    "Korean": "\uac00-\ud7a3",
    "Chinese or Japanese": "\u3040-\u30ff\u3400-\u9fff",  # one writes with the other's characters
}
_WEIGHTS = {"Chinese or Japanese": 3, "Korean": 2}  # letters that one sign stands for
# A sign of the last two is a word of its own, as far as quoting goes; elsewhere words are runs of letters.
_WORDS = {
    name: re.compile(f"[{letters}]" + ("" if name in _WEIGHTS else "+")) for name, letters in _SCRIPTS.items()
}

# What a prompt says to its reader, in the second person or the imperative, and the marks of templates. A
# chain speaks in the first person and about the picture; none of these is how it would.
_PROMPT_TEXT = [
    r"</?(?:task|question|description|reasoning|statement|instructions?|system|user|assistant|choices)>",
    r"<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<image>|<\|?image_pad\|?>",
    r"\{\{\s?[a-z_]{2,30}[^{}]{0,40}\}\}|\{%-?\s?(?:if|for|endif|endfor|set)\b[^{}]{0,60}%\}",
    r"\b(?:write|put|give|return|place)\s(?:down\s)?(?:the|your|its)\s(?:[\w-]{1,20}\s){0,4}(?:between|inside|within|in)\s"
    r"(?:<[a-z]{1,12}>|the\s(?:tags|following\sformat))",
    r"\b(?:reason|think)\s(?:step\sby\sstep|in\sa\sfew\ssentences)\b[^.\n]{0,60}(?:between\s<|,\sthen\scommit|and\sat\slength)",
    r"\b(?:end|finish)\swith\s(?:the\s(?:answer|letter)\b|one\sline\b|a\sline\b)",
    r"\bfinal\sanswer:\s(?:the\sletter\sof\sthe|the\sanswer\salone)\b",
    r"\byou\s(?:cannot|can\snot|can't|do\snot|will|are\s(?:given|asked|looking\sat|an?\s(?:helpful|expert|careful))|must|should)\b"
    r"(?=[^.\n]{0,80}\b(?:image|picture|figure|description|question|answer|assistant|teacher|observer|reasoning)\b)",
    r"\bas\san\s(?:ai|language|multimodal)\b[^.\n]{0,20}\b(?:model|assistant)\b",
    r"\b(?:never|do\snot|don't)\s(?:speak|mention|refer|reveal|solve|ask|add|invent)\b[^.\n]{0,50}\b(?:description|caption|anything|"
    r"facts|text|observer)\b",
    r"\b(?:rewrite|rephrase)\s(?:it|this|the\s(?:reasoning|text|chain))\s(?:as|so\sthat|below)\b",
    r"\b(?:keep|copy)\severy\s(?:step|number|check)\b|\bwork\sin\sthis\sorder\b|\bstate\sonly\swhat\scan\sbe\sseen\b",
    r"\b(?:answer|solve|read|check)\s(?:the|this)\s(?:question|problem|reasoning|statement|it)\s(?:below|against\sthe\simage)\b",
    r"\b(?:here\sis|below\sis|this\sis)\s(?:the|my|a)\s(?:rewritten|revised|anchored)\s(?:reasoning|chain|version|text)\b",
    r"\bwhoever\sreads\syour\sversion\b|\bthe\sreasoning\sbelow\swas\swritten\b|\bsomebody\swho\s(?:read|looked|looks)\b",
    r"\b(?:name|spread)\s(?:the\sfacts|these\slooks)\b|\bafter\seach\simportant\sstep\b|\bwhen\sa\scheck\sfails\b",
    r"\bbefore\sthe\send,\ssolve\sthe\squestion\b|\bif\sthe\sfacts\sdo\snot\sdecide\b|\bmark\swhat\sis\shidden\b",
    r"\bhow\sthe\selements\sstand\b|\bone\sparagraph\sthat\sbrings\b|\bwrite\sdown\severything\b|\bglobal\sscan\b|\belement\sby\selement\.\sgo\b|\bgo\sthrough\sthe\spicture\sclosely\b",
    r"\ba\sguess\scounts\b|\bcounts\sas\swrong\b|\bcommit\sto\sone\sanswer\b|\banswer\swith\sone\sword\b",
]
_PROMPT = compile_patterns(_PROMPT_TEXT)


def measure_repetition(text: str) -> float:
    """Share of the words (`format.count_tokens`) that end an n-gram which the text has had before, in [0, 1].

    A text that ends up in a loop counts as 1: five rounds or more of the same words, however long before.
    """
    words = TOKEN.findall(text.lower())
    if _loops(words):
        return 1.0
    grams = list(zip(*(words[start:] for start in range(NGRAM)), strict=False))
    return (len(grams) - len(set(grams))) / len(words) if words else 0.0


def _loops(words: list[str]) -> bool:
    """True where the same words follow one another `_ROUNDS` times; one pass."""
    last: dict[tuple[str, ...], int] = {}
    period = run = 0
    for place, gram in enumerate(zip(*(words[start:] for start in range(_SEED)), strict=False)):
        apart = place - last.get(gram, place)
        last[gram] = place
        run = run + 1 if apart == period and apart else 1
        period = apart
        if period and run >= max(period * (_ROUNDS - 1), 3 * _SEED):
            return True
    return False


def measure_foreign(text: str, allowed: str = "") -> tuple[float, str]:
    """Share of the letters in another script than most of them, in [0, 1], and that script's name.

    Greek is left out, since mathematics writes with it; so are the words of `allowed` (the question and the
    description), which a trace may quote. Languages of one script cannot be told apart.
    """
    words = {name: Counter(pattern.findall(text)) for name, pattern in _WORDS.items()}
    weights = {name: _weigh(name, counts) for name, counts in words.items()}
    main = max(weights, key=lambda name: weights[name])
    strange = {
        name: _weigh(name, counts, set(_WORDS[name].findall(allowed)))
        for name, counts in words.items()
        if name != main and counts
    }
    worst = max(strange, key=lambda name: strange[name], default="")
    return (strange[worst] / sum(weights.values()), worst) if worst and strange[worst] else (0.0, "")


def _weigh(script: str, words: Counter[str], quoted: Set[str] = frozenset()) -> int:
    """Letters of a script's words, without the quoted ones."""
    return _WEIGHTS.get(script, 1) * sum(
        len(word) * count for word, count in words.items() if word not in quoted
    )


def find_prompt(text: str) -> str | None:
    """The first piece of prompt text in a chain, None where there is none.

    Args:
        text: with single blanks for white space.
    """
    match = _PROMPT.search(text)
    return None if match is None else text[max(0, match.start() - 20) : match.end() + 40]


def check_repetition(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace that does not go in loops.

    Score: 1 - share of its words in 8-grams that it has had before; 0 for a loop.
    """
    share = measure_repetition(draft.trace[:MAX_CHARS])
    detail = f"{share:.0%} of the words repeat earlier ones, at most {settings.max_repetition:.0%}"
    if share > settings.max_repetition:
        return dropped(REPETITION, Reason.REPETITIVE, 1 - share, detail)
    return kept(REPETITION, 1 - share, detail)


def check_language(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace in one script.

    Score: 1 - share of letters in a second script.
    """
    problem = draft.problem
    quoted = " ".join((problem.question, *problem.choices, problem.answer, draft.description[:MAX_CHARS]))
    share, script = measure_foreign(think_part(draft.trace, MAX_CHARS), quoted)
    detail = f"{share:.0%} of the letters are {script or 'foreign'}, at most {settings.max_foreign:.0%}"
    if share > settings.max_foreign:
        return dropped(LANGUAGE, Reason.MIXED_LANGUAGE, 1 - share, detail)
    return kept(LANGUAGE, 1 - share, detail)


def check_prompt(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace without text of a prompt: instructions to its writer, tags of the prompts, template marks.

    Score: 1 or 0. What the question itself says may be quoted.
    """
    del settings
    found = find_prompt(flatten(draft.trace[:MAX_CHARS]))
    if found is None or found.strip() in flatten(draft.problem.question):
        return kept(PROMPT, 1.0)
    return dropped(PROMPT, Reason.LEAKED_PROMPT, 0.0, repr(found))
