"""What a person reads while a long step goes on: true numbers, or none."""

from __future__ import annotations

import io
import re

import pytest

from flows.progress import Rate, advance, clock_time, note, step


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rate_after(marks: list[tuple[float, int]], now: float | None = None) -> float | None:
    """The rate after rows came at some times; a mark is (seconds since the start, rows done in all)."""
    rate = Rate(0.0)
    for time_s, rows in marks:
        rate.mark(time_s, rows)
    return rate.per_second(marks[-1][0] if now is None else now)


def steady(per_second: float, start: float, end: float, before: int = 0) -> list[tuple[float, int]]:
    """Rows one by one at a fixed rate."""
    count = int((end - start) * per_second)
    return [(start + (number + 1) / per_second, before + number + 1) for number in range(count)]


@pytest.mark.parametrize(
    ("marks", "now", "expected"),
    [
        (steady(40, 0, 10), None, 40),
        (steady(40, 0, 100), None, 40),
        (steady(1 / 60, 0, 3600), None, 1 / 60),  # a row a minute: the window grows until it holds enough
        ([(0.5, 900), *steady(40, 1, 11, 900)], None, 40),  # a journal's rows in the first second
        (steady(1000, 0, 8) + steady(10, 8, 48, 8000), None, 10),  # a longer replay, past the window
        (steady(10, 0, 60) + steady(50, 60, 100, 600), None, 50),  # a second server has come
        (steady(10, 0, 60), 90, 0.65),  # none answers any more: the last 20 rows and 30 seconds of silence
        ([(60.0, 64)], None, 64 / 60),  # the first answers all at once
    ],
)
def test_rate_is_that_of_the_last_rows(
    marks: list[tuple[float, int]], now: float | None, expected: float
) -> None:
    assert rate_after(marks, now) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize(
    "marks",
    [
        [(0.0, 0)],
        [(0.4, 5000)],  # all out of the journal
        [(0.4, 5000), (60.0, 5004)],  # four rows tell nothing
        [(1.2, 40), (1.9, 80)],  # and neither does a second
    ],
)
def test_rate_is_not_told_from_too_little(marks: list[tuple[float, int]]) -> None:
    rate = Rate(0.0)
    for time_s, rows in marks:
        rate.mark(time_s, rows)
    now = marks[-1][0]
    assert rate.per_second(now) is None
    assert rate.seconds_left(now, 100) is None


@pytest.mark.parametrize(("rows_left", "expected"), [(400, 10.0), (0, None), (-5, None)])
def test_time_left(rows_left: int, expected: float | None) -> None:
    rate = Rate(0.0)
    for time_s, rows in steady(40, 0, 20):
        rate.mark(time_s, rows)
    left = rate.seconds_left(20.0, rows_left)
    assert left == (expected if expected is None else pytest.approx(expected, rel=0.05))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0:00"), (59.6, "1:00"), (92, "1:32"), (3599.7, "1:00:00"), (93787, "26:03:07")],
)
def test_clock_time(seconds: float, words: str) -> None:
    assert clock_time(seconds) == words


# ---------------------------------------------------------------------------------------------- lines


def run_steps(total: int | None, seconds: int, per_second: int, said: str = "", unit: str = "rows") -> str:
    """A log of a step at a fixed rate."""
    log, clock = io.StringIO(), Clock()
    with step("synthesize", total, log, unit=unit, clock=clock):
        if said:
            note(said)
        for _ in range(seconds * per_second):
            clock.now += 1 / per_second
            advance()
    return log.getvalue()


@pytest.mark.parametrize(
    ("total", "seconds", "per_second", "said", "line"),
    [
        (5000, 10, 32, "", "synthesize: 160/5000, 32.0 rows/s, 2:31 left"),
        (5000, 10, 32, "in flight 64", "synthesize: 160/5000, 32.0 rows/s, 2:31 left, in flight 64"),
        (None, 10, 32, "in flight 64", "synthesize: 160, 32.0 rows/s, in flight 64"),
        (100, 10, 32, "", "synthesize: 160/100, 32.0 rows/s"),  # more rows than were foreseen
        (0, 10, 32, "", "synthesize: 160/0, 32.0 rows/s"),
    ],
)
def test_a_line_of_a_log(total: int | None, seconds: int, per_second: int, said: str, line: str) -> None:
    assert run_steps(total, seconds, per_second, said).splitlines()[0] == line


def test_a_log_has_a_line_every_five_seconds_and_one_at_the_end() -> None:
    lines = run_steps(4000, 32, 32).splitlines()
    assert len(lines) == 7
    assert lines[-1] == "synthesize: 1024/4000 in 32.0 s"


def test_the_unit_is_said_and_slow_rows_by_the_minute() -> None:
    log, clock = io.StringIO(), Clock()
    with step("sft", 100, log, unit="steps", clock=clock):
        for _ in range(10):
            clock.now += 20
            advance()
    assert log.getvalue().splitlines()[-2] == "sft: 10/100, 3.0 steps/min, 30:00 left"


def test_a_note_is_said_without_a_row_and_stays_beside_that_of_a_row() -> None:
    log, clock = io.StringIO(), Clock()
    with step("synthesize", 50, log, clock=clock):
        note("in flight 8")
        clock.now += 6
        note("in flight 64")
        clock.now += 6
        advance(1, "already drafted")
        clock.now += 6
        advance()
    assert log.getvalue().splitlines() == [
        "synthesize: 0/50, in flight 64",
        "synthesize: 1/50, in flight 64, already drafted",
        "synthesize: 2/50, in flight 64",
        "synthesize: 2/50 in 18.0 s",
    ]


def test_rows_of_an_earlier_run_do_not_make_the_rate() -> None:
    log, clock = io.StringIO(), Clock()
    with step("synthesize", 10_000, log, clock=clock):
        for _ in range(100):
            clock.now += 0.1
            advance(50, "already drafted", earlier=True)
        for _ in range(100):
            clock.now += 0.5
            advance(10)
    lines = log.getvalue().splitlines()
    assert lines[0] == "synthesize: 2500/10000, already drafted"
    assert re.fullmatch(r"synthesize: \d+/10000, (19|20)\.\d rows/s, 3:2\d left", lines[-2]), lines[-2]


def test_nobody_needs_to_listen() -> None:
    advance(3, "already drafted")
    note("in flight 8")


def test_a_step_inside_another_has_the_word_until_it_ends() -> None:
    outer, inner = io.StringIO(), io.StringIO()
    with step("outer", 3, outer):
        advance()
        with step("inner", 3, inner):
            advance(3)
        advance()
    assert outer.getvalue().startswith("outer: 2/3 in ")
    assert inner.getvalue().startswith("inner: 3/3 in ")


# ------------------------------------------------------------------------------------------- terminal


def last_drawing(terminal: Terminal) -> str:
    """What stands on the terminal in the end, without colours."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    return text.split("\r")[-1]


@pytest.mark.parametrize("width", [64, 80, 200])
@pytest.mark.parametrize(
    ("total", "words"),
    [
        (5000, ["synthesize", "━", "1200/5000", "40.0 rows/s", "0:30", "1:35 left"]),
        (None, ["synthesize", "━", "1200 ", "40.0 rows/s", "0:30"]),
        (1000, ["synthesize", "━", "1200/1000", "40.0 rows/s", "0:30"]),
    ],
)
def test_a_terminal_shows_a_bar_and_its_numbers(
    monkeypatch: pytest.MonkeyPatch, width: int, total: int | None, words: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal, clock = Terminal(), Clock()
    with step("synthesize", total, terminal, clock=clock):
        note("in flight 64, [bold] 3 retries")
        for _ in range(1200):
            clock.now += 0.025
            advance()
    bar, notes, *_ = last_drawing(terminal).splitlines()
    places = [bar.find(word) for word in words]
    assert -1 not in places and places == sorted(places), bar
    assert ("left" in bar) == ("1:35 left" in words)
    assert len(bar) <= width
    assert notes.strip() == "in flight 64, [bold] 3 retries"


def test_a_terminal_shows_a_note_too_long_for_it_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "64")
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    with step("synthesize", 10, terminal):
        note("retries " * 20)
    lines = last_drawing(terminal).splitlines()
    assert len(lines) == 2
    assert len(lines[1]) <= 64 and lines[1].endswith("…")
