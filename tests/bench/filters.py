"""Accuracy and throughput of every filter, a line per filter and source.

    python -m tests.bench.filters [--data DIR] [--json] [--part answers|grounding|dedup ...] [--quick]

answers     pairs of a prediction and a gold answer from public graders' tests and from models' outputs
grounding   true and false statements about real pictures; scenes whose truth is known, with planted faults
dedup       contaminated rows, rows that are none, copies, 100,000 questions against 20,000 items

Real data is read from `--data` and skipped where that is absent. Throughput is of one process. What is
promised is checked at the end: a bar that was missed is named, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import filters_answers, filters_dedup, filters_grounding
from tests.bench.filter_bars import find_missed

Line = dict[str, Any]
DATA = Path(__file__).parent.parent.parent.parent / "shared" / "data"
PARTS = ("answers", "grounding", "dedup")
_QUICK = 20_000, 4_000  # questions and items


def measure(part: str, data: Path, *, quick: bool = False) -> Iterator[Line]:
    """The lines of one part."""
    sizes = _QUICK if quick else ()
    measures: Mapping[str, Callable[[], Iterator[Line]]] = {
        "answers": lambda: filters_answers.measure(data),
        "grounding": lambda: filters_grounding.measure(data),
        "dedup": lambda: filters_dedup.measure(data, *sizes),
    }
    return measures[part]()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the parts and prints their lines as they come."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be given several times")
    parser.add_argument("--quick", action="store_true", help="a smaller synthetic case of dedup")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        print(f"{options.data}: no such folder, real data is skipped", file=sys.stderr)
    lines: list[Line] = []
    for part in options.part or PARTS:
        if part == "answers" and not options.data.is_dir():
            continue
        for line in measure(part, options.data, quick=options.quick):
            lines.append(line)
            print(json.dumps(line, default=str) if options.json else describe_line(line), flush=True)
    missed = find_missed(lines)
    print("\n".join(f"missed: {words}" for words in missed) or "no bar missed", file=sys.stderr)
    sys.exit(1 if missed else 0)


def describe_line(line: Mapping[str, Any]) -> str:
    """Filter and source, then the figures."""
    figures = [f"{name} {_short(value)}" for name, value in line.items() if name not in {"filter", "source"}]
    return f"{line['filter']:<16}{line['source']!s:<44} {'  '.join(figures)}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | dict):
        return f"{len(value)} listed"
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
