"""Ctrl-C and SIGTERM at a run that a person has started, and what it is when the same command goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from schemas.config import STAGE_NAMES
from schemas.runs import count_drafts
from schemas.shards import STAGING
from tests.conftest import Ran, avar
from tests.folder_run import IN_FLIGHT, PARTITION, read_shards, start_avar, synth_command, write_folder
from tests.stub_server import StubServer, stub_server
from tests.test_processes import alive, wait_for
from tests.traffic import Answered, Traffic

ROWS = 60
PROBLEMS = ROWS - 2  # two rows fail at the source
AT_ONCE_S = 4.0  # most seconds that "now" may take on a busy machine; a call takes 30


@dataclass(frozen=True)
class Work:
    """A folder of problems, and what an undisturbed run makes of it."""

    source: Path
    root: Path
    shards: dict[str, bytes]

    @property
    def drafts(self) -> dict[str, bytes]:
        """The shards as they are before curation."""
        return {name: data for name, data in self.shards.items() if name.startswith("drafts")}

    @property
    def dataset(self) -> dict[str, bytes]:
        """What curation adds."""
        return {name: data for name, data in self.shards.items() if not name.startswith("drafts")}


@dataclass
class Teacher:
    """A stub and what it was asked."""

    server: StubServer
    traffic: Traffic

    @property
    def requests(self) -> int:
        """Different ones that have come."""
        return len(self.traffic.read().arrivals)


@contextmanager
def teacher(tmp_path: Path, latency_s: float) -> Iterator[Teacher]:
    log = tmp_path / f"stub-{latency_s:g}.log"
    with stub_server(latency=f"fixed:{latency_s}", log=log) as server:
        yield Teacher(server, Traffic(log))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("interrupts")
    source, out = write_folder(folder / "source", ROWS), folder / "whole"
    with teacher(folder, 0.02) as asked:
        for arguments in (synth_command(source, asked.server.url, out), ["curate", out]):
            ran = avar(*arguments)
            assert ran.code == 0, ran.err
    return Work(source, out, read_shards(out))


@contextmanager
def started(
    arguments: list[str], log: Path, *, own_prefect: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """The command as it runs; whatever a test does, it has ended afterwards."""
    process = start_avar(arguments, log, own_prefect=own_prefect)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def require(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until something is so while the run goes on."""
    assert wait_for(lambda: condition() or process.poll() is not None, 60), log.read_text()
    assert process.poll() is None, log.read_text()


def stop(process: subprocess.Popen[bytes], *signals: signal.Signals) -> float:
    """Sends signals a moment apart. Returns: seconds from the last one to the orderly end."""
    for position, number in enumerate(signals):
        time.sleep(0.2 if position else 0.0)
        process.send_signal(number)
    since = time.monotonic()
    assert process.wait(30) == 130
    return time.monotonic() - since


def last_line(log: Path) -> str:
    assert "Traceback" not in log.read_text()
    return log.read_text().strip().splitlines()[-1]


def finish(work: Work, url: str, out: Path) -> Ran:
    """Goes on with the same command to the end; the shards must then be the undisturbed run's."""
    ran = avar(*synth_command(work.source, url, out))
    assert ran.code == 0, ran.err
    assert read_shards(out) == work.drafts
    return ran


def test_ctrl_c_once_finishes_what_is_in_flight(tmp_path: Path, work: Work) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    with teacher(tmp_path, 0.4) as asked:
        command = synth_command(work.source, asked.server.url, out)
        with started(command, log) as run:
            require(lambda: asked.requests >= 5 * IN_FLIGHT, run, log)
            stop(run, signal.SIGINT)
        assert f"finishing {IN_FLIGHT} answers in flight; Ctrl-C again stops at once" in log.read_text()
        assert not asked.traffic.read().open, "a call was given up"
        kept = asked.traffic.asked
        assert set(Answered(work.source).read(out)) == kept
        assert asked.requests <= 6 * IN_FLIGHT + 1, "calls were begun after Ctrl-C"
        done = count_drafts(out)
        assert 0 < done < ROWS
        assert last_line(log).startswith(f"avar: stopped: {done} drafts are in {out}")
        assert f"`avar curate {out}`" in last_line(log)
        ran = avar("curate", out, "--json")
        assert ran.code == 0, ran.err
        assert ran.last_json["drafts"] == done
        assert "not finished" in ran.err
        assert avar(*command).code == 0
        assert asked.traffic.read().arrivals.total() == 3 * PROBLEMS, "something was asked twice"
        assert avar("curate", out).code == 0
    assert read_shards(out) == work.shards


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_twice_or_by_sigterm_it_stops_at_once(
    tmp_path: Path, work: Work, signals: tuple[signal.Signals, ...]
) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    with teacher(tmp_path, 0.05) as quick, teacher(tmp_path, 30) as slow:
        command = synth_command(
            *(work.source, quick.server.url, out),
            reason__teacher__url=slow.server.url,
            reason__teacher__max_in_flight=IN_FLIGHT,
        )
        with started(command, log) as run:
            require(lambda: slow.requests == IN_FLIGHT, run, log)
            time.sleep(0.5)  # the rows that may begin besides have their descriptions
            require(lambda: not quick.traffic.read().open, run, log)
            assert stop(run, *signals) < AT_ONCE_S
        assert last_line(log).startswith("avar: stopped")
        assert set(Answered(work.source).read(out)) == set(quick.traffic.arrivals), "an answer was lost"
        finish(work, quick.server.url, out)
        assert quick.traffic.read().arrivals.total() == 3 * PROBLEMS, "a description was asked for again"


def test_ctrl_c_while_the_servers_start(tmp_path: Path, work: Work) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    with teacher(tmp_path, 0.05) as asked:
        with started(synth_command(work.source, asked.server.url, out), log, own_prefect=True) as run:
            require(lambda: (out / "logs" / "prefect.log").exists(), run, log)
            children = psutil.Process(run.pid).children(recursive=True)
            stop(run, signal.SIGINT)
        assert last_line(log).startswith("avar: stopped")
        assert wait_for(lambda: not alive(children), 5), alive(children)
        assert asked.requests == 0
        finish(work, asked.server.url, out)


def test_ctrl_c_during_curation_keeps_the_dataset_that_was_there(tmp_path: Path, work: Work) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(work.root, out)
    with started(["curate", str(out), "--set", "filters.min_anchors=99"], log) as run:
        require((out / STAGING).is_dir, run, log)
        stop(run, signal.SIGINT)
    assert last_line(log).startswith("avar: stopped")
    assert read_shards(out) == work.shards
    assert not (out / STAGING).exists()
    assert avar("curate", out, "--set", "filters.min_anchors=2").code == 0
    assert read_shards(out) == work.shards


def test_one_stage_at_a_time_is_the_same_run(tmp_path: Path, work: Work) -> None:
    out = tmp_path / "run"
    with teacher(tmp_path, 0.02) as asked:
        command = synth_command(work.source, asked.server.url, out)
        for number, (stage, following) in enumerate(pairwise((*STAGE_NAMES, ""))):
            ran = avar(*command, "--stage", stage)
            assert ran.code == 0, ran.err
            assert asked.requests == (number + 1) * PROBLEMS
            waiting = f"{PROBLEMS} rows wait for {following}; next: avar synth {out} --stage {following}"
            assert (waiting in ran.out) == bool(following), ran.out
        assert asked.traffic.arrivals.total() == 3 * PROBLEMS
    assert read_shards(out) == work.drafts


def test_a_stage_before_its_turn_asks_nothing(tmp_path: Path, work: Work) -> None:
    out = tmp_path / "run"
    with teacher(tmp_path, 0.02) as asked:
        ran = avar(*synth_command(work.source, asked.server.url, out), "--stage", "reason")
        assert ran.code == 0, ran.err
        assert asked.requests == 0
        assert f"{PROBLEMS} rows wait for describe" in ran.out


def test_more_rows_cost_only_what_is_new(tmp_path: Path, work: Work) -> None:
    out, few = tmp_path / "run", ROWS // 2 + 5
    with teacher(tmp_path, 0.02) as asked:
        command = ["run", *synth_command(work.source, asked.server.url, out)[1:], "--json"]
        ran = avar(*command, "--set", f"source.limit={few}")
        assert ran.code == 0, ran.err
        assert ran.last_json["problems"] == few
        assert asked.requests == 3 * (few - 2)
        ran = avar(*command)
        assert ran.code == 0, ran.err
        assert asked.traffic.read().arrivals.total() == 3 * PROBLEMS, "something was asked twice"
    assert read_shards(out) == work.shards


def test_a_table_that_grew_may_be_interrupted_and_curated(tmp_path: Path, work: Work) -> None:
    source, out, log = tmp_path / "source", tmp_path / "run", tmp_path / "log"
    shutil.copytree(work.source, source)
    rows = (source / "items.jsonl").read_text().splitlines(keepends=True)
    (source / "items.jsonl").write_text("".join(rows[:PARTITION]))
    with teacher(tmp_path, 0.2) as asked:
        command = synth_command(source, asked.server.url, out)
        assert avar(*command).code == 0
        before = asked.requests
        (source / "items.jsonl").write_text("".join(rows))
        with started(command, log) as run:
            require(lambda: asked.requests >= before + 4 * IN_FLIGHT, run, log)
            stop(run, signal.SIGINT)
        ran = avar("curate", out, "--json")
        assert ran.code == 0, ran.err
        assert PARTITION < ran.last_json["drafts"] < ROWS
        assert "not finished" in ran.err
        assert avar(*command).code == 0
        assert avar("curate", out).code == 0
    made = read_shards(out)  # the drafts name the recipe, and with it the folder's place
    assert {name: made[name] for name in work.dataset} == work.dataset


def test_ctrl_c_does_not_wait_for_the_rest_of_the_source(tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    size = ("--set", "source.count=20000", "--set", "partition_size=10")
    with teacher(tmp_path, 0.2) as asked:
        command = ["synth", "demo", "--out", str(out), "--set", f"teacher.url={asked.server.url}", *size]
        with started(command, log) as run:
            require(lambda: asked.requests >= 2 * IN_FLIGHT, run, log)
            assert stop(run, signal.SIGINT) < AT_ONCE_S
    assert last_line(log).startswith("avar: stopped")
