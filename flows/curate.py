"""The curation flow: draft shards -> dataset. It asks no teacher, so it may be repeated at will."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from filters.verdicts import judge
from flows.orchestra import hear_termination
from flows.progress import advance
from schemas.config import Recipe
from schemas.records import Sample, Status, draft_from_row, sample_to_row
from schemas.runs import iterate_drafts, now, shard_entries, update_manifest
from schemas.shards import DatasetWriter


@dataclass(frozen=True)
class Funnel:
    """What became of every problem: drafts = accepted + rejected + failed.

    Attributes:
        problems: rows of the source; each has one draft, or several where the recipe asks for samples.
        reasons: rejected and failed rows by reason, most frequent first.
        sources: accepted, rejected and failed rows by category of problem.
    """

    problems: int
    drafts: int
    accepted: int
    rejected: int
    failed: int
    reasons: dict[str, int]
    categories: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@flow(name="avar-curate", persist_result=False)
def curate(recipe: Recipe, root: Path, out: Path) -> Funnel:
    """Judges every draft of the run at `root` and writes the dataset at `out`.

    Raises: ShardError: no drafts, or a full disk; the dataset that was there before is kept.
    """
    hear_termination()
    return curate_drafts(recipe, root, out)


@task(name="curate-drafts", cache_policy=NO_CACHE, persist_result=False)
def curate_drafts(recipe: Recipe, root: Path, out: Path) -> Funnel:
    """One pass over the drafts, one record batch in memory."""
    problems = 0
    statuses: Counter[Status] = Counter()
    reasons: Counter[str] = Counter()
    categories: dict[str, Counter[str]] = {}
    with DatasetWriter(out) as writer:
        for row in iterate_drafts(root):
            sample = judge(draft_from_row(row), recipe.filters)
            writer.write(choose_split(sample, recipe.validation), sample_to_row(sample))
            problems += sample.draft.sample_index == 0
            statuses[sample.status] += 1
            if sample.reason:
                reasons[sample.reason] += 1
            category = sample.draft.problem.category or sample.draft.problem.source
            categories.setdefault(category, Counter())[str(sample.status)] += 1
            advance()
    funnel = _funnel(problems, statuses, reasons, categories)
    shards = {split: shard_entries(infos) for split, infos in writer.shards.items()}
    update_manifest(out, finished=now(), funnel=funnel.to_dict(), shards=shards)
    return funnel


def _funnel(
    problems: int,
    statuses: Counter[Status],
    reasons: Counter[str],
    categories: dict[str, Counter[str]],
) -> Funnel:
    return Funnel(
        problems=problems,
        drafts=statuses.total(),
        accepted=statuses[Status.ACCEPTED],
        rejected=statuses[Status.REJECTED],
        failed=statuses[Status.FAILED],
        reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        categories={name: dict(sorted(counts.items())) for name, counts in sorted(categories.items())},
    )


def choose_split(sample: Sample, validation: float) -> str:
    """The split of a sample. Accepted rows are held out by their id alone, so that more rows move none.

    Args:
        validation: share held out, in [0, 1).
    """
    if sample.status is Status.ACCEPTED:
        digest = hashlib.sha256(f"validation {sample.draft.problem.id}".encode()).digest()
        held_out = int.from_bytes(digest[:8], "big") / 2**64 < validation
        return "validation" if held_out else "train"
    return str(sample.status)
