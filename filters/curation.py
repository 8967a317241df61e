"""What is decided about a draft by looking beyond it: at benchmarks and at the other accepted drafts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from filters.decontaminate import Index, judge_hits
from filters.dedup import find_duplicates, judge_duplicate
from filters.format import count_tokens
from filters.reasons import Verdict
from filters.selection import Candidate, Key
from schemas.config import DedupSettings
from schemas.records import Problem, Sample, Status


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


def find_contaminated(index: Index, problems: Iterable[Problem]) -> Iterator[Verdict]:
    """Whether each problem stands in a benchmark, in order. Score: 1 where it does not, else 0."""
    return map(judge_hits, index.find_hits(problems))


def drop_duplicates(
    candidates: Candidates, problems: Iterable[Problem], settings: DedupSettings
) -> dict[Key, Verdict]:
    """The accepted drafts of problems that an earlier accepted one asks already.

    Args:
        problems: those with an accepted draft, in the order of the source.
    """
    indices: list[int] = []

    def noted() -> Iterator[Problem]:
        for problem in problems:
            indices.append(problem.index)
            yield problem

    verdicts: dict[int, Verdict] = {}
    for group in find_duplicates(noted(), settings):
        for duplicate in group.duplicates:
            verdicts[indices[duplicate.position]] = judge_duplicate(duplicate, group)
    return {row.key: verdicts[row.index] for row in candidates.rows if row.index in verdicts}
