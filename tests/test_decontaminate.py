"""Decontamination: real contaminated pairs, rules one by one, oracles, hostile input, the index's file."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from filters.decontaminate import Hit, HitReason, Index, judge_hits
from filters.entries import make_entry
from filters.image_hash import NearHashes, count_bits, phash, print_image
from filters.ngrams import MIN_CONTENT, NGRAM, NgramTable, is_content, question_words, split_words
from filters.reasons import Reason
from schemas.config import DecontaminateSettings
from schemas.errors import RowError, ShardError
from schemas.shards import write_shard
from tests.conftest import SHARED_DATA
from tests.problems import drawing, problem, sentence
from tests.rows import png

LONG = "Amelia folds a paper lantern with 24 edges and paints every second edge with copper. How many stay?"
TEMPLATE = "What is the missing number of the part denoted with a question mark in the grid?"


def reasons(index: Index, asked: Any) -> list[str]:
    return [str(hit.reason) for hit in index.hits(asked)]


# ------------------------------------------------------------------------------------------- real data

needs_data = pytest.mark.skipif(
    not (SHARED_DATA / "decontam_pairs.jsonl").is_file(), reason="the shared data is absent"
)


def read_rows(name: str) -> list[dict[str, Any]]:
    with (SHARED_DATA / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_items(folder: str, *, images: bool = True, words: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "id": row["id"],
            "source": folder,
            "question": row["question"] if words else "",
            "choices": row["choices"],
            "answer": row["answer"],
            "images": [
                (SHARED_DATA / folder / name).read_bytes() for name in row.get("images") or [row["image"]]
            ]
            if images
            else [],
        }
        for row in read_rows(f"{folder}/items.jsonl")
    ]


def pair_side(pair: dict[str, Any], side: str) -> dict[str, Any]:
    return {
        "id": f"{side}_{pair[f'{side}_id']}",
        "source": side,
        "question": pair[f"{side}_question"],
        "answer": pair[f"{side}_answer"],
    }


@needs_data
@pytest.mark.parametrize("half", [None, 0, 1])
def test_every_contaminated_pair_is_found_and_few_others_are_flagged(half: int | None) -> None:
    pairs = read_rows("decontam_pairs.jsonl")
    chosen = [pair for pair in pairs if half is None or int(pair["image_md5"], 16) % 2 == half]
    index = Index([*(pair_side(pair, "mathv") for pair in chosen), *read_items("mathv_testmini")])
    hits = list(index.find_hits(pair_side(pair, "solidgeo") for pair in chosen))
    for pair, found in zip(chosen, hits, strict=True):
        assert f"mathv_{pair['mathv_id']}" in {hit.id for hit in found}
    contaminated = {f"solidgeo_{pair['solidgeo_id']}" for pair in pairs}
    others = [item for item in read_items("solidgeo") if item["id"] not in contaminated]
    flagged = [item["id"] for item, found in zip(others, index.find_hits(others), strict=True) if found]
    assert len(flagged) <= 0.02 * len(others), flagged


@needs_data
def test_benchmark_pictures_are_found_without_their_words() -> None:
    items = read_items("mathv_testmini")
    index = Index(items)
    asked = [item | {"question": "Completely unrelated words."} for item in items]
    assert all(hits[0].reason is HitReason.IMAGE_BYTES for hits in index.find_hits(asked))
    saved_again = [item | {"question": "", "images": [as_jpeg(item["images"][0])]} for item in items]
    found = [item["id"] in {hit.id for hit in hits} for item, hits in both(saved_again, index)]
    assert sum(found) >= 0.95 * len(items)


def both(items: list[dict[str, Any]], index: Index) -> Iterator[tuple[dict[str, Any], list[Hit]]]:
    return zip(items, index.find_hits(items), strict=True)


def as_jpeg(encoded: bytes) -> bytes:
    buffer = BytesIO()
    PillowImage.open(BytesIO(encoded)).convert("RGB").save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


@needs_data
def test_pictures_of_different_sources_are_never_near() -> None:
    index = Index(item | {"question": TEMPLATE} for item in read_items("mathv_testmini"))
    asked = [item | {"question": TEMPLATE, "answer": "x"} for item in read_items("geometry3k")]
    assert not any(
        hit.reason in {HitReason.IMAGE_NEAR, HitReason.IMAGE_BYTES}
        for hits in index.find_hits(asked)
        for hit in hits
    )


@needs_data
def test_our_phash_is_the_published_one() -> None:
    known = {pair["image_md5"]: pair["phash"] for pair in read_rows("decontam_pairs.jsonl")}
    compared = 0
    for item in read_items("mathv_testmini"):
        encoded = item["images"][0]
        wanted = known.get(hashlib.md5(encoded).hexdigest())
        if wanted is not None:
            hashed = print_image(encoded).phash
            assert hashed is not None
            assert f"{hashed:016x}" == wanted
            compared += 1
    assert compared


# ------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Find  the AREA, please!\n<image1>", "find the area please"),
        ("<image> <image 2> <|image_pad|> <imagehere> x", "x"),
        (r"$15 \mathrm{~cm}$ and $\text{two}$", "15 cm and two"),
        (r"\dfrac{1}{2} of 3.50", "frac 1 2 of 3.50"),
        ("ＡＢ ½ x²", "ab 1 2 x 2"),
        ("如图 ABC", "如 图 abc"),
        ("", ""),
        ("🙂🙃 \ud800", ""),
    ],
)
def test_words_of_a_question(text: str, words: str) -> None:
    assert " ".join(split_words(text)) == words


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("How many cubes? A. 1\n B. 2\n C. 3", "how many cubes"),
        ("How many cubes? (A) 1 (B) 2 (C) 3", "how many cubes"),
        ("From A. to B. and back, how far?", "from a to b and back how far"),
        ("A. one B. two C. three", "a one b two c three"),
    ],
)
def test_options_that_stand_in_a_question_do_not_count(question: str, words: str) -> None:
    assert " ".join(question_words(question)) == words


def open_r1_grams(text: str) -> set[tuple[str, ...]]:
    """open-r1's definition, for texts without the things that our words leave out."""
    words = text.lower().strip().split()
    return {tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)}


def test_shared_ngrams_are_those_of_sets_of_tuples() -> None:
    rng = random.Random(5)
    pool = [sentence(rng, 40).split() for _ in range(20)]

    def text() -> list[str]:
        mixed: list[str] = []
        for _ in range(rng.randrange(5)):
            source, start = rng.choice(pool), rng.randrange(30)
            mixed += source[start : start + rng.randrange(3, 12)] + rng.choices(["the", "of", "what"], k=2)
        return mixed

    texts, questions = ([text() for _ in range(300)] for _ in range(2))
    found = NgramTable(texts, max_texts=10**6).find(questions)
    got = dict(zip(zip(found.query.tolist(), found.text.tolist(), strict=True), found.count, strict=True))
    grams = [open_r1_grams(" ".join(words)) for words in texts]
    for query, words in enumerate(questions):
        windows = [tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)]
        windows = [gram for gram in windows if len(set(filter(is_content, gram))) >= MIN_CONTENT]
        for position, other in enumerate(grams):
            assert got.get((query, position), 0) == sum(gram in other for gram in windows)
    assert len(got) > 100


def test_a_collision_of_hashes_is_no_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("filters.ngrams._hash_rows", lambda rows: np.zeros(len(rows), np.uint64))
    rng = random.Random(1)
    texts = [sentence(rng, 12).split() for _ in range(20)]
    found = NgramTable(texts).find([texts[3], sentence(rng, 12).split()])
    assert found.query.tolist() == [0]
    assert found.text.tolist() == [3]


# ------------------------------------------------------------------------------------------- rules

SHORT = "Which falcon guards the marble bridge?"
GENERIC = "What is the area?"
A, B = drawing(1), drawing(2)


@pytest.mark.parametrize(
    ("item", "asked", "expected"),
    [
        # eight words in a row
        (problem(LONG), problem(LONG.upper().replace(" ", "  ")), ["question"]),
        (problem(LONG), problem(f"Careful now. {LONG[:70]} or not, and why would that be so?"), ["ngram"]),
        (problem(LONG), problem("Amelia folds a lantern."), []),
        # words that any question is made of prove nothing
        (
            problem("As shown in the figure, what is the area of the trapezoid?"),
            problem("As shown in the figure, what is the area of the circle?"),
            [],
        ),
        # one word in six is another: no eight in a row are left
        (
            problem("Old Tom carries four heavy copper kettles over the narrow bridge every single morning"),
            problem("Old Tim carries four heavy copper kettles over a narrow bridge every single morning"),
            ["near_text"],
        ),
        (
            problem(
                "Tom packs 40 lemons, some ribbon and 12 candles; then Tom sells 7 of his candles. Left?"
            ),
            problem(
                "Tom packs 40 lemons, some ribbon and 13 candles; then Tim sells 9 of his candles. Left?"
            ),
            [],
        ),
        # few words: the whole question
        (problem(SHORT), problem(SHORT), ["question"]),
        (problem(SHORT, A), problem(SHORT, B), []),
        (problem(SHORT, answer="7"), problem(SHORT, answer="9"), []),
        (problem(SHORT), problem(f"Which falcon guards the marble bridge now, {LONG[:20]}?"), []),
        # general words: the picture, or the answer and the choices as well
        (problem(GENERIC), problem(GENERIC), []),
        (problem(GENERIC, answer="12"), problem(GENERIC, answer="12"), ["question"]),
        (problem(GENERIC, answer="12"), problem(GENERIC, answer="13"), []),
        (
            problem(GENERIC, answer="12", choices=("12", "15", "18")),
            problem(GENERIC, answer="A", choices=("12", "18", "15")),
            ["question"],
        ),
        (problem(GENERIC, answer="12", choices=("12", "9")), problem(GENERIC, answer="12"), []),
        (problem(GENERIC, A, answer="12"), problem(GENERIC, B, answer="12"), []),
        (problem(GENERIC, A), problem(GENERIC, drawing(1, "JPEG", border=30)), ["image_near"]),
        # one template, another picture and another answer
        (problem(TEMPLATE, A, answer="4"), problem(TEMPLATE, B, answer="9"), []),
        (problem(LONG, A, answer="4"), problem(LONG, B, answer="9"), []),
        (problem(LONG, A, answer="4"), problem(LONG, B, answer="4"), ["question"]),
        # pictures
        (problem(LONG, A), problem("Something else entirely?", A), ["image_bytes"]),
        (problem(LONG, A), problem("Something else entirely?", drawing(1, "JPEG")), []),
        (
            problem(LONG, A),
            problem("How many edges of the folded paper lantern are not painted?", drawing(1, size=150)),
            ["image_near"],
        ),
        (problem("", A), problem("Count the shapes.", drawing(1, "JPEG")), ["image_near"]),
    ],
)
def test_rules(item: Any, asked: Any, expected: list[str]) -> None:
    assert reasons(Index([item]), asked) == expected


def test_a_blank_picture_proves_nothing_without_a_like_question() -> None:
    index = Index([problem(LONG, png("white"))])
    assert reasons(index, problem("Something else entirely?", png("white"))) == []
    assert reasons(index, problem(LONG, png("white"))) == ["image_bytes"]


def test_the_same_picture_may_be_left_to_the_words() -> None:
    settings = DecontaminateSettings(image_alone=False)
    assert Index([problem(LONG, A)], settings).hits(problem("Something else entirely?", A)) == []


def test_a_question_of_many_items_needs_more_than_its_words() -> None:
    items = [problem(TEMPLATE, answer=str(number), index=number) for number in range(50)]
    index = Index(items)
    assert index.hits(problem(TEMPLATE, answer="99")) == []
    assert [hit.row for hit in index.hits(problem(TEMPLATE, answer="7"))] == ["train/7"]


def test_a_hit_names_what_it_matched() -> None:
    item = problem(LONG, A, source="bench", index=4)
    (hit,) = Index([problem("Another one?"), item]).hits(problem(LONG))
    assert (hit.source, hit.row, hit.id, hit.question) == ("bench", "bench/4", item.id, LONG)
    assert hit.similarity == 100
    assert hit.reason.verdict is Reason.CONTAMINATED_TEXT
    assert HitReason.IMAGE_NEAR.verdict is Reason.CONTAMINATED_IMAGE
    verdict = judge_hits([hit, hit])
    assert (verdict.keep, verdict.reason, verdict.score) == (False, Reason.CONTAMINATED_TEXT, 0)
    assert verdict.detail == f"bench {item.id}: the same question (and 1 more)"
    assert judge_hits([]).keep


def test_bulk_and_single_agree_whatever_the_batches() -> None:
    rng = random.Random(9)
    items = [problem(sentence(rng, 14), drawing(n) if n % 3 else b"", index=n) for n in range(40)]
    asked = [problem(sentence(rng, 5) + " " + rng.choice(items).question, drawing(n)) for n in range(40)]
    index = Index(items)
    bulk = [list(index.find_hits(asked, batch_rows=rows)) for rows in (1, 7, 4096)]
    assert bulk[0] == bulk[1] == bulk[2] == [index.hits(one) for one in asked]
    assert sum(map(bool, bulk[0])) == 40
    firsts = list(index.find_hits(asked, most=1))
    assert [len(hits) for hits in firsts] == [1] * 40
    assert all(first[0] in hits for first, hits in zip(firsts, bulk[0], strict=True))


# ------------------------------------------------------------------------------------------- pictures


def test_near_hashes_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(3)
    known = rng.integers(0, 2**64, 400, dtype=np.uint64)
    known[200:] = known[:200] ^ (np.uint64(1) << rng.integers(0, 64, 200, dtype=np.uint64))
    queries = known[rng.integers(0, 400, 300)].copy()
    for _ in range(3):
        queries ^= np.uint64(1) << rng.integers(0, 64, 300, dtype=np.uint64)
    apart = np.bitwise_count(queries[:, None] ^ known[None, :])
    for bits in range(5):
        table = NearHashes(known, bits)
        expected = np.argwhere(apart <= bits)
        assert np.array_equal(table.find(queries), expected)
        assert np.array_equal(np.concatenate(list(table.find_blocks(queries, most=10))), expected)
    assert (apart <= 3).sum() > 300
    with pytest.raises(ValueError, match="bits: 5"):
        NearHashes(known, 5)


@pytest.mark.parametrize(
    "copy",
    [
        {"kind": "JPEG"},
        {"kind": "WEBP", "quality": 60},
        {"size": 120},
        {"size": 380},
        {"border": 40},
        {"kind": "JPEG", "border": 25, "quality": 75},
    ],
)
def test_a_picture_is_near_its_copies_and_far_from_others(copy: dict[str, Any]) -> None:
    for seed in range(12):
        near = count_bits(print_image(drawing(seed)), print_image(drawing(seed, **copy)))
        far = count_bits(print_image(drawing(seed)), print_image(drawing(seed + 100, **copy)))
        assert near is not None
        assert far is not None
        assert near <= 4 < far


def test_transparent_pictures_stand_on_white() -> None:
    opaque = PillowImage.open(BytesIO(A)).convert("RGBA")
    pixels = np.asarray(opaque).copy()
    pixels[(pixels[..., :3] == 255).all(axis=2)] = (0, 0, 0, 0)
    buffer = BytesIO()
    PillowImage.fromarray(pixels, "RGBA").save(buffer, "PNG")
    assert count_bits(print_image(A), print_image(buffer.getvalue())) == 0
    assert phash(PillowImage.open(BytesIO(A)).convert("L")) == print_image(A).phash


@pytest.mark.parametrize("encoded", [b"", b"no picture", A[:200], A[:-40]])
def test_a_broken_picture_is_known_by_its_bytes_alone(encoded: bytes) -> None:
    image = print_image(encoded)
    assert image.phash is None or encoded == A[:-40]
    index = Index([problem(LONG, encoded)])
    assert reasons(index, problem(LONG, encoded)) == ["image_bytes"]


# ------------------------------------------------------------------------------------------- input


@pytest.mark.parametrize(
    "question",
    [
        *("x" * 10**6, "word " * 200_000, "1" * 10**6, "A. B. C. " * 10**5, "<image" * 10**5, "\\" * 10**6),
        *("", "🙂" * 1000, "\ud800\x00", "如图" * 50_000),
    ],
    ids=lambda question: question[:6].encode("utf-8", "replace").hex(),
)
def test_hostile_questions_are_answered_quickly(question: str) -> None:
    started = time.monotonic()
    index = Index([problem(question, answer=question), problem(LONG)])
    found = index.hits(problem(question, answer=question))
    assert all(isinstance(hit, Hit) for hit in found)
    assert index.hits(problem(f"{LONG} {question}"))
    assert time.monotonic() - started < 10


def test_an_empty_index_finds_nothing() -> None:
    index = Index([])
    assert len(index) == 0
    assert index.hits(problem(LONG, A)) == []
    assert list(Index([problem(LONG)]).find_hits([])) == []


def test_rows_of_a_benchmark_are_read_as_they_come() -> None:
    row = {"pid": 7, "question": LONG, "options": ["1", "2"], "answer": 2, "image": A}
    entry = make_entry(row)
    assert (entry.id, entry.choices, entry.answer, len(entry.prints)) == ("7", ("1", "2"), "2", 1)
    assert make_entry(row | {"image": {"bytes": A, "path": None}}).prints == entry.prints
    assert make_entry(row | {"image": None, "images": [A, A]}).prints == entry.prints * 2
    decoded = make_entry(row | {"image": PillowImage.open(BytesIO(A))}).prints[0]
    assert decoded.phash == entry.prints[0].phash


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "4"}, "row 1: a problem or a mapping with a `question`"),
        ({"question": 4}, "row 1: a problem or a mapping with a `question`"),
        ("a text", "row 1: a problem or a mapping with a `question`"),
        ({"question": "x", "image": ["a.png"]}, "row 1: an image is str"),
    ],
)
def test_what_is_no_row_is_named(row: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        Index([problem(LONG), row])


# ------------------------------------------------------------------------------------------- file


def test_an_index_is_the_same_after_its_file_and_its_file_is_the_same(tmp_path: Path) -> None:
    rng = random.Random(4)
    items = [problem(sentence(rng, 12), drawing(n), answer="4", choices=("4", "5")) for n in range(100)]
    items += [problem("", b"broken"), problem("No picture here at all")]
    index = Index(items)
    for name in ("one.arrow", "two.arrow"):
        index.save(tmp_path / name)
    loaded = Index.load(tmp_path / "one.arrow")
    loaded.save(tmp_path / "three.arrow")
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    asked = [*items, problem("Unrelated?", drawing(500))]
    assert list(loaded.find_hits(asked)) == list(index.find_hits(asked))
    assert len(loaded) == 102


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    with pytest.raises(ShardError, match=r"x\.arrow"):
        Index.load(path)
    path.write_bytes(b"no arrow")
    with pytest.raises(ShardError, match="not a readable Arrow stream"):
        Index.load(path)
    write_shard(path, [{"id": "1"}], pa.schema([("id", pa.string())]))
    with pytest.raises(ShardError, match="not a decontamination index"):
        Index.load(path)
    schema = pa.schema([("id", pa.string())], metadata={"avar.decontamination_index": "99"})
    write_shard(path, [{"id": "1"}], schema)
    with pytest.raises(ShardError, match=r"version 99, this avar reads 1; build it again"):
        Index.load(path)


def test_a_text_that_is_no_unicode_is_refused_at_saving(tmp_path: Path) -> None:
    index = Index([problem("a lone surrogate \ud800")])
    with pytest.raises(ShardError, match="do not fit the schema"):
        index.save(tmp_path / "x.arrow")
    assert list(tmp_path.iterdir()) == []
