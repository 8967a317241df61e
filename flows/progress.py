"""Progress that reaches a person without being a parameter of a flow.

The command line puts a reporter in place; a flow that runs on a schedule has none and says nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY_S = 5.0  # between two lines in a log
_WINDOW_S = 30.0  # long against one answer of most teachers, short against a change of speed
_WINDOW_ROWS = 20  # with fewer, the rate of a slow teacher would be noise
_LEAST_S, _LEAST_ROWS = 2.0, 5  # before that nothing is said
_REPLAY_S = 1.0  # most of what a journal holds comes back within it
_GRAIN_S = 0.25  # marks nearer to each other are one, so that memory stays flat


class Reporter(Protocol):
    """Hears how far a long step is."""

    def advance(self, rows: int = 1, note: str = "", *, earlier: bool = False) -> None: ...

    def note(self, text: str) -> None: ...


class _Silent:
    def advance(self, rows: int = 1, note: str = "", *, earlier: bool = False) -> None:
        """Nobody listens."""

    def note(self, text: str) -> None:
        """Nobody listens."""


_SILENT = _Silent()
_current: ContextVar[Reporter] = ContextVar("avar_reporter")


def advance(rows: int = 1, note: str = "", *, earlier: bool = False) -> None:
    """Tells the current reporter that `rows` more rows are done.

    Args:
        note: said until the next call.
        earlier: an earlier run has done them: they count as done, and not in the rate.
    """
    _current.get(_SILENT).advance(rows, note, earlier=earlier)


def note(text: str) -> None:
    """Gives the current reporter something to say besides the rows, until the next note."""
    _current.get(_SILENT).note(text)


# ----------------------------------------------------------------------------------------------- rate


class Rate:
    """Rows per second over a sliding window, from marks of the time and the rows done by then.

    The window reaches back 30 seconds, and further where those hold fewer than 20 rows. Rows of the first
    second are left out: they come out of the journal, and the rest will not come as fast.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._marks: deque[tuple[float, int]] = deque([(started, 0)])
        self._rows = 0

    def mark(self, now: float, rows: int) -> None:
        """Notes that `rows` are done in all at the time `now`, in seconds of a clock that never goes back."""
        self._rows = rows
        if now - self._started <= _REPLAY_S:
            self._marks[0] = (now, rows)
        elif now - self._marks[-1][0] >= _GRAIN_S:
            self._marks.append((now, rows))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while len(self._marks) > 1:
            time_s, rows = self._marks[1]
            if now - time_s < _WINDOW_S or self._rows - rows < _WINDOW_ROWS:
                return
            self._marks.popleft()

    def per_second(self, now: float) -> float | None:
        """Rows per second; None until there is enough to tell."""
        self._forget(now)
        since, before = self._marks[0]
        if now - since < _LEAST_S or self._rows - before < _LEAST_ROWS:
            return None
        return (self._rows - before) / (now - since)

    def seconds_left(self, now: float, rows_left: int) -> float | None:
        """Seconds until `rows_left` more rows are done; None where it cannot be told or none are left."""
        per_second = self.per_second(now)
        return rows_left / per_second if per_second and rows_left > 0 else None


class _Meter:
    """What a step has done so far, as words. A terminal reads it from a thread of its own."""

    def __init__(self, total: int | None, unit: str, clock: Callable[[], float]) -> None:
        self.total, self.unit, self.clock = total, unit, clock
        self.started = clock()
        self.done = 0
        self._earlier = 0
        self._rate = Rate(self.started)
        self._lock = threading.Lock()
        self._standing = self._passing = ""

    def advance(self, rows: int, note: str, earlier: bool) -> None:
        with self._lock:
            self.done += rows
            self._earlier += rows if earlier else 0
            self._passing = note
            self._rate.mark(self.clock(), self.done - self._earlier)

    def note(self, text: str) -> None:
        self._standing = text

    def count(self) -> str:
        return f"{self.done}/{self.total}" if self.total is not None else str(self.done)

    def rate(self) -> str:
        """`41.3 rows/s`, by the minute where that is below one; "" while unknown."""
        with self._lock:
            per_second = self._rate.per_second(self.clock())
        if per_second is None:
            return ""
        if per_second < 1:
            return f"{per_second * 60:.1f} {self.unit}/min"
        return f"{per_second:.1f} {self.unit}/s"

    def left(self) -> str:
        """`1:32 left`; "" while unknown."""
        if self.total is None:
            return ""
        with self._lock:
            seconds = self._rate.seconds_left(self.clock(), self.total - self.done)
        return f"{clock_time(seconds)} left" if seconds is not None else ""

    def notes(self) -> str:
        return ", ".join(filter(None, (self._standing, self._passing)))

    def took(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started


def clock_time(seconds: float) -> str:
    """`1:32`, or `26:03:07` with hours."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


# ------------------------------------------------------------------------------------------ reporters


@contextmanager
def step(
    title: str,
    total: int | None,
    stream: IO[str] | None = None,
    *,
    unit: str = "rows",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Reporter]:
    """A progress bar on a terminal, plain lines elsewhere, on standard error unless told otherwise.

    Args:
        total: rows to come, None where nobody knows.
        unit: what is counted, in the plural.
        clock: seconds, never going back.
    """
    output = stream or sys.stderr
    meter = _Meter(total, unit, clock)
    with _bar(title, meter, output) if output.isatty() else _lines(title, meter, output) as reporter:
        token = _current.set(reporter)
        try:
            yield reporter
        finally:
            _current.reset(token)


@contextmanager
def _bar(title: str, meter: _Meter, stream: IO[str]) -> Iterator[Reporter]:
    with _display(meter, stream) as display:
        task = display.add_task(title, total=meter.total)

        class Bar:
            def advance(self, rows: int = 1, note: str = "", *, earlier: bool = False) -> None:
                meter.advance(rows, note, earlier)
                display.update(task, completed=meter.done)

            def note(self, text: str) -> None:
                meter.note(text)

        yield Bar()


def _display(meter: _Meter, stream: IO[str]) -> Progress:
    """The bar and its numbers on one line of the terminal, the notes below it, drawn four times a second."""
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Words(ProgressColumn):
        def __init__(self, say: Callable[[], str]) -> None:
            super().__init__(Column(no_wrap=True))
            self.say = say

        def render(self, task: Task) -> Text:
            return Text(self.say())

    class Display(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if notes := meter.notes():
                yield Text(f"  {notes}", no_wrap=True, overflow="ellipsis")

    bar = BarColumn(bar_width=None, table_column=Column(ratio=1))  # gives way where the line is short
    numbers = (meter.count, meter.rate, lambda: clock_time(meter.took()), meter.left)
    columns = (TextColumn("{task.description:<12}", markup=False), bar, *map(Words, numbers))
    return Display(*columns, console=Console(file=stream), refresh_per_second=4, expand=True)


@contextmanager
def _lines(title: str, meter: _Meter, stream: IO[str]) -> Iterator[Reporter]:
    last = meter.started

    def say() -> None:
        nonlocal last
        if meter.clock() - last >= EVERY_S:
            last = meter.clock()
            words = (meter.count(), meter.rate(), meter.left(), meter.notes())
            print(f"{title}: {', '.join(filter(None, words))}", file=stream, flush=True)

    class Lines:
        def advance(self, rows: int = 1, note: str = "", *, earlier: bool = False) -> None:
            meter.advance(rows, note, earlier)
            say()

        def note(self, text: str) -> None:
            meter.note(text)
            say()

    yield Lines()
    print(f"{title}: {meter.count()} in {meter.took():.1f} s", file=stream, flush=True)
