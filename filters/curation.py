"""What is decided about a draft by looking beyond it: at benchmarks and at the other accepted drafts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from filters.benchmarks import load_benchmark
from filters.decontaminate import Index
from filters.dedup import find_duplicates
from filters.format import count_tokens
from filters.reasons import Reason, Verdict, dropped, kept
from filters.selection import Candidate, Key
from schemas.config import DecontaminateSettings, DedupSettings
from schemas.records import Problem, Sample, Status

CONTAMINATION = "contamination"
DUPLICATES = "duplicates"
CLEAN = kept(CONTAMINATION, 1.0, "in no benchmark that was looked into")


class Candidates:
    """The accepted drafts of a run, a few numbers of each.

    Attributes:
        rows: in the order of the drafts.
    """

    def __init__(self) -> None:
        self.rows: list[Candidate] = []

    def add(self, sample: Sample) -> None:
        """Counts a sample where it is accepted."""
        if sample.status is not Status.ACCEPTED:
            return
        problem, verdicts = sample.draft.problem, sample.verdicts
        self.rows.append(
            Candidate(
                index=problem.index,
                sample_index=sample.draft.sample_index,
                id=problem.id,
                source=problem.source,
                category=problem.category,
                answer_type=str(problem.answer_type),
                score=sum(verdict.score for verdict in verdicts) / max(len(verdicts), 1),
                tokens=count_tokens(sample.draft.trace),
            )
        )

    @property
    def indices(self) -> set[int]:
        """The problems that have an accepted draft."""
        return {candidate.index for candidate in self.rows}


def open_index(settings: DecontaminateSettings) -> Index | None:
    """The items of the benchmarks that a recipe names, None where it names none.

    Raises: SourceError: a benchmark cannot be read. ShardError: the index's file is none.
    """
    if settings.index is not None:
        return Index.load(settings.index, settings)
    if not settings.benchmarks:
        return None
    return Index(chain.from_iterable(map(load_benchmark, settings.benchmarks)), settings)


def find_contaminated(index: Index, problems: Iterable[Problem]) -> Iterator[Verdict]:
    """Whether each problem stands in a benchmark, in order.

    Score: 1 where it does not, else 0.
    """
    for hits in index.find_hits(problems):
        if not hits:
            yield CLEAN
            continue
        hit = hits[0]
        more = f" and {len(hits) - 1} more" if len(hits) > 1 else ""
        detail = f"{hit.source} {hit.row}{more}: {hit.detail}; {hit.question}"
        yield dropped(CONTAMINATION, hit.reason.verdict, 0.0, detail)


def drop_duplicates(
    candidates: Candidates, problems: Iterable[Problem], settings: DedupSettings
) -> dict[Key, Verdict]:
    """The accepted drafts of problems that an earlier accepted one asks already.

    Args:
        problems: those with an accepted draft, in the order of the source.
    Score: 1 - the likeness of the questions in [0, 1].
    """
    indices: list[int] = []

    def noted() -> Iterator[Problem]:
        for problem in problems:
            indices.append(problem.index)
            yield problem

    verdicts: dict[int, Verdict] = {}
    for group in find_duplicates(noted(), settings):
        for duplicate in group.duplicates:
            detail = f"{duplicate.reason} of row {indices[group.keep]} (counted from 0), id {group.keep_id}"
            score = 1 - duplicate.similarity / 100
            verdicts[indices[duplicate.position]] = dropped(DUPLICATES, Reason.NEAR_DUPLICATE, score, detail)
    return _for_each_draft(candidates, verdicts)


def _for_each_draft(candidates: Candidates, verdicts: Mapping[int, Verdict]) -> dict[Key, Verdict]:
    return {row.key: verdicts[row.index] for row in candidates.rows if row.index in verdicts}
