"""Each part of the evidence against its threshold: right, wrong, absent."""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace

import pytest

from filters import evidence
from filters.reasons import Reason, Verdict
from filters.verdicts import FILTERS, judge
from flows.recipes import load_recipe
from schemas.config import EvidenceThresholds, FilterSettings
from schemas.records import (
    ClaimVerdict,
    Draft,
    Evidence,
    EvidenceFault,
    Likelihood,
    Swap,
    draft_from_row,
    draft_to_row,
)
from tests.rows import GOOD_TRACE, draft


def settings(**thresholds: float) -> FilterSettings:
    return FilterSettings(evidence=EvidenceThresholds(**thresholds))  # type: ignore[arg-type]


def with_evidence(**parts: object) -> Draft:
    return draft(evidence=Evidence(**parts))  # type: ignore[arg-type]


def claims(*seen: bool) -> tuple[ClaimVerdict, ...]:
    return tuple(ClaimVerdict(claim=f"claim {n}", seen=yes, p_seen=math.nan) for n, yes in enumerate(seen))


RIGHT, WRONG = "<answer>4</answer>", "I cannot tell. <answer>7</answer>"
ALIKE = replace(draft(), trace=GOOD_TRACE).trace
OTHER = "<think>" + "The dog sleeps beside a house of bricks. " * 3 + "</think><answer>4</answer>"


@pytest.mark.parametrize(
    ("name", "evidence_", "thresholds", "reason", "score"),
    [
        (evidence.BLIND, {"blind": (RIGHT, WRONG, WRONG, WRONG)}, {"max_blind_right": 0.25}, None, 0.75),
        (
            evidence.BLIND,
            {"blind": (RIGHT, RIGHT, WRONG, WRONG)},
            {"max_blind_right": 0.25},
            Reason.ANSWERED_BLIND,
            0.5,
        ),
        (evidence.BLIND, {"blind": (RIGHT, RIGHT)}, {}, None, 0.0),
        (evidence.DESCRIPTION, {"description": (RIGHT, WRONG)}, {"min_description_right": 0.5}, None, 0.5),
        (
            evidence.DESCRIPTION,
            {"description": (WRONG, WRONG)},
            {"min_description_right": 0.5},
            Reason.DESCRIPTION_TOO_POOR,
            0.0,
        ),
        (
            evidence.DESCRIPTION,
            {"description": (RIGHT, RIGHT)},
            {"max_description_right": 0.5},
            Reason.DESCRIPTION_SUFFICES,
            1.0,
        ),
        (evidence.JUDGE, {"claims": claims(True, True, False)}, {"min_claims_seen": 0.6}, None, 2 / 3),
        (
            evidence.JUDGE,
            {"claims": claims(True, False)},
            {"min_claims_seen": 0.6},
            Reason.CLAIMS_UNSEEN,
            0.5,
        ),
        (
            evidence.LIKELIHOOD,
            {"likelihood": Likelihood(tokens=10, with_image=-5.0, with_blank=-15.0)},
            {"min_likelihood_gain": 0.5},
            None,
            1 / (1 + math.exp(-1)),
        ),
        (
            evidence.LIKELIHOOD,
            {"likelihood": Likelihood(tokens=10, with_image=-9.0, with_blank=-9.0)},
            {"min_likelihood_gain": 0.01},
            Reason.IMAGE_UNUSED,
            0.5,
        ),
        (
            evidence.SWAP,
            {"swap": Swap(problem="p", trace=ALIKE)},
            {"max_swap_similarity": 0.9},
            Reason.SWAP_UNNOTICED,
            0.0,
        ),
        (evidence.SWAP, {"swap": Swap(problem="p", trace=ALIKE)}, {}, None, 0.0),
        (evidence.VAS, {"vas": 15.0}, {"min_vas": 10}, None, 0.5),
        (evidence.VAS, {"vas": 5.0}, {"min_vas": 10}, Reason.LOW_VAS, 0.25),
    ],
)
def test_a_part_against_its_threshold(
    name: str, evidence_: dict[str, object], thresholds: dict[str, float], reason: Reason | None, score: float
) -> None:
    verdict = FILTERS[name](with_evidence(**evidence_), settings(**thresholds))
    assert (verdict.filter, verdict.reason, verdict.score) == (name, reason, pytest.approx(score))


def test_another_trace_is_another_trace() -> None:
    verdict = evidence.check_swap(
        with_evidence(swap=Swap(problem="p", trace=OTHER)), settings(max_swap_similarity=0.5)
    )
    assert verdict.keep
    assert verdict.score > 0.5


PARTS = {
    evidence.BLIND: ("max_blind_right", "blind"),
    evidence.DESCRIPTION: ("min_description_right", "description"),
    evidence.JUDGE: ("min_claims_seen", "judge"),
    evidence.LIKELIHOOD: ("min_likelihood_gain", "likelihood"),
    evidence.SWAP: ("max_swap_similarity", "swap"),
    evidence.VAS: ("min_vas", "vas"),
}


@pytest.mark.parametrize("name", PARTS)
def test_absent_evidence_passes_only_where_nobody_asks(name: str) -> None:
    threshold, part = PARTS[name]
    silent = FILTERS[name](draft(), settings())
    assert (silent.keep, silent.score) == (True, evidence.NOT_MEASURED)
    assert "not measured" in silent.detail
    asked = FILTERS[name](draft(), settings(**{threshold: 0.5}))
    assert asked.reason is Reason.EVIDENCE_MISSING
    assert f"evidence.{part}" in asked.detail
    assert judge(draft(), settings(**{threshold: 0.5})).reason == "evidence_missing"


def test_the_upper_threshold_of_the_description_alone_asks_for_evidence_too() -> None:
    verdict = evidence.check_description(draft(), settings(max_description_right=0.5))
    assert verdict.reason is Reason.EVIDENCE_MISSING


@pytest.mark.parametrize(
    "parts",
    [
        {"claims": ()},
        {"blind": ()},
        {"likelihood": Likelihood(tokens=0, with_image=0.0, with_blank=0.0)},
        {"likelihood": Likelihood(tokens=3, with_image=math.nan, with_blank=-1.0)},
        {"vas": math.nan},
    ],
)
def test_evidence_that_says_nothing_is_absent(parts: dict[str, object]) -> None:
    thresholds = settings(max_blind_right=0.5, min_claims_seen=0.5, min_likelihood_gain=0, min_vas=1)
    filters = {
        "claims": evidence.JUDGE,
        "blind": evidence.BLIND,
        "likelihood": evidence.LIKELIHOOD,
        "vas": evidence.VAS,
    }
    verdict = FILTERS[filters[next(iter(parts))]](with_evidence(**parts), thresholds)
    assert verdict.reason is Reason.EVIDENCE_MISSING


def test_a_fault_is_named() -> None:
    fault = EvidenceFault(part="judge", reason="malformed", detail="the judge said maybe")
    verdict = evidence.check_judge(with_evidence(faults=(fault,)), settings(min_claims_seen=0.5))
    assert "the judge said maybe" in verdict.detail


def test_thresholds_are_set_by_the_recipe() -> None:
    recipe = load_recipe("demo", ["filters.evidence.max_blind_right=0.5", "filters.min_anchors=3"])
    assert recipe.filters.evidence.max_blind_right == 0.5
    assert recipe.filters.evidence.min_vas is None
    assert recipe.filters.min_anchors == 3


def slow_likeness(one: str, other: str) -> float:
    """1 - insertions and deletions over words, by the table of longest common subsequences."""
    first, second = one.lower().split(), other.lower().split()
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, left in enumerate(first):
        for j, right in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    return 2 * table[-1][-1] / (len(first) + len(second))


def test_likeness_is_what_the_longest_common_subsequence_gives() -> None:
    rng = random.Random(1)
    for _ in range(30):
        one, other = (" ".join(rng.choices("abcd", k=rng.randint(1, 12))) for _ in range(2))
        assert evidence.measure_likeness(one, other) == pytest.approx(slow_likeness(one, other))


def test_likeness_of_two_megabytes_is_quick() -> None:
    started = time.perf_counter()
    long = with_evidence(swap=Swap(problem="p", trace="b a " * 250_000))
    verdict: Verdict = evidence.check_swap(replace(long, trace="a b c " * 170_000), settings())
    assert 0 <= verdict.score <= 1
    assert time.perf_counter() - started < 2


def test_a_students_score_is_stored_and_older_rows_have_none() -> None:
    row = draft_to_row(with_evidence(vas=12.5))
    assert draft_from_row(row).evidence.vas == 12.5
    del row["evidence_vas"]
    assert draft_from_row(row).evidence.vas is None
