"""Prefect as avar uses it: quiet, offline, with a server of its own where none is given.

With PREFECT_API_URL set, that server is used. Otherwise one is started for the length of the run: Prefect's
built-in ephemeral server hangs on Ctrl-C and outlives a SIGKILL.

Importing this module sets Prefect's environment; import it before anything that imports Prefect.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from schemas.errors import FlowError

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect reports a failed flow with a traceback of its own; avar's one-line error is what people read.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_CLI_WRAP_LINES": "false",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)


@contextmanager
def prefect_server(log: Path) -> Iterator[str]:
    """A Prefect API for the flows inside: the one that PREFECT_API_URL names, or avar's own.

    Args:
        log: file that avar's own server writes to.
    Yields: the API's URL.
    Raises: FlowError: no server answers.
    """
    _import_prefect()
    given = os.environ.get("PREFECT_API_URL")
    if given:
        _require_answer(given)
        with _termination_as_interrupt():
            yield given
        return
    from flows.children import serve_child

    with ExitStack() as stack:
        home = stack.enter_context(_prefect_home())
        environment = {"PREFECT_HOME": str(home)}
        url = stack.enter_context(serve_child("prefect", log, environment)) + "/api"
        stack.enter_context(_prefect_uses(url, home))
        stack.enter_context(_termination_as_interrupt())
        yield url


def _import_prefect() -> None:
    """Imports Prefect with Ctrl-C and SIGTERM held back until that is done.

    It dumps its settings on the way, and pydantic makes an error of its own out of an interrupt in there.
    """
    heard: list[int] = []
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in ours:
        signal.signal(number, lambda number, _: heard.append(number))
    try:
        importlib.import_module("prefect.main")
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    if heard:
        raise KeyboardInterrupt


def _require_answer(url: str) -> None:
    from flows.children import answers

    if not answers(url.rstrip("/") + "/health", any_status=True):  # one with a lock on it answers 401
        raise FlowError(
            f"PREFECT_API_URL is {url}, but no Prefect server answers there: start it with "
            "`prefect server start`, or unset the variable and avar uses its own"
        )


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Within a flow Prefect hears SIGTERM itself and raises an exception of its own."""
    from prefect.exceptions import TerminationSignal

    try:
        yield
    except TerminationSignal as signalled:
        raise KeyboardInterrupt from signalled


@contextmanager
def _prefect_uses(url: str, home: Path) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
        yield


def _cache_folder() -> Path:
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "avar"
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # no home, or one that cannot be written
        raise FlowError(
            f"no folder for Prefect's database ({error}): set XDG_CACHE_HOME to one that can be written"
        ) from error
    return cache


@contextmanager
def _prefect_home() -> Iterator[Path]:
    """A folder for one server's database; a second avar at the same time gets another one."""
    cache = _cache_folder()
    for number in range(64):
        home = cache / f"prefect-{number}"
        home.mkdir(exist_ok=True)
        with (home / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield home
            return
    raise FlowError(f"{cache}: 64 Prefect servers of avar run at once; set PREFECT_API_URL to share one")


_by_command = False  # set while the `avar` command runs


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM is heard like Ctrl-C, so that servers are stopped and shards stay whole."""
    global _by_command
    previous = signal.signal(signal.SIGTERM, _interrupt_handler())
    _by_command = True
    try:
        yield
    finally:
        _by_command = False
        signal.signal(signal.SIGTERM, previous)


def _interrupt_handler() -> Callable[[int, FrameType | None], Any]:
    """What hears Ctrl-C; Python's own where a shell's background job ignores it."""
    handler = signal.getsignal(signal.SIGINT)
    return handler if callable(handler) else signal.default_int_handler


def runs_by_command() -> bool:
    """True within the `avar` command, False in a flow that Prefect runs on a schedule."""
    return _by_command


def hear_termination() -> None:
    """Called first in a flow: gives SIGTERM back to the command.

    Prefect's engine has just put in a handler of its own, which raises in whatever code happens to run; an
    event loop can lose that. On a schedule, where Prefect cancels runs by SIGTERM, its handler stays.
    """
    if _by_command:
        signal.signal(signal.SIGTERM, _interrupt_handler())
