"""Traces of the embedded teacher with a fault put in: one wrong statement, or a fault of form."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from filters.claims import find_claims
from filters.format import think_part
from schemas.records import Draft

SHAPES = ["circle", "square", "triangle", "star", "cross", "hexagon", "diamond"]
COLOURS = ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown"]


def _change_word(draft: Draft, rng: random.Random, words: Sequence[str], absent: bool) -> Draft | None:
    """The trace with one of some words, in a claim that is sure of itself, replaced by another of them.

    Args:
        absent: the other word is one that the description does not have.
    """
    free = [word for word in words if not (absent and re.search(rf"\b{word}", draft.description))]
    for claim in _sure_claims(draft, rng):
        found = re.search(rf"\b(?:{'|'.join(words)})\b", claim)
        other = rng.choice(free) if free else None
        if found and other and other != found[0]:
            return _replaced(draft, claim, claim[: found.start()] + other + claim[found.end() :])
    return None


def _change_number(draft: Draft, rng: random.Random) -> Draft | None:
    """One read value off by more than any rounding."""
    for claim in _sure_claims(draft, rng):
        found = re.search(r"\b\d+\.\d+\b", claim)
        if found:
            value = f"{float(found[0]) + rng.choice((1.31, 2.47, 3.83)):.2f}"
            if value not in draft.description:
                return _replaced(draft, claim, claim[: found.start()] + value + claim[found.end() :])
    return None


def _change_place(draft: Draft, rng: random.Random) -> Draft | None:
    """A shape of which there is one, on the other side of the picture."""
    turned = {"left": "right", "right": "left", "upper": "lower", "lower": "upper"}
    for claim in _sure_claims(draft, rng):
        named = re.search(r"\b([a-z]+ [a-z]+) at the (?:(upper|lower|middle) )?(left|right)\b", claim)
        if named and len(re.findall(rf"is an? {named[1]} at the", draft.description)) == 1:
            side = claim[named.start(3) : named.end(3)]
            return _replaced(draft, claim, claim[: named.start(3)] + turned[side] + claim[named.end(3) :])
    return None


def _sure_claims(draft: Draft, rng: random.Random) -> list[str]:
    unsure = (
        *("glance", "seemed", "looked like", "should", "answer", "choice", "option", "have to", "rule"),
        *("Put into", "There is no ", "result", "task", "I need", "other way round"),
    )
    claims = [claim for claim in find_claims(draft) if not any(word in claim for word in unsure)]
    rng.shuffle(claims)
    return claims


def _replaced(draft: Draft, claim: str, other: str) -> Draft | None:
    """The draft with a claim said otherwise, where the claim stands in it as it is."""
    trace = draft.trace.replace(claim, other, 1)
    return replace(draft, trace=trace) if trace != draft.trace else None


CHANGES: Mapping[str, Callable[[Draft, random.Random], Draft | None]] = {
    "colour": lambda draft, rng: _change_word(draft, rng, COLOURS, absent=True),
    "shape": lambda draft, rng: _change_word(draft, rng, SHAPES, absent=True),
    "number": _change_number,
    "place": _change_place,
}


# ------------------------------------------------------------------------------------ other faults


def _inserted(draft: Draft, sentence: str) -> str:
    return draft.trace.replace("\n</think>", f" {sentence}\n</think>", 1)


def _without_looks(draft: Draft) -> str:
    """The chain with all its looks at the image put at its start."""
    think = think_part(draft.trace, len(draft.trace))
    looks = re.findall(r"(?:Looking (?:back|again) at|Let me re-check|I look at) [^:]{1,80}: ", think)
    bare = think
    for look in looks:
        bare = bare.replace(look, "")
    bare = (
        bare.replace("in the image", "there")
        .replace("at the image", "again")
        .replace("the image shows", "I have")
    )
    return draft.trace.replace(think, " ".join(look.rstrip(": ") + "." for look in looks) + " " + bare, 1)


def _hollow(draft: Draft) -> str:
    """The chain with assurances in the place of its checks."""
    answer = draft.trace.rsplit("<answer>", 1)[-1]
    return (
        "<think>Let me work this out. In the image I see what is asked for. Wait, let me double-check. Yes, "
        "everything looks right. Looking back at the image again, let me verify my reasoning once more. The "
        f"answer holds, and I am confident that it is correct.</think><answer>{answer}"
    )


FAULTS: Mapping[str, tuple[Sequence[str], Callable[[Draft], str]]] = {
    "a description named": (
        ["anchors"],
        lambda draft: _inserted(draft, "The description says that this is all."),
    ),
    "looks at its start only": (["anchors"], _without_looks),
    "hollow checks": (["reflection"], _hollow),
    "a loop": (["repetition"], lambda draft: _inserted(draft, "So it is as I said before. " * 12)),
    "another script": (
        ["language"],
        lambda draft: _inserted(draft, "所以答案应该是这个数字，我再检查一遍图中的每个形状。" * 4),
    ),
    "prompt text": (
        ["prompt"],
        lambda draft: _inserted(draft, "Write the answer alone between <answer> and </answer>."),
    ),
    "two final answers": (
        ["final_answers"],
        lambda draft: _inserted(draft, "\nFinal answer: 3\nNo.\nFinal answer: 4\n"),
    ),
}
