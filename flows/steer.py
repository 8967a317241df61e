"""What `avar steer` does: accuracy and score of a model with and without steering.

Torch and transformers are imported when a function runs, never with this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.progress import step
from flows.train import load_rows, open_saved, require_empty
from schemas.errors import ConfigError
from schemas.shards import write_json

if TYPE_CHECKING:
    from trainer.bootstrap import Interval
    from trainer.intervene import SteeringComparison

RESULT_FILE = "steer.json"


@dataclass(frozen=True)
class SteerRun:
    """A comparison, and which rows of which dataset it was made on.

    Attributes:
        split: `validation`, or `train` where no row is held out.
        rows: rows of that split; the comparison may be on fewer.
    """

    model: str
    dataset: str
    split: str
    rows: int
    result: SteeringComparison

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        facts = {"model": self.model, "dataset": self.dataset, "split": self.split, "rows": self.rows}
        return facts | self.result.to_dict()


def parse_strengths(text: str) -> tuple[tuple[float, float], ...]:
    """ "0.15:0,0.15:0.4" as pairs of image and system strength.

    Raises: ConfigError: anything else.
    """
    pairs = []
    for part in text.split(","):
        try:
            image, system = (float(number) for number in part.split(":"))
        except ValueError as error:
            raise ConfigError(
                f"--strengths {text!r}: {part.strip()!r} is no IMAGE:SYSTEM; write for example "
                "0.15:0,0.15:0.4"
            ) from error
        pairs.append((image, system))
    return tuple(pairs)


def steer_run(
    model_path: str,
    data: Path,
    strengths: Sequence[tuple[float, float]],
    *,
    limit: int,
    renormalise: bool,
    max_new_tokens: int,
    batch_size: int,
    out: Path | None,
) -> SteerRun:
    """Compares steering on a dataset's held-out rows, on its train rows where none is held out.

    Args:
        out: a new folder for steer.json, every answer included.
    Raises: ConfigError: no such model, `out` is taken. ShardError: no dataset. AttentionError: see
        `trainer.intervene.compare_steering`.
    """
    rows = load_rows(data, "validation", fallback="train")
    if out is not None:
        require_empty(out, "result")
    from trainer.intervene import compare_steering

    model, processor = open_saved(model_path)
    samples = rows.select(range(min(limit, len(rows))))
    arms = 1 + sum(pair != (0.0, 0.0) for pair in strengths)
    with step("steering", arms * len(samples)) as reporter:
        result = compare_steering(
            model,
            processor,
            samples,  # type: ignore[arg-type]
            strengths,
            renormalise=renormalise,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            progress=reporter.advance,
        )
    run = SteerRun(model_path, str(data), str(rows.split), len(rows), result)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / RESULT_FILE, run.to_dict())
    return run


def steering_table(result: SteeringComparison) -> Table:
    """A row per strength; intervals are 95%, over problems."""
    columns = ("image", "system", "accuracy", "gain", "VAS", "ratio of means", "parsed", "finished")
    table = Table(*columns, box=None, pad_edge=False)
    for number, arm in enumerate(result.arms):
        gain = "-" if not number else f"{arm.gain:+.3f} {_interval(arm.gain_interval, '+.3f')}"
        table.add_row(
            f"+{arm.image:g}",
            f"-{arm.system:g}",
            f"{arm.accuracy:.3f} {_interval(arm.accuracy_interval, '.3f')}",
            gain,
            f"{arm.vas.vas:.3f} {_interval(arm.vas.intervals['vas'], '.3f')}",
            f"{arm.vas.ratio_of_means:.3f}",
            f"{arm.parsed:.0%}",
            f"{arm.finished:.0%}",
        )
    return table


def steering_remarks(run: SteerRun) -> list[str]:
    """What the table does not say by itself."""
    result = run.result
    form = "renormalised" if result.renormalise else "not renormalised"
    remarks = [
        f"{result.problems} of {run.rows} {run.split} rows, greedy, at most {result.max_new_tokens} "
        f"tokens; attention {form}. Intervals: 95%, bootstrap over problems; the gain is paired."
    ]
    if run.split == "train":
        remarks.append("No row is held out: these are rows of the train split, which the model may know.")
    cut = [arm for arm in result.arms if arm.finished < 0.9]
    if cut:
        remarks.append(
            f"In {len(cut)} of {len(result.arms)} arms more than a tenth of the answers were cut off at the "
            "limit, and a cut answer counts as wrong: raise --max-new-tokens."
        )
    sure = [arm for arm in result.arms[1:] if arm.gain_interval and _excludes_zero(arm.gain_interval)]
    if len(result.arms) > 1 and not sure:
        remarks.append("No gain's interval leaves out zero: these problems do not show an effect.")
    return remarks


def _excludes_zero(interval: Interval) -> bool:
    return interval[0] > 0 or interval[1] < 0


def _interval(interval: Interval | None, form: str) -> str:
    return f"\\[{interval[0]:{form}}, {interval[1]:{form}}]" if interval else ""
