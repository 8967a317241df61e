"""The benchmark of the filters: its bars can be missed, its lines can be read by machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.filter_bars import BARS, find_missed
from tests.bench.filters import describe_line
from tests.conftest import ROOT, SHARED_DATA

needs_data = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real data is not beside the project")


@pytest.mark.parametrize(
    ("line", "missed"),
    [
        ({"filter": "answers", "source": "total, not weak", "accuracy": 0.95}, 0),
        ({"filter": "answers", "source": "total, not weak", "accuracy": 0.94}, 1),
        ({"filter": "answers", "source": "easy pairs", "checks_per_s": 4999}, 1),
        ({"filter": "claims", "source": "all", "balanced_accuracy": 0.89, "rendering": "json"}, 1),
        ({"filter": "claims", "source": "tabmwp", "balanced_accuracy": 0.5}, 0),
        ({"filter": "decontaminate", "source": "pairs", "missed": ["7"]}, 1),
        ({"filter": "decontaminate", "source": "pairs", "missed": []}, 0),
        ({"filter": "decontaminate", "source": "solidgeo others", "share": 0.021}, 1),
        ({"filter": "decontaminate", "source": "100000 questions x 20000 items", "seconds": 61.0}, 1),
        ({"filter": "decontaminate", "source": "20000 questions x 4000 items", "seconds": 61.0}, 0),
    ],
)
def test_a_missed_bar_is_named(line: dict[str, Any], missed: int) -> None:
    found = find_missed([line])
    assert len(found) == missed
    assert all(line["source"] in words and "at " in words for words in found)


@needs_data
@pytest.mark.slow
def test_its_lines_are_json_and_every_bar_of_the_part_has_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench.filters", "--json", "--part", "answers"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == bool(find_missed(lines)), ran.stderr
    bars = [bar for bar in BARS if bar.where["filter"] == "answers"]
    assert all(any(bar.concerns(line) for line in lines) for bar in bars)
    assert all("total" not in describe_line(line) or "accuracy 0.9" in describe_line(line) for line in lines)


def test_without_data_it_says_so(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.bench.filters",
        "--part",
        "answers",
        "--data",
        str(tmp_path / "no"),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert "no such folder, real data is skipped" in ran.stderr
