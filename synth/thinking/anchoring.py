"""The anchoring stage: a chain that quotes a description becomes one that looks at the image.

A rewrite by rules. A sentence that speaks of the description in a form which no rule covers slips through;
the filters are there to find it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from synth.vocabulary import COLOURS, SHAPES

_FINAL = re.compile(r"^[ \t*#]*final answer[ \t*]*[:：](?P<answer>[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_TAGS = re.compile(r"<\s*/?\s*(?:think|answer)\s*>", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")

_ADJECTIVES = r"(?:image|picture|visual|given|provided|text|textual|detailed|element-by-element)"
_SOURCE = rf"(?:{_ADJECTIVES}\s+)*(?:descriptions?|captions?)"
_SAYS = r"(?:says|states|tells us|tells me|mentions|notes|reports|indicates)"
_THE = rf"(?:the|this|that|our|my|its|a)\s+{_SOURCE}"
# In order: the narrower forms first, the bare word last.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (
            rf"\b{_THE} {_SAYS} that at first glance",
            "at first glance I see that",
        ),
        (
            rf"\b{_THE} {_SAYS} that",
            "in the image I see that",
        ),
        (rf"\bthe close reading in {_THE}", "a close look at the image"),
        (rf"\baccording to {_THE}, the close reading has", "a close look at the image has"),
        (rf"\b(?:according to|based on|going by|from|judging by) {_THE}", "from the image"),
        (rf"\bwhat {_THE} (?:gives|says|lists|holds|shows)", "what the image shows"),
        (
            rf"\b{_THE}(?:'s)? (?:gives|says|lists|holds|contains|mentions|states|notes|describes|reads)",
            "the image shows",
        ),
        (rf"\b(?:as|is|are|was|were) described (?:in|by) {_THE}", "as the image shows"),
        (rf"\b{_THE}", "the image"),
        (r"\bas described\b", "as shown"),
        (r"\b(is|are) described as\b", r"\1 seen as"),
        (r"\bclose reading\b", "close look"),
        (r"\btwo readings\b", "two looks"),
    )
)

_ORDINAL = r"(?:first|second|third|fourth|fifth|sixth|last|\d+(?:st|nd|rd|th))"
_PLACE = r"(?: at the (?:(?:upper|lower|middle) (?:left|right)|(?:top|bottom) centre|centre))?"
_NAMED = re.compile(
    rf"\bthe (?:{'|'.join(COLOURS)}) (?:bar|{'|'.join(SHAPES)}){_PLACE}"
    rf"|\brow \d+(?:, column \d+)?|\bthe (?:marked|open) cell|\bthe {_ORDINAL} (?:bar|row|column|cell|shape)"
    r"|\b(?:triangle|angle|line|segment|side|point) (?-i:[A-Z]{1,4})\b",
    re.IGNORECASE,
)
_VERB = re.compile(r" (?:is|was|has|does|counts|covers|ends|looked|seemed|comes|holds|reads|reaches|lies)\b")
_ANCHORS = (
    "Looking back at {} in the image: ",
    "Let me re-check {} in the image: ",
    "I look at {} in the image once more: ",
    "Looking again at {} in the figure: ",
)
_LEAST_ANCHORS, _MOST_ANCHORS = 3, 6


def anchor(question: str, reasoning: str, seed: int) -> str:
    """The chain as if it had been thought in front of the image, with the answer in its own tags.

    Args:
        question: the question, for context; nothing is taken from it.
        reasoning: a chain; its last line `Final answer: X` becomes the answer.
        seed: chooses among phrasings.
    Returns: `<think> ... </think><answer> ... </answer>`; an empty answer where the chain has none.
    """
    rng = random.Random(seed)
    text = _without_tags(reasoning)
    finals = [match["answer"].strip(" \t*") for match in _FINAL.finditer(text)]
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", _FINAL.sub("", text))]
    chain = [[_rewritten(sentence) for sentence in _SENTENCE.split(part)] for part in paragraphs if part]
    _insert_anchors(chain, rng)
    thought = "\n\n".join(" ".join(sentences) for sentences in chain)
    return f"<think>\n{thought}\n</think><answer>{finals[-1] if finals else ''}</answer>"


def _without_tags(text: str) -> str:
    """The text without tags of the output format, however they are nested."""
    while True:
        cleaned = _TAGS.sub("", text)
        if cleaned == text:
            return text
        text = cleaned


def _rewritten(sentence: str) -> str:
    for pattern, replacement in _RULES:
        sentence = pattern.sub(_keeping_case(replacement), sentence)
    return sentence


def _keeping_case(replacement: str) -> Callable[[re.Match[str]], str]:
    """A replacement that begins with a capital where the match did."""

    def put(match: re.Match[str]) -> str:
        text = match.expand(replacement)
        return text[:1].upper() + text[1:] if match[0][:1].isupper() else text

    return put


def _insert_anchors(chain: list[list[str]], rng: random.Random) -> None:
    """Puts a look back in front of sentences that name an element, spread evenly over the chain."""
    spots = [
        (paragraph, place, match)
        for paragraph, sentences in enumerate(chain)
        for place, sentence in enumerate(sentences)
        if (match := _NAMED.search(sentence)) and not sentence.lower().startswith("at first glance")
    ]
    leading = [spot for spot in spots if spot[2].start() == 0]
    spots = leading if len(leading) >= _LEAST_ANCHORS else spots
    wanted = min(_MOST_ANCHORS, max(_LEAST_ANCHORS, len(spots) // 2), len(spots))
    chosen = [spots[(2 * number + 1) * len(spots) // (2 * wanted)] for number in range(wanted)]
    first = rng.randrange(len(_ANCHORS))
    for number, (paragraph, place, match) in enumerate(chosen):
        name = match[0]
        opening = _ANCHORS[(first + number) % len(_ANCHORS)].format(_lower(name))
        chain[paragraph][place] = opening + _continued(chain[paragraph][place], name)


def _continued(sentence: str, name: str) -> str:
    """A sentence after its anchor: a subject that the anchor has just named becomes "it"."""
    rest = sentence[len(name) :]
    if sentence.startswith(name) and _VERB.match(rest):
        return f"it{rest}"
    return sentence if re.match(r"I\b|[A-Z]{2}", sentence) else _lower(sentence)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
