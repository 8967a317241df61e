"""Accuracy and speed of the answer checker on labelled pairs: one row per source, then totals and halves.

    python -m tests.bench.filters_answers [--data DIR]

A pair counts as right where `is_correct` says what its label says. Halves are split by a hash of the pair's
id, so that a rule written while looking at one half is measured on the other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filters.answers import is_correct
from tests.conftest import SHARED_DATA

PAIRS = "answers.jsonl"
EASY = [
    ("12", "12.0"), ("B", "(b)"), ("12 cm", "0.12 m"), (r"\frac{1}{2}", "0.5"), ("The answer is 12.", "12"),
    (r"\boxed{7}", "8"), ("yes", "No"), ("(1,2)", "(2,1)"), ("5√3", r"5\sqrt{3}"), ("4:23", "4:32"),
    ("$5", "5 dollars"), ("1,000", "1000"), ("50%", "1/2"), ("{1, 2}", "2, 1"), ("x > 5", "(5, ∞)"),
]  # fmt: skip
ROUNDS = 400

Row = dict[str, Any]


def measure(data: Path) -> Iterator[Row]:
    """One row per source, then "total, not weak", "total, weak" and both by half; last, the easy pairs.

    Keys: filter, source, weak, pairs, accuracy in [0, 1] (None for the easy pairs), false_accepts,
    false_rejects (counts), checks_per_s (one process, CPU time of this process: that of the algebra workers
    is left out).
    """
    groups: dict[tuple[str, bool], list[Row]] = defaultdict(list)
    for line in (data / PAIRS).read_text(encoding="utf-8").splitlines():
        pair = _judge(json.loads(line))
        weak = pair["weak"]
        groups[pair["source"], weak].append(pair)
        name = "total, weak" if weak else "total, not weak"
        groups[name, weak].append(pair)
        groups[f"{name}, half {pair['half']}", weak].append(pair)
    for (source, weak), pairs in sorted(
        groups.items(), key=lambda group: (group[0][0][:5] == "total", group[0])
    ):
        yield _row(source, weak, pairs)
    yield measure_easy()


def _judge(pair: Row) -> Row:
    precision = None if pair.get("precision") is None else int(pair["precision"])
    started = time.process_time()
    correct = is_correct(pair["pred"], pair["gold"], pair.get("choices"), precision)
    return {
        "source": pair["source"],
        "weak": bool(pair.get("weak")),
        "half": hashlib.sha256(pair["id"].encode()).digest()[0] % 2,
        "correct": correct,
        "expected": bool(pair["expected"]),
        "seconds": time.process_time() - started,
    }


def _row(source: str, weak: bool, pairs: Sequence[Row]) -> Row:
    false_accepts = sum(pair["correct"] and not pair["expected"] for pair in pairs)
    false_rejects = sum(pair["expected"] and not pair["correct"] for pair in pairs)
    return {
        "filter": "answers",
        "source": source,
        "weak": weak,
        "pairs": len(pairs),
        "accuracy": 1 - (false_accepts + false_rejects) / len(pairs),
        "false_accepts": false_accepts,
        "false_rejects": false_rejects,
        "checks_per_s": round(len(pairs) / max(sum(pair["seconds"] for pair in pairs), 1e-9)),
    }


def measure_easy() -> Row:
    """Checks a second on pairs that need no computer algebra, made new each time so that no cache helps."""
    started = time.process_time()
    for number in range(ROUNDS):
        for prediction, gold in EASY:
            is_correct(f"{prediction}{' ' * (number % 2)}", f"{gold} " if number % 3 else gold)
    seconds = time.process_time() - started
    return {
        "filter": "answers",
        "source": "easy pairs",
        "weak": False,
        "pairs": len(EASY) * ROUNDS,
        "accuracy": None,
        "false_accepts": 0,
        "false_rejects": 0,
        "checks_per_s": round(len(EASY) * ROUNDS / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    for row in measure(parser.parse_args().data):
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
