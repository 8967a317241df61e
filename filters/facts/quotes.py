"""Whether a sentence of a description says a claim word for word, but for what it puts in between."""

from __future__ import annotations

import re

from filters.facts.things import WORDS, Scene
from filters.facts.words import COLOUR, DOUBT

_PARTS_STATEMENTS = re.compile(rf"\$?\d.*|[,;:()]|{COLOUR}")


def is_quoted(claim: str, known: Scene) -> bool:
    """True where a sentence of the description says the claim's words in their order.

    What it has in between may hold no number, no colour and no mark: those begin another statement.
    """
    words = WORDS.findall(claim.lower().rstrip(".! "))
    if len(words) < 4 or DOUBT.search(claim):
        return False
    return any(_holds_in_order(sentence, words) for sentence in known.sentences)


def _holds_in_order(sentence: list[str], words: list[str]) -> bool:
    if len(sentence) < len(words):
        return False
    place = 0
    for word in sentence:
        if place < len(words) and word == words[place]:
            place += 1
        elif 0 < place < len(words) and _PARTS_STATEMENTS.fullmatch(word):
            place = 0
    return place == len(words)
