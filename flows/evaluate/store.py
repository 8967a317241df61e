"""The folder of an evaluation: its settings, and a line of JSON for every answer, on disk before it counts.

A line is written with one call, so that a process that is killed loses at most what it had not written yet; a
torn last line is cut off by the next one. Lines stand in the order in which answers came.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError, ShardError
from schemas.runs import locked
from schemas.shards import disk_errors, write_json
from trainer.evaluate import Scored

SETTINGS_FILE = "settings.json"
GENERATIONS_FILE = "generations.jsonl"
RESULT_FILE = "eval.json"

Name = tuple[str, str]  # source and id of a row


class Store:
    """Answers by row. Made by `open_store`."""

    def __init__(self, folder: Path, file: int) -> None:
        self.folder = folder
        self._file = file
        self.answers = {(one.source, one.id): one for one in _read(folder / GENERATIONS_FILE)}

    def missing(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows without an answer, in order.

        Raises: ConfigError: a row is another one than when it was answered.
        """
        for row in rows:
            stored = self.answers.get(_name(row))
            if stored is not None and stored.question != row["question_hash"]:
                raise ConfigError(
                    f"{self.folder}: row {row['id']} of {row['source']} was asked something else there: "
                    "choose another --out"
                )
        return [row for row in rows if _name(row) not in self.answers]

    def add(self, answers: Iterable[Scored]) -> None:
        """Appends answers, one line each.

        Raises: ShardError: the disk is full.
        """
        found = list(answers)
        lines = "".join(json.dumps(_to_dict(one), ensure_ascii=False) + "\n" for one in found)
        with disk_errors(self.folder / GENERATIONS_FILE):
            data = lines.encode("utf-8", "backslashreplace")
            while data:
                data = data[os.write(self._file, data) :]
        self.answers |= {(one.source, one.id): one for one in found}

    def of(self, rows: Iterable[Mapping[str, Any]]) -> list[Scored]:
        """The answers to some rows, in their order; rows without one are left out."""
        return [self.answers[name] for row in rows if (name := _name(row)) in self.answers]


@contextmanager
def open_store(folder: Path, settings: Mapping[str, Any]) -> Iterator[Store]:
    """The folder of an evaluation, new or begun with the same settings.

    Raises:
        ConfigError: it was begun with other settings, or holds something else.
        ShardError: another process writes there, or a line is damaged.
    """
    _require_own(folder)
    with locked(folder):
        _require_same(folder, dict(settings))
        path = folder / GENERATIONS_FILE
        with disk_errors(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                _cut_torn_line(path, file)
                yield Store(folder, file)
            finally:
                os.fsync(file)
                os.close(file)


def _require_own(folder: Path) -> None:
    taken = folder.exists() and (
        not folder.is_dir() or any(entry.name != ".lock" for entry in folder.iterdir())
    )
    if taken and not (folder / SETTINGS_FILE).is_file():
        raise ConfigError(f"{folder}: holds something else than an evaluation; choose another --out")


def _require_same(folder: Path, settings: dict[str, Any]) -> None:
    path, answers = folder / SETTINGS_FILE, folder / GENERATIONS_FILE
    if not path.is_file() or not answers.is_file() or not answers.stat().st_size:
        write_json(path, settings)  # what no answer depends on yet, say a mistyped model, binds nobody
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ShardError(f"{path}: damaged ({error}); choose another --out") from error
    for name in [*settings, *(name for name in before if name not in settings)]:
        if before.get(name) != settings.get(name):
            old, new = _short(before.get(name)), _short(settings.get(name))
            raise ConfigError(f"{folder}: was begun with {name} = {old}, now {new}: choose another --out")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _cut_torn_line(path: Path, file: int) -> None:
    """Cuts off what a killed process left of a line."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.ftruncate(file, whole)


def _read(path: Path) -> Iterator[Scored]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                fields = json.loads(line)
                fields.pop("correct")
                yield Scored(**fields | {"group": tuple(fields["group"])})
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ShardError(
                    f"{path} line {number}: damaged ({error}); remove the line, and its row is asked again"
                ) from error


def _to_dict(scored: Scored) -> dict[str, Any]:
    return asdict(scored) | {"correct": scored.correct}


def _name(row: Mapping[str, Any]) -> Name:
    return str(row["source"]), str(row["id"])
