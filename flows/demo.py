"""The whole loop on one command, for a laptop's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.pipeline import make_dataset
from flows.report import RunReport, find_samples, print_report, read_report, vas_table
from flows.train import Comparison, compare
from schemas.config import Recipe
from schemas.records import Status
from schemas.shards import write_json

if TYPE_CHECKING:
    from rich.console import Console

MODELS = "models"
RESULT_FILE = "demo.json"


def run_demo(recipe: Recipe, out: Path, console: Console | None) -> dict[str, Any]:
    """Makes the dataset in `out`, trains the student, measures it, and says what happened.

    Args:
        console: where a person reads; None for a machine.
    Returns: the object of `avar demo --json`, without its seconds.
    Raises: AvarError: one line.
    """
    make_dataset(recipe, out)
    report = read_report(out)
    comparison = compare(recipe, out, out / MODELS)
    result = _result(report, comparison)
    write_json(out / RESULT_FILE, result)
    if console:
        _print(console, out, report, comparison)
    return result


def _result(report: RunReport, comparison: Comparison) -> dict[str, Any]:
    control = comparison.control
    return {
        "problems": report.problems,
        "accepted": report.accepted,
        "rejected": report.rejected,
        "failed": report.failed,
        "reasons": report.reasons,
        "vas_before": comparison.before.vas,
        "vas_after": comparison.after.vas,
        "vas_control": control.vas if control else None,
        "image_gain_before": comparison.before.image_gain,
        "image_gain_after": comparison.after.image_gain,
        "image_gain_control": control.image_gain if control else None,
        "loss_first": comparison.sft.loss_first,
        "loss_last": comparison.sft.loss_last,
        "warnings": list(comparison.sft.warnings),
        "dataset": report.dataset,
    }


def _print(console: Console, out: Path, report: RunReport, comparison: Comparison) -> None:
    samples = [find_samples(out, status, 1) for status in (Status.ACCEPTED, Status.REJECTED)]
    print_report(console, report, [row for rows in samples for row in rows])
    sft = comparison.sft
    console.print(f"\nSFT with the attention-guided loss, {sft.steps} steps on the train split:")
    console.print(f"  LM loss {sft.loss_first:.3f} -> {sft.loss_last:.3f}")
    console.print(
        "\nVisual Attention Score on held-out rows (control: the same SFT without the guided loss):"
    )
    arms = {"before": comparison.before, "after": comparison.after}
    if comparison.control:
        arms["control"] = comparison.control
    console.print(vas_table(arms))
    console.print("\nFiles", style="bold")
    for path, what in _files(out):
        console.print(f"  {path}  {what}", markup=False, highlight=False)
    console.print("\nNext", style="bold")
    for command in next_commands(out):
        console.print(f"  {command}", markup=False, highlight=False)


def _files(out: Path) -> list[tuple[str, str]]:
    return [
        (str(out), "the dataset: datasets.load_from_disk opens it"),
        (str(out / "drafts"), "every draft, one Arrow shard per partition"),
        (str(out / MODELS), "the student with and without the guided loss"),
        (str(out / RESULT_FILE), "these figures"),
        (str(out / "recipe.yaml"), "the resolved recipe"),
        (str(out / "manifest.json"), "versions, times, shard hashes"),
    ]


def next_commands(out: Path) -> list[str]:
    """Three commands that work on what the demo left."""
    return [
        f"avar inspect {out} --samples 3",
        f"avar curate {out} --set filters.min_anchors=6 --out {out}-strict",
        f"avar vas {out / MODELS / 'guided'} {out}",
    ]
