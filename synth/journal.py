"""The journal: every answer of a teacher, on disk before it is used.

One SQLite file in WAL mode, a row per request, found by the request's key. Answers that arrive in one turn of
the event loop are committed together, in the loop itself: a commit without a forced write takes some ten
microseconds a row, and a thread would wait longer for Python's lock than that. What is committed survives the
death of the process; a power cut may take the last second, which is asked again.

Several processes on one machine may share a journal; not over a network's file system.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import zstandard

from schemas.errors import ShardError

VERSION = 1
_SYNC_S = 1.0  # from a commit to the forced write, which is done in a thread
_LONG_LOG_BYTES = 32 * 2**20  # some ten thousand answers
_BUSY_MS = 30_000  # another process's commit takes microseconds; its checkpoint may take seconds
_ZSTD_LEVEL = 1  # higher levels save nothing on entries of 5 kB
_SCHEMA = """
create table if not exists answers (
    key blob primary key,      -- SHA-256 of the request
    stage text not null,
    model text not null,
    fault text not null,       -- of a refusal, '' for an answer
    size integer not null,     -- bytes of the entry before compression
    entry blob not null        -- zstd, JSON: {"outcome": the answer or refusal, "request": images by SHA-256}
);
"""


class Journal:
    """A durable map from a request's key to its outcome. Use as a context manager.

    Attributes:
        written, commits: rows written by this object, and in how many transactions.
    Raises: ShardError: the file is not a journal, is damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log_bytes = 0  # of the log, as of the last sync
        self.written = self.commits = 0
        # Kept from entry to entry: made anew for each, as pyarrow does it, they take 30 us instead of 12.
        self._compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()
        self._pending: dict[bytes, tuple[bytes, str, str, str, int, bytes]] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: Future[None] | None = None
        self._sync_due: asyncio.TimerHandle | None = None
        self._failure: ShardError | None = None
        self._open = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-sync")

    def __enter__(self) -> Journal:
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._connect()
            self._require_journal()
            self._database.execute("pragma journal_mode = wal")
            self._database.executescript(f"{_SCHEMA} pragma user_version = {VERSION};")
        self._open = True
        return self

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        database.execute(f"pragma busy_timeout = {_BUSY_MS}")
        database.execute("pragma synchronous = normal")
        database.execute("pragma wal_autocheckpoint = 0")  # `_sync` does it
        return database

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sync_due is not None:
            self._sync_due.cancel()
        self._thread.shutdown()
        self._open = False
        with self._errors():
            self._flush()
            self._database.close()  # the last one to close puts the log into the file

    def _require_journal(self) -> None:
        version = self._database.execute("pragma user_version").fetchone()[0]
        tables = {name for (name,) in self._database.execute("select name from sqlite_master")}
        if version > VERSION or (tables and "answers" not in tables):
            raise ShardError(f"{self.path}: not a journal of this version of avar; name another file")

    def find(self, key: bytes) -> dict[str, Any] | None:
        """The outcome and the request stored for a request's key, None where there is nothing."""
        with self._errors():
            found = self._database.execute("select size, entry from answers where key = ?", (key,))
            row = found.fetchone()
            return None if row is None else orjson.loads(self._decompressor.decompress(row[1], row[0]))

    async def put(
        self, key: bytes, *, stage: str, model: str, request: bytes, outcome: bytes, fault: str = ""
    ) -> None:
        """Stores an outcome and returns when it is committed. A key that is there already keeps its outcome.

        Args:
            request, outcome: JSON.
            fault: the kind of a refusal, "" for an answer.
        Raises: ShardError: it cannot be written; nothing may be done with the answer then.
        """
        entry = b'{"outcome":%b,"request":%b}' % (outcome, request)
        packed = (key, stage, model, fault, len(entry), self._compressor.compress(entry))
        self._pending.setdefault(key, packed)
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._commit)
        committed = loop.create_future()
        self._waiting.append(committed)
        await committed

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        failure = None
        try:
            self._flush()
            self._sync_soon()
        except ShardError as error:
            failure = error
        for future in waiting:
            if future.done():
                continue  # cancelled meanwhile
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

    def _sync_soon(self) -> None:
        """Sees to it that what is committed is forced to the disk within about a second, in a thread.

        Raises: ShardError: the last time failed.
        """
        if self._failure is not None:
            raise self._failure
        if self._sync_due is None:
            self._sync_due = asyncio.get_running_loop().call_later(_SYNC_S, self._start_sync)

    def _start_sync(self) -> None:
        self._sync_due = None
        if self._syncing is not None and not self._syncing.done():
            self._sync_due = asyncio.get_running_loop().call_later(_SYNC_S, self._start_sync)
            return
        loop = asyncio.get_running_loop()
        self._syncing = self._thread.submit(self._sync)

        def finish(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._finish_log)

        self._syncing.add_done_callback(finish)

    def _finish_log(self) -> None:
        """Copies the few rows that were committed meanwhile: a log that never ends is never begun anew.

        Here nothing is committed meanwhile, but the loop waits for the disk: only where the log is long.
        """
        try:
            if self._open and self._log_bytes > _LONG_LOG_BYTES:
                self._checkpoint(self._database)
        except ShardError as error:
            self._failure = error

    def _checkpoint(self, database: sqlite3.Connection) -> int:
        """Returns: bytes in the log, copied or not; 0 where another process copies it just now."""
        with self._errors():
            _, pages, _ = database.execute("pragma wal_checkpoint(passive)").fetchone()
            [page_bytes] = database.execute("pragma page_size").fetchone()
        return max(pages, 0) * page_bytes

    def _sync(self) -> None:
        """Copies the log into the file; SQLite forces both to the disk on the way."""
        try:
            with self._errors(), closing(self._connect()) as database:
                self._log_bytes = self._checkpoint(database)
        except ShardError as error:
            self._failure = error

    def _flush(self) -> None:
        if not self._pending:
            return
        rows, self._pending = list(self._pending.values()), {}
        with self._errors():
            self._database.execute("begin immediate")
            try:
                self._database.executemany("insert or ignore into answers values (?, ?, ?, ?, ?, ?)", rows)
                self._database.execute("commit")
            except sqlite3.Error:
                if self._database.in_transaction:
                    self._database.execute("rollback")
                raise
        self.written += len(rows)
        self.commits += 1

    def count(self) -> int:
        """Outcomes stored."""
        with self._errors():
            return self._database.execute("select count(*) from answers").fetchone()[0]

    def forget_refusals(self) -> int:
        """Drops the refusals, so that they are asked for again; answers stay. Returns: how many."""
        with self._errors():
            return self._database.execute("delete from answers where fault != ''").rowcount

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, zstandard.ZstdError, OSError, ValueError) as error:
            hint = "free some space" if "full" in str(error) else "name another file with `journal:`"
            raise ShardError(f"{self.path}: the journal cannot be used ({error}); {hint}") from error
