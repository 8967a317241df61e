"""A folder of strangers' files: its table, line by line, and its images, which lie below it.

No file outside the folder is read, whatever a row names. The name is resolved first, which settles `..`,
roots and links; then the folder is opened, and every part of the resolved path from there with O_NOFOLLOW,
so that a part swapped for a link in the meantime is an error and no way out. The bytes come from that one
descriptor. What this cannot see: a hard link, or a file system mounted inside the folder.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from schemas.config import FolderSource
from schemas.errors import RowError, SourceError
from schemas.records import SourceFault

TABLES = ("items.jsonl", "metadata.jsonl")
MAX_ROW_BYTES = 4 * 2**20
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
# O_NONBLOCK: a pipe that nobody writes to is not waited for.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def find_table(source: FolderSource) -> Path:
    """The table of a folder.

    Raises: SourceError: no folder, no table, or no image in it where none may come from elsewhere.
    """
    if not source.path.is_dir():
        raise SourceError(f"source.path: {source.path} is not a folder")
    names = (source.table,) if source.table else TABLES
    for name in names:
        if (source.path / name).is_file():
            if not source.allowed_hosts:
                _require_image(source.path)
            return source.path / name
    raise SourceError(
        f"source.path: {source.path} holds no {' or '.join(names)}: one JSON object per line with a "
        "question, an answer and an image's file name"
    )


def read_lines(table: Path) -> Iterator[bytes]:
    """The lines of a table that are not blank, in order.

    One that is over MAX_ROW_BYTES is cut there, so that it fails as a row, not as memory.

    Raises: SourceError: it cannot be read.
    """
    try:
        with table.open("rb") as file:
            while line := file.readline(MAX_ROW_BYTES):
                if line.strip():
                    yield line
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_ROW_BYTES)
    except OSError as error:
        raise SourceError(f"{table}: cannot be read ({error.strerror}); the same command goes on") from error


def read_file(folder: Path, name: str, max_bytes: int) -> bytes:
    """The bytes of a file below a folder, opened once.

    Args:
        name: as a stranger wrote it, relative to the folder; a link counts by where it leads.
        max_bytes: a larger file is not read.
    Raises: RowError: missing, outside the folder, no regular file, or too large.
    """
    shown, root = shorten(name), folder.resolve()
    try:
        descriptor = _open_below(root, _resolve(root, name))
        try:
            return _read_regular(descriptor, shown, max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ELOOP:  # a part that was no link when the name was resolved
            raise _outside(root, shown) from error
        raise RowError(SourceFault.IMAGE_MISSING, f"{shown}: {error.strerror}") from error


def shorten(name: str, limit: int = 120) -> str:
    """A stranger's name as one short line."""
    line = " ".join(name.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _require_image(folder: Path) -> None:
    """Stops at the first image: a folder may hold a hundred thousand."""
    pending = [folder]
    while pending:
        # A folder below that cannot be listed decides nothing: a row that names a file in it says so.
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.lower().endswith(_SUFFIXES):
                    return
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
    raise SourceError(f"source.path: {folder} holds no image ({', '.join(_SUFFIXES)})")


def _resolve(root: Path, name: str) -> tuple[str, ...]:
    """The parts of the path below the resolved folder, without links.

    Raises: RowError: the name leads out of the folder, through `..`, a root or a link.
    """
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        detail = f"{shorten(name)}: not a file name, or links in a circle"
        raise RowError(SourceFault.IMAGE_MISSING, detail) from error
    if not path.is_relative_to(root):
        raise _outside(root, shorten(name))
    return path.relative_to(root).parts


def _open_below(root: Path, parts: tuple[str, ...]) -> int:
    """A descriptor of what the parts lead to, never through a link. Raises: OSError."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts:
        try:
            below = os.open(part, _READ, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _read_regular(descriptor: int, shown: str, max_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise RowError(SourceFault.IMAGE_UNREADABLE, f"{shown}: not a regular file")
    if status.st_size > max_bytes:
        raise RowError(
            SourceFault.IMAGE_TOO_LARGE,
            f"{shown}: a file of {status.st_size:,} bytes, the limit is {max_bytes:,}",
        )
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(status.st_size)


def _outside(root: Path, shown: str) -> RowError:
    return RowError(SourceFault.IMAGE_OUTSIDE, f"{shown}: leads out of {root.name}; images lie below it")
