"""Rows, answers, scores: one evaluation from its arguments to its folder.

Torch and transformers are imported when a function runs, never with this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.evaluate.client import JOURNAL_FILE, Asker, ServerSettings, open_asker
from flows.evaluate.rows import RowSettings, read_rows
from flows.evaluate.store import RESULT_FILE, Store, open_store
from flows.progress import Reporter, step
from schemas.errors import ConfigError, FlowError, SourceError, TeacherError
from schemas.shards import write_json
from trainer.evaluate import Evaluation, Scored, evaluate, score_answer

TITLE = "eval"
RUNS = Path("runs")


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """What is evaluated, and how.

    Attributes:
        model: a folder or a name of a model, or a server's URL.
        max_new_tokens: of an answer, thoughts included.
        temperature: 0 for greedy decoding; a model in this process decodes in no other way.
        batch_size: rows at once in this process; max_in_flight: requests at once at a server.
    """

    model: str
    datasets: tuple[str, ...]
    rows: RowSettings = field(default_factory=RowSettings)
    max_new_tokens: int = 1024
    temperature: float = 0.0
    batch_size: int = 8
    max_in_flight: int = 64
    served_model: str | None = None
    api_key_env: str | None = None

    @property
    def is_url(self) -> bool:
        return self.model.lower().startswith(("http://", "https://"))

    @property
    def server(self) -> ServerSettings:
        """Of a model behind a URL."""
        return ServerSettings(
            url=self.model,
            served_model=self.served_model,
            api_key_env=self.api_key_env,
            max_in_flight=self.max_in_flight,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
        )

    def stored(self, model: str) -> dict[str, Any]:
        """What an answer depends on, so that an evaluation goes on only under the same; rows may be added."""
        rows = asdict(self.rows)
        if self.rows.images != "other":  # there, more rows change whose picture a row is shown
            del rows["limit"]
        return {
            "model": model,
            "served": self.is_url,
            "datasets": list(self.datasets),
            **rows,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
        }


@dataclass(frozen=True)
class EvalRun:
    """A finished evaluation."""

    settings: Mapping[str, Any]
    folder: Path
    result: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"settings": dict(self.settings), "out": str(self.folder)} | self.result.to_dict()


def default_folder(settings: EvalSettings) -> Path:
    """runs/eval-MODEL-DATASET, by the last names of both."""
    model = urlsplit(settings.model).netloc if settings.is_url else Path(settings.model).name
    names = [Path(name.partition("=")[0]).stem for name in settings.datasets]
    parts = ["eval", model, *names, *(["obedience"] if settings.rows.obedience else [])]
    return RUNS / re.sub(r"[^\w.-]+", "-", "-".join(parts))[:120]


def run_evaluation(settings: EvalSettings, out: Path) -> EvalRun:
    """Asks what `out` has no answer to, and sums up.

    Args:
        out: a new folder, or one of an evaluation with the same settings, which goes on.
    Raises:
        ConfigError: no such model, dataset or server, or other settings than those `out` was begun with.
        SourceError, ShardError: a dataset or the folder cannot be read.
        TeacherError: the server is gone or wrong.
        FlowError: some rows have no answer; the same command asks for them again.
    """
    if settings.temperature and not settings.is_url:
        raise ConfigError("--temperature: a model in this process answers greedily; serve it to sample")
    for option, given in (("--served-model", settings.served_model), ("--api-key-env", settings.api_key_env)):
        if given and not settings.is_url:
            raise ConfigError(f"{option}: {settings.model} is no URL, which alone is asked so")
    rows = read_rows(settings.datasets, settings.rows)
    ask = _ask_server if settings.is_url else _ask_model
    stored, answers = ask(settings, rows, out)
    run = EvalRun(stored | {"limit": settings.rows.limit}, out, evaluate(answers))
    write_json(out / RESULT_FILE, run.to_dict())
    return run


def _ask_model(
    settings: EvalSettings, rows: Sequence[Mapping[str, Any]], out: Path
) -> tuple[dict[str, Any], list[Scored]]:
    stored = settings.stored(settings.model)
    with open_store(out, stored) as store:
        missing = store.missing(rows)
        with step(TITLE, len(rows)) as reporter:
            reporter.advance(len(rows) - len(missing), earlier=True)
            if missing:
                _generate(settings, missing, store, reporter)
        return stored, store.of(rows)


def _generate(
    settings: EvalSettings, rows: Sequence[Mapping[str, Any]], store: Store, reporter: Reporter
) -> None:
    """Answers of a model in this process, kept after each batch."""
    from flows.train import open_saved
    from trainer.generation import generate_batches

    model, processor = open_saved(settings.model)
    done = 0
    for batch in generate_batches(
        model,
        processor,
        _Opened(rows),
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
    ):
        asked = rows[done : done + len(batch)]
        store.add(
            score_answer(row, one.text, finished=one.finished, tokens=one.tokens)
            for row, one in zip(asked, batch, strict=True)
        )
        done += len(batch)
        reporter.advance(len(batch))


class _Opened(Sequence[Mapping[str, Any]]):
    """Rows whose images are decoded when they are taken, so that a broken one is named."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        from trainer.messages import open_image

        row = self._rows[place]
        try:
            return {**row, "images": [open_image(image) for image in row["images"]]}
        except (OSError, ValueError, SyntaxError) as error:
            raise SourceError(f"{row['source']} {row['id']}: an image cannot be decoded: {error}") from error


def _ask_server(
    settings: EvalSettings, rows: Sequence[Mapping[str, Any]], out: Path
) -> tuple[dict[str, Any], list[Scored]]:
    from flows.pipeline import run_async

    async def work() -> tuple[dict[str, Any], list[Scored]]:
        async with open_asker(settings.server) as asker:
            stored = settings.stored(asker.model)
            with open_store(out, stored) as store, step(TITLE, len(rows)) as reporter:
                unanswered = await _ask_missing(asker, rows, store, reporter)
            answers = store.of(rows)
        if unanswered:
            raise FlowError(
                f"{len(unanswered)} of {len(rows)} rows have no answer ({unanswered[0]}); what was answered "
                f"is kept in {out}, and the same command asks for the rest"
            )
        return stored, answers

    return run_async(work())


async def _ask_missing(
    asker: Asker, rows: Sequence[Mapping[str, Any]], store: Store, reporter: Reporter
) -> list[TeacherError]:
    missing = store.missing(rows)
    reporter.advance(len(rows) - len(missing), earlier=True)

    def keep(scored: Scored) -> None:
        store.add([scored])
        reporter.advance(1)

    return await asker.ask_all(missing, store.folder / JOURNAL_FILE, keep) if missing else []
