"""Kills the flow and the teacher's server at random moments, again and again, and looks at what is left.

    python -m tests.crash [--kills 25] [--seed 0] [--rows 150] [--faults SHARE] [--json]

A folder of problems is drafted and curated twice with one recipe: once undisturbed, and once with SIGKILL
to the flow or to its teacher until all kills are spent, each time going on with the same command. Then the
shards must be the same byte for byte, the journal must hold every request once, and a request may have come
to a server as often as it was in flight at a kill, and once more. In flight is, where the server was killed,
what it had been asked and had not answered; where the flow was killed, what it had asked and did not have in
its journal, and that must be at most `teacher.max_in_flight`. With --faults a failed attempt is asked again
too, so that repeated requests are counted but not judged.

Exits with 1 where a promise was broken. A kill is one of these:

flow      in the middle of the work
server    likewise; it comes back after a moment at the same port
shard     the flow, while it writes a shard
start     the flow, while it starts or reads what is in the journal
end       the flow, after the last answer
curate    `avar curate`, while it writes the dataset; one more, in every run
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.runs import iterate_drafts
from schemas.shards import STAGING
from tests.folder_run import IN_FLIGHT, read_shards, run_avar, synth_command, write_folder
from tests.kills import Crashing, Kill, kill_curation, plan_kills
from tests.stub_server import StubServer, stub_server
from tests.traffic import Answered, Traffic

LATENCY = "lognormal:0.15,0.6"  # answers that take equally long would come in waves


@dataclass(frozen=True)
class Result:
    """What became of a run that was killed again and again.

    Attributes:
        goes, torn: as in `Crashing`.
        requests: distinct ones that came to the servers.
        repeated: arrivals beyond the first of each.
        allowed: requests in flight at the kills, one by one.
        broken: promises that were not kept, in words.
    """

    kills: Sequence[Kill]
    goes: int
    torn: int
    requests: int
    repeated: int
    allowed: int
    seconds: float
    broken: Sequence[str]

    @property
    def busy_kills(self) -> int:
        """Kills that hit requests in flight."""
        return sum(bool(kill.in_flight) for kill in self.kills)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        numbers = {name: getattr(self, name) for name in ("goes", "torn", "requests", "repeated", "allowed")}
        kinds = Counter(kill.kind for kill in self.kills)
        seconds = round(self.seconds, 1)
        return {
            "kills": len(self.kills),
            "busy_kills": self.busy_kills,
            "kinds": dict(sorted(kinds.items())),
            **numbers,
            "seconds": seconds,
            "broken": list(self.broken),
        }


def find_broken(crashing: Crashing, whole: Path, rows: int, *, faults: bool) -> Iterator[str]:
    """The promises that a run did not keep.

    Args:
        whole: the undisturbed run.
        rows: of the source.
        faults: requests were repeated for other reasons than kills.
    """
    yield from find_differences(read_shards(whole), read_shards(crashing.out))
    for path in (*crashing.out.glob("**/.*.tmp"), *crashing.out.glob(STAGING)):
        yield f"{path} was left behind"
    journal, arrivals = Counter(crashing.answered.read(crashing.out)), crashing.traffic.read().arrivals
    if journal.keys() != arrivals.keys() or journal.total() != len(journal):
        yield f"the journal holds {journal.total()} outcomes, {len(arrivals)} requests came"
    yield from _miscounted_rows(crashing.out, rows)
    if not faults:
        yield from find_repeats(crashing.kills, arrivals)


def find_repeats(kills: Sequence[Kill], arrivals: Mapping[str, int]) -> Iterator[str]:
    """Requests that came to the servers more often than they were in flight at a kill, and once."""
    for kill in kills:
        if kill.kind != "server" and len(kill.in_flight) > IN_FLIGHT:
            yield f"{len(kill.in_flight)} answers were lost at one kill, {IN_FLIGHT} may be in flight"
    allowed = Counter(name for kill in kills for name in kill.in_flight)
    for name, times in arrivals.items():
        if times - 1 > allowed[name]:
            yield f"request {name[:12]} came {times} times and was in flight at {allowed[name]} kills"


def find_differences(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> Iterator[str]:
    """Files that are not the same byte for byte."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            sizes = [len(files[name]) if name in files else "no" for files in (expected, found)]
            yield f"{name} differs from the undisturbed run's: {sizes[1]} bytes for {sizes[0]}"


def _miscounted_rows(out: Path, rows: int) -> Iterator[str]:
    counts = Counter((row["index"], row["sample_index"]) for row in iterate_drafts(out))
    twice = [key for key, times in counts.items() if times > 1]
    missing = sorted(set(range(rows)) - {index for index, _ in counts})
    if twice or missing:
        yield f"rows that are there twice: {twice[:5]}; missing: {missing[:5]}"


# ---------------------------------------------------------------------------------------------- runs


def crash(kills: int, seed: int, rows: int, faults: float = 0.0) -> Result:
    """Drafts and curates a folder undisturbed and with kills, and compares the two."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="avar-crash-") as folder, _stub(faults) as (server, traffic):
        place = Path(folder)
        source, log = write_folder(place / "source", rows), place / "avar.log"
        whole, total = draft_undisturbed(source, place / "whole", log, faults)
        draw = random.Random(seed)
        out = place / "run"
        command = _command(source, server.url, out)
        crashing = Crashing(command, out, log, server, traffic, Answered(source), draw, total)
        crashing.run(plan_kills(kills, draw))
        kill_curation(out, log, draw)
        run_avar(["curate", str(out)], log)
        broken = list(find_broken(crashing, whole, rows, faults=bool(faults)))
    return Result(
        kills=crashing.kills,
        goes=crashing.goes,
        torn=crashing.torn,
        requests=len(traffic.arrivals),
        repeated=traffic.arrivals.total() - len(traffic.arrivals),
        allowed=sum(len(kill.in_flight) for kill in crashing.kills),
        seconds=time.monotonic() - started,
        broken=broken,
    )


def draft_undisturbed(source: Path, out: Path, log: Path, faults: float) -> tuple[Path, int]:
    """The run to compare with. Returns: its folder, and how many different requests it took."""
    with _stub(faults) as (server, traffic):
        run_avar(_command(source, server.url, out), log)
        run_avar(["curate", str(out)], log)
        return out, len(traffic.read().arrivals)


def _command(source: Path, url: str, out: Path) -> list[str]:
    return synth_command(source, url, out, samples__accept=1, samples__most=2, evidence__blind__n=1)


@contextmanager
def _stub(faults: float) -> Iterator[tuple[StubServer, Traffic]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        stub_server(latency=LATENCY, faults=faults, log=Path(folder) / "log") as server,
    ):
        yield server, Traffic(Path(folder) / "log")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the test and prints each kill, or one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    result = crash(options.kills, options.seed, options.rows, options.faults)
    if options.json:
        print(json.dumps(result.to_dict()))
    else:
        _print(result)
    sys.exit(1 if result.broken else 0)


def _print(result: Result) -> None:
    for kill in result.kills:
        print(f"{kill.kind:<8}{kill.after_s:8.2f} s{kill.asked:6} asked{len(kill.in_flight):5} in flight")
    print(
        f"{len(result.kills)} kills, {result.busy_kills} with requests in flight, "
        f"{result.torn} with a torn shard; {result.requests} requests, "
        f"{result.repeated} repeated, {result.allowed} allowed; {result.seconds:.0f} s"
    )
    print("\n".join(result.broken) or "no promise broken")


if __name__ == "__main__":
    main()
