"""Servers that avar starts for itself, and that never outlive it.

A child runs in a session of its own, so that Ctrl-C reaches avar alone and avar stops the child in order.
It watches its parent's pid: once the parent is gone, by SIGKILL too, it exits within a quarter of a second.

A child is handed a socket that is bound already, so that nothing can take its port while it starts.

    python -m flows.children prefect --socket 7 --parent 1234
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from schemas.errors import FlowError

Kind = Literal["prefect", "embedded"]
READY = {"prefect": "/api/health", "embedded": "/health"}
START_S = 90.0  # a cold disk and a first database migration included
_STOP_S = 5.0
_WATCH_S = 0.25
_NOT_STARTED = 3  # as uvicorn's own command ends


@contextmanager
def serve_child(kind: Kind, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Starts a server on a free loopback port, waits until it answers, and stops it at the end.

    Args:
        log: file its output goes to, one per run.
        environment: variables added to this process's own.
    Yields: its base URL, without a trailing slash.
    Raises: FlowError: it did not start; the message quotes the end of the log.
    """
    child, url = start_child(kind, log, environment)
    try:
        wait_until_ready(child, url + READY[kind], log)
        yield url
    finally:
        stop_child(child)


def start_child(
    kind: Kind, log: Path, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    """Starts a server without waiting for it. Returns: the process and its base URL."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket() as own, log.open("ab") as output:
        own.bind(("127.0.0.1", 0))
        handed, parent = str(own.fileno()), str(os.getpid())
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.children", kind, "--socket", handed, "--parent", parent],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(own.fileno(),),
            env={**os.environ, **(environment or {})},
        )
        return child, f"http://127.0.0.1:{own.getsockname()[1]}"


def stop_child(child: subprocess.Popen[bytes], limit_s: float = _STOP_S) -> None:
    """Asks a server to stop, and kills it and its session where it does not."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path, limit_s: float = START_S) -> None:
    """Waits until `url` answers 200.

    Raises: FlowError: the process ended, or `limit_s` passed.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise FlowError(
                f"a server ended while starting (exit {child.returncode}); {log} ends: {_tail(log)}"
            )
        if answers(url):
            return
        time.sleep(0.1)
    raise FlowError(f"a server did not answer at {url} within {limit_s:g} s; {log} ends: {_tail(log)}")


def answers(url: str, *, any_status: bool = False) -> bool:
    """True where a server answers at `url` with 200, or with any status; never through a proxy."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=2) as response:
            return any_status or response.status == 200
    except urllib.error.HTTPError:
        return any_status
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _tail(log: Path, characters: int = 300) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return " ".join(text.split())[-characters:] or "(empty)"


# ------------------------------------------------------------------------------------- in the child


def watch_parent(parent: int, end: Callable[[], object]) -> None:
    """Calls `end`, in a thread, as soon as `parent` is no longer this process's parent."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        end()

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def usable_cores() -> int:
    """Cores that this process may use, on systems that say so; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stay_with_parent(parent: int) -> None:
    """In a process that works for another: Ctrl-C is its parent's business, and it never outlives that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch_parent(parent, partial(os._exit, 1))


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """A process that starts now inherits that Ctrl-C, which a terminal sends to all of them, is held back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_session() -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _prefect_app() -> Any:
    from prefect.server.api.server import create_app

    return create_app()


def _embedded_app() -> Any:
    from synth.embedded import app

    return app


def _serve(app: Any, own: socket.socket) -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    server.run(sockets=[own])
    if not server.started:
        sys.exit(_NOT_STARTED)


def _main() -> None:
    apps: dict[str, Callable[[], Any]] = {"prefect": _prefect_app, "embedded": _embedded_app}
    parser = argparse.ArgumentParser(prog="python -m flows.children")
    parser.add_argument("kind", choices=sorted(apps))
    parser.add_argument("--socket", type=int, required=True, help="descriptor of a bound socket")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    watch_parent(arguments.parent, _kill_session)
    _serve(apps[arguments.kind](), socket.socket(fileno=arguments.socket))


if __name__ == "__main__":
    _main()
