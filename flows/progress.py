"""Progress that reaches a person without being a parameter of a flow.

The command line puts a reporter in place; a flow that runs on a schedule has none and says nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Protocol


class Reporter(Protocol):
    """Hears how far a long step is."""

    def advance(self, rows: int = 1, note: str = "") -> None: ...


class _Silent:
    def advance(self, rows: int = 1, note: str = "") -> None:
        """Nobody listens."""


_SILENT = _Silent()
_current: ContextVar[Reporter] = ContextVar("avar_reporter")


def advance(rows: int = 1, note: str = "") -> None:
    """Tells the current reporter that `rows` more rows are done."""
    _current.get(_SILENT).advance(rows, note)


@contextmanager
def step(title: str, total: int | None, stream: IO[str] | None = None) -> Iterator[Reporter]:
    """A progress bar on a terminal, plain lines elsewhere, on standard error unless told otherwise.

    Args:
        total: rows to come, None where nobody knows.
    """
    output = stream or sys.stderr
    bar = _bar(title, total, output) if output.isatty() else _lines(title, total, output)
    with bar as reporter:
        token = _current.set(reporter)
        try:
            yield reporter
        finally:
            _current.reset(token)


@contextmanager
def _bar(title: str, total: int | None, stream: IO[str]) -> Iterator[Reporter]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(file=stream)) as progress:
        task = progress.add_task(title, total=total, note="")

        class Bar:
            def advance(self, rows: int = 1, note: str = "") -> None:
                progress.update(task, advance=rows, note=note)

        yield Bar()


@contextmanager
def _lines(title: str, total: int | None, stream: IO[str], every_s: float = 5.0) -> Iterator[Reporter]:
    started = last = time.monotonic()
    done = 0

    class Lines:
        def advance(self, rows: int = 1, note: str = "") -> None:
            nonlocal done, last
            done += rows
            if time.monotonic() - last >= every_s:
                last = time.monotonic()
                print(f"{title}: {done}{_of(total)} {note}".rstrip(), file=stream, flush=True)

    yield Lines()
    took = time.monotonic() - started
    print(f"{title}: {done}{_of(total)} in {took:.1f} s", file=stream, flush=True)


def _of(total: int | None) -> str:
    return f"/{total}" if total is not None else ""
