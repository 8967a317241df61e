"""What a filter says: a `Verdict`, with a `Reason` from a closed list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.records import VerdictRow


class Reason(StrEnum):
    """Why a draft was dropped. The closed list: a report never meets any other."""

    TRUNCATED = "truncated"  # a stage ran into its token limit
    REPETITIVE = "repetitive"  # a stage was stopped for repeating itself, or the trace goes in loops
    TOO_LONG = "too_long"
    TOO_SHORT = "too_short"
    BAD_FORMAT = "bad_format"  # not one <think> block followed by one <answer> block
    SEVERAL_ANSWERS = "several_answers"
    NO_ANSWER = "no_answer"
    ANSWER_UNDECIDED = "answer_undecided"  # nobody could tell whether it equals the gold answer
    ANSWER_WRONG = "answer_wrong"
    MENTIONS_DESCRIPTION = "mentions_description"  # gives away that a text stood in for the image
    TOO_FEW_ANCHORS = "too_few_anchors"
    ANCHORS_UNNAMED = "anchors_unnamed"  # looks at the image, but at nothing that the description has
    ANCHORS_BUNCHED = "anchors_bunched"  # all looks stand close together, as at the start
    CLAIM_CONTRADICTED = "claim_contradicted"  # the trace states what the description says otherwise
    CLAIMS_UNSUPPORTED = "claims_unsupported"  # too little of what it states is in the description
    NO_REFLECTION = "no_reflection"
    HOLLOW_REFLECTION = "hollow_reflection"  # announces checks that check nothing
    MIXED_LANGUAGE = "mixed_language"
    LEAKED_PROMPT = "leaked_prompt"  # text of a prompt or a chat template in the trace
    EVIDENCE_MISSING = "evidence_missing"  # a threshold is set for evidence that the draft does not have
    ANSWERED_BLIND = "answered_blind"  # the question is answered without the image
    DESCRIPTION_TOO_POOR = "description_too_poor"  # the description does not lead to the answer
    DESCRIPTION_SUFFICES = "description_suffices"  # the description alone leads to the answer
    CLAIMS_UNSEEN = "claims_unseen"  # a judge does not see in the image what the trace states
    IMAGE_UNUSED = "image_unused"  # the trace is as likely without its image
    SWAP_UNNOTICED = "swap_unnoticed"  # the trace stays the same in front of another image
    LOW_VAS = "low_vas"
    NEAR_DUPLICATE = "near_duplicate"  # a problem that an earlier row of the run already asks
    CONTAMINATED_TEXT = "contaminated_text"  # its words stand in a benchmark
    CONTAMINATED_IMAGE = "contaminated_image"  # its picture does
    SURPLUS_SAMPLE = "surplus_sample"  # better drafts of its problem are kept
    OVER_SHARE = "over_share"  # its source or kind of answer has as many rows as it may


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One filter's judgement of one draft.

    Attributes:
        filter: the filter's name in `filters.verdicts.FILTERS`, or `grounding` for `grounding.check_trace`.
        reason: None exactly where `keep` is true.
        score: in [0, 1], higher is better; each filter documents its scale.
        detail: one line for people: what was found, and where.
    """

    filter: str
    keep: bool
    reason: Reason | None
    score: float
    detail: str

    def to_row(self) -> VerdictRow:
        """The verdict as it is stored: no reason is the empty string."""
        return VerdictRow(
            filter=self.filter,
            keep=self.keep,
            reason=str(self.reason or ""),
            score=self.score,
            detail=self.detail,
        )


def kept(name: str, score: float, detail: str = "") -> Verdict:
    """A verdict that keeps the draft."""
    return Verdict(filter=name, keep=True, reason=None, score=score, detail=detail)


def dropped(name: str, reason: Reason, score: float, detail: str) -> Verdict:
    """A verdict that drops the draft; `detail` is flattened to one line of at most 300 characters."""
    line = " ".join(detail[:1200].split())
    return Verdict(filter=name, keep=False, reason=reason, score=score, detail=line[:300])
