"""What working a question out on one reading gives."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Solution:
    """What a reading gives.

    Attributes:
        answer: plain text; None where the reading leaves the question undecided.
        steps: the way there, sentence by sentence, or why there is none.
        check: a second way to the same answer, one sentence, "" where there is none.
    """

    answer: str | None
    steps: list[str] = field(default_factory=list)
    check: str = ""
