"""Sources read ahead by threads, and cut into partitions while they are read."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from schemas.config import FolderSource, ScenesSource, parse_recipe
from schemas.errors import SourceError
from schemas.records import Image, Item, Problem
from synth import partitions, reading
from synth.partitions import OpenPartitions, Partition, cut_partitions
from synth.reading import Reader, ReadingStoppedError
from synth.sources import read_source
from tests.conftest import ROOT
from tests.folder_run import read_shards, run_avar, synth_command, write_folder
from tests.rows import problem
from tests.stub_server import stub_server


async def _read(source: FolderSource | ScenesSource) -> list[Item]:
    with Reader(source, 3) as rows:
        return await _rest(rows)


async def _rest(rows: Reader) -> list[Item]:
    found = []
    while (item := await rows.next()) is not None:
        found.append(item)
    return found


@pytest.mark.parametrize("rows", [0, 1, 7, 150])
def test_threads_read_what_one_reader_reads(tmp_path: Path, rows: int) -> None:
    """Failed rows and duplicates included: 150 rows hold one of each."""
    source = FolderSource(path=write_folder(tmp_path / "data", max(rows, 1)), limit=rows or None)
    if not rows:
        (tmp_path / "data" / "items.jsonl").write_text("")
    read = asyncio.run(_read(source))
    assert read == list(read_source(source, 3))
    assert len(read) == rows


def test_scenes_are_the_same_in_threads() -> None:
    source = ScenesSource(count=40, size=(112, 128))
    assert asyncio.run(_read(source)) == list(read_source(source, 3))


def slow_source(monkeypatch: pytest.MonkeyPatch, wait: Callable[[int], object]) -> list[int]:
    """Puts a source of numbered problems in the place of any. Returns: the rows made so far."""
    made: list[int] = []

    def make(index: int, _: bytes) -> Item:
        wait(index)
        made.append(index)
        return problem(index)

    monkeypatch.setattr(reading, "open_source", lambda *_: (((i, b"") for i in range(10_000)), make))
    return made


def test_the_first_rows_are_there_while_a_later_one_is_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    slow_source(monkeypatch, lambda index: index == 3 and release.wait(20))

    async def go() -> list[int]:
        with Reader(ScenesSource(), 0) as rows:
            first = [await rows.next() for _ in range(3)]
            release.set()
            return [item.index for item in first if isinstance(item, Problem)]

    assert asyncio.run(asyncio.wait_for(go(), 10)) == [0, 1, 2]


def test_only_a_few_rows_are_read_ahead_and_none_once_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = slow_source(monkeypatch, lambda index: None)

    async def go() -> tuple[int, int]:
        with Reader(ScenesSource(), 0) as rows:
            for _ in range(200):
                await rows.next()
            await asyncio.sleep(0.1)
            ahead = len(made) - 200
        return ahead, len(made)

    ahead, closed = asyncio.run(go())
    assert ahead <= 32 * (os.cpu_count() or 1) * 4
    assert len(made) == closed


def test_a_source_that_cannot_be_read_on_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(index: int, _: bytes) -> Item:
        if index == 9:
            raise SourceError("the disk is gone")
        return problem(index)

    monkeypatch.setattr(reading, "open_source", lambda *_: (((i, b"") for i in range(99)), make))
    with pytest.raises(SourceError, match="the disk is gone"):
        asyncio.run(_read(ScenesSource()))


def test_a_row_that_takes_long_holds_up_none_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows were quick, so chunks are large by then; a slow row's chunk is handed back without it."""
    release = threading.Event()
    slow_source(monkeypatch, lambda index: (index == 150 and release.wait(20)) or time.sleep(0.002))

    async def go() -> list[int]:
        with Reader(ScenesSource(), 0) as rows:
            first = [await asyncio.wait_for(rows.next(), 5) for _ in range(100)]
            release.set()
            return [item.index for item in first if isinstance(item, Problem)]

    assert asyncio.run(go()) == list(range(100))


def test_who_waits_for_a_row_hears_of_a_stop_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    made = slow_source(monkeypatch, lambda index: release.wait(20))

    async def go() -> float:
        with Reader(ScenesSource(), 0) as rows:
            waiting = asyncio.create_task(rows.next())
            await asyncio.sleep(0.05)
            started = time.monotonic()
            rows.stop()
            with pytest.raises(ReadingStoppedError):
                await waiting
            with pytest.raises(ReadingStoppedError):  # and it is not taken for the end of the source
                await rows.next()
            return time.monotonic() - started

    assert asyncio.run(go()) < 1
    release.set()
    time.sleep(0.2)
    assert len(made) <= 5  # what was in hand


@pytest.mark.slow
def test_a_fetch_that_hangs_does_not_hold_up_the_end_of_the_process(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        row = {"question": "What?", "answer": "a", "image": f"http://{host}/a.png"}
        (tmp_path / "items.jsonl").write_text(json.dumps(row))
        code = (
            "import asyncio, sys; from pathlib import Path; from schemas.config import FolderSource;"
            "from synth.reading import Reader\n"
            "async def go():\n"
            f"    source = FolderSource(path=Path({str(tmp_path)!r}), allowed_hosts=({host!r},))\n"
            "    with Reader(source, 0) as rows:\n"
            "        asyncio.get_running_loop().call_later(1, rows.stop)\n"
            "        await rows.next()\n"
            "try: asyncio.run(go())\n"
            "except Exception as error: print(type(error).__name__)"
        )
        started = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert ran.stdout.strip() == "ReadingStoppedError", ran.stderr
    assert time.monotonic() - started < 15  # the fetch itself would take 20 s


# ------------------------------------------------------------------------------------------- partitions


class _Rows:
    """Rows at hand in the place of a reader."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = iter(items)

    async def next(self) -> Item | None:
        return next(self._items, None)


def heavy(index: int, nbytes: int) -> Problem:
    return problem(index, images=(Image(bytes=bytes(nbytes), path=f"{index}.png"),))


def sizes(items: Sequence[Item], size: int) -> list[int]:
    async def go() -> list[int]:
        found = []
        async for partition in cut_partitions(_Rows(items), size):
            await partition.read_through()
            found.append(len(partition.items))
        return found

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(0, 4, []), (1, 4, [1]), (4, 4, [4]), (5, 4, [4, 1]), (3, 1, [1, 1, 1])],
)
def test_partitions_have_their_size(count: int, size: int, expected: list[int]) -> None:
    assert sizes([problem(index) for index in range(count)], size) == expected


def test_large_pictures_make_small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "MOST_BYTES", 1000)
    items: list[Item] = [heavy(index, nbytes) for index, nbytes in enumerate([400, 400, 400, 5000, 10, 10])]
    assert sizes(items, 4) == [3, 1, 2]


def test_rows_are_handed_out_as_they_are_read_and_again_from_the_first() -> None:
    async def go() -> tuple[list[int], bool, list[int], bool]:
        async for partition in cut_partitions(_Rows([problem(index) for index in range(6)]), 4):
            first = [item.index async for item in _some(partition, 2)]
            early = partition.is_whole
            return first, early, [item.index async for item in partition if isinstance(item, Problem)], True
        raise AssertionError

    async def _some(partition: Partition, count: int) -> AsyncIterator[Problem]:
        async for item in partition:
            assert isinstance(item, Problem)
            yield item
            if item.index + 1 == count:
                return

    assert asyncio.run(go()) == ([0, 1], False, [0, 1, 2, 3], True)


def test_a_partition_that_is_let_go_is_the_last() -> None:
    async def go() -> int:
        count = 0
        async for partition in cut_partitions(_Rows([problem(index) for index in range(6)]), 4):
            partition.let_go()
            count += 1
        return count

    assert asyncio.run(go()) == 1


def open_partitions(nbytes: int, opened: int) -> bool:
    """Whether a further partition may be opened beside some of four rows, with 8 calls in flight at most."""

    async def go() -> bool:
        teacher = {"url": "http://127.0.0.1:9", "max_in_flight": 8}
        source = {"kind": "scenes"}
        recipe = parse_recipe(
            {"name": "t", "source": source, "teacher": teacher, "partition_size": 4}, where="t"
        )
        limit, never = OpenPartitions(recipe), asyncio.Event()
        tasks = [asyncio.create_task(_wait(never)) for _ in range(opened)]
        for number, task in enumerate(tasks):
            partition = Partition(number, heavy(0, nbytes), _Rows([heavy(i, nbytes) for i in (1, 2, 3)]), 4)
            await partition.read_through()
            limit.add(partition, task)
        try:
            await asyncio.wait_for(limit.room(), 0.05)
            return True
        except TimeoutError:
            never.set()
            await asyncio.wait_for(limit.room(), 5)
            return False
        finally:
            never.set()
            await asyncio.gather(*tasks)

    return asyncio.run(go())


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


@pytest.mark.parametrize(
    ("nbytes", "opened", "room"),
    [(10, 0, True), (10, 5, True), (10, 6, False), (400, 3, True), (400, 4, False)],
)
def test_open_partitions_are_bounded_by_number_and_by_bytes_but_never_starve_a_teacher(
    monkeypatch: pytest.MonkeyPatch, nbytes: int, opened: int, room: bool
) -> None:
    monkeypatch.setattr(partitions, "_OPEN_BYTES", 1600)
    assert open_partitions(nbytes, opened) is room


@pytest.mark.slow
def test_a_run_that_was_cut_is_left_alone_by_a_second_one(tmp_path: Path) -> None:
    """The shard of the partition with the cut is that of all its rows, however far it had been read."""
    source, out, log = write_folder(tmp_path / "data", 90), tmp_path / "run", tmp_path / "log"
    with stub_server(latency="fixed:0.01") as stub:
        command = synth_command(source, stub.url, out, samples__until=20)
        run_avar(command, log)
        before, calls = read_shards(out), stub.stats()["calls"]
        changed = {path: path.stat().st_mtime_ns for path in (out / "drafts").iterdir()}
        run_avar(command, log)
        assert stub.stats()["calls"] == calls
    assert read_shards(out) == before
    assert changed == {path: path.stat().st_mtime_ns for path in (out / "drafts").iterdir()}
