"""Which rungs are trained when: each in a process of its own, as soon as what it starts from is finished."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from flows.children import interrupts_held_back, stay_with_parent, usable_cores
from flows.ladder.arms import ARMS, Arm
from flows.ladder.rung import is_finished, run_rung, rung_folder
from flows.ladder.settings import LadderSettings
from flows.progress import Reporter
from schemas.errors import AvarError, FlowError

_LISTEN_S = 0.5  # between two looks at what rungs have done
_STOP_S = 5.0


@dataclass(frozen=True)
class Job:
    """A rung of a seed."""

    seed: int
    name: str

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.name}"

    def is_done(self, out: Path) -> bool:
        """True once its result is on disk."""
        return is_finished(out, self.seed, self.name)

    def is_ready(self, out: Path) -> bool:
        """True once all that it starts from, or is chosen from, is finished."""
        return all(Job(self.seed, start).is_done(out) for start in ARMS[self.name].start)

    def log(self, out: Path) -> Path:
        """The file that holds what it printed."""
        folder = rung_folder(out, self.seed, self.name)
        return folder.with_name(f"{folder.name}.log")  # a name may hold a dot: paper-0.15-0.015


def pending_jobs(out: Path, seeds: Sequence[int], arms: Sequence[Arm]) -> list[Job]:
    """Rungs that are not finished: all seeds of an arm, then the next arm."""
    jobs = [Job(seed, arm.name) for arm in arms for seed in seeds]
    return [job for job in jobs if not job.is_done(out)]


def run_jobs(out: Path, jobs: Sequence[Job], settings: LadderSettings, reporter: Reporter) -> None:
    """Runs rungs in `settings.jobs` processes at a time.

    However it ends, no process is left behind. What is finished stays, what is not begins anew the next time.

    Raises: FlowError: a rung failed; the message names it, and what it said or where.
    """
    context = get_context("spawn")
    heard: Any = context.Queue()
    waiting, running = list(jobs), dict[int, tuple[Job, BaseProcess]]()
    try:
        while waiting or running:
            while len(running) < settings.jobs and (job := _next_ready(out, waiting)):
                waiting.remove(job)
                process = context.Process(target=_work, args=(os.getpid(), out, job, settings, heard))
                with interrupts_held_back():  # until it is known who is to be stopped
                    process.start()
                    running[process.sentinel] = (job, process)
            reporter.note(", ".join(str(one) for one, _ in running.values()))
            for sentinel in wait(list(running), timeout=_LISTEN_S):
                job, process = running.pop(sentinel)  # type: ignore[arg-type]
                process.join()
                if process.exitcode:
                    raise FlowError(_failure(out, job, process.exitcode))
            _listen(heard, reporter)
    finally:
        _stop([process for _, process in running.values()])


def _next_ready(out: Path, waiting: Sequence[Job]) -> Job | None:
    return next((job for job in waiting if job.is_ready(out)), None)


def _listen(heard: Any, reporter: Reporter) -> None:
    while True:
        try:
            reporter.advance(heard.get_nowait())
        except queue.Empty:
            return


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_STOP_S)
        if process.is_alive():
            process.kill()
            process.join()


def _failure(out: Path, job: Job, exit_code: int) -> str:
    if exit_code < 0:
        return (
            f"{job}: its process was killed (signal {-exit_code}), perhaps for want of memory; the same "
            "command goes on, with --set jobs=1 where memory is short"
        )
    log = job.log(out)
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    said = next((line for line in reversed(text.split("\n")) if line.strip()), "it said nothing")
    return f"{job} failed: {said.strip()[:300]} ({log}); the same command goes on with what is left"


# --------------------------------------------------------------------------------- in a rung's process


def _work(parent: int, out: Path, job: Job, settings: LadderSettings, heard: Any) -> None:
    stay_with_parent(parent)
    _write_to(job.log(out))
    import torch

    torch.set_num_threads(max(1, usable_cores() // settings.jobs))
    try:
        run_rung(out, job.seed, job.name, settings, heard.put)
    except AvarError as error:
        sys.exit(str(error))


def _write_to(log: Path) -> None:
    """Everything that this process prints from now on, also from libraries in C."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)
