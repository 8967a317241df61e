"""The `avar` command. Heavy packages are imported by the command that needs them, so that --help is quick."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.commands import (
    Folder,
    find_recipe,
    is_main_process,
    json_option,
    local_folder,
    open_console,
    out_option,
    set_option,
    write_json_line,
)
from flows.eval_commands import eval_command
from flows.ladder.commands import ladder
from flows.teacher_commands import teacher
from flows.train_commands import train
from schemas.errors import AvarError, InterruptedRunError

if TYPE_CHECKING:
    from rich.console import Console

    from flows.synthesize import Outcome
    from schemas.config import Recipe

RUNS = Path("runs")
INTERRUPTED = 130


def main() -> None:
    """Entry point: exits with 0, 1 (failed), 2 (bad usage) or 130 (interrupted), one line for a mistake."""
    from flows.orchestra import terminate_as_interrupt

    try:
        with terminate_as_interrupt():
            avar.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AvarError as error:
        from flows.text import sanitize

        if is_main_process() or not isinstance(error, InterruptedRunError):  # all processes stop alike
            print(f"avar: {sanitize(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("avar: stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left: `avar inspect DIR | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="avar")
def avar() -> None:
    """Reasoning traces that look at the image: synthesize, curate, train, measure.

    \b
    Start here:
        avar demo                     the whole loop on a laptop CPU
        avar run folder --set source.path=DATA --set teacher.url=http://127.0.0.1:8000
        avar inspect runs/demo
    """


@avar.command()
@out_option("runs/demo by default")
@set_option
@json_option
def demo(out: Path | None, assignments: tuple[str, ...], as_json: bool) -> None:
    """The whole loop: problems, traces, filters, shards, a short SFT, the Visual Attention Score.

    \b
    Example:
        avar demo --out runs/demo --json
    """
    from flows.demo import run_demo

    started = time.monotonic()
    recipe, out = find_recipe("demo", assignments), local_folder(out or RUNS / "demo")
    result = run_demo(recipe, out, None if as_json else open_console())
    if as_json:
        write_json_line(result | {"seconds": round(time.monotonic() - started, 1)})
    else:
        open_console().print(f"[dim]{time.monotonic() - started:.0f} s in all[/dim]")


@avar.command()
@click.argument("recipe")
@out_option("runs/NAME by default")
@click.option(
    "--stage",
    type=click.Choice(["describe", "reason", "anchor", "evidence"]),
    default=None,
    help="Ask this stage's teacher alone, so that one machine can serve the models in turn.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Ask again what teachers refused for good, e.g. after a change of the server.",
)
@set_option
@json_option
def synth(
    recipe: str,
    out: Path | None,
    stage: str | None,
    retry_failed: bool,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Problems -> drafts. RECIPE is a shipped name or a YAML file; a second run goes on where one stopped.

    No answer is asked for twice: with more rows, other samples or another prompt in the recipe, the same
    --out costs only what changed.

    \b
    Example:
        avar synth folder --set source.path=data --set teacher.url=http://127.0.0.1:8000 --out runs/mine
    """
    from flows.pipeline import SynthesisOptions, synthesize_run

    loaded = find_recipe(recipe, assignments)
    out = local_folder(out or RUNS / loaded.name)
    outcome = synthesize_run(loaded, out, SynthesisOptions(stage, retry_failed))
    _show_synthesis(outcome, loaded, out, as_json)


@avar.command()
@click.argument("run", type=Folder())
@out_option("the run's own by default")
@click.option("--explain", metavar="ID", default=None, help="Show the verdicts of one row, write nothing.")
@set_option
@json_option
def curate(
    run: Path, out: Path | None, explain: str | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Drafts -> dataset, with the run's recipe or other thresholds. Asks no teacher.

    \b
    Example:
        avar curate runs/demo --set filters.min_anchors=4 --out runs/demo-strict
        avar curate runs/demo --explain 3f2a
    """
    from flows.pipeline import curate_run
    from schemas.runs import require_run, synthesis_finished

    require_run(run)
    recipe = find_recipe(str(run), assignments)
    out = local_folder(out or run)
    if explain is not None:
        _explain(recipe, run, out, explain, as_json)
        return
    curate_run(recipe, run, out)
    _show(out, as_json)
    if not synthesis_finished(run):
        click.echo(f"avar: {run} is not finished: these are the rows drafted so far", err=True)


def _explain(recipe: Recipe, run: Path, dataset: Path, row: str, as_json: bool) -> None:
    from flows.explain import explain_row, plain_sample, print_explanation

    samples = explain_row(recipe, run, dataset, row)
    if as_json:
        write_json_line({"rows": [plain_sample(sample) for sample in samples]})
    else:
        print_explanation(open_console(), samples)


@avar.command("run")
@click.argument("recipe")
@out_option("runs/NAME by default")
@set_option
@json_option
def run_recipe(recipe: str, out: Path | None, assignments: tuple[str, ...], as_json: bool) -> None:
    """Problems -> drafts -> dataset, then the report.

    \b
    Example:
        avar run demo --set source.count=50 --out runs/small
    """
    from flows.pipeline import make_dataset

    loaded = find_recipe(recipe, assignments)
    out = local_folder(out or RUNS / loaded.name)
    outcome, _ = make_dataset(loaded, out)
    if not as_json:
        _print_usage(open_console(), outcome, loaded)
    _show(out, as_json)


@avar.command()
@click.argument("directory", metavar="DIR", type=Folder())
@click.option(
    "--samples",
    default=1,
    show_default=True,
    type=click.IntRange(min=0),
    help="Accepted and rejected traces to show, of each.",
)
@json_option
def inspect(directory: Path, samples: int, as_json: bool) -> None:
    """The funnel, the reasons and a few traces of a finished dataset.

    \b
    Example:
        avar inspect runs/demo --samples 3
    """
    _show(directory, as_json, samples)


@avar.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.argument("dataset", type=Folder())
@click.option("--limit", default=200, show_default=True, type=click.IntRange(min=1), help="Rows measured.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(min=1), help="Rows at once.")
@click.option(
    "--split",
    default="validation",
    show_default=True,
    type=click.Choice(["validation", "train", "accepted"]),
    help="Rows of the dataset; `accepted`: train and validation.",
)
@click.option("--layers", default=None, metavar="0-3,7", help="Layers measured; all by default.")
@click.option("--gains/--no-gains", default=True, show_default=True, help="With image and blank gain.")
@click.option(
    "--accuracy",
    type=Folder(),
    default=None,
    metavar="FILE.json",
    help="Correlate VAS with accuracies: a JSON object, percent by model (path or last folder name).",
)
@out_option("for vas.json, index.html and figures/; nothing is written by default")
@json_option
def vas(
    models: tuple[str, ...],
    dataset: Path,
    limit: int,
    batch_size: int,
    split: str,
    layers: str | None,
    gains: bool,
    accuracy: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """The Visual Attention Score of each MODEL (a folder or a name) on DATASET's rows.

    \b
    Example:
        avar vas runs/demo/models/guided runs/demo --limit 50 --out runs/demo-vas
        avar vas A B C runs/demo --accuracy accuracy.json
        avar vas A runs/demo --split accepted --limit 100000 --no-gains --out runs/demo-scores
    """
    from flows.vas.run import VasSettings, parse_layers, run_vas
    from flows.vas.tables import print_run

    chosen = parse_layers(layers) if layers is not None else None
    settings = VasSettings(limit=limit, batch_size=batch_size, split=split, layers=chosen, gains=gains)
    run = run_vas(models, dataset, settings, accuracy=accuracy, out=local_folder(out) if out else None)
    if as_json:
        write_json_line(run.summary())
    else:
        print_run(open_console(), run, out)


@avar.command()
@click.argument("model")
@click.argument("dataset", type=Folder())
@click.option(
    "--strengths",
    default="0.15:0,0.15:0.05,0.15:0.40,0.15:0.60",
    show_default=True,
    metavar="IMAGE:SYSTEM,...",
    help="Image keys count 1 + IMAGE times, system keys 1 - SYSTEM times.",
)
@click.option("--renormalise", is_flag=True, help="Make each query's attention sum to 1 again.")
@click.option("--limit", default=200, show_default=True, type=click.IntRange(min=1), help="Problems.")
@click.option(
    "--max-new-tokens", default=1024, show_default=True, type=click.IntRange(min=1), help="Of an answer."
)
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(min=1), help="Rows at once.")
@out_option("for steer.json with every answer; nothing is written by default")
@json_option
def steer(
    model: str,
    dataset: Path,
    strengths: str,
    renormalise: bool,
    limit: int,
    max_new_tokens: int,
    batch_size: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Accuracy and score of MODEL on DATASET's held-out problems, with and without steering its attention.

    \b
    Example:
        avar steer runs/demo/models/guided runs/demo --strengths 0.15:0,0.15:0.4 --limit 50
    """
    from flows.steer import parse_strengths, steer_run, steering_remarks, steering_table

    run = steer_run(
        model,
        dataset,
        parse_strengths(strengths),
        limit=limit,
        renormalise=renormalise,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        out=local_folder(out) if out else None,
    )
    if as_json:
        write_json_line(run.to_dict())
        return
    console = open_console()
    console.print(steering_table(run.result))
    for remark in steering_remarks(run):
        console.print(remark, style="dim", markup=False, highlight=False)


avar.add_command(teacher)
avar.add_command(ladder)
avar.add_command(train)
avar.add_command(eval_command)


def _show_synthesis(outcome: Outcome, recipe: Recipe, out: Path, as_json: bool) -> None:
    if as_json:
        waiting, usage = outcome.waiting, outcome.usage
        write_json_line({"drafts": outcome.drafts, "run": str(out), "waiting": waiting, "usage": usage})
        return
    console = open_console()
    _print_usage(console, outcome, recipe)
    for name, rows in outcome.waiting.items():
        line = f"{rows} rows wait for {name}; next: avar synth {out} --stage {name.split('.')[0]} --out {out}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if outcome.finished:
        line = f"{outcome.drafts} drafts in {out}; next: avar curate {out}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_usage(console: Console, outcome: Outcome, recipe: Recipe) -> None:
    from flows.accounts import usage_table

    console.print(usage_table(outcome.usage, outcome.costs(recipe)))


def _show(directory: Path, as_json: bool, samples: int = 1) -> None:
    from flows.report import find_samples, print_report, read_report
    from schemas.records import Status

    report = read_report(directory)
    if as_json:
        write_json_line(report.to_dict())
        return
    shown = [
        row
        for status in (Status.ACCEPTED, Status.REJECTED)
        for row in find_samples(directory, status, samples)
    ]
    print_report(open_console(), report, shown)


if __name__ == "__main__":
    main()
