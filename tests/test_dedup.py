"""Duplicates: rules one by one, slow oracles, order and batches, drafts, hostile input."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from rapidfuzz import fuzz

from filters.dedup import DuplicateReason, Group, find_duplicates, judge_duplicate
from filters.entries import make_entry
from filters.minhash import Bands, make_bands
from filters.reasons import Reason
from schemas.config import DedupSettings
from schemas.errors import RowError
from schemas.records import Draft, Problem
from tests.conftest import SHARED_DATA
from tests.problems import WORDS, drawing, problem, sentence
from tests.rows import png
from tests.test_decontaminate import read_items

LONG = "Amelia folds a paper lantern with 24 edges and paints every second edge with copper. How many stay?"
COUNT = "How many circles are there?"
A, B = drawing(1), drawing(2)


@pytest.mark.parametrize(
    ("kept", "other", "reason"),
    [
        (problem(LONG, A), problem(LONG, A), "exact"),
        (problem(LONG, A), problem(f"  {LONG.lower()}\n<image1>", A), "exact"),
        (problem(LONG, A, answer="4"), problem(LONG, A, answer="5"), "exact"),
        (problem(LONG, A), problem(LONG, drawing(1, border=30)), "same_text"),
        (problem(LONG, A), problem(LONG, drawing(1, "JPEG")), "same_text"),
        (problem(LONG, A), problem(LONG.replace("a paper", "the papper"), A), "near_text"),
        (problem(LONG, A), problem(LONG.replace("a paper", "the papper"), drawing(1, size=150)), "near_text"),
        (problem(LONG), problem(LONG.replace("a paper", "the papper")), "near_text"),
        (problem(LONG, b"broken"), problem(LONG, b"broken"), "exact"),
        # one word is another: two questions about one picture, be they ever so alike
        (
            problem("How high is the red bar of the year 2010?", A),
            problem("How high is the green bar of the year 2010?", A),
            None,
        ),
        (
            problem("What lies on the left of the old kettle?", A),
            problem("What lies on the right of the old kettle?", A),
            None,
        ),
        (
            problem("How many circles are there in the box?", A, answer="3"),
            problem("How many red circles are there in the box?", A, answer="3"),
            None,
        ),
        (
            problem("How large is the angle of the cone at A?", A),
            problem("How large is the angle of the cone at B?", A),
            None,
        ),
        (
            problem("Which bar in the picture is not the tallest one?", A),
            problem("Which bar in the picture is the tallest one?", A),
            None,
        ),
        (
            problem(f"{LONG} Amelia is paid for it.", A, answer="12"),
            problem(f"{LONG} Amelie is paid for it.", A, answer="12"),
            "near_text",
        ),
        # other numbers
        (problem(LONG, A), problem(LONG.replace("24", "26"), A), None),
        (problem("Is 3 or 4 more?", A), problem("Is 4 or 3 more?", A), None),
        # two questions about one picture, one question about two pictures
        (problem(COUNT, A), problem("How many squares are there?", A), None),
        (problem(COUNT, A), problem(COUNT, B), None),
        (problem(COUNT, png("white")), problem(COUNT, png("white", (33, 33))), None),
        (problem(COUNT, b"broken"), problem(COUNT, b"other"), None),
        (problem(COUNT, A), problem(COUNT), None),
        (problem(COUNT, A, B), problem(COUNT, A), None),
        (problem(COUNT, A, B), problem(COUNT, A, drawing(3)), None),
        (problem(COUNT, A, B), problem(COUNT, drawing(1, "JPEG"), drawing(2, "JPEG")), "same_text"),
        # near words or near pictures, and another answer
        (problem(LONG, A, answer="12"), problem(LONG, drawing(1, "JPEG"), answer="11"), None),
        (
            problem(LONG, A, answer="12"),
            problem(LONG.replace("How many stay", "How many go"), A, answer="11"),
            None,
        ),
        # choices
        (problem(COUNT, A, choices=("3", "4")), problem(COUNT, A, choices=("4", "3")), "exact"),
        (problem(COUNT, A, choices=("3", "4")), problem(COUNT, A), "exact"),
        (problem(COUNT, A, choices=("3", "4")), problem(COUNT, A, choices=("3", "5")), None),
        (
            problem(COUNT, A, choices=("3", "4"), answer="3"),
            problem(COUNT, A, choices=("3", "5"), answer="A"),
            "exact",
        ),
        # no words at all
        (problem("🙂", A), problem("🙃", A), None),
        (problem("🙂", A), problem("🙂", A), "exact"),
    ],
)
def test_rules(kept: Problem, other: Problem, reason: str | None) -> None:
    between = problem("Something else, between the two?", drawing(77))
    groups = find_duplicates([kept, between, other])
    if reason is None:
        assert groups == ()
    else:
        (group,) = groups
        assert (group.keep, group.keep_id, group.drop, group.reason) == (0, kept.id, (2,), reason)
        assert 90 <= group.similarity <= 100
        assert (group.similarity == 100) == (reason != "near_text")


def test_settings_set_the_likeness() -> None:
    records = [problem(LONG), problem(LONG.replace("a paper", "the papper"))]
    assert find_duplicates(records, DedupSettings(similarity=99)) == ()


def test_groups_come_in_order_and_keep_their_first_row() -> None:
    records = [problem(LONG, B), problem(COUNT, A), problem(LONG, B), problem(COUNT, A), problem(LONG, B)]
    groups = find_duplicates(records)
    assert [(group.keep, group.drop) for group in groups] == [(0, (2, 4)), (1, (3,))]


def test_every_dropped_row_is_alike_to_the_row_that_is_kept() -> None:
    """No chains: the third is near the second, which goes, but not near the first."""
    words = sentence(random.Random(2), 30).split()
    texts = [words, ["pond", *words[1:]], ["pond", "frog", *words[2:]], ["pond", "frog", "reed", *words[3:]]]
    groups = find_duplicates(
        [problem(" ".join(text), answer="7") for text in texts], DedupSettings(similarity=95)
    )
    ratio = {(i, j): fuzz.ratio(" ".join(texts[i]), " ".join(texts[j])) for i, j in combinations(range(4), 2)}
    assert ratio[0, 3] < 95 <= min(ratio[0, 1], ratio[1, 2])
    for group in groups:
        assert all(ratio[group.keep, row] >= 95 for row in group.drop)
    assert 3 not in groups[0].drop


def slow_groups(records: list[Problem]) -> list[tuple[int, ...]]:
    """The documented rule over all pairs, for records with one answer and without choices."""
    entries = [make_entry(record) for record in records]
    kept: list[list[int]] = []
    for at, entry in enumerate(entries):
        for group in kept:
            first = entries[group[0]]
            numbers = [[word for word in side.words if word.isdigit()] for side in (first, entry)]
            alike = fuzz.ratio(first.text, entry.text) >= 90 and numbers[0] == numbers[1]
            if alike and [p.md5 for p in first.prints] == [p.md5 for p in entry.prints]:
                group.append(at)
                break
        else:
            kept.append([at])
    return [tuple(group) for group in kept if len(group) > 1]


def make_records(rng: random.Random, count: int) -> list[Problem]:
    """Questions about a few pictures, many of them copies of earlier ones with a word or a number changed."""
    pictures = [drawing(seed) for seed in range(6)]
    records = [problem(sentence(rng, 30) + " 7 8", rng.choice(pictures), answer="7")]
    for index in range(1, count):
        words = rng.choice(records).question.split()
        kind = rng.randrange(4)
        if kind == 0:
            words = [*sentence(rng, 30).split(), "7", "8"]
        elif kind == 1:
            words[rng.randrange(30)] = rng.choice(WORDS)
        elif kind == 2:
            words[-1] = str(rng.randrange(5, 9))
        records.append(problem(" ".join(words), rng.choice(pictures), answer="7", index=index))
    return records


def test_groups_are_those_of_all_pairs() -> None:
    """MinHash proposes, so a few of the pairs may be missed, and none may be added."""
    missed = total = 0
    for seed in range(4):
        records = make_records(random.Random(seed), 150)
        got = {row for group in find_duplicates(records) for row in group.drop}
        wanted = {row for group in slow_groups(records) for row in group[1:]}
        assert got <= wanted
        missed, total = missed + len(wanted - got), total + len(wanted)
    assert total > 100
    assert missed <= 0.02 * total


def test_groups_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    records = make_records(random.Random(8), 120)
    groups = find_duplicates(records)
    assert groups
    monkeypatch.setattr("filters.dedup_candidates._ROWS", 7)
    monkeypatch.setattr("filters.entries._PART", 3)
    assert find_duplicates(iter(records)) == groups


def test_minhash_proposes_by_jaccard_similarity() -> None:
    rng = random.Random(6)
    texts = [sentence(rng, 25).split() for _ in range(200)]
    near = [[*text[:12], "changed", *text[13:]] for text in texts]
    bands = make_bands([*texts, *near])
    assert (bands == make_bands([*texts, *near], block=13)).all()
    pairs = {tuple(pair) for pair in Bands(bands[:200]).find(bands[200:]).tolist()}
    assert sum((at, at) in pairs for at in range(200)) >= 198
    assert len(pairs) < 400


def test_samples_of_one_problem_are_no_duplicates_of_each_other() -> None:
    first, second = problem(LONG, A), problem(LONG, A, index=1)
    drafts = [Draft(problem=first, sample_index=n) for n in range(3)]
    assert find_duplicates(drafts) == ()
    copy = replace(second, id="f" * 20)
    drafts += [Draft(problem=copy, sample_index=n) for n in range(2)]
    (group,) = find_duplicates(drafts)
    assert (group.keep, group.drop) == (0, (3, 4))
    assert {duplicate.id for duplicate in group.duplicates} == {copy.id}


def test_look_alikes_with_one_question_are_compared_by_their_pictures() -> None:
    """Many near pictures in one bucket: only those that agree in colour are duplicates."""
    pictures = [drawing(5, size=size) for size in range(200, 220)] + [drawing(9, size=200)]
    records = [problem(COUNT, picture) for picture in pictures]
    groups = find_duplicates(records)
    assert {row for group in groups for row in (group.keep, *group.drop)} <= set(range(20))
    assert len(groups[0].drop) >= 18


needs_data = pytest.mark.skipif(not (SHARED_DATA / "puzzlevqa").is_dir(), reason="the shared data is absent")


@needs_data
def test_real_templates_about_different_pictures_stay() -> None:
    """Thirteen questions about a hundred pictures: only rows with the very same picture are dropped."""
    items = read_items("puzzlevqa")
    groups = find_duplicates(items)
    assert groups
    for group in groups:
        files = {tuple(items[row]["images"]) for row in (group.keep, *group.drop)}
        answers = {items[row]["answer"] for row in (group.keep, *group.drop)}
        assert len(files) == len(answers) == 1


@needs_data
@pytest.mark.parametrize("source", ["tabmwp", "solidgeo", "geometry3k"])
def test_real_sources_have_no_duplicates_and_their_copies_are_found(source: str) -> None:
    items = [item for item in read_items(source) if item["question"]]
    assert find_duplicates(items) == ()
    copies = [
        item | {"question": item["question"].replace(" ", "  ").replace("?", " ?") + "\n<image1>"}
        for item in items
    ]
    dropped = {row for group in find_duplicates([*items, *copies]) for row in group.drop}
    assert dropped == set(range(len(items), 2 * len(items)))


@pytest.mark.parametrize(
    "question", ["x" * 10**6, "word " * 200_000, "12 " * 10**5, "", "🙂" * 10**5, "\ud800"]
)
def test_hostile_questions_are_answered_quickly(question: str) -> None:
    started = time.monotonic()
    records = [problem(question), problem(f"{question}?"), problem(f"{question}pond "), problem(LONG)]
    groups = find_duplicates(records)
    assert all(isinstance(group, Group) for group in groups)
    assert 3 not in {row for group in groups for row in group.drop}
    assert time.monotonic() - started < 10


def test_nothing_is_no_group_and_what_is_no_row_is_named() -> None:
    assert find_duplicates([]) == ()
    wrong: Any = {"answer": 4}
    with pytest.raises(RowError, match="row 1"):
        find_duplicates([problem(LONG), wrong])


def test_the_weakest_reason_of_a_group_is_its_reason() -> None:
    near = LONG.replace("a paper", "the papper")
    (group,) = find_duplicates([problem(LONG), problem(near), problem(LONG)])
    assert [duplicate.reason for duplicate in group.duplicates] == ["near_text", "exact"]
    assert group.reason is DuplicateReason.NEAR_TEXT
    verdict = judge_duplicate(group.duplicates[1], group)
    assert (verdict.keep, verdict.reason, verdict.score) == (False, Reason.NEAR_DUPLICATE, 0)
    assert verdict.detail == f"asks what problem {group.keep_id} asks: exact, 100% alike"
    assert judge_duplicate(None, None).keep
