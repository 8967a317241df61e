"""Shared by all tests: nothing leaves the machine, and one finished demo serves all that look at one."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flows.children import start_child, stop_child, wait_until_ready
from tests.vllm_server import lend_mortal, save_tiny_model, serve_tiny_model  # noqa: F401 fixtures

ROOT = Path(__file__).parent.parent
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.update(OFFLINE)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores
os.environ.pop("PREFECT_API_URL", None)

SHARED_DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Ran:
    """A finished command: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def last_json(self) -> dict[str, Any]:
        return json.loads(self.out.strip().splitlines()[-1])


@cache
def shared_prefect() -> str:
    """The API of one Prefect server that serves most tests' commands; it ends with the tests."""
    folder = Path(tempfile.mkdtemp(prefix="avar-prefect-"))
    server, url = start_child("prefect", folder / "server.log", {"PREFECT_HOME": str(folder)})
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(stop_child, server)
    wait_until_ready(server, f"{url}/api/health", folder / "server.log")
    return f"{url}/api"


def avar(
    *arguments: str | Path,
    timeout: float = 300,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    own_prefect: bool = False,
) -> Ran:
    """Runs the real `avar` command in a process of its own.

    Args:
        own_prefect: let the command start a Prefect server itself instead of lending it the tests'.
    """
    lent = {} if own_prefect else {"PREFECT_API_URL": shared_prefect()}
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **lent, **(environment or {})},
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Demo:
    """A finished `avar demo`: its folder and its JSON."""

    root: Path
    result: dict[str, Any]
    err: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`avar demo --json`, run once for the whole session exactly as a person runs it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    root, result, log = shared / "demo" / "run", shared / "demo.json", shared / "demo.log"
    with (shared / "demo.lock").open("w") as lock:  # workers share one demo: the first one makes it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            ran = avar("demo", "--out", root, "--json", own_prefect=True)
            assert ran.code == 0, ran.err
            log.write_text(ran.err)
            result.write_text(json.dumps(ran.last_json))
    return Demo(root, json.loads(result.read_text()), log.read_text())
