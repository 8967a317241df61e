"""The journal: what was answered is there, whoever dies, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from schemas.errors import ShardError, TeacherError, TeacherFault
from schemas.records import Image
from synth import journal as journal_module
from synth.journal import Journal
from synth.requests import Answer, decode_outcome, encode_outcome
from tests.asking import make_request
from tests.conftest import ROOT
from tests.rows import png


def key(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def put(journal: Journal, *numbers: int, outcome: str = "outcome", fault: str = "") -> None:
    async def all_of_them() -> None:
        await asyncio.gather(
            *(
                journal.put(
                    key(n),
                    stage="describe",
                    model="m",
                    request=b"{}",
                    outcome=json.dumps(outcome).encode(),
                    fault=fault,
                )
                for n in numbers
            )
        )

    asyncio.run(all_of_them())


def outcome_of(journal: Journal, number: int) -> object:
    entry = journal.find(key(number))
    return entry and entry["outcome"]


def test_what_was_put_is_found_in_a_later_run(tmp_path: Path) -> None:
    with Journal(tmp_path / "deep" / "j") as journal:
        put(journal, *range(50))
        assert outcome_of(journal, 7) == "outcome"
    with Journal(tmp_path / "deep" / "j") as journal:
        assert outcome_of(journal, 7) == "outcome"
        assert journal.find(key(50)) is None
        assert journal.count() == 50


def test_the_first_outcome_stays(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        put(journal, 1, outcome="first")
        put(journal, 1, outcome="second")
        assert outcome_of(journal, 1) == "first"


def test_answers_of_one_turn_are_committed_together(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        put(journal, *range(100))
        assert (journal.written, journal.commits) == (100, 1)


def test_the_log_beside_it_does_not_grow_with_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_SYNC_S", 0.01)
    monkeypatch.setattr(journal_module, "_LONG_LOG_BYTES", 200_000)

    async def go(journal: Journal) -> int:
        longest = 0
        for number in range(400):
            outcome = orjson.dumps(random.Random(number).randbytes(25_000).hex())
            await journal.put(key(number), stage="s", model="m", request=b"{}", outcome=outcome)
            longest = max(longest, (tmp_path / "j-wal").stat().st_size)
        return longest

    with Journal(tmp_path / "j") as journal:
        longest = asyncio.run(go(journal))
        assert journal.count() == 400
    assert longest < 9_000_000  # of the 15 MB written
    assert (tmp_path / "j").stat().st_size > 8_000_000


def test_a_journal_may_be_named_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite puts its log beside the real file."""
    monkeypatch.setattr(journal_module, "_SYNC_S", 0.01)
    (tmp_path / "real").mkdir()
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "real" / "j.sqlite")

    async def go(journal: Journal) -> None:
        for number in range(10):
            await journal.put(key(number), stage="s", model="m", request=b"{}", outcome=b"{}")
            await asyncio.sleep(0.02)

    with Journal(tmp_path / "link.sqlite") as journal:
        asyncio.run(go(journal))
        assert journal.count() == 10


def test_after_a_long_log_the_loop_is_left_alone_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_SYNC_S", 0.01)
    monkeypatch.setattr(journal_module, "_LONG_LOG_BYTES", 200_000)
    in_loop: list[int] = []
    checkpoint = Journal._checkpoint

    def counted(self: Journal, database: sqlite3.Connection) -> int:
        in_loop.append(database is self._database)
        return checkpoint(self, database)

    monkeypatch.setattr(Journal, "_checkpoint", counted)

    async def go(journal: Journal) -> None:
        for number in range(60):
            outcome = orjson.dumps(random.Random(number).randbytes(25_000).hex())
            await journal.put(key(number), stage="s", model="m", request=b"{}", outcome=outcome)
        await asyncio.sleep(0.1)
        in_loop.clear()
        for number in range(100, 110):
            await journal.put(key(number), stage="s", model="m", request=b"{}", outcome=b"{}")
            await asyncio.sleep(0.03)

    with Journal(tmp_path / "j") as journal:
        asyncio.run(go(journal))
    assert len(in_loop) >= 5
    assert sum(in_loop) <= 1


def test_anybody_can_read_it_and_images_are_there_by_name_alone(tmp_path: Path) -> None:
    image = Image(bytes=png(), path="x")
    request = make_request("m", "What is this?", image)
    with Journal(tmp_path / "j") as journal:
        work = journal.put(request.key, stage="describe", model="m", request=request.reference, outcome=b"{}")
        asyncio.run(_awaited(work))
    [[stage, size, packed]] = sqlite3.connect(tmp_path / "j").execute(
        "select stage, size, entry from answers"
    )
    text = pa.decompress(packed, size, "zstd", asbytes=True).decode()
    assert stage == "describe"
    assert image.sha256 in text
    assert "What is this?" in text
    assert "base64" not in text


async def _awaited(work: object) -> None:
    await work  # type: ignore[misc]


def test_refusals_can_be_forgotten_and_answers_stay(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        put(journal, 1)
        put(journal, 2, 3, fault="teacher_refused")
        assert journal.forget_refusals() == 2
        assert journal.count() == 1
        assert journal.find(key(1)) is not None


@pytest.mark.parametrize(
    "outcome",
    [
        Answer(text="é\ud7ff", model="m", finish_reason="stop", prompt_tokens=1, completion_tokens=-1),
        Answer(
            text="",
            reasoning="hm",
            model="m",
            finish_reason="length",
            prompt_tokens=1,
            completion_tokens=2,
            cached_tokens=1,
            first_logprobs=(("yes", -0.25), ("no", -1.5)),
            prompt_logprobs=(("a", -3.0),),
            seconds=0.125,
        ),
    ],
)
def test_an_answer_comes_back_whole(outcome: Answer) -> None:
    assert decode_outcome(orjson.loads(encode_outcome(outcome))) == outcome


def test_a_refusal_comes_back_with_its_kind_and_words() -> None:
    refusal = decode_outcome(orjson.loads(encode_outcome(TeacherError(TeacherFault.TOO_LONG, "too long"))))
    assert isinstance(refusal, TeacherError)
    assert (refusal.fault, str(refusal)) == (TeacherFault.TOO_LONG, "too long")


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one " * 20, None])
def test_another_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        sqlite3.connect(tmp_path / "j").executescript("create table mine (x); insert into mine values (1)")
    else:
        (tmp_path / "j").write_bytes(content)
    with pytest.raises(ShardError, match=r"journal"), Journal(tmp_path / "j"):
        pass


def test_a_journal_that_cannot_be_written_gives_out_no_answer(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        put(journal, 1)
        other = sqlite3.connect(tmp_path / "j", isolation_level=None)
        other.execute("create trigger full before insert on answers begin select raise(abort, 'full'); end")
        with pytest.raises(ShardError, match=r"the journal cannot be used \(full\); free some space"):
            put(journal, 2)
        other.execute("drop trigger full")
        put(journal, 3)
        assert journal.find(key(3)) is not None


def test_two_processes_share_one(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as one, Journal(tmp_path / "j") as other:
        put(one, 1)
        put(other, 2)
        assert outcome_of(one, 2) == outcome_of(other, 1) == "outcome"


WRITER = """
import asyncio, sys
from hashlib import sha256
from pathlib import Path
from synth.journal import Journal

async def write() -> None:
    with Journal(Path(sys.argv[1])) as journal:
        for number in range(10**9):
            key = sha256(b"%d" % number).digest()
            await journal.put(key, stage="s", model="m", request=b"{}", outcome=b'"%d"' % number)
            print(number, flush=True)

asyncio.run(write())
"""


def test_after_a_kill_everything_that_was_given_out_is_there(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "j")],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    given_out = -1
    for line in process.stdout:
        given_out = int(line)
        if given_out == 3000:
            process.send_signal(signal.SIGKILL)
    process.wait()
    with Journal(tmp_path / "j") as journal:
        assert given_out >= 3000
        assert journal.count() >= given_out + 1
        assert all(journal.find(key(number)) is not None for number in range(0, given_out + 1, 97))
