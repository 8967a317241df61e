"""A run's folder belongs to one run and to one process at a time."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import shards
from schemas.config import Recipe, parse_recipe
from schemas.errors import ConfigError, ShardError
from schemas.records import Evidence, EvidenceFault, Image, SourceFault, rejected_at_source
from schemas.runs import (
    begin_synthesis,
    discard_failed,
    discard_misfit,
    discard_stale,
    finish_synthesis,
    finished_as,
    iterate_drafts,
    iterate_partition,
    load_run_recipe,
    note_models,
    open_run,
    partition_fingerprint,
    partition_path,
    read_manifest,
    synthesis_finished,
    synthesis_stamp,
    write_partition,
)
from tests.rows import draft, failed_draft, problem

PROMPTS = {"describe": "a"}


def recipe(**changes: object) -> Recipe:
    return parse_recipe({"name": "t", "source": {"kind": "scenes"}} | changes, where="t")


def start(root: Path, **changes: object) -> None:
    """A run with one finished partition and a journal."""
    with open_run(root, recipe(**changes), PROMPTS):
        (root / "journal.sqlite").touch()
        write_partition(root, 0, partition_fingerprint([problem(0)]), [draft(0)])


def test_a_run_can_be_taken_again_and_keeps_its_start(tmp_path: Path) -> None:
    start(tmp_path)
    started = read_manifest(tmp_path)["started"]
    later = recipe(validation=0.5, train={"steps": 3})
    with open_run(tmp_path, later, PROMPTS):
        assert load_run_recipe(tmp_path).validation == 0.15, "not before its teachers are found"
        begin_synthesis(tmp_path, later, "")
    assert read_manifest(tmp_path)["started"] == started
    assert load_run_recipe(tmp_path).validation == 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"source": {"kind": "scenes", "families": ["count"]}}, "source.families is"),
    ],
)
def test_a_folder_with_another_run_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    start(tmp_path)
    with pytest.raises(ConfigError) as error, open_run(tmp_path, recipe(**changes), PROMPTS):
        pass
    assert words in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"source": {"kind": "scenes", "count": 300}},
        {"anchor": {"temperature": 0.1}},
        {"samples": {"n": 3}},
        {"filters": {"min_anchors": 5}},
    ],
)
def test_a_run_may_go_on_with_more_rows_and_other_settings(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    start(tmp_path)
    with open_run(tmp_path, recipe(**changes), {"describe": "b"}):
        pass


def test_a_run_whose_journal_is_gone_keeps_its_drafts_and_its_recipe(tmp_path: Path) -> None:
    start(tmp_path)
    (tmp_path / "journal.sqlite").unlink()
    with (
        pytest.raises(ConfigError, match=r"the journal of their answers is not at"),
        open_run(tmp_path, recipe(anchor={"temperature": 0.1}), PROMPTS),
    ):
        pass
    assert load_run_recipe(tmp_path) == recipe()
    with open_run(tmp_path, recipe(), PROMPTS):
        pass


# ------------------------------------------------------------------------------- what drafts are made with


MODELS = {"describe": "a", "reason": "a", "anchor": "a"}


def test_the_stamp_changes_with_all_that_a_draft_depends_on() -> None:
    base = synthesis_stamp(recipe(), PROMPTS, MODELS)
    longer = recipe(source={"kind": "scenes", "count": 900})
    assert synthesis_stamp(longer, PROMPTS, MODELS) == base
    same = recipe(teacher={"url": "http://elsewhere", "max_in_flight": 7}, filters={"min_anchors": 9})
    assert synthesis_stamp(same, PROMPTS, MODELS) == base
    others = [
        synthesis_stamp(recipe(anchor={"temperature": 0.1}), PROMPTS, MODELS),
        synthesis_stamp(recipe(), {"describe": "b"}, MODELS),
        synthesis_stamp(recipe(), PROMPTS, MODELS | {"reason": "b"}),
        synthesis_stamp(recipe(samples={"until": 5}), PROMPTS, MODELS),
        synthesis_stamp(recipe(samples={"until": 5}, filters={"min_anchors": 9}), PROMPTS, MODELS),
    ]
    assert len({base, *others}) == 6


def test_drafts_made_otherwise_are_discarded_where_their_journal_is_there(tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    write_partition(tmp_path, 0, "f", [draft(0)], "old")
    write_partition(tmp_path, 1, "f", [draft(1)], "new")
    finish_synthesis(tmp_path, [1, 1])
    with pytest.raises(ConfigError, match=r"the journal of their answers is not at .*choose another --out"):
        discard_stale(tmp_path, "new", journal)
    journal.touch()
    assert discard_stale(tmp_path, "new", journal) == 1
    assert [row["index"] for row in iterate_drafts(tmp_path)] == [1]
    assert not synthesis_finished(tmp_path)
    assert discard_stale(tmp_path, "new", journal) == 0


def test_only_partitions_with_rows_that_failed_at_a_teacher_are_drafted_again(tmp_path: Path) -> None:
    lost = rejected_at_source(index=1, source="s", row="1", reason=SourceFault.NO_ANSWER, detail="none")
    write_partition(tmp_path, 0, "f", [draft(0), lost])
    write_partition(tmp_path, 1, "f", [draft(2), failed_draft(3)])
    fault = EvidenceFault(part="judge", reason="teacher_refused", detail="no")
    write_partition(tmp_path, 2, "f", [draft(4, evidence=Evidence(faults=(fault,)))])
    assert discard_failed(tmp_path) == 2
    assert [row["index"] for row in iterate_drafts(tmp_path)] == [0, 1]


def test_an_unfinished_partition_can_be_read_and_is_not_done(tmp_path: Path) -> None:
    write_partition(tmp_path, 0, "f", [draft(0)], whole=False)
    assert finished_as(tmp_path, 0) == ""
    assert [row["index"] for row in iterate_drafts(tmp_path)] == [0]


def test_models_of_earlier_goes_are_remembered(tmp_path: Path) -> None:
    assert note_models(tmp_path, {"describe": "a"}) == {"describe": "a"}
    assert note_models(tmp_path, {"reason": "b"}) == {"describe": "a", "reason": "b"}


def test_a_folder_without_drafts_yet_may_change_its_mind(tmp_path: Path) -> None:
    with open_run(tmp_path, recipe(), PROMPTS):
        pass
    with open_run(tmp_path, recipe(seed=5), PROMPTS):
        begin_synthesis(tmp_path, recipe(seed=5), "")
    assert load_run_recipe(tmp_path).seed == 5


@pytest.mark.parametrize("kind", ["foreign", "file"])
def test_foreign_files_are_never_written_over(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="choose another --out"), open_run(target, recipe(), PROMPTS):
        pass


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    failures: list[str] = []

    def second() -> None:
        try:
            with open_run(tmp_path, recipe(), PROMPTS):
                failures.append("was let in")
        except ShardError as error:
            failures.append(str(error))

    with open_run(tmp_path, recipe(), PROMPTS):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(failures) == 1
    assert "another avar process" in failures[0]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    start(tmp_path)
    leftover = tmp_path / "drafts" / ".part-00001.arrow.123.tmp"
    leftover.write_bytes(b"half")
    with open_run(tmp_path, recipe(), PROMPTS):
        assert not leftover.exists()


def test_only_avars_own_leftovers_are_removed(tmp_path: Path) -> None:
    start(tmp_path)
    mine = [tmp_path / ".notes.tmp", tmp_path / "deep" / ".recipe.yaml.12.tmp"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    with open_run(tmp_path, recipe(), PROMPTS):
        pass
    assert all(path.exists() for path in mine)


def test_hidden_files_are_files(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(ConfigError, match="not empty"), open_run(tmp_path, recipe(), PROMPTS):
        pass


def test_a_partition_is_done_only_for_the_same_problems(tmp_path: Path) -> None:
    items = [problem(0), failed_draft(1)]
    fingerprint = partition_fingerprint(items)
    assert finished_as(tmp_path, 0) == ""
    write_partition(tmp_path, 0, fingerprint, [draft(0), failed_draft(1)])
    assert finished_as(tmp_path, 0) == fingerprint
    assert list(iterate_partition(tmp_path, 0)) == [draft(0), failed_draft(1)]
    changed = [
        [problem(0)],
        [problem(0, category="other"), failed_draft(1)],
        [problem(0, licence="MIT"), failed_draft(1)],
        [problem(0), draft(1)],
    ]
    assert finished_as(tmp_path, 0) not in map(partition_fingerprint, changed)


def test_drafts_come_back_in_source_order(tmp_path: Path) -> None:
    for number in (1, 0):
        write_partition(tmp_path, number, "f", [draft(2 * number), draft(2 * number + 1)])
    assert [row["index"] for row in iterate_drafts(tmp_path)] == [0, 1, 2, 3]


def test_shards_of_rows_that_the_source_no_longer_has_are_removed(tmp_path: Path) -> None:
    write_partition(tmp_path, 0, "f", [draft(0)])
    write_partition(tmp_path, 1, "f", [draft(1)])
    finish_synthesis(tmp_path, [1, 1])
    assert len(list(iterate_drafts(tmp_path))) == 2
    finish_synthesis(tmp_path, [1])
    assert [row["index"] for row in iterate_drafts(tmp_path)] == [0]


def test_partition_names_sort_as_their_numbers(tmp_path: Path) -> None:
    paths = [partition_path(tmp_path, number) for number in (0, 9, 10, 99_999)]
    assert paths == sorted(paths)


@pytest.mark.parametrize(("folder", "words"), [("none", "no such folder"), (".", "not a run")])
def test_what_is_no_run_says_what_makes_one(tmp_path: Path, folder: str, words: str) -> None:
    with pytest.raises(ShardError, match=words):
        load_run_recipe(tmp_path / folder)


@pytest.mark.parametrize(
    ("last", "whole", "removed"),
    [
        (1, True, False),
        (2, True, True),
        (0, True, True),
        (1, False, False),
        (0, False, False),
        (2, False, True),
    ],
)
def test_a_shard_that_was_cut_elsewhere_is_made_anew(
    tmp_path: Path, last: int, whole: bool, removed: bool
) -> None:
    """Shards of two rows each: 0 and 1, 2 and 3, 4 and 5."""
    for number in range(3):
        write_partition(tmp_path, number, "f", [draft(2 * number), draft(2 * number + 1)])
    assert discard_misfit(tmp_path, 0, last, whole=whole) is removed
    assert partition_path(tmp_path, 1).exists() is not removed
    assert partition_path(tmp_path, 2).exists()
    assert not discard_misfit(tmp_path, 2, 99, whole=True)


def test_large_pictures_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    monkeypatch.setattr(shards, "BATCH_BYTES", 3000)
    pictures = [Image(bytes=bytes(1100), path="x.png")]
    drafts = [replace(draft(index), problem=problem(index, images=tuple(pictures))) for index in range(7)]
    write_partition(tmp_path, 0, "f", drafts)
    with pa.memory_map(str(partition_path(tmp_path, 0))) as source:
        assert [batch.num_rows for batch in pa.ipc.open_stream(source)] == [3, 3, 1]
    assert list(iterate_partition(tmp_path, 0)) == drafts
