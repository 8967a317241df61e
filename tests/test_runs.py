"""A run's folder belongs to one run and to one process at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from schemas.config import Recipe, parse_recipe
from schemas.errors import ConfigError, ShardError
from schemas.runs import (
    claim_models,
    iterate_drafts,
    load_run_recipe,
    open_run,
    partition_done,
    partition_fingerprint,
    partition_path,
    read_manifest,
    require_no_more_shards,
    write_partition,
)
from tests.rows import draft, failed_draft, problem

PROMPTS = {"describe": "a"}


def recipe(**changes: object) -> Recipe:
    return parse_recipe({"name": "t", "source": {"kind": "scenes"}} | changes, where="t")


def start(root: Path, **changes: object) -> None:
    """A run with one finished partition."""
    with open_run(root, recipe(**changes), PROMPTS):
        write_partition(root, 0, partition_fingerprint([problem(0)]), [draft(0)])


def test_a_run_can_be_taken_again_and_keeps_its_start(tmp_path: Path) -> None:
    start(tmp_path)
    started = read_manifest(tmp_path)["started"]
    with open_run(tmp_path, recipe(validation=0.5, train={"steps": 3}), PROMPTS):
        pass
    assert read_manifest(tmp_path)["started"] == started
    assert load_run_recipe(tmp_path).validation == 0.5


@pytest.mark.parametrize(
    ("changes", "prompts", "words"),
    [
        ({"seed": 1}, PROMPTS, "seed is 0 there, 1 here"),
        ({"source": {"kind": "scenes", "count": 9}}, PROMPTS, "source.count is 200 there, 9 here"),
        ({}, {"describe": "b"}, "other prompts"),
    ],
)
def test_a_folder_with_another_run_is_refused(
    tmp_path: Path, changes: dict[str, object], prompts: dict[str, str], words: str
) -> None:
    start(tmp_path)
    with pytest.raises(ConfigError) as error, open_run(tmp_path, recipe(**changes), prompts):
        pass
    assert words in str(error.value)
    assert error.value.exit_code == 2


def test_a_folder_without_drafts_yet_may_change_its_mind(tmp_path: Path) -> None:
    with open_run(tmp_path, recipe(), PROMPTS):
        pass
    with open_run(tmp_path, recipe(seed=5), PROMPTS):
        pass
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
    assert not partition_done(tmp_path, 0, fingerprint)
    write_partition(tmp_path, 0, fingerprint, [draft(0), failed_draft(1)])
    assert partition_done(tmp_path, 0, fingerprint)
    with pytest.raises(ShardError, match="the source has changed"):
        partition_done(tmp_path, 0, partition_fingerprint([problem(0)]))


def test_drafts_come_back_in_source_order(tmp_path: Path) -> None:
    for number in (1, 0):
        write_partition(tmp_path, number, "f", [draft(2 * number), draft(2 * number + 1)])
    assert [row["index"] for row in iterate_drafts(tmp_path)] == [0, 1, 2, 3]


def test_shards_of_a_source_that_shrank_are_noticed(tmp_path: Path) -> None:
    write_partition(tmp_path, 0, "f", [draft(0)])
    write_partition(tmp_path, 1, "f", [draft(1)])
    require_no_more_shards(tmp_path, 2)
    with pytest.raises(ShardError, match="fewer rows"):
        require_no_more_shards(tmp_path, 1)


def test_drafts_of_another_model_are_not_mixed(tmp_path: Path) -> None:
    start(tmp_path)
    claim_models(tmp_path, {"describe": "a"})
    claim_models(tmp_path, {"describe": "a"})
    with pytest.raises(ConfigError, match="describe is 'a' there, 'b' here"):
        claim_models(tmp_path, {"describe": "b"})


def test_partition_names_sort_as_their_numbers(tmp_path: Path) -> None:
    paths = [partition_path(tmp_path, number) for number in (0, 9, 10, 99_999)]
    assert paths == sorted(paths)


@pytest.mark.parametrize(("folder", "words"), [("none", "no such folder"), (".", "not a run")])
def test_what_is_no_run_says_what_makes_one(tmp_path: Path, folder: str, words: str) -> None:
    with pytest.raises(ShardError, match=words):
        load_run_recipe(tmp_path / folder)
