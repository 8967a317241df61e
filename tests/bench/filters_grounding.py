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

import csv
import hashlib
import io
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from filters.claims import find_claims
from filters.descriptions import Scene, render_json, render_lines, render_rows, render_scene
from filters.format import think_part
from filters.grounding import check_claim
from filters.verdicts import FILTERS
from schemas.config import EvidenceThresholds, FilterSettings, ScenesSource
from schemas.records import ClaimVerdict, Draft, Evidence, Problem, choice_letter
from synth.embedded import Refusal, anchor, describe, reason
from synth.scenes import draw_problems
from tests.bench.scene_truth import says_wrong

SCENES = 200
SEEDS = {0: "scenes", 1: "scenes, held out"}  # the rules were written with the traces of seed 0 in view
SHAPES = ["circle", "square", "triangle", "star", "cross", "hexagon", "diamond"]
COLOURS = ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown"]
RENDERINGS: Mapping[str, Callable[[str, Scene], str]] = {
    "prose": render_scene,
    "json": lambda _, scene: render_json(scene),
    "key-value lines": lambda _, scene: render_lines(scene),
    "own notation": lambda _, scene: render_rows(scene),
    "python": lambda _, scene: str(scene),
    "markdown": lambda _, scene: _markdown(scene),
    "records": lambda _, scene: _records(scene),
    "sentences": lambda _, scene: _sentences(scene),
    "comma-separated": lambda _, scene: _comma_separated(scene),
}


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


def _markdown(scene: Scene) -> str:
    if "table_for_pd" not in scene:
        return "; ".join(scene.get("diagram_logic_form", ())) or ", ".join(
            f"{k}={v}" for k, v in scene.items()
        )
    columns = scene["table_for_pd"]
    rows = [tuple(columns), ("---",) * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _records(scene: Scene) -> str:
    """Tables row by row as `name: value` pairs, all else as one sentence."""
    if "table_for_pd" not in scene:
        return ". ".join(f"{key.replace('_', ' ')} is {value}" for key, value in scene.items()) + "."
    columns = scene["table_for_pd"]
    rows = zip(*columns.values(), strict=True)
    pairs = (
        "; ".join(f"{name.strip()}: {cell}" for name, cell in zip(columns, row, strict=True)) for row in rows
    )
    return "\n".join(f"Row {number}: {row}" for number, row in enumerate(pairs, start=1))


def _sentences(scene: Scene) -> str:
    """Tables cell by cell, all else as `key = value` on one line."""
    if "table_for_pd" not in scene:
        return "; ".join(f"{key} = {value}" for key, value in scene.items())
    (_, keys), *columns = scene["table_for_pd"].items()
    cells = ((name, key, column[row]) for row, key in enumerate(keys) for name, column in columns)
    return "\n".join(f"The {name.strip()} of {key} is {value}." for name, key, value in cells)


def _comma_separated(scene: Scene) -> str:
    """Tables as CSV, all else as lists under their keys, a line for each value."""
    text = io.StringIO()
    if "table_for_pd" in scene:
        columns = scene["table_for_pd"]
        csv.writer(text).writerows([tuple(columns), *zip(*columns.values(), strict=True)])
        return text.getvalue()
    for key, value in scene.items():
        entries = "".join(f"\n  - {entry}" for entry in value) if isinstance(value, list) else f" {value}"
        text.write(f"{key}:{entries}\n")
    return text.getvalue()


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


# ------------------------------------------------------------------------------------ one wrong statement


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
