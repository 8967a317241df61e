"""One arm of the synthesis benchmark in a process of its own, so that its CPU time and memory are its own.

python -m tests.bench.synth_arms JOB      a `Job` as JSON; prints a `Result` as JSON
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import uvloop

from schemas.records import Draft, Problem
from tests.bench.synth_load import load_problems

if TYPE_CHECKING:
    from schemas.config import Recipe
    from synth.engine import Engine
    from synth.partitions import Partition

PARTITION = 250
# What an arm imports, before its clock starts; `datasets` alone takes seconds.
_ENGINE = ("synth.engine", "synth.journal", "schemas.config")
_MODULES = {
    "plain": ("tests.bench.synth_plain",),
    "engine": _ENGINE,
    "folder": (*_ENGINE, "synth.reading", "synth.partitions", "schemas.runs", "datasets"),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an arm does.

    Attributes:
        arm: the engine on problems in memory, the engine on a folder as the flow drives it, the plain loop.
        in_flight: limit of calls at one time; the engine's level is fixed there unless `adaptive`.
        source: a file of `save_problems`, or a folder.
        scratch: empty folder for the journal and the drafts.
        rows: of the folder that are read.
    """

    arm: Literal["engine", "folder", "plain"]
    url: str
    in_flight: int
    source: str
    scratch: str
    adaptive: bool = False
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an arm did and took.

    Attributes:
        wall_s: of the work, journal and connections included, imports not.
        cpu_s: user and system seconds of the process, its start included.
        peak_rss_mb: of the process (VmHWM: `ru_maxrss` would count what the parent held when it forked).
        started_s: monotonic seconds.
        reasons: why rows failed.
        retries: as the engine's ledger counts them.
        duplicates: drafts of a row that another draft is of, or that nobody asked for.
    """

    rows: int
    drafts: int
    failed: int
    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    started_s: float
    reasons: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    duplicates: int = 0


@dataclass
class Work:
    """What an arm's run leaves to be counted afterwards."""

    rows: int = 0
    drafts: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    usage: dict[str, Any] = field(default_factory=dict)

    def count(self, items: Sequence[Problem | Draft], drafts: Sequence[Draft]) -> None:
        """Counts the drafts of these rows."""
        self.rows += len(items)
        self.drafts += sum(draft.failure is None for draft in drafts)
        self.reasons.update(str(draft.failure.reason) for draft in drafts if draft.failure)
        asked = Counter(item.id if isinstance(item, Problem) else item.problem.id for item in items)
        self.duplicates += (Counter(draft.problem.id for draft in drafts) - asked).total()


def main() -> None:
    """Runs the job that the command line holds."""
    job = Job(**json.loads(sys.argv[1]))
    for module in _MODULES[job.arm]:
        import_module(module)
    run = {"engine": run_engine, "folder": run_folder, "plain": run_plain}[job.arm]
    items = load_problems(Path(job.source)) if job.arm != "folder" else []
    started = time.monotonic()
    work = uvloop.run(run(job, items))
    result = Result(
        rows=work.rows,
        drafts=work.drafts,
        failed=work.reasons.total(),
        wall_s=time.monotonic() - started,
        cpu_s=time.process_time(),
        peak_rss_mb=_peak_rss_mb(),
        started_s=started,
        reasons=dict(work.reasons),
        retries=_count_retries(work.usage),
        duplicates=work.duplicates,
    )
    print(json.dumps(asdict(result)))


def _peak_rss_mb() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _count_retries(usage: dict[str, Any]) -> int:
    return sum(sum(entry["retries"].values()) for models in usage.values() for entry in models.values())


async def run_plain(job: Job, items: Sequence[Problem]) -> Work:
    """The plain loop."""
    from tests.bench import synth_plain

    traces = await synth_plain.run_plain(items, job.url, job.in_flight, Path(job.scratch) / "journal.jsonl")
    return Work(rows=len(items), drafts=traces)


async def run_engine(job: Job, items: Sequence[Problem]) -> Work:
    """The engine on problems that are in memory."""
    from synth.engine import open_engine
    from synth.journal import Journal

    work = Work()
    with Journal(Path(job.scratch) / "journal.sqlite") as journal:
        async with open_engine(make_recipe(job), journal) as engine:
            work.count(items, await engine.draft(items))
            work.usage = dict(engine.ledger.to_dict())
    return work


async def run_folder(job: Job, items: Sequence[Problem]) -> Work:
    """The engine on a folder: read, drafted and written partition by partition, as the flow does it."""
    from synth.engine import open_engine
    from synth.journal import Journal
    from synth.partitions import OpenPartitions, cut_partitions
    from synth.reading import Reader

    del items
    recipe, work = make_recipe(job), Work()
    opened = OpenPartitions(recipe)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(Path(job.scratch) / "journal.sqlite"))
        async with (
            open_engine(recipe, journal) as engine,
            asyncio.TaskGroup() as group,
        ):
            rows = stack.enter_context(Reader(recipe.source, recipe.seed))
            async for partition in cut_partitions(rows, PARTITION):
                await opened.room()
                opened.add(partition, group.create_task(_draft_partition(job, partition, engine, work)))
                await partition.reading_ended()
        work.usage = dict(engine.ledger.to_dict())
    return work


async def _draft_partition(job: Job, partition: Partition, engine: Engine, work: Work) -> None:
    from schemas.runs import partition_fingerprint, write_partition

    drafts = await engine.draft(partition)
    work.count(partition.items, drafts)
    fingerprint = partition_fingerprint(partition.items)
    await asyncio.to_thread(write_partition, Path(job.scratch), partition.number, fingerprint, drafts)


def make_recipe(job: Job) -> Recipe:
    """The job as a recipe."""
    from schemas.config import parse_recipe

    folder = {"kind": "folder", "path": job.source, "limit": job.rows}
    teacher = {"url": job.url, "max_in_flight": job.in_flight}
    if not job.adaptive:
        teacher["min_in_flight"] = job.in_flight
    source = folder if job.arm == "folder" else {"kind": "scenes"}
    return parse_recipe({"name": "bench", "source": source, "teacher": teacher}, where=__name__)


if __name__ == "__main__":
    main()
