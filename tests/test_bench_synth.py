"""The synthesis benchmark runs, says what it must, and would notice a lost row. No speed is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.config import FolderSource
from schemas.records import Problem
from synth.sources import read_source
from tests.bench import synth
from tests.bench.synth_arms import Result, Work
from tests.bench.synth_cases import Measured, _require_latency
from tests.bench.synth_load import make_problems, row_latencies, streaming_bound, write_folder
from tests.rows import draft, failed_draft, problem
from tests.stub_answers import Latency

KEYS = {
    *("case", "in_flight", "calls_per_s", "plain_calls_per_s", "mean_in_flight"),
    *("cpu_s_per_1k", "peak_rss_mb", "rows", "drafts", "failed"),
}


def test_a_line_a_case_with_both_arms(capfd: pytest.CaptureFixture[str]) -> None:
    cases = ("fixed-64", "faults", "memory-10k")
    named = [part for case in cases for part in ("--case", case)]
    synth.main(["--json", "--rows", "40", "--rounds", "1", *named])
    lines = {line["case"]: line for line in map(json.loads, capfd.readouterr().out.splitlines())}
    assert tuple(lines) == cases
    assert all(line.keys() >= KEYS for line in lines.values())
    for line in lines.values():
        assert line["calls_per_s"] > 0 and line["cpu_s_per_1k"] > 0 and line["peak_rss_mb"] > 20
        assert (line["rows"], line["drafts"] + line["failed"], line["unaccounted"]) == (40, 40, 0)
        assert 0 < line["mean_in_flight"] <= line["in_flight"]
    fixed, faults, memory = lines.values()
    assert fixed["failed"] == memory["failed"] == 0
    assert fixed["ratio"] == pytest.approx(fixed["calls_per_s"] / fixed["plain_calls_per_s"], rel=1e-3)
    assert faults["plain_calls_per_s"] is None
    assert faults["failed"] == faults["faults"]["refused"] == sum(faults["reasons"].values()) > 0
    assert faults["retries"] > 0
    assert {"duplicates", "failed_for_a_while", "uncounted_retries"}.isdisjoint(faults["missed"])
    assert memory["first_call_s"] > 0


def test_the_table_says_which_bars_were_missed() -> None:
    line = dict.fromkeys(synth._COLUMNS, 1.0) | {"case": "fixed-64", "ratio": 0.85, "mean_share": 0.95}
    line["missed"] = synth.find_missed("fixed-64", line)
    assert line["missed"] == ["ratio", "cpu_s_per_1k"]
    text = synth.describe_line(line)
    assert "ratio 0.85 (at least 0.9)" in text
    assert text.endswith("missed: ratio, cpu_s_per_1k")


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--case", "fixed"], "invalid choice"), (["--rows", "0"], "--rows")]
)
def test_wrong_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        synth.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_every_case_with_a_bar_exists() -> None:
    assert synth.BARS.keys() | set(synth.LONG) <= synth.CASES.keys()


def test_lost_and_doubled_rows_are_counted() -> None:
    items = [problem(index) for index in range(4)]
    work = Work()
    work.count(items, [draft(0), draft(1), draft(1), failed_draft(3)])
    assert (work.rows, work.drafts, work.duplicates) == (4, 3, 1)
    assert work.reasons == {"teacher_refused": 1}


# ------------------------------------------------------------------------------------------------- bound


def bound_in_small_steps(rows: list[list[float]], in_flight: int) -> float:
    """The same by walking through time, in steps of a hundredth; calls take whole steps."""
    waiting = [[round(100 * seconds) for seconds in calls] for calls in rows]
    running: list[list[int]] = []
    step = 0
    while waiting or running:
        while waiting and len(running) < in_flight:
            running.append(waiting.pop(0))
        for calls in running:
            calls[0] -= 1
            if not calls[0]:
                calls.pop(0)
        running = [calls for calls in running if calls]
        step += 1
    return step / 100


@pytest.mark.parametrize("in_flight", [1, 3, 7, 50])
def test_the_bound_is_that_of_a_walk_through_time(in_flight: int) -> None:
    drawn = row_latencies(make_problems(30), Latency(0.2, 0.8))
    rows = [[max(round(seconds, 2), 0.01) for seconds in calls] for calls in drawn]
    assert streaming_bound(rows, in_flight) == pytest.approx(bound_in_small_steps(rows, in_flight))


def test_a_bound_of_other_latencies_is_refused() -> None:
    result = Result(rows=1, drafts=1, failed=0, wall_s=1.0, cpu_s=1.0, peak_rss_mb=1.0, started_s=0.0)
    _require_latency(Measured(result, {"latency_s": 10.0}), 10.0)
    with pytest.raises(RuntimeError, match=r"10\.000 s in all, simulated 9\.900"):
        _require_latency(Measured(result, {"latency_s": 10.0}), 9.9)


# -------------------------------------------------------------------------------------------------- work


def test_a_folder_has_as_many_sound_rows_as_were_asked_for(tmp_path: Path) -> None:
    write_folder(tmp_path / "source", 30)
    rows = list(read_source(FolderSource(path=tmp_path / "source"), 0))
    assert len(rows) == len({row.id for row in rows if isinstance(row, Problem)}) == 30


def test_problems_differ_and_their_pictures_are_small() -> None:
    problems = make_problems(20)
    assert len({made.id for made in problems}) == len({made.images[0].bytes for made in problems}) == 20
    assert all(len(made.images[0].bytes) < 8000 for made in problems)
    assert problems == make_problems(20), "the same in every process"
