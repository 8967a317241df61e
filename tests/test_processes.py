"""No process outlives a run, whichever way the run ends, and a run that was stopped goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from flows.children import start_child, stop_child, wait_until_ready
from tests.conftest import ROOT, avar
from tests.ports import free_port

SLOW = ("--set", "source.count=3000", "--set", "partition_size=25")


def start_run(out: Path) -> subprocess.Popen[bytes]:
    """A run that is long enough to be stopped."""
    command = [sys.executable, "-m", "flows.cli", "synth", "demo", "--out", str(out), *SLOW]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def wait_for(condition: Callable[[], bool], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def drafted(out: Path) -> int:
    return len(list(out.glob("drafts/part-*.arrow")))


def end_run(out: Path, ending: signal.Signals) -> tuple[subprocess.Popen[bytes], list[psutil.Process], str]:
    """Stops a run in the middle of its work. Returns: the run, what it had started, its standard error."""
    run = start_run(out)
    try:
        assert wait_for(lambda: drafted(out) >= 1, 90), "no partition was finished"
        children = psutil.Process(run.pid).children(recursive=True)
        assert {"prefect", "embedded"} <= {word for child in children for word in child.cmdline()}
        os.kill(run.pid, ending)
        run.wait(20)
    finally:
        if run.poll() is None:
            run.kill()
    assert run.stderr is not None
    return run, children, run.stderr.read().decode()


def alive(processes: list[psutil.Process]) -> list[str]:
    """Command lines of those that run; one that ends while it is looked at does not."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # zombies included
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


@pytest.mark.parametrize(
    ("ending", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_is_left_behind(tmp_path: Path, ending: signal.Signals, code: int) -> None:
    out = tmp_path / "run"
    run, children, err = end_run(out, ending)
    assert run.returncode == code, err
    assert wait_for(lambda: not alive(children), 5), alive(children)
    if ending is not signal.SIGKILL:
        assert err.strip().splitlines()[-1].startswith("avar: stopped")
    assert ("Ctrl-C again stops at once" in err) == (ending is signal.SIGINT)
    assert "Traceback" not in err


def test_a_stopped_run_goes_on_and_ends_as_if_never_stopped(tmp_path: Path) -> None:
    small = ("--set", "source.count=60", "--set", "partition_size=6", "--json")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    command = [sys.executable, "-m", "flows.cli", "run", "demo", "--out", str(stopped), *small]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: drafted(stopped) >= 2, 90)
    run.kill()
    run.wait()
    kept = {path: path.stat().st_mtime_ns for path in stopped.glob("drafts/part-*.arrow")}
    assert 2 <= len(kept) <= 10
    assert avar("run", "demo", "--out", stopped, *small).code == 0
    assert avar("run", "demo", "--out", whole, *small).code == 0
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert shard_bytes(stopped) == shard_bytes(whole)


def shard_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.arrow"))}


def test_a_server_of_avars_own_has_its_port_from_the_beginning(tmp_path: Path) -> None:
    """Starting takes seconds, in which an outgoing connection of anybody may be given a port that is free."""
    child, url = start_child("embedded", tmp_path / "log")
    try:
        with socket.socket() as other, pytest.raises(OSError, match="already in use"):
            other.bind(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        wait_until_ready(child, f"{url}/health", tmp_path / "log")
    finally:
        stop_child(child)


def test_a_given_prefect_server_is_used(tmp_path: Path) -> None:
    """`prefect server start` as a person runs it; the runs appear there."""
    import json
    import urllib.request

    port, log = free_port(), tmp_path / "prefect.log"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    prefect = Path(sys.executable).parent / "prefect"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    api = f"http://127.0.0.1:{port}/api"
    try:
        wait_until_ready(server, f"{api}/health", log)
        ran = avar(
            *("run", "demo", "--out", tmp_path / "run", "--json", "--set", "source.count=12"),
            environment={"PREFECT_API_URL": api},
        )
        assert ran.code == 0, ran.err
        assert not (tmp_path / "run" / "logs" / "prefect.log").exists()
        request = urllib.request.Request(
            f"{api}/flow_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            states = [run["state_type"] for run in json.load(response)]
        assert states == ["COMPLETED", "COMPLETED"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def test_a_given_prefect_server_that_is_down_is_one_line(tmp_path: Path) -> None:
    ran = avar(
        "run", "demo", "--out", tmp_path / "run", environment={"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    )
    assert ran.code == 1
    assert "no Prefect server answers there" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_embedded_teacher_is_served_until_it_is_stopped(tmp_path: Path, ending: signal.Signals) -> None:
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "flows.cli", "teacher", "serve", "embedded", "--port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_ready(server, f"http://127.0.0.1:{port}/v1/models", log)
        server.send_signal(ending)
        assert server.wait(15) in {0, 130, -ending}
        assert "Traceback" not in log.read_text()
    finally:
        server.kill()
