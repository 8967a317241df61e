"""Accuracy and speed of the grounding filters, on real annotations and on scenes whose truth is known.

`measure` yields one mapping for each filter and source:

- `claims` on the claims of `grounding_claims.jsonl`: balanced accuracy under each rendering of the pictures'
  annotations, per kind, on the half of the items that the rules were written with and on the other half;
- every filter on the embedded teacher's traces: precision and recall at finding those that say something
  wrong of their picture, as the teacher misread it (`scenes, misread`; once with a judge who knows the
  scene), and after one statement of a right trace was changed (`scenes, changed ...`);
- the other filters on traces in which their fault was put (`scenes, with ...`).
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from filters.claims import find_claims
from filters.descriptions import Scene, render_scene
from filters.grounding import check_claim
from filters.verdicts import FILTERS
from schemas.config import EvidenceThresholds, FilterSettings, ScenesSource
from schemas.records import ClaimVerdict, Draft, Evidence, Problem, choice_letter
from synth.embedded import Refusal, anchor, describe, reason
from synth.scenes import draw_problems
from tests.bench.scene_renderings import RENDERINGS
from tests.bench.scene_truth import says_wrong
from tests.bench.trace_faults import CHANGES, FAULTS

SCENES = 200
SEEDS = {0: "scenes", 1: "scenes, held out"}  # the rules were written with the traces of seed 0 in view


def measure(data: Path) -> Iterator[dict[str, Any]]:
    """One mapping for each filter and source, with the keys `filter`, `source` and the figures.

    Args:
        data: folder of the real data; without `grounding_claims.jsonl` in it, only scenes are measured.
    """
    if (data / "grounding_claims.jsonl").exists():
        yield from measure_claims(data)
    for seed, source in SEEDS.items():
        yield from measure_scenes(source, make_drafts(SCENES, seed))


def measure_scenes(source: str, drafts: Sequence[Draft]) -> Iterator[dict[str, Any]]:
    """All that is measured on traces about procedural scenes."""
    yield from measure_misread(source, drafts)
    right = [draft for draft in drafts if not says_wrong(draft)]
    for name, change in CHANGES.items():
        yield from measure_change(f"{source}, changed {name}", change, right)
    for name, (filters, spoil) in FAULTS.items():
        yield from measure_fault(f"{source}, with {name}", filters, spoil, right)


# ------------------------------------------------------------------------------------ claims of real data


def measure_claims(data: Path, sources: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Balanced accuracy of `check_claim` by dataset, rendering and half; unknown counts as not supported.

    Args:
        sources: datasets, or `all` for all together; by default each and all.
    """
    claims = [json.loads(line) for line in (data / "grounding_claims.jsonl").read_text().splitlines()]
    datasets = sorted({claim["dataset"] for claim in claims})
    scenes = {name: read_scenes(data / name / "items.jsonl") for name in datasets}
    for name in sources or ["all", *datasets]:
        for rendering, render in RENDERINGS.items():
            for half in ("built", "held out", "both"):
                chosen = [
                    claim
                    for claim in claims
                    if name in ("all", claim["dataset"]) and half in ("both", half_of(claim))
                ]
                key = {"filter": "claims", "source": name, "rendering": rendering, "half": half}
                yield key | _score(chosen, scenes, render)


def half_of(claim: Mapping[str, Any]) -> str:
    """Which half a claim's item is in, by a hash of its name."""
    return "held out" if hashlib.md5(claim["item"].encode()).digest()[0] % 2 else "built"


def read_scenes(path: Path) -> dict[str, Scene]:
    """The annotation of every item of a dataset."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["scene"] for row in rows if "scene" in row}


def _score(
    claims: Sequence[Mapping[str, Any]], scenes: Mapping[str, Mapping[str, Scene]], render: Any
) -> dict[str, Any]:
    texts = [render(claim["dataset"], scenes[claim["dataset"]][claim["item"]]) for claim in claims]
    started = time.perf_counter()
    supported = [
        check_claim(claim["claim"], text) == "supported" for claim, text in zip(claims, texts, strict=True)
    ]
    seconds = time.perf_counter() - started
    kinds: dict[str, Counter[bool]] = {}
    hits: dict[bool, Counter[bool]] = {True: Counter(), False: Counter()}
    for claim, said in zip(claims, supported, strict=True):
        kinds.setdefault(claim["kind"], Counter())[said == claim["label"]] += 1
        hits[claim["label"]][said == claim["label"]] += 1
    rates = [counts[True] / counts.total() for counts in hits.values() if counts]
    return {
        "claims": len(claims),
        "balanced_accuracy": round(sum(rates) / len(rates), 4),
        "kinds": {kind: f"{counts[True]}/{counts.total()}" for kind, counts in sorted(kinds.items())},
        "checks_per_s": round(len(claims) / seconds),
    }


# ------------------------------------------------------------------------------------ the embedded teacher


@cache
def make_drafts(count: int, seed: int = 0) -> tuple[Draft, ...]:
    """What the embedded teacher writes about procedural scenes; pictures that it refuses are left out."""
    drafts = (_draft(problem) for problem in draw_problems(ScenesSource(count=count), seed))
    return tuple(draft for draft in drafts if draft is not None)


def _draft(problem: Problem) -> Draft | None:
    letters = [f"{choice_letter(place)}. {choice}" for place, choice in enumerate(problem.choices)]
    question = "\n".join([problem.question, *(["", "Choices:", *letters] if letters else [])])
    try:
        description = describe(Image.open(io.BytesIO(problem.images[0].bytes)), problem.index)
    except Refusal:
        return None
    chain = reason(description, question, problem.index)
    trace = anchor(question, chain, problem.index)
    return Draft(problem=problem, description=description, reasoning=chain, trace=trace)


def measure_misread(source: str, drafts: Sequence[Draft]) -> Iterator[dict[str, Any]]:
    """Every filter at finding traces that say something wrong because the teacher saw it wrong."""
    wrong = [says_wrong(draft) for draft in drafts]
    for name in FILTERS:
        yield _found(name, f"{source}, misread", drafts, wrong)
    yield _found("evidence_claims", f"{source}, misread, a judge knows", list(map(_judged, drafts)), wrong)


def _judged(draft: Draft) -> Draft:
    """The draft with a judge who knows the scene: it sees whatever the scene does not contradict.

    Decimals (heights, positions) are not judged: a reading is never exact.
    """
    truth = render_scene("scenes", json.loads(draft.problem.facts))
    claims = {claim: re.sub(r"\d+\.\d+", "some", claim) for claim in find_claims(draft)[:16]}
    seen = {claim: check_claim(said, truth) != "contradicted" for claim, said in claims.items()}
    verdicts = tuple(ClaimVerdict(claim=claim, seen=yes, p_seen=float(yes)) for claim, yes in seen.items())
    return replace(draft, evidence=Evidence(claims=verdicts))


def measure_change(source: str, change: Any, drafts: Sequence[Draft]) -> Iterator[dict[str, Any]]:
    """Every filter at telling right traces from those in which one statement was changed."""
    changed = [(draft, change(draft, random.Random(draft.problem.index))) for draft in drafts]
    pairs = [(draft, other) for draft, other in changed if other is not None]
    both = [draft for pair in pairs for draft in pair]
    for filter_name in ("answer", "anchors", "claims", "reflection"):
        yield _found(filter_name, source, both, [False, True] * len(pairs))


def measure_fault(
    source: str, filters: Sequence[str], spoil: Any, drafts: Sequence[Draft]
) -> Iterator[dict[str, Any]]:
    """The filters that should find a fault, on right traces and on the same with the fault."""
    both = [draft for one in drafts for draft in (one, replace(one, trace=spoil(one)))]
    for filter_name in filters:
        yield _found(filter_name, source, both, [False, True] * len(drafts))


def _found(name: str, source: str, drafts: Sequence[Draft], wrong: Sequence[bool]) -> dict[str, Any]:
    settings = FilterSettings(
        evidence=EvidenceThresholds(min_claims_seen=1 if drafts[0].evidence.claims else None)
    )
    started = time.perf_counter()
    dropped = [not FILTERS[name](draft, settings).keep for draft in drafts]
    seconds = time.perf_counter() - started
    hits = sum(drop and bad for drop, bad in zip(dropped, wrong, strict=True))
    return {
        "filter": name,
        "source": source,
        "traces": len(drafts),
        "wrong": sum(wrong),
        "dropped": sum(dropped),
        "precision": round(hits / sum(dropped), 4) if sum(dropped) else None,
        "recall": round(hits / sum(wrong), 4) if sum(wrong) else None,
        "traces_per_s": round(len(drafts) / seconds),
    }
