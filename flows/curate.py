"""The curation flow: draft shards -> dataset. It asks no teacher, so it may be repeated at will.

Every draft is judged by itself first, then its problem is looked for in benchmarks, then the accepted ones
are compared with each other: near duplicates leave, and what is more than a problem's or a source's share.
The first verdict that drops a draft is its reason, and all verdicts stay with it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from filters.benchmarks import open_index
from filters.curation import Candidates, drop_duplicates, find_contaminated
from filters.decontaminate import Index
from filters.reasons import Verdict
from filters.selection import Key, select
from filters.verdicts import conclude
from flows.judging import judge_drafts, read_drafts
from flows.orchestra import hear_termination
from flows.progress import advance, note
from flows.student_scores import Scores, read_scores
from flows.verdict_store import VerdictStore
from schemas.config import Recipe
from schemas.records import Draft, Problem, Sample, Stage, Status, sample_to_row
from schemas.runs import draft_shards, now, shard_entries, update_manifest
from schemas.shards import STAGING, DatasetWriter

VERDICTS = "verdicts.arrow"
Shards = Sequence[Path]  # of the drafts, as they are when the curation begins


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

    Raises:
        ShardError: no drafts, or a full disk; the dataset that was there before is kept.
        ConfigError: a benchmark that cannot be read, or a share that cannot hold.
    """
    hear_termination()
    return curate_drafts(recipe, root, out)


@task(name="curate-drafts", cache_policy=NO_CACHE, persist_result=False)
def curate_drafts(recipe: Recipe, root: Path, out: Path) -> Funnel:
    """Passes over the drafts, one record batch in memory; between them a few numbers per accepted draft."""
    index, scores = open_index(recipe.decontaminate), read_scores(recipe.filters.evidence)
    shards = draft_shards(root)
    counts = _Counts()
    with DatasetWriter(out) as writer, VerdictStore(out / STAGING / VERDICTS) as store:
        dropped = _judge_all(recipe, shards, store, index, scores)
        note("writing")
        for draft, verdicts in zip(_drafts(shards, scores), store.read(), strict=True):
            further = dropped.get((draft.problem.index, draft.sample_index))
            sample = conclude(draft, (*verdicts, *([further.to_row()] if further else ())))
            writer.write(choose_split(sample, recipe.validation), sample_to_row(sample))
            counts.add(sample)
    funnel = counts.to_funnel()
    written = {split: shard_entries(infos) for split, infos in writer.shards.items()}
    update_manifest(out, finished=now(), funnel=funnel.to_dict(), shards=written)
    return funnel


def _judge_all(
    recipe: Recipe, shards: Shards, store: VerdictStore, index: Index | None, scores: Scores
) -> dict[Key, Verdict]:
    """Judges each draft and stores its verdicts. Returns: the accepted ones that others displace."""
    candidates = Candidates()
    contamination = find_contaminated(index, _problems(shards)) if index else None
    judged = judge_drafts(shards, recipe.filters, scores)
    for _, rows in groupby(judged, key=lambda row: row[0].problem.index):
        beyond: Verdict | None = None
        for position, (draft, verdicts) in enumerate(rows):
            if contamination and position == 0 and _is_problem(draft):
                beyond = next(contamination)
            if beyond is not None and draft.failure is None:
                verdicts = (*verdicts, beyond.to_row())
            store.write(verdicts)
            candidates.add(conclude(draft, verdicts))
            advance()
    return _displace(recipe, shards, candidates)


def _displace(recipe: Recipe, shards: Shards, candidates: Candidates) -> dict[Key, Verdict]:
    dropped: dict[Key, Verdict] = {}
    if recipe.dedup.enabled:
        note("looking for duplicates")
        indices = candidates.indices
        problems = (problem for problem in _problems(shards) if problem.index in indices)
        dropped = drop_duplicates(candidates, problems, recipe.dedup)
    left = [candidate for candidate in candidates.rows if candidate.key not in dropped]
    return dropped | select(left, recipe.select)


def _drafts(shards: Shards, scores: Scores) -> Iterator[Draft]:
    return (draft for path in shards for draft in read_drafts(path, scores))


def _by_problem(shards: Shards) -> Iterator[list[Draft]]:
    """The drafts of each row of the source, which stand next to each other."""
    for _, drafts in groupby(_drafts(shards, {}), key=lambda draft: draft.problem.index):
        yield list(drafts)


def _problems(shards: Shards) -> Iterator[Problem]:
    """The problems that were put to teachers, in order."""
    return (drafts[0].problem for drafts in _by_problem(shards) if _is_problem(drafts[0]))


def _is_problem(draft: Draft) -> bool:
    return draft.failure is None or draft.failure.stage is not Stage.SOURCE


@dataclass
class _Counts:
    """A funnel while it is counted."""

    problems: set[int] = field(default_factory=set)
    statuses: Counter[Status] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    categories: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Counts a draft."""
        problem = sample.draft.problem
        self.problems.add(problem.index)
        self.statuses[sample.status] += 1
        if sample.reason:
            self.reasons[sample.reason] += 1
        category = problem.category or problem.source
        self.categories.setdefault(category, Counter())[str(sample.status)] += 1

    def to_funnel(self) -> Funnel:
        """What was counted."""
        categories = sorted(self.categories.items())
        return Funnel(
            problems=len(self.problems),
            drafts=self.statuses.total(),
            accepted=self.statuses[Status.ACCEPTED],
            rejected=self.statuses[Status.REJECTED],
            failed=self.statuses[Status.FAILED],
            reasons=dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))),
            categories={name: dict(sorted(counts.items())) for name, counts in categories},
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
