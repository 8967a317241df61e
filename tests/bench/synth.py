"""Synthesis beside a plain aiohttp loop in the same run, with a stub server in a process of its own.

    python -m tests.bench.synth [--json] [--case NAME ...] [--all] [--rows N] [--rounds 3]

Each row is three chained calls, with a picture in the first and 400 tokens in each answer; the journal is on
in both arms. Each arm runs in a fresh process: CPU is user and system seconds of that process with its start
and its imports, memory its highest resident set. Fixed cases are medians of `--rounds`, in which the arms
take turns; the others are one run of each arm. A call is an answer; seconds are from the start of the work,
after the imports, to the last draft. `mean_in_flight` is what the stub saw from the first request to the last
answer.

fixed-N      0.1 s per answer, N in flight
lognormal    mean 1 s, sigma 0.8; `bound_s` is greedy streaming with the same latencies, simulated
faults       20% of the first attempts fail in seven ways, one of them for good
adaptive     a server of 48 slots that queues the rest: the plain loop is told 48, the engine at most 512
memory-N     a folder of N rows and up to 2,000 pictures, drafts written by partition, 0.01 s per answer
photos       a folder of photos of 12 megapixels, each of which is decoded once to see that it is sound
prefect      `avar synth` beside the engine alone: `fixed_s` on 250 rows, `beyond` that on all rows

memory-100k and prefect take minutes, and run where they are named or with --all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tests.bench.synth_cases import (
    Line,
    Plan,
    measure_adaptive,
    measure_faults,
    measure_fixed,
    measure_lognormal,
)
from tests.bench.synth_folder import measure_memory, measure_photos, measure_prefect

CASES: dict[str, Callable[[Plan], Line]] = {
    "fixed-64": partial(measure_fixed, 64, 1500),
    "fixed-256": partial(measure_fixed, 256, 6000),
    "fixed-1024": partial(measure_fixed, 1024, 4500),
    "lognormal": partial(measure_lognormal, 64, 512),
    "faults": partial(measure_faults, 64, 500),
    "adaptive": partial(measure_adaptive, 512, 1500),
    "memory-10k": partial(measure_memory, 256, 10_000),
    "memory-100k": partial(measure_memory, 256, 100_000),
    "photos": partial(measure_photos, 16, 300),
    "prefect": partial(measure_prefect, 64, 10_000),
}
LONG = ("memory-100k", "prefect")

# What the project promises: case -> figure -> (at least, at most).
Bounds = tuple[float | None, float | None]
_NOTHING_LOST: dict[str, Bounds] = {"unaccounted": (None, 0)}
BARS: dict[str, dict[str, Bounds]] = {
    "fixed-64": {"ratio": (0.9, None), "mean_share": (0.9, None), "cpu_s_per_1k": (None, 0.8)},
    "fixed-256": {"ratio": (0.9, None), "mean_share": (0.85, None), "cpu_s_per_1k": (None, 0.8)},
    "lognormal": {"over_bound": (None, 1.05)},
    "faults": {"failed_for_a_while": (None, 0), "duplicates": (None, 0), "uncounted_retries": (None, 0)},
    "memory-10k": {"peak_rss_mb": (None, 1000), "first_call_s": (None, 2)},
    "memory-100k": {"peak_rss_mb": (None, 1000), "first_call_s": (None, 2), "rss_over_10k": (None, 1.1)},
    "photos": {"peak_rss_mb": (None, 1000), "first_call_s": (None, 2)},
    "prefect": {"fixed_s": (None, 12), "beyond": (None, 0.05)},
}
_COLUMNS = (
    *("case", "in_flight", "calls_per_s", "plain_calls_per_s", "mean_in_flight", "plain_mean_in_flight"),
    *("cpu_s_per_1k", "plain_cpu_s_per_1k", "peak_rss_mb", "rows", "drafts", "failed"),
)
_HEADS = (
    *("case", "limit", "calls/s", "plain", "in flight", "plain"),
    *("CPU/1k", "plain", "MB", "rows", "drafts", "failed"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the cases and prints their table, or one JSON line per case once both its arms have run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", action="append", choices=CASES, help="may be given several times")
    parser.add_argument("--all", action="store_true", help="the long cases too")
    parser.add_argument("--rows", type=_positive, help="of every case, to shorten it")
    parser.add_argument("--rounds", type=_positive, default=3, help="of the fixed cases")
    options = parser.parse_args(arguments)
    names = options.case or [name for name in CASES if options.all or name not in LONG]
    if not options.json:
        print(_row(_HEADS))
    for line in measure_cases(names, Plan(options.rounds, options.rows)):
        print(json.dumps(line) if options.json else describe_line(line), flush=True)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(f"{text}: at least 1 is expected")
    return int(text)


def measure_cases(names: Sequence[str], plan: Plan) -> Iterator[Line]:
    """The lines of some cases, one after the other, each with the bars that it missed."""
    peaks: dict[str, float] = {}
    for name in names:
        line: Line = {**CASES[name](plan), "case": name}
        peaks[name] = line["peak_rss_mb"]
        if name == "memory-100k" and "memory-10k" in peaks:
            line["rss_over_10k"] = line["peak_rss_mb"] / peaks["memory-10k"]
        yield {key: _rounded(value) for key, value in line.items()} | {"missed": find_missed(name, line)}


def find_missed(case: str, line: Mapping[str, Any]) -> list[str]:
    """Figures of a case that are not within its bars; a figure that it does not have misses nothing."""
    bars = _NOTHING_LOST | BARS.get(case, {})
    return [name for name, bounds in bars.items() if name in line and not _within(line[name], bounds)]


def _within(value: float, bounds: Bounds) -> bool:
    least, most = bounds
    return (least is None or value >= least) and (most is None or value <= most)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def describe_line(line: Line) -> str:
    """A line of the table, and below it the figures that stand in no column, with their bars."""
    rest = {name: value for name, value in line.items() if name not in (*_COLUMNS, "missed")}
    bars = _NOTHING_LOST | BARS.get(line["case"], {})
    words = [f"{name} {_short(value)}{_bar(bars.get(name))}" for name, value in rest.items()]
    words += [f"{name}{_bar(bars[name])}" for name in bars if name in _COLUMNS]
    verdict = f"missed: {', '.join(line['missed'])}" if line["missed"] else "no bar missed"
    return f"{_row([_short(line.get(name)) for name in _COLUMNS])}\n    {'; '.join(words)}; {verdict}"


def _bar(bounds: Bounds | None) -> str:
    if bounds is None:
        return ""
    least, most = bounds
    return f" (at least {least:g})" if least is not None else f" (at most {most:g})"


def _short(value: object) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _row(cells: Sequence[str]) -> str:
    return f"{cells[0]:<12}" + "".join(f"{cell:>10}" for cell in cells[1:])


if __name__ == "__main__":
    main()
