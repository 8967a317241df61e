"""The cases of the synthesis benchmark on a folder of pictures: memory, the first call, Prefect's share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench.synth_cases import QUIET, ROOT, Line, Measured, Plan, make_line, measure_arm
from tests.bench.synth_load import write_folder
from tests.stub_server import StubServer, stub_server

FEW_ROWS = 250  # one partition: what the command takes beyond the engine is its fixed cost


def measure_memory(in_flight: int, rows: int, plan: Plan) -> Line:
    """The engine on a folder, partition by partition, with answers that come at once."""
    rows = plan.rows or rows
    with tempfile.TemporaryDirectory() as folder, stub_server(latency="fixed:0.01") as stub:
        source = Path(folder) / "source"
        write_folder(source, rows)
        ours = measure_arm(stub, "folder", source, in_flight)
    first_call_s = ours.stats["first_at_s"] - ours.result.started_s
    line = make_line("memory", in_flight, [ours], first_call_s=first_call_s)
    del line["mean_share"]  # bound by the client's CPU here
    return line


def measure_photos(in_flight: int, rows: int, plan: Plan) -> Line:
    """The engine on a folder of large photos: when the first call goes out, and what is in memory."""
    rows = plan.rows or rows
    with tempfile.TemporaryDirectory() as folder, stub_server(latency="fixed:0.1") as stub:
        source = Path(folder) / "source"
        write_folder(source, rows, photos=True)
        ours = measure_arm(stub, "folder", source, in_flight)
    line = make_line("photos", in_flight, [ours])
    del line["mean_share"]  # bound by the decoding of the photos
    return line | {
        "first_call_s": ours.stats["first_at_s"] - ours.result.started_s,
        "rows_per_s": ours.result.rows / ours.result.wall_s,
    }


class Ran(NamedTuple):
    """What a whole command took, its own servers included."""

    wall_s: float
    cpu_s: float
    peak_rss_mb: float


def measure_prefect(in_flight: int, rows: int, plan: Plan) -> Line:
    """The whole `avar synth` beside the engine alone, both on few rows and on all of them."""
    rows = plan.rows or rows
    few = min(FEW_ROWS, rows)
    engine: dict[int, Measured] = {}
    whole: dict[int, Ran] = {}
    with tempfile.TemporaryDirectory() as folder, stub_server(latency="fixed:0.1") as stub:
        source = Path(folder) / "source"
        write_folder(source, rows)
        for number in sorted({few, rows}):
            engine[number] = measure_arm(stub, "folder", source, in_flight, rows=number)
            stub.reset()
            whole[number] = run_command(stub, source, in_flight, number, Path(folder) / f"run-{number}")
        stats = stub.stats()
    fixed_s = whole[few].wall_s - engine[few].result.wall_s
    alone_s = engine[rows].result.wall_s
    line = make_line("prefect", in_flight, [engine[rows]])
    return line | {
        "calls_per_s": stats["answered"] / whole[rows].wall_s,
        "mean_in_flight": stats["mean_in_flight"],
        "mean_share": stats["mean_in_flight"] / in_flight,
        "cpu_s_per_1k": 1000 * whole[rows].cpu_s / stats["answered"],
        "peak_rss_mb": whole[rows].peak_rss_mb,
        "wall_s": whole[rows].wall_s,
        "engine_wall_s": alone_s,
        "fixed_s": fixed_s,
        "beyond": (whole[rows].wall_s - fixed_s) / alone_s - 1,
    }


def run_command(stub: StubServer, source: Path, in_flight: int, rows: int, out: Path) -> Ran:
    """`avar synth` on the folder, with a Prefect server of its own.

    Raises: RuntimeError: it failed, and what it said last.
    """
    changes = {
        "source.path": source,
        "source.limit": rows,
        "teacher.url": stub.url,
        "teacher.max_in_flight": in_flight,
        "teacher.min_in_flight": in_flight,
    }
    settings = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "flows.cli", "synth", "folder", *settings, "--out", str(out), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment | QUIET, stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise RuntimeError(f"avar synth ended with {process.returncode}: {said.read()[-300:].decode()}")
    return Ran(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
