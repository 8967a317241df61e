"""What `avar ladder` does: the base first, the rest where the base is informative, then the report."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from flows.children import usable_cores
from flows.ladder.arms import ARMS, Arm, find_arms
from flows.ladder.measure import measuring_batches, problems
from flows.ladder.report import draw_ladder, ladder_page, summarize
from flows.ladder.rows import world_mark
from flows.ladder.rung import read_result
from flows.ladder.schedule import pending_jobs, run_jobs
from flows.ladder.settings import PRESETS, LadderSettings
from flows.progress import step
from flows.train import require_empty
from schemas.config import explain, override, read_yaml
from schemas.errors import ConfigError, InterruptedRunError
from schemas.runs import locked
from schemas.shards import write_json, write_text

RESULT_FILE, PAGE_FILE, FIGURE_FILE, SETTINGS_FILE = "ladder.json", "ladder.md", "ladder.png", "ladder.yaml"
_SECONDS = ("training_cpu_s", "measuring_cpu_s")
_PACKAGES = ("torch", "transformers", "trl", "accelerate")


def ladder_settings(preset: str, seeds: int | None, assignments: Mapping[str, Any]) -> LadderSettings:
    """A preset with some of its keys replaced.

    Raises: ConfigError: no such preset or key, or a value out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset {preset!r}: known: {', '.join(PRESETS)}")
    given = {**assignments, **({} if seeds is None else {"seeds": seeds})}
    try:
        settings = LadderSettings.model_validate(override(PRESETS[preset].model_dump(), given))
    except ValidationError as error:
        raise ConfigError(f"ladder: {explain(error, LadderSettings)}") from error
    find_arms(settings.arms)
    if settings.obedience_problems > settings.problems:
        raise ConfigError(
            f"ladder: obedience_problems: {settings.obedience_problems} of {settings.problems} problems: set "
            "obedience_problems to no more than problems"
        )
    return settings


def run_ladder(settings: LadderSettings, preset: str, out: Path, command: Sequence[str]) -> dict[str, Any]:
    """Trains and measures what is not finished in `out`, and writes the report there.

    The report is of these seeds, and of all arms that are finished for them, asked for now or earlier.

    Returns: the object of `avar ladder --json`.
    Raises: ConfigError: `out` holds a ladder of other settings, or something else. FlowError: a rung failed.
        ShardError: another process is at it, or `out` cannot be written. InterruptedRunError: Ctrl-C.
    """
    claim_folder(settings, out)
    with locked(out):
        return _run(settings, preset, out, command)


def _run(settings: LadderSettings, preset: str, out: Path, command: Sequence[str]) -> dict[str, Any]:
    arms, seeds = find_arms(settings.arms), range(settings.seeds)
    base = [arm for arm in arms if arm.kind == "base"]
    held_out = problems("held_out", settings.problems)
    _climb(out, seeds, base, settings)
    found = _results(out, seeds, base)
    if summarize(found, held_out)["informative"]:
        _climb(out, seeds, arms, settings)
        finished = [arm for arm in ARMS.values() if not pending_jobs(out, seeds, [arm])]
        found = _results(out, seeds, finished)
    summary = summarize(found, held_out)
    result = {"preset": preset, "seeds": list(seeds), **summary, "made_with": _made_with(found, command)}
    _write_report(out, result)
    return result


def _climb(out: Path, seeds: Sequence[int], arms: Sequence[Arm], settings: LadderSettings) -> None:
    jobs = pending_jobs(out, seeds, arms)
    if not jobs:
        return
    work = sum(_steps(ARMS[job.name], settings) + measuring_batches(settings) for job in jobs)
    try:
        with step("ladder", work, unit="steps") as reporter:
            run_jobs(out, jobs, settings, reporter)
    except KeyboardInterrupt as error:
        left = len(pending_jobs(out, seeds, arms))
        done = f"{len(jobs) - left} of {len(jobs)} rungs are finished and stay"
        raise InterruptedRunError(f"stopped; {done}; the same command goes on") from error


def _steps(arm: Arm, settings: LadderSettings) -> int:
    sizes = {
        "base": settings.seeing.steps + settings.base.steps,
        "sft": settings.sft.steps,
        "grpo": settings.grpo.steps,
        "steer": 0,
    }
    return sizes[arm.kind]


def _results(out: Path, seeds: Sequence[int], arms: Sequence[Arm]) -> dict[str, list[dict[str, Any]]]:
    found = {arm.name: [read_result(out, seed, arm.name) for seed in seeds] for arm in arms}
    return {name: [one for one in results if one is not None] for name, results in found.items()}


def claim_folder(settings: LadderSettings, out: Path) -> None:
    """`out` is new, or holds a ladder of the same settings, however many seeds or processes."""
    file = out / SETTINGS_FILE
    mine = settings.model_dump(mode="json", exclude={"seeds", "jobs", "arms"}) | {"world": world_mark()}
    if file.is_file():
        theirs = read_yaml(file)
        changed = sorted(key for key in mine if not isinstance(theirs, dict) or theirs.get(key) != mine[key])
        if changed:
            raise ConfigError(
                f"{out}: holds a ladder with other settings of {', '.join(changed)}; choose another --out"
            )
        return
    require_empty(out, "ladder")
    write_text(file, yaml.safe_dump(mine, sort_keys=False))


def _made_with(results: Mapping[str, Sequence[Mapping[str, Any]]], command: Sequence[str]) -> dict[str, Any]:
    """Date, hardware, versions, and the CPU time of all rungs."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    seconds = [one[key] for rung in results.values() for one in rung for key in _SECONDS]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": _hardware(),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "cpu_minutes": sum(seconds) / 60,
        "command": shlex.join(command),
    }


def _hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{usable_cores()} cores, {platform.machine()}"


def _write_report(out: Path, result: Mapping[str, Any]) -> None:
    from flows.vas.canvas import WIDTH, render

    write_json(out / RESULT_FILE, result)
    height = 1.2 + 0.28 * len(result["rungs"])
    picture = render(lambda figure: draw_ladder(figure, result), WIDTH, max(2.6, height))
    (out / FIGURE_FILE).write_bytes(picture)
    (out / PAGE_FILE).write_text(ladder_page(result, FIGURE_FILE), encoding="utf-8")
