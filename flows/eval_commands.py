"""`avar eval`: what a model scores on benchmarks and datasets."""

from __future__ import annotations

from pathlib import Path

import click

from flows.commands import Folder, json_option, local_folder, open_console, out_option, write_json_line
from schemas.errors import ConfigError


@click.command("eval")
@click.argument("model", metavar="MODEL|URL")
@click.argument("datasets", metavar="DATASET...", nargs=-1, required=True)
@click.option(
    "--split",
    default="validation",
    show_default=True,
    type=click.Choice(["validation", "train", "accepted"]),
    help="Rows of a run's folder; `accepted`: train and validation.",
)
@click.option("--limit", default=None, type=click.IntRange(min=1), help="First rows of each DATASET; all.")
@click.option(
    "--max-new-tokens", default=1024, show_default=True, type=click.IntRange(min=1), help="Of an answer."
)
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(min=1), help="Rows at once.")
@click.option(
    "--images",
    default="own",
    show_default=True,
    type=click.Choice(["own", "blank", "other"]),
    help="As a control, grey images or another row's.",
)
@click.option("--obedience", is_flag=True, help="Ask under rules as system prompts, and score who obeys.")
@click.option("--system", type=Folder(), default=None, metavar="FILE", help="System prompt; avar's own.")
@click.option("--served-model", default=None, metavar="NAME", help="At a URL that serves several.")
@click.option("--api-key-env", default=None, metavar="VARIABLE", help="Environment variable of a URL's key.")
@click.option(
    "--max-in-flight", default=64, show_default=True, type=click.IntRange(1, 4096), help="Requests at a URL."
)
@click.option(
    "--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2), help="At a URL; 0: greedy."
)
@out_option("runs/eval-MODEL-DATASET by default; a second run goes on there")
@json_option
def eval_command(
    model: str,
    datasets: tuple[str, ...],
    split: str,
    limit: int | None,
    max_new_tokens: int,
    batch_size: int,
    images: str,
    obedience: bool,
    system: Path | None,
    served_model: str | None,
    api_key_env: str | None,
    max_in_flight: int,
    temperature: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Accuracy of a model on each DATASET: a folder or name of a model, or the URL of a server.

    DATASET: mathvista, mathvision, mathverse_vision_only, mmmu, mmmu_pro, mmmu_pro_vision, mmstar or
    hallusionbench; NAME=PATH or a path for a local copy; or a run's folder. Every generation is kept.

    \b
    Example:
        avar eval runs/demo/models/guided runs/demo --limit 50
        avar eval http://127.0.0.1:8000 mathvista mmstar=/data/mmstar --out runs/eval-mine
        avar eval runs/demo/models/guided runs/demo --obedience
    """
    from flows.evaluate.rows import RowSettings
    from flows.evaluate.run import EvalSettings, default_folder, run_evaluation
    from flows.evaluate.tables import print_evaluation

    if obedience and system is not None:
        raise ConfigError("--obedience brings system prompts of its own: leave out --system")
    settings = EvalSettings(
        model=model,
        datasets=datasets,
        rows=RowSettings(split=split, limit=limit, images=images, system=_read(system), obedience=obedience),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        batch_size=batch_size,
        max_in_flight=max_in_flight,
        served_model=served_model,
        api_key_env=api_key_env,
    )
    run = run_evaluation(settings, local_folder(out) if out else default_folder(settings))
    if as_json:
        write_json_line(run.to_dict())
    else:
        print_evaluation(open_console(), run)


def _read(path: Path | None) -> str | None:
    """Raises: ConfigError: the file of a system prompt is not there, or blank."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--system {path}: cannot be read ({error})") from error
    if not text:
        raise ConfigError(f"--system {path}: the file is blank")
    return text
