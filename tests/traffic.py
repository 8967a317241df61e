"""What a stub server was asked, by its log, and what of that is in a run's journal."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from schemas.records import Image
from schemas.runs import JOURNAL_FILE
from synth.journal import Journal
from synth.requests import Request
from synth.server import image_part


class Traffic:
    """What the stub's log says, read as it grows.

    Attributes:
        arrivals: how often each request has come, by the SHA-256 of its body.
        open: those that came since `forget_open` and were not answered.
        asked: those that came since then.
    """

    def __init__(self, log: Path) -> None:
        log.touch()
        self._file = log.open("rb")
        self._rest = b""
        self.arrivals: Counter[str] = Counter()
        self.open: set[str] = set()
        self.asked: set[str] = set()

    def read(self) -> Traffic:
        """Reads on to the log's end."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            mark, name = line.decode().split()[:2]
            if mark == "+":
                self.arrivals[name] += 1
                self.open.add(name)
                self.asked.add(name)
            else:
                self.open.discard(name)
        return self

    def forget_open(self) -> None:
        """A flow or a server begins: nothing is on its way."""
        self.read()
        self.open.clear()
        self.asked.clear()


class Answered:
    """What a run's journal holds, by the SHA-256 of the request's body as a server gets it."""

    def __init__(self, source: Path) -> None:
        pictures = [path.read_bytes() for path in sorted((source / "images").iterdir())]
        images = [Image(bytes=data, path="") for data in pictures]
        self._images = {image.sha256: image for image in images}

    def read(self, root: Path) -> list[str]:
        """One entry per row. Reads a copy, so that the run finds the journal as the kill left it."""
        with _copied(root / JOURNAL_FILE) as copy, Journal(copy) as journal:
            return [self._name(entry["request"]) for entry in map(journal.find, _keys(copy)) if entry]

    def _name(self, reference: dict[str, Any]) -> str:
        fields = dict(reference)
        content = tuple(p if isinstance(p, str) else self._images[p["image"]] for p in fields.pop("content"))
        names = ("model", "revision", "continued", "temperature", "top_p", "max_tokens", "seed")
        known = {name: fields.pop(name) for name in names}
        request = Request(stage="", content=content, options=fields, **known)
        parts = {image.sha256: image_part(image) for image in request.images}
        return hashlib.sha256(request.body(parts)).hexdigest()


@contextmanager
def _copied(journal: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for path in journal.parent.glob(f"{journal.name}*"):
            if not path.name.endswith("-shm"):  # an index of the log, which SQLite makes anew
                shutil.copy(path, folder)
        yield Path(folder) / journal.name


def _keys(journal: Path) -> list[bytes]:
    with closing(sqlite3.connect(journal)) as database:
        return [key for (key,) in database.execute("select key from answers")]
