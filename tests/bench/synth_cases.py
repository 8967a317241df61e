"""The cases of the synthesis benchmark on problems in memory, and how an arm is measured."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.errors import TeacherError
from tests.bench.synth_arms import Job, Result
from tests.bench.synth_load import make_problems, row_latencies, save_problems, streaming_bound
from tests.stub_answers import parse_latency
from tests.stub_server import StubServer, stub_server

ROOT = Path(__file__).parent.parent.parent
QUIET = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}
LOGNORMAL = "lognormal:1.0,0.8"
SLOTS = 48
Line = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How large the work is: a case's own size where `rows` is None."""

    rounds: int = 3
    rows: int | None = None


@dataclass(frozen=True)
class Measured:
    """One run of an arm: what it says of itself, and what the stub saw."""

    result: Result
    stats: Mapping[str, Any]

    @property
    def figures(self) -> dict[str, float]:
        """What is compared. Calls are answers; CPU and memory are the client process's."""
        calls = self.stats["answered"]
        return {
            "calls_per_s": calls / self.result.wall_s,
            "mean_in_flight": self.stats["mean_in_flight"],
            "cpu_s_per_1k": 1000 * self.result.cpu_s / calls,
            "peak_rss_mb": self.result.peak_rss_mb,
            "wall_s": self.result.wall_s,
        }


def measure_arm(
    stub: StubServer,
    arm: Literal["engine", "folder", "plain"],
    source: Path,
    in_flight: int,
    *,
    adaptive: bool = False,
    rows: int | None = None,
) -> Measured:
    """Runs an arm in a process of its own.

    Raises: subprocess.CalledProcessError: it failed; its traceback is on standard error.
    """
    stub.reset()
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(
            arm=arm,
            url=stub.url,
            in_flight=in_flight,
            source=str(source),
            scratch=scratch,
            adaptive=adaptive,
            rows=rows,
        )
        command = [sys.executable, "-m", "tests.bench.synth_arms", json.dumps(asdict(job))]
        environment = {**os.environ, **QUIET}
        ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, env=environment)
    return Measured(Result(**json.loads(ran.stdout.splitlines()[-1])), stub.stats())


def make_line(
    case: str, in_flight: int, ours: Sequence[Measured], plain: Sequence[Measured] = (), **extra: Any
) -> Line:
    """A case's line: medians over its rounds, `None` where it has no plain loop."""
    mine, theirs = _medians(ours), _medians(plain)
    last = ours[-1].result
    line: Line = {
        "case": case,
        "in_flight": in_flight,
        "calls_per_s": mine["calls_per_s"],
        "plain_calls_per_s": theirs.get("calls_per_s"),
        "mean_in_flight": mine["mean_in_flight"],
        "cpu_s_per_1k": mine["cpu_s_per_1k"],
        "peak_rss_mb": mine["peak_rss_mb"],
        "rows": last.rows,
        "drafts": last.drafts,
        "failed": last.failed,
        "wall_s": mine["wall_s"],
        "mean_share": mine["mean_in_flight"] / in_flight,
        "unaccounted": last.rows - last.drafts - last.failed + last.duplicates,
    }
    if plain:
        line["ratio"] = mine["calls_per_s"] / theirs["calls_per_s"]
        line |= {f"plain_{name}": theirs[name] for name in theirs if name != "calls_per_s"}
    return line | extra


def _medians(runs: Sequence[Measured]) -> dict[str, float]:
    figures = [run.figures for run in runs]
    return {name: statistics.median(run[name] for run in figures) for name in figures[0]} if figures else {}


def measure_fixed(in_flight: int, rows: int, plan: Plan) -> Line:
    """0.1 s per answer, at a fixed level; the arms take turns."""
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as folder, stub_server(latency="fixed:0.1") as stub:
        source = Path(folder) / "problems.pickle"
        save_problems(make_problems(plan.rows or rows), source)
        for _ in range(plan.rounds):
            ours.append(measure_arm(stub, "engine", source, in_flight))
            plain.append(measure_arm(stub, "plain", source, in_flight))
    return make_line(f"fixed-{in_flight}", in_flight, ours, plain)


def measure_lognormal(in_flight: int, rows: int, plan: Plan) -> Line:
    """Latencies that differ by a factor of fifty, beside the bound of greedy streaming; one round."""
    with tempfile.TemporaryDirectory() as folder, stub_server(latency=LOGNORMAL) as stub:
        source = Path(folder) / "problems.pickle"
        problems = make_problems(plan.rows or rows)
        save_problems(problems, source)
        ours = measure_arm(stub, "engine", source, in_flight)
        plain = measure_arm(stub, "plain", source, in_flight)
    latencies = list(row_latencies(problems, parse_latency(LOGNORMAL)))
    for measured in (ours, plain):
        _require_latency(measured, sum(map(sum, latencies)))
    bound = streaming_bound(latencies, in_flight)
    wall_s = ours.result.wall_s
    return make_line("lognormal", in_flight, [ours], [plain], bound_s=bound, over_bound=wall_s / bound)


def _require_latency(measured: Measured, simulated_s: float) -> None:
    """Raises: RuntimeError: the stub had other latencies, so that the bound is one of other work."""
    took_s = measured.stats["latency_s"]
    if not math.isclose(took_s, simulated_s, rel_tol=1e-6):
        raise RuntimeError(f"lognormal: the stub took {took_s:.3f} s in all, simulated {simulated_s:.3f} s")


def measure_faults(in_flight: int, rows: int, plan: Plan) -> Line:
    """20% mixed faults. The plain loop has no answer to a fault, so it is not run."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "problems.pickle"
        save_problems(make_problems(plan.rows or rows), source)
        with stub_server(latency="fixed:0.1", faults=0.2) as stub:
            ours = measure_arm(stub, "engine", source, in_flight)
    faults: dict[str, int] = ours.stats["faults"]
    transient = sum(faults.values()) - faults.get("refused", 0)
    passing = {str(fault) for fault in TeacherError.TRANSIENT}
    return make_line(
        "faults",
        in_flight,
        [ours],
        faults=faults,
        reasons=ours.result.reasons,
        retries=ours.result.retries,
        uncounted_retries=abs(transient - ours.result.retries),
        failed_for_a_while=sum(n for reason, n in ours.result.reasons.items() if reason in passing),
        duplicates=ours.result.duplicates,
    )


def measure_adaptive(in_flight: int, rows: int, plan: Plan) -> Line:
    """A server of 48 slots that queues the rest; the engine finds its level, the plain loop is told it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        stub_server(latency="fixed:0.1", slots=SLOTS) as stub,
    ):
        source = Path(folder) / "problems.pickle"
        save_problems(make_problems(plan.rows or rows), source)
        ours = measure_arm(stub, "engine", source, in_flight, adaptive=True)
        plain = measure_arm(stub, "plain", source, SLOTS)
    line = make_line("adaptive", in_flight, [ours], [plain], most_in_flight=ours.stats["most_in_flight"])
    del line["mean_share"]  # the limit is not the aim here
    return line
