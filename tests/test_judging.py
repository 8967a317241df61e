"""Judging in several processes: the same verdicts, an error that is told, and no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from filters.verdicts import judge
from flows import judging
from flows.judging import judge_drafts
from schemas.config import FilterSettings
from schemas.errors import ShardError
from schemas.runs import draft_shards, partition_path, write_partition
from tests.conftest import ROOT
from tests.rows import GOOD_TRACE, draft, failed_draft

SETTINGS = FilterSettings()
TRACES = (
    GOOD_TRACE,
    GOOD_TRACE.replace(">4<", ">5<"),
    "<think>no",
    GOOD_TRACE.replace("4", "x^2 - (x-2)(x+2)"),
)


def write_run(root: Path, shards: int, rows: int) -> None:
    for number in range(shards):
        indices = range(number * rows, (number + 1) * rows)
        drafts = [failed_draft(i) if i % 7 == 3 else draft(i, TRACES[i % len(TRACES)]) for i in indices]
        write_partition(root, number, "f", drafts)


def test_processes_give_the_verdicts_that_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, shards=5, rows=8)
    alone = list(judge_drafts(draft_shards(tmp_path), SETTINGS))
    monkeypatch.setattr(judging, "_FEW", 0)
    monkeypatch.setattr(judging, "usable_cores", lambda: 2)
    before = set(psutil.Process().children(recursive=True))
    assert list(judge_drafts(draft_shards(tmp_path), SETTINGS)) == alone
    assert [verdicts for _, verdicts in alone] == [judge(one, SETTINGS).verdicts for one, _ in alone]
    assert len({verdicts for _, verdicts in alone}) > 3
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [process for process in left if "spawn_main" in " ".join(process.cmdline())]


def test_a_damaged_shard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, shards=3, rows=4)
    monkeypatch.setattr(judging, "_FEW", 0)
    monkeypatch.setattr(judging, "usable_cores", lambda: 2)
    monkeypatch.setattr(judging, "count_rows", lambda path: 12)
    partition_path(tmp_path, 1).write_bytes(b"no Arrow")
    with pytest.raises(ShardError, match=r"part-00001\.arrow: not a readable Arrow stream"):
        list(judge_drafts(draft_shards(tmp_path), SETTINGS))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_judges(tmp_path: Path, ending: signal.Signals) -> None:
    write_run(tmp_path, shards=60, rows=40)
    code = f"""
        from pathlib import Path
        from flows.judging import judge_drafts
        from schemas.runs import draft_shards
        from schemas.config import FilterSettings
        if __name__ == "__main__":
            for number, _ in enumerate(judge_drafts(draft_shards(Path({str(tmp_path)!r})), FilterSettings())):
                print(number, flush=True)
    """
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(code))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(ending)
        process.wait(30)
    deadline = time.monotonic() + 15
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
        assert time.monotonic() < deadline, workers
        time.sleep(0.1)
    assert len(workers) >= min(2, len(os.sched_getaffinity(0)))
