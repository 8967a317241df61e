"""What teachers said about a finished trace, each part against its own threshold (`filters.evidence.*`).

A part that the draft does not have is not judged, unless its threshold is set: then the draft is dropped with
the reason `evidence_missing`, since nobody knows whether it has what the recipe asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rapidfuzz.distance import Indel

from filters.answers import is_correct
from filters.format import think_part
from filters.reasons import Reason, Verdict, dropped, kept
from schemas.config import FilterSettings
from schemas.records import Draft, Problem

BLIND = "evidence_blind"
DESCRIPTION = "evidence_description"
JUDGE = "evidence_claims"
LIKELIHOOD = "evidence_likelihood"
SWAP = "evidence_swap"
VAS = "evidence_vas"

NOT_MEASURED = 0.5  # the score of evidence that is not there
MAX_WORDS = 8_192  # of each trace that are compared with the one in front of another image
_VAS_PANORAMIC = 15.0  # AVAR, arXiv 2603.03825: above it a model's view is panoramic


def share_right(answers: Sequence[str], problem: Problem) -> float | None:
    """Share of answers that equal the gold one, in [0, 1]; None where there is no answer."""
    if not answers:
        return None
    right = [is_correct(answer, problem.answer, problem.choices or None) for answer in answers]
    return sum(right) / len(right)


def measure_likeness(one: str, other: str) -> float:
    """How alike two chains are, in [0, 1]: 1 - insertions and deletions of words over their number.

    Only the first `MAX_WORDS` words of each are compared.
    """
    first, second = one.lower().split()[:MAX_WORDS], other.lower().split()[:MAX_WORDS]
    return Indel.normalized_similarity(first, second)


def check_blind(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a question that is seldom answered without its image.

    Score: 1 - share of the blind answers that are right. Mechanism: the blind filter of published multimodal
    sets; a question that text alone answers teaches nobody to look.
    """
    limit = settings.evidence.max_blind_right
    share = share_right(draft.evidence.blind or (), draft.problem)
    if share is None:
        return _missing(BLIND, draft, "blind", limit)
    detail = f"{share:.0%} of {len(draft.evidence.blind or ())} answers without the image are right"
    if limit is not None and share > limit:
        return dropped(BLIND, Reason.ANSWERED_BLIND, 1 - share, f"{detail}, at most {limit:.0%}")
    return kept(BLIND, 1 - share, detail)


def check_description(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a draft whose description leads to the answer often enough, or not too often.

    Score: share of the answers from the description alone that are right (Vision-SR1 rewards it).
    """
    least, most = settings.evidence.min_description_right, settings.evidence.max_description_right
    share = share_right(draft.evidence.description or (), draft.problem)
    if share is None:
        return _missing(DESCRIPTION, draft, "description", least if least is not None else most)
    detail = f"{share:.0%} of the answers from the description alone are right"
    if least is not None and share < least:
        return dropped(DESCRIPTION, Reason.DESCRIPTION_TOO_POOR, share, f"{detail}, at least {least:.0%}")
    if most is not None and share > most:
        return dropped(DESCRIPTION, Reason.DESCRIPTION_SUFFICES, share, f"{detail}, at most {most:.0%}")
    return kept(DESCRIPTION, share, detail)


def check_judge(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace whose claims a judge who looks at the image sees.

    Score: share of the judged claims that are seen. A trace in which no claim was found is one that nobody
    judged.
    """
    limit = settings.evidence.min_claims_seen
    claims = draft.evidence.claims
    if not claims:
        return _missing(JUDGE, draft, "judge", limit)
    share = sum(claim.seen for claim in claims) / len(claims)
    detail = f"{share:.0%} of {len(claims)} claims are seen in the image"
    if limit is not None and share < limit:
        unseen = next(claim.claim for claim in claims if not claim.seen)
        return dropped(JUDGE, Reason.CLAIMS_UNSEEN, share, f"{detail}, at least {limit:.0%}: not {unseen!r}")
    return kept(JUDGE, share, detail)


def check_likelihood(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace that its image makes likelier.

    Score: 1 / (1 + exp(-g)) for a gain of g nats per token over a blank image: 0.5 where the image does not
    matter, 0.73 at 1 nat. Mechanism: PAPO and others compare a model's output with and without the image.
    """
    limit = settings.evidence.min_likelihood_gain
    measured = draft.evidence.likelihood
    if measured is None or measured.tokens < 1:
        return _missing(LIKELIHOOD, draft, "likelihood", limit)
    gain = (measured.with_image - measured.with_blank) / measured.tokens
    if not math.isfinite(gain):
        return _missing(LIKELIHOOD, draft, "likelihood", limit)
    score = 1 / (1 + math.exp(-min(max(gain, -50.0), 50.0)))
    detail = f"the image gains {gain:.3f} nats per token over {measured.tokens} tokens"
    if limit is not None and gain < limit:
        return dropped(LIKELIHOOD, Reason.IMAGE_UNUSED, score, f"{detail}, at least {limit:g}")
    return kept(LIKELIHOOD, score, detail)


def check_swap(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a trace that comes out differently in front of another image.

    Score: 1 - likeness of the two chains. A chain that claims to look and says the same of another picture
    has not looked.
    """
    limit = settings.evidence.max_swap_similarity
    swap = draft.evidence.swap
    if swap is None:
        return _missing(SWAP, draft, "swap", limit)
    chars = MAX_WORDS * 8
    likeness = measure_likeness(think_part(draft.trace, chars), think_part(swap.trace, chars))
    detail = f"{likeness:.0%} alike in front of the image of {swap.problem}"
    if limit is not None and likeness > limit:
        return dropped(SWAP, Reason.SWAP_UNNOTICED, 1 - likeness, f"{detail}, at most {limit:.0%}")
    return kept(SWAP, 1 - likeness, detail)


def check_vas(draft: Draft, settings: FilterSettings) -> Verdict:
    """Keep a row on which a student looks at the image, where its visual attention score was measured.

    Score: v / (v + 15) for a score of v: 0.5 where AVAR's "panoramic" band begins.
    Source: AVAR, arXiv 2603.03825, eq. 1.
    """
    limit = settings.evidence.min_vas
    vas = draft.evidence.vas
    if vas is None or not (math.isfinite(vas) and vas >= 0):
        return _missing(VAS, draft, "vas", limit)
    score = vas / (vas + _VAS_PANORAMIC)
    detail = f"visual attention score {vas:.2f}"
    if limit is not None and vas < limit:
        return dropped(VAS, Reason.LOW_VAS, score, f"{detail}, at least {limit:g}")
    return kept(VAS, score, detail)


def _missing(name: str, draft: Draft, part: str, limit: float | None) -> Verdict:
    """The verdict on evidence that is not there: kept unless a threshold asks for it."""
    faults = [fault for fault in draft.evidence.faults if fault.part == part]
    why = f"{faults[0].reason}: {faults[0].detail}" if faults else "not asked for, or empty"
    if limit is None:
        return kept(name, NOT_MEASURED, f"not measured ({why})"[:300])
    detail = (
        f"a threshold is set ({limit:g}) and there is no evidence ({why}); name evidence.{part} in the recipe"
    )
    return dropped(name, Reason.EVIDENCE_MISSING, NOT_MEASURED, detail)
