"""What the project promises of its filters, against the lines of `tests.bench.filters`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """A figure of some lines that must be within bounds.

    Attributes:
        where: what such a line says besides.
        least, most: bounds, inclusive.
    """

    where: Mapping[str, Any]
    figure: str
    least: float | None = None
    most: float | None = None

    def concerns(self, line: Line) -> bool:
        """Whether the bar is about this line."""
        return self.figure in line and all(line.get(name) == value for name, value in self.where.items())

    def holds(self, line: Line) -> bool:
        """Whether the line's figure is within the bounds; a list counts by its length."""
        value = line[self.figure]
        number = len(value) if isinstance(value, Sequence) else value
        above = self.least is None or number >= self.least
        return above and (self.most is None or number <= self.most)


MANY, ITEMS = 100_000, 20_000
BARS = (
    Bar({"filter": "answers", "source": "total, not weak"}, "accuracy", least=0.95),
    Bar({"filter": "answers", "source": "total, weak"}, "accuracy", least=0.97),
    Bar({"filter": "answers", "source": "easy pairs"}, "checks_per_s", least=5000),
    Bar({"filter": "claims", "source": "all"}, "balanced_accuracy", least=0.9),
    Bar({"filter": "decontaminate", "source": "pairs"}, "missed", most=0),
    Bar({"filter": "decontaminate", "source": "solidgeo others"}, "share", most=0.02),
    Bar({"filter": "decontaminate", "source": f"{MANY} questions x {ITEMS} items"}, "seconds", most=60),
)


def find_missed(lines: Sequence[Line]) -> list[str]:
    """The bars that lines miss, in words; one without a line misses nothing."""
    return list(_find_missed(lines))


def _find_missed(lines: Sequence[Line]) -> Iterator[str]:
    for bar in BARS:
        for line in filter(bar.concerns, lines):
            if not bar.holds(line):
                bound = f"at least {bar.least:g}" if bar.least is not None else f"at most {bar.most:g}"
                yield f"{line['filter']}, {line['source']}: {bar.figure} {line[bar.figure]}, {bound}"
