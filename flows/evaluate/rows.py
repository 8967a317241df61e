"""Which rows an evaluation asks: of benchmarks, of local copies of them, and of avar's own datasets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filters.benchmark_table import BENCHMARKS
from filters.benchmarks import load_evaluated, undecoded
from flows.evaluate.benchmarks import Row, adapt, encode_image, hash_question
from schemas.errors import ConfigError, SourceError
from schemas.shards import INDEX_FILE

if TYPE_CHECKING:
    from trainer.swaps import Swap

IMAGES = ("own", "blank", "other")


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """What is asked of a dataset's rows.

    Attributes:
        split: of a dataset of avar's.
        limit: rows of each dataset, the first ones; None for all.
        images: the rows' `own`, or as a control grey ones (`blank`) or another row's (`other`).
        system: a system prompt instead of avar's own.
        obedience: put the rules' system prompts on the rows in turns (`trainer.obedience`).
    """

    split: str = "validation"
    limit: int | None = None
    images: str = "own"
    system: str | None = None
    obedience: bool = False


def read_rows(datasets: Sequence[str], settings: RowSettings) -> list[Row]:
    """The rows to ask, in order, each with `question_hash`.

    All are held in memory, their images encoded as they were read.

    Args:
        datasets: each a benchmark's name, `NAME=PATH` or a path of a local copy, or a run's folder.
    Raises:
        SourceError, ShardError: one cannot be read, is empty, or two rows have one name.
        ConfigError: nothing of that name.
    """
    rows = [row for name in datasets for row in _prompted(list(_some(name, settings)), settings)]
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (name := (row["source"], row["id"])) in seen:
            raise SourceError(
                f"{row['source']}: two rows are called {row['id']}: each needs an id of its own"
            )
        seen.add(name)
    if settings.images != "own":
        rows = _swapped(rows, "blank" if settings.images == "blank" else "other")
    return [row | {"question_hash": hash_question(row)} for row in rows]


def _prompted(rows: list[Row], settings: RowSettings) -> list[Row]:
    """A dataset's rows with their system prompts.

    Rules take turns in each dataset anew, so that a larger limit leaves every row its rule.
    """
    if settings.obedience:
        from trainer.obedience import obedience_rows

        return obedience_rows(rows)
    return rows if settings.system is None else [row | {"system": settings.system} for row in rows]


def _some(name: str, settings: RowSettings) -> Iterator[Row]:
    """Raises: SourceError: there is none."""
    count = 0
    for count, row in enumerate(islice(_open(name, settings.split), settings.limit), 1):  # noqa: B007
        yield row
    if not count:
        raise SourceError(f"{name}: no row to ask")


def _open(name: str, split: str) -> Iterator[Row]:
    if name in BENCHMARKS:
        return map(adapt, load_evaluated(name))
    benchmark, equals, given = name.partition("=")
    if equals and benchmark in BENCHMARKS:
        return map(adapt, load_evaluated(benchmark, _existing(given)))
    path = _existing(name)
    if _is_run(path):
        return _own_rows(path, split)
    return map(adapt, load_evaluated(path.stem, path))


def _existing(name: str) -> Path:
    path = Path(name)
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        known = ", ".join(sorted(BENCHMARKS))
        raise ConfigError(f"{name[:200]}: neither a file nor a benchmark; known: {known}")
    return path


def _is_run(path: Path) -> bool:
    """True for a folder of avar's: a finished dataset, or a run on its way to one."""
    index = path / INDEX_FILE
    if not index.is_file():
        return (path / "drafts").is_dir()
    splits = json.loads(index.read_text(encoding="utf-8")).get("splits", [])
    return {"train", "validation", "rejected"} <= set(splits)


def _own_rows(run: Path, split: str) -> Iterator[Row]:
    """The problems of a dataset of avar's, each once however many samples were accepted."""
    from flows.train import load_rows

    seen: set[str] = set()
    for sample in undecoded(load_rows(run, split)):
        assert isinstance(sample, dict)
        if sample["id"] in seen:
            continue
        seen.add(sample["id"])
        images = [encode_image(image["bytes"], image["path"] or sample["row"]) for image in sample["images"]]
        yield {name: sample[name] for name in ("id", "source", "category", "question", "answer")} | {
            "choices": list(sample["choices"] or []),
            "options": list(sample["choices"] or []),
            "answers": [sample["answer"]],
            "decimals": None,
            "group": [],
            "images": images,
        }


def _swapped(rows: Sequence[Row], kind: Swap) -> list[Row]:
    """The rows with wrong images; those without any stay as they are.

    Raises: ConfigError: no row has another image.
    """
    from trainer.swaps import find_swap

    swapped: list[Row] = []
    for place, row in enumerate(rows):
        if row["images"]:
            images = find_swap(rows, place, kind)
            if images is None:
                raise ConfigError("--images other: all rows have the same image: name more rows")
            row = row | {"images": [_encoded(image) for image in images]}
        swapped.append(row)
    return swapped


def _encoded(image: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": ""}
