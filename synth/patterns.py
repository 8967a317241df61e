"""Rules of a pattern grid: which cells share a value, and what that says about a missing one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache

Cell = tuple[int, int]


@dataclass(frozen=True)
class Rule:
    """Cell (row, column) belongs to group `(down * row + across * column) mod period`."""

    down: int
    across: int
    period: int

    def group(self, cell: Cell) -> int:
        """The group of a cell, in [0, period)."""
        return (self.down * cell[0] + self.across * cell[1]) % self.period

    @property
    def words(self) -> str:
        """The rule in plain English."""
        if self.period == 1:
            return "the same in every cell"
        way = {
            (1, 0): "from row to row",
            (0, 1): "from column to column",
            (1, 1): "along each row, shifted by one from row to row",
            (1, -1): "along each row, shifted by one the other way from row to row",
        }[self.down, self.across]
        return f"a cycle of {self.period} {way}"


@cache
def rules(rows: int, columns: int) -> tuple[Rule, ...]:
    """The simple rules of a grid, from the simplest to the most elaborate."""
    found = [Rule(0, 0, 1)]
    found += [Rule(1, 0, period) for period in range(2, rows + 1)]
    found += [Rule(0, 1, period) for period in range(2, columns + 1)]
    found += [Rule(1, way, period) for way in (1, -1) for period in range(2, min(rows, columns) + 1)]
    return tuple(sorted(found, key=lambda rule: rule.period))


def exceptions(rule: Rule, cells: Mapping[Cell, Hashable]) -> list[Cell]:
    """The cells that differ from the commonest value of their group, in reading order."""
    commonest = _commonest(rule, cells)
    return sorted(cell for cell, value in cells.items() if value != commonest[rule.group(cell)])


def predicted(rule: Rule, cells: Mapping[Cell, Hashable], hole: Cell) -> Hashable | None:
    """The value a rule gives the missing cell, None where its group holds no visible cell."""
    return _commonest(rule, cells).get(rule.group(hole))


def fitting_rules(cells: Mapping[Cell, Hashable], rows: int, columns: int, allowed: int = 0) -> list[Rule]:
    """The rules with at most `allowed` exceptions among the visible cells, fewest exceptions first.

    A group held up by a single cell explains nothing, so a rule needs fewer groups than cells.
    """
    counted = [(len(exceptions(rule, cells)), rule.period, rule) for rule in rules(rows, columns)]
    good = [entry for entry in counted if entry[0] <= allowed and entry[1] < len(cells)]
    return [rule for _, _, rule in sorted(good, key=lambda entry: entry[:2])]


def agreed_value(cells: Mapping[Cell, Hashable], hole: Cell, rows: int, columns: int) -> Hashable | None:
    """The missing cell's value where all rules without exception agree on it, else None."""
    values = {predicted(rule, cells, hole) for rule in fitting_rules(cells, rows, columns)}
    values.discard(None)
    return values.pop() if len(values) == 1 else None


def _commonest(rule: Rule, cells: Mapping[Cell, Hashable]) -> dict[int, Hashable]:
    groups: dict[int, Counter[Hashable]] = {}
    for cell in sorted(cells):
        groups.setdefault(rule.group(cell), Counter())[cells[cell]] += 1
    return {group: counts.most_common(1)[0][0] for group, counts in groups.items()}
