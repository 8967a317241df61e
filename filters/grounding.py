"""Whether a trace is grounded in its image: it looks back at it, and what it states is there.

What is there is known from the description, the only text about the image that a draft has. A trace can thus
be found to say something else than the description; that both are wrong, only evidence from the image can
show (`filters.evidence`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from filters.anchors import MAX_CHARS, check_anchors, find_anchors, find_giveaways
from filters.claims import find_claims
from filters.facts.judging import judge_claim
from filters.facts.values import Judgement
from filters.reasons import Reason, Verdict, dropped, kept
from filters.reflection import check_reflection, find_reflections
from schemas.config import FilterSettings
from schemas.records import Draft

__all__ = [
    "CLAIMS",
    "GROUNDING",
    "MAX_CHARS",
    "check_anchors",
    "check_claim",
    "check_claims",
    "check_reflection",
    "check_trace",
    "find_anchors",
    "find_giveaways",
    "find_reflections",
]

GROUNDING = "grounding"
CLAIMS = "claims"
MAX_CLAIMS = 256  # of a trace that are judged
MIN_CLAIMS = 5  # of a trace whose share of supported claims says something


def check_claim(claim: str, description: str) -> Judgement:
    """What a description makes of a claim about its picture.

    Both are parsed into facts: lengths, angles, incidences and relations of geometry; table cells; clock
    times and lists; counts, colours, places, amounts and labels of named things. Numbers are normalised,
    names matched with rapidfuzz. The description may be prose, JSON, logic forms, pipe tables or
    `key: value` lines.

    Args:
        claim: one statement; its first 2,000 characters are read.
        description: its first 100,000 characters are read.
    Returns: "contradicted" where one fact of the claim is stated otherwise, "supported" where all facts that
        were found in it are stated, else "unknown". What the claim only supposes or doubts ("if", "not",
        "at first glance") never contradicts.
    """
    return judge_claim(claim, description)


def check_claims(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace of which the description contradicts no claim and supports enough.

    A trace with fewer than `MIN_CLAIMS` claims is not held to `min_supported`: that none of three true
    sentences is found in the description is no sign of a bad trace.

    Score: share of the trace's claims (`filters.claims`) that the description supports, in [0, 1]; what
    follows from several facts counts against it, so that it is seldom near 1. A draft without a description
    is kept, and its detail says so.
    """
    if not draft.description.strip():
        return kept(CLAIMS, 0.5, "no description to check claims against")
    claims = find_claims(draft)[:MAX_CLAIMS]
    verdicts = {claim: check_claim(claim, draft.description) for claim in claims}
    counts = Counter(verdicts.values())
    score = counts["supported"] / len(claims) if claims else 0.0
    detail = f"{len(claims)} claims: {counts['supported']} supported, {counts['contradicted']} contradicted"
    if counts["contradicted"] > settings.max_contradicted:
        wrong = next(claim for claim, verdict in verdicts.items() if verdict == "contradicted")
        return dropped(CLAIMS, Reason.CLAIM_CONTRADICTED, score, f"{detail}: {wrong!r}")
    if len(claims) >= MIN_CLAIMS and score < settings.min_supported:
        return dropped(
            CLAIMS, Reason.CLAIMS_UNSUPPORTED, score, f"{detail}, need {settings.min_supported:.0%}"
        )
    return kept(CLAIMS, score, detail)


def check_trace(draft: Draft, settings: FilterSettings = FilterSettings()) -> Verdict:  # noqa: B008 frozen
    """Keep a trace that looks back at the image and states nothing that the description says otherwise.

    The filters `anchors` and `claims` as one: the verdict of the first that drops.
    Score: the lower of the two.
    """
    verdicts = [check_anchors(draft, settings), check_claims(draft, settings)]
    deciding = next((verdict for verdict in verdicts if not verdict.keep), verdicts[0])
    detail = deciding.detail if not deciding.keep else "; ".join(verdict.detail for verdict in verdicts)
    return replace(
        deciding, filter=GROUNDING, score=min(verdict.score for verdict in verdicts), detail=detail
    )
