"""Runs of the real `avar` on a folder of problems with a stub for its teacher, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.shards import INDEX_FILE, SPLITS
from tests.bench.synth_load import draw_picture
from tests.conftest import ROOT, shared_prefect
from tests.stub_answers import ANSWER

IN_FLIGHT = 16
PARTITION = 20
LONGEST_S = 180.0  # most seconds one command may take on a busy machine


def write_folder(folder: Path, rows: int) -> Path:
    """A folder source. The stub's traces miss every third answer; two rows cannot become problems."""
    (folder / "images").mkdir(parents=True)
    with (folder / "items.jsonl").open("w") as table:
        for index in range(rows):
            shown = 0 if index == rows // 2 else index  # the row in the middle is the first one again
            (folder / "images" / f"{index}.png").write_bytes(draw_picture(shown))
            answer = "5" if shown % 3 == 2 else ANSWER
            name = "gone.png" if index == rows // 3 else f"{index}.png"
            row = {"id": f"r{index}", "question": f"How many in picture {shown}?", "answer": answer}
            table.write(json.dumps(row | {"image": f"images/{name}"}) + "\n")
    return folder


def synth_command(source: Path, url: str, out: Path, **settings: object) -> list[str]:
    """`avar synth` of such a folder with a few calls in flight; `settings` use `__` for a dot."""
    given: dict[str, object] = {
        "source.path": source,
        "teacher.url": url,
        "teacher.max_in_flight": IN_FLIGHT,
        "teacher.min_in_flight": IN_FLIGHT,
        "partition_size": PARTITION,
    } | {name.replace("__", "."): value for name, value in settings.items()}
    changes = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    return ["synth", "folder", "--out", str(out), *changes]


def start_avar(arguments: Sequence[str], log: Path, *, own_prefect: bool = False) -> subprocess.Popen[bytes]:
    """Starts the command with one more Prefect server only where it is wanted; its words go to `log`."""
    lent = {} if own_prefect else {"PREFECT_API_URL": shared_prefect()}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **lent},
        )


def run_avar(arguments: Sequence[str], log: Path) -> None:
    """Runs the command to its end. Raises: AssertionError: it failed."""
    process = start_avar(arguments, log)
    try:
        code = process.wait(LONGEST_S)
    finally:
        process.kill()
    assert code == 0, f"exit {code}: {log.read_text()[-2000:]}"


def read_shards(root: Path) -> dict[str, bytes]:
    """The drafts of a run, and its dataset where it has one, as they are on disk."""
    found = sorted((root / "drafts").glob("*"))
    found += [path for split in SPLITS for path in sorted((root / split).glob("*"))]
    found += sorted(root.glob(INDEX_FILE))
    return {str(path.relative_to(root)): path.read_bytes() for path in found}
