"""Every row of a source comes out once: a problem, or a failed row with its own reason."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from schemas.config import FolderSource
from schemas.errors import SourceError
from schemas.records import AnswerType, Draft, Problem, SourceFault
from synth.folders import read_file
from synth.sources import count_source, read_source
from tests.conftest import SHARED_DATA
from tests.rows import png


def folder(tmp_path: Path, rows: list[Any], images: dict[str, bytes] | None = None) -> FolderSource:
    """A folder source with a table of `rows` (dicts, or raw lines) and `images`."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    for name, data in ({"images/a.png": png()} | (images or {})).items():
        (root / name).write_bytes(data)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (root / "items.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return FolderSource(path=root, max_pixels=1_000_000)


def row(**changes: Any) -> dict[str, Any]:
    base = {"id": "r", "question": "What colour?", "answer": "red", "image": "images/a.png"}
    return {key: value for key, value in (base | changes).items() if value is not None}


def read(source: FolderSource) -> list[Problem | Draft]:
    return list(read_source(source, seed=0))


def only_fault(source: FolderSource) -> tuple[str, str]:
    """Reason and detail of the one failed row."""
    [item] = read(source)
    assert isinstance(item, Draft)
    assert item.failure is not None
    return item.failure.reason, item.failure.detail


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than anybody should decode."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def test_a_good_row_becomes_a_problem(tmp_path: Path) -> None:
    [item] = read(folder(tmp_path, [row(choices=["blue", "red"], category="colour", scene={"n": 1})]))
    assert isinstance(item, Problem)
    assert (item.question, item.answer, item.choices) == ("What colour?", "red", ("blue", "red"))
    assert item.answer_type is AnswerType.CHOICE
    assert (item.row, item.source, item.category, json.loads(item.facts)) == ("r", "data", "colour", {"n": 1})
    assert item.images[0].bytes == png()
    assert len(item.id) == 20


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"answer": None}, SourceFault.NO_ANSWER, "no answer in column 'answer'"),
        ({"answer": "  "}, SourceFault.NO_ANSWER, "no answer"),
        ({"answer": "D", "choices": ["x", "y"]}, SourceFault.NO_ANSWER, "names none of 2 choices"),
        ({"question": None}, SourceFault.NO_QUESTION, "column 'question'"),
        ({"question": "x" * 1_000_000}, SourceFault.QUESTION_TOO_LONG, "1,000,000 characters"),
        ({"image": None}, SourceFault.NO_IMAGE, "column 'image'"),
        ({"image": 7}, SourceFault.BAD_ROW, "must hold file names"),
        ({"choices": "a, b"}, SourceFault.BAD_ROW, "not a list"),
        ({"image": "images/none.png"}, SourceFault.IMAGE_MISSING, "No such file"),
        ({"image": "images"}, SourceFault.IMAGE_MISSING, "directory"),
        ({"image": "a\0b.png"}, SourceFault.IMAGE_MISSING, "not a file name"),
        ({"image": "x" * 5000}, SourceFault.IMAGE_MISSING, "x…: File name too long"),
        ({"image": "../secret.png"}, SourceFault.IMAGE_OUTSIDE, "leads out of data"),
        ({"image": "/etc/hostname"}, SourceFault.IMAGE_OUTSIDE, "leads out of data"),
        ({"image": "images/link.png"}, SourceFault.IMAGE_OUTSIDE, "leads out of data"),
        ({"image": "http://127.0.0.1:9/a.png"}, SourceFault.IMAGE_URL, "not in source.allowed_hosts"),
        ({"image": "images/loop.png"}, SourceFault.IMAGE_MISSING, "links in a circle"),
        ({"image": ["images/a.png"] * 101}, SourceFault.BAD_ROW, "101 images, the limit is 100"),
        ({"image": "images/empty.png"}, SourceFault.IMAGE_UNREADABLE, "0 bytes"),
        ({"image": "images/cut.png"}, SourceFault.IMAGE_UNREADABLE, "corrupt or truncated"),
        ({"image": "images/cut.jpg"}, SourceFault.IMAGE_UNREADABLE, "corrupt or truncated"),
        ({"image": "images/noise.png"}, SourceFault.IMAGE_UNREADABLE, "not a readable PNG, JPEG"),
        ({"image": "images/x.bmp"}, SourceFault.IMAGE_UNREADABLE, "not a readable PNG, JPEG"),
        ({"image": "images/huge.png"}, SourceFault.IMAGE_TOO_LARGE, "the limit is 1,000,000"),
        ({"image": "images/bomb.png"}, SourceFault.IMAGE_TOO_LARGE, "bomb.png"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_row_fails_with_its_reason(
    tmp_path: Path, changes: dict[str, Any], reason: SourceFault, words: str
) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    source = folder(
        tmp_path,
        [row(**changes)],
        {
            "images/empty.png": b"",
            "images/cut.png": png(size=(300, 300))[:120],
            "images/cut.jpg": png(size=(300, 300), kind="JPEG")[:400],
            "images/noise.png": b"\x00\x01\x02 not an image",
            "images/x.bmp": png(kind="BMP"),
            "images/huge.png": huge_png(2000, 2000),
            "images/bomb.png": huge_png(31623, 31623),
        },
    )
    (source.path / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    (source.path / "images" / "loop.png").symlink_to("loop.png")
    found, detail = only_fault(source)
    assert found == reason
    assert words in detail
    assert "\n" not in detail


@pytest.mark.parametrize(
    "line",
    [b"{not json", b"[1]", b'"text"', b"\xff\xfe", b'{"question": "\\ud800", "answer": "x"}', b"[" * 100_000],
)
def test_a_line_that_is_no_row_fails_alone(tmp_path: Path, line: bytes) -> None:
    items = read(folder(tmp_path, [line, row()]))
    assert isinstance(items[0], Draft)
    assert items[0].failure is not None
    assert items[0].failure.reason == SourceFault.BAD_ROW
    assert isinstance(items[1], Problem)


def test_a_line_of_many_megabytes_fails_alone_and_is_not_held(tmp_path: Path) -> None:
    items = read(folder(tmp_path, [b'{"question": "' + b"x" * (10 * 2**20) + b'"}', row()]))
    assert [type(item) for item in items] == [Draft, Problem]
    assert items[0].failure is not None  # type: ignore[union-attr]
    assert "over 4 MiB" in items[0].failure.detail  # type: ignore[union-attr]


def test_the_same_content_twice_is_one_problem_and_one_failed_row(tmp_path: Path) -> None:
    rows = [row(question="Which shape?"), row(id="first"), row(id="second"), row(answer="blue"), row()]
    items = read(folder(tmp_path, rows))
    assert [type(item) for item in items] == [Problem, Problem, Draft, Problem, Draft]
    for index in (2, 4):
        failure = items[index].failure  # type: ignore[union-attr]
        assert failure is not None
        assert failure.reason == SourceFault.DUPLICATE
        assert "same question, answer and images as row 1 (" in failure.detail


def test_a_row_that_was_read_is_not_held(tmp_path: Path) -> None:
    """Besides its id: 500 further rows of 2 kB each leave a few bytes apiece."""
    rows = [row(question=f"{index} " + "x" * 2_000) for index in range(600)]
    items = read_source(folder(tmp_path, rows), seed=0)
    tracemalloc.start()
    try:
        next(islice(items, 99, None))
        before = tracemalloc.get_traced_memory()[0]
        assert sum(1 for _ in items) == 500
        assert tracemalloc.get_traced_memory()[0] - before < 500 * 100
    finally:
        tracemalloc.stop()


def test_the_first_row_waits_for_no_other(tmp_path: Path) -> None:
    """Nothing of the second row is read before it is asked for: its image may come after the first row."""
    source = folder(tmp_path, [row(), row(image="images/b.png")])
    items = read_source(source, seed=0)
    assert isinstance(next(items), Problem)
    (source.path / "images" / "b.png").write_bytes(png("blue"))
    assert isinstance(next(items), Problem)


def test_images_are_read_once_and_only_for_sound_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def counted(folder: Path, name: str, max_bytes: int) -> bytes:
        names.append(name)
        return read_file(folder, name, max_bytes)

    monkeypatch.setattr("synth.rows.read_file", counted)
    source = folder(tmp_path, [row(question=f"q{index}") for index in range(3)] + [row(answer=None)])
    count_source(source)
    assert [type(item) for item in read(source)] == [Problem] * 3 + [Draft]
    assert names == ["images/a.png"] * 3


def test_blank_and_cut_lines_count_as_they_are_read(tmp_path: Path) -> None:
    source = folder(tmp_path, [b"", row(), b"   ", b" " * (5 * 2**20) + b"x", b"x" * (9 * 2**20), row()])
    assert count_source(source) == len(read(source)) == 3


def test_images_of_a_row_share_one_limit_of_bytes(tmp_path: Path) -> None:
    big = png() + b"\0" * 4_000_000  # trailing bytes, which a decoder never reads
    source = folder(tmp_path, [row(image="big.png"), row(images=["big.png", "big.png"])], {"big.png": big})
    good, bad = read(source)
    assert isinstance(good, Problem)
    assert isinstance(bad, Draft)
    assert bad.failure is not None
    assert bad.failure.reason == SourceFault.IMAGE_TOO_LARGE


@pytest.mark.parametrize(
    ("changes", "answer", "kind"),
    [
        ({"answer": "B", "choices": ["blue", "red"]}, "red", AnswerType.CHOICE),
        ({"answer": "(A).", "choices": ["blue", "red"]}, "blue", AnswerType.CHOICE),
        ({"answer": "B", "choices": ["A", "B"]}, "B", AnswerType.CHOICE),
        ({"answer": 12.5}, "12.5", AnswerType.NUMBER),
        ({"answer": True}, "Yes", AnswerType.TEXT),
        ({"answer": 0}, "0", AnswerType.NUMBER),
        ({"answer": "1,200"}, "1,200", AnswerType.NUMBER),
    ],
)
def test_answers_are_read_as_meant(
    tmp_path: Path, changes: dict[str, Any], answer: str, kind: AnswerType
) -> None:
    [item] = read(folder(tmp_path, [row(**changes)]))
    assert isinstance(item, Problem)
    assert (item.answer, item.answer_type) == (answer, kind)


def test_hugging_face_imagefolder_is_understood(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    line = json.dumps({"file_name": "a.png", "question": "q", "answer": "1"})
    (tmp_path / "metadata.jsonl").write_text(line)
    [item] = read(FolderSource(path=tmp_path))
    assert isinstance(item, Problem)
    assert item.images[0].path == "a.png"


def test_several_images_keep_their_order(tmp_path: Path) -> None:
    source = folder(
        tmp_path, [row(image=None, images=["images/b.png", "images/a.png"])], {"images/b.png": png("blue")}
    )
    [item] = read(source)
    assert isinstance(item, Problem)
    assert [image.path for image in item.images] == ["images/b.png", "images/a.png"]


def test_limit_and_count_agree(tmp_path: Path) -> None:
    source = folder(tmp_path, [row(question=f"q{i}") for i in range(5)])
    assert count_source(source) == len(read(source)) == 5
    limited = source.model_copy(update={"limit": 3})
    assert count_source(limited) == len(read(limited)) == 3


@pytest.mark.parametrize("case", ["missing", "file", "no table", "no images"])
def test_a_folder_that_is_none_is_one_clear_error(tmp_path: Path, case: str) -> None:
    path = tmp_path / "data"
    if case == "file":
        path.write_text("x")
    elif case != "missing":
        path.mkdir()
        if case == "no images":
            (path / "items.jsonl").write_text("{}")
    words = {"no table": "holds no items.jsonl or metadata.jsonl", "no images": "holds no image"}
    with pytest.raises(SourceError) as error:
        read(FolderSource(path=path))
    assert words.get(case, "is not a folder") in str(error.value)


@pytest.mark.parametrize("name", ["algopuzzlevqa", "puzzlevqa", "geometry3k", "tabmwp", "solidgeo"])
def test_real_folders_read_whole(name: str) -> None:
    path = SHARED_DATA / name
    if not path.is_dir():
        pytest.skip("the real pictures are not beside the project")
    items = read(FolderSource(path=path))
    lines = [line for line in (path / "items.jsonl").read_text().splitlines() if line.strip()]
    problems = [item for item in items if isinstance(item, Problem)]
    assert len(items) == len(lines)
    assert len(problems) >= 0.97 * len(items)
    for item in problems:
        assert item.answer_type is not AnswerType.CHOICE or item.answer in item.choices


def test_a_pipe_is_no_picture_and_is_not_waited_for(tmp_path: Path) -> None:
    source = folder(tmp_path, [row(image="images/pipe.png")])
    os.mkfifo(source.path / "images" / "pipe.png")
    found, detail = only_fault(source)
    assert found == SourceFault.IMAGE_UNREADABLE
    assert "not a regular file" in detail
