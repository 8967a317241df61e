"""What curation decides beyond single drafts: benchmarks, near duplicates, selection; and the explanation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.curate import curate_drafts
from flows.vas.output import FORMAT
from flows.verdict_store import VerdictStore
from schemas.config import Recipe, parse_recipe
from schemas.errors import ConfigError, SourceError
from schemas.records import Draft, Image, Problem, VerdictRow, problem_id
from schemas.runs import dump_recipe, update_manifest, write_partition, write_text
from schemas.shards import STAGING, load_dataset_dict
from tests.conftest import avar
from tests.rows import GOOD_TRACE, draft, failed_draft, problem
from tests.test_cli import assert_one_line

FILTERS = {"min_named_anchors": 0, "min_anchor_spread": 0, "min_supported": 0, "min_reflections": 0}


def picture(seed: int) -> bytes:
    """A picture that no other one resembles."""
    from tests.bench.synth_load import draw_picture

    return draw_picture(seed)


def asked(index: int, question: str, seed: int, answer: str = "4", **changes: Any) -> Problem:
    images = (Image(bytes=picture(seed), path=f"{index}.png"),)
    identity = problem_id(question, (), answer, images)
    return replace(problem(index), id=identity, question=question, images=images, answer=answer, **changes)


def drafted(made: Problem, sample_index: int = 0, trace: str = GOOD_TRACE) -> Draft:
    return replace(draft(made.index, trace), problem=made, sample_index=sample_index)


LONG = (
    "How many of the {} circles that you can see in the lower half of the picture are larger than the rest?"
)


def curated(folder: Path, drafts: Sequence[Draft], **blocks: Any) -> list[dict[str, Any]]:
    """Every row of the dataset that these drafts become, in their order."""
    recipe = parse_recipe({"name": "t", "source": {"kind": "scenes"}, "filters": FILTERS} | blocks, where="t")
    write_partition(folder, 0, "f", drafts)
    funnel = curate_drafts.fn(recipe, folder, folder)
    splits = load_dataset_dict(folder).values()
    rows = [dict(row) for split in splits for row in split.remove_columns("images")]
    rows.sort(key=lambda row: (row["index"], row["sample_index"]))
    assert funnel.drafts == len(rows) == len(drafts)
    assert funnel.accepted + funnel.rejected + funnel.failed == funnel.drafts
    assert not (folder / STAGING).exists()
    return rows


def ends(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["reason"] or row["status"] for row in rows]


def verdict(row: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((one for one in row["verdicts"] if one["filter"] == name), None)


# ------------------------------------------------------------------------------------------- duplicates


def test_the_first_accepted_of_near_duplicates_stays(tmp_path: Path) -> None:
    """The very first one is rejected for its answer, so the second one stands for the group."""
    question = LONG.format("red")
    rows = [
        drafted(asked(0, question, 1), trace=GOOD_TRACE.replace(">4<", ">5<")),
        drafted(asked(1, question + " Say a number.", 1)),
        drafted(asked(2, question.replace("How many", "How  MANY"), 1)),
        drafted(asked(3, question, 2)),
    ]
    found = curated(tmp_path, rows)
    assert ends(found) == ["answer_wrong", "accepted", "near_duplicate", "accepted"]
    assert found[2]["detail"].startswith(f"dedup: asks what problem {found[1]['id']} asks: ")
    assert ends(curated(tmp_path, rows, dedup={"enabled": False})) == ["answer_wrong", *["accepted"] * 3]


def test_all_samples_of_a_duplicate_leave_and_samples_are_no_duplicates(tmp_path: Path) -> None:
    first, second = asked(0, LONG.format("red"), 1), asked(1, LONG.format("red") + " Please.", 1)
    rows = [drafted(first, 0), drafted(first, 1), drafted(second, 0), drafted(second, 1)]
    assert ends(curated(tmp_path, rows)) == ["accepted", "accepted", "near_duplicate", "near_duplicate"]


# ------------------------------------------------------------------------------------------- benchmarks


def write_benchmark(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_problems_of_a_benchmark_leave_and_every_row_says_whether_it_is_one(tmp_path: Path) -> None:
    made = [
        asked(0, LONG.format("red"), 1),
        asked(1, "What is the length of side AB?", 2),
        asked(2, "Why?", 3),
    ]
    benchmark = write_benchmark(
        tmp_path / "bench",
        {"id": "b7", "question": LONG.format("red"), "answer": "4", "image": "one.png"},
        {"id": "b8", "question": "Which of these is right?", "answer": "9", "image": "three.png"},
    )
    (benchmark / "one.png").write_bytes(picture(9))
    (benchmark / "three.png").write_bytes(picture(3))
    rows = [
        drafted(made[0], 0, trace=GOOD_TRACE.replace(">4<", ">5<")),
        drafted(made[0], 1),
        drafted(made[1]),
        drafted(made[2]),
        failed_draft(3),
    ]
    found = curated(tmp_path / "run", rows, decontaminate={"benchmarks": [str(benchmark)]})
    assert ends(found) == [
        *("answer_wrong", "contaminated_text", "accepted", "contaminated_image", "teacher_refused")
    ]
    verdicts = [verdict(row, "decontamination") for row in found]
    assert [one and one["keep"] for one in verdicts] == [False, False, True, False, None]
    assert found[1]["detail"].startswith("decontamination: bench b7: ")


def test_a_benchmark_that_is_not_there_is_said_before_anything_is_judged(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a file nor a benchmark; known: "):
        curated(tmp_path, [drafted(asked(0, "x?", 1))], decontaminate={"benchmarks": ["nowhere"]})
    assert not (tmp_path / "dataset_dict.json").exists()


# ------------------------------------------------------------------------------------------- selection


def test_of_several_accepted_samples_the_best_is_kept(tmp_path: Path) -> None:
    """More looks at the image score higher."""
    made = asked(0, LONG.format("red"), 1)
    better = GOOD_TRACE.replace("the count", "looking back at the figure again, the count")
    rows = [drafted(made, 0), drafted(made, 1, better), drafted(made, 2)]
    found = curated(tmp_path, rows, select={"per_problem": 1})
    assert ends(found) == ["surplus_sample", "accepted", "surplus_sample"]
    assert found[0]["detail"].startswith("selection: number ")


def test_a_category_keeps_to_its_share(tmp_path: Path) -> None:
    rows = [
        drafted(asked(index, LONG.format(f"{index} red"), index, category="a" if index < 8 else "b"))
        for index in range(10)
    ]
    found = curated(tmp_path, rows, select={"max_category_share": 0.5})
    kept = [row["category"] for row in found if row["status"] == "accepted"]
    assert sorted(kept) == ["a", "a", "b", "b"]
    with pytest.raises(ConfigError, match="max_category_share"):
        curated(tmp_path, rows, select={"max_category_share": 0.1})
    assert len(load_dataset_dict(tmp_path)["rejected"]) == 6  # the dataset that was there


def test_the_same_drafts_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [
        drafted(asked(index, LONG.format(index), index), sample) for index in range(6) for sample in (0, 1)
    ]
    settings: dict[str, Any] = {"select": {"per_problem": 1, "max_source_share": 1.0}}
    made = []
    for name in ("a", "b"):
        curated(tmp_path / name, rows, **settings)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("*/data-*.arrow")})
    assert made[0] == made[1]


# ------------------------------------------------------------------------------------------- the store


def test_verdicts_come_back_in_order_and_leave_nothing(tmp_path: Path) -> None:
    def row(number: int) -> tuple[VerdictRow, ...]:
        one = VerdictRow(filter="f", keep=True, reason="", score=number / 7, detail=f"ä{number}")
        return (one,) * (number % 3)

    with VerdictStore(tmp_path / "new" / "verdicts") as store:
        for number in range(600):
            store.write(row(number))
        assert list(store.read()) == [row(number) for number in range(600)]
    assert list((tmp_path / "new").iterdir()) == []


# ------------------------------------------------------------------------------------------- explaining


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three rows by hand: accepted in two samples, wrong, failed."""
    folder = tmp_path_factory.mktemp("explain") / "run"
    first, second = asked(0, LONG.format("red"), 1), asked(1, LONG.format("blue"), 2, answer="5")
    rows = [drafted(first, 0), drafted(first, 1), drafted(second), failed_draft(2)]
    recipe: Recipe = parse_recipe(
        {"name": "t", "source": {"kind": "scenes"}, "filters": FILTERS, "select": {"per_problem": 1}},
        where="t",
    )
    write_partition(folder, 0, "f", rows)
    write_text(folder / "recipe.yaml", dump_recipe(recipe))
    update_manifest(folder, partitions=[len(rows)], drafts=len(rows))
    ran = avar("curate", folder, "--json")
    assert ran.code == 0, ran.err
    return folder


def explained(run: Path, *arguments: str) -> list[dict[str, Any]]:
    ran = avar("curate", run, "--json", *arguments)
    assert ran.code == 0, ran.err
    return ran.last_json["rows"]


def test_a_row_is_explained_with_every_verdict_and_nothing_is_written(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    rows = explained(run, "--explain", "test/0")
    assert [(row["sample_index"], row["status"], row["reason"]) for row in rows] == [
        (0, "accepted", ""),
        (1, "rejected", "surplus_sample"),
    ]
    assert {"answer", "anchors", "selection"} <= {one["filter"] for one in rows[1]["verdicts"]}
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_other_thresholds_are_tried_on_one_row(run: Path) -> None:
    identity = explained(run, "--explain", "test/0")[0]["id"]
    [row, _] = explained(run, "--explain", identity[:12], "--set", "filters.min_anchors=50")
    assert row["reason"] == "too_few_anchors"


def test_a_person_reads_a_table(run: Path) -> None:
    ran = avar("curate", run, "--explain", "test/1")
    assert ran.code == 0
    assert "draft 0 rejected: answer_wrong" in ran.out
    assert "said '4', gold '5'" in ran.out
    failed = avar("curate", run, "--explain", "test/2")
    assert "failed: teacher_refused (400: prompt too long)" in failed.out


@pytest.mark.parametrize(("row", "words"), [("zzz", "no row with id or name 'zzz'"), ("", "no row")])
def test_a_row_that_is_not_there(run: Path, row: str, words: str) -> None:
    assert_one_line(avar("curate", run, "--explain", row), 1, words)


# ------------------------------------------------------------------------------------------- scores


def write_scores(file: Path, **models: dict[str, float | None]) -> Path:
    reports = {
        name: {"rows": [{"id": key, "vas": vas} for key, vas in rows.items()]}
        for name, rows in models.items()
    }
    file.write_text(json.dumps({"format": FORMAT, "models": reports}))
    return file


def test_a_student_s_scores_are_joined_by_problem_and_judged(tmp_path: Path) -> None:
    made = [asked(index, LONG.format(index), index) for index in range(3)]
    rows = [drafted(made[0], 0), drafted(made[0], 1), drafted(made[1]), drafted(made[2])]
    file = write_scores(tmp_path / "vas.json", student={made[0].id: 12.5, made[1].id: 3.0, made[2].id: None})
    evidence = {"vas_scores": [str(tmp_path)], "min_vas": 5}
    found = curated(tmp_path / "run", rows, filters=FILTERS | {"evidence": evidence})
    assert ends(found) == ["accepted", "accepted", "low_vas", "evidence_missing"]
    assert [row["evidence_vas"] for row in found] == [12.5, 12.5, 3.0, None]
    two = write_scores(file, a={made[1].id: 9.0}, b={made[1].id: 1.0})
    with pytest.raises(ConfigError, match="vas_model: None is none of a, b"):
        curated(tmp_path / "run", rows, filters=FILTERS | {"evidence": evidence | {"vas_scores": [str(two)]}})
    chosen = evidence | {"vas_model": "a"}
    found = curated(tmp_path / "run", rows, filters=FILTERS | {"evidence": chosen})
    assert ends(found) == ["evidence_missing", "evidence_missing", "accepted", "evidence_missing"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": "other"}'])
def test_a_file_that_holds_no_scores_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    settings = FILTERS | {"evidence": {"vas_scores": [str(tmp_path / "x.json")]}}
    with pytest.raises(ConfigError, match=r"filters\.evidence\.vas_scores: .*x\.json"):
        curated(tmp_path / "run", [drafted(asked(0, "x?", 1))], filters=settings)


# ------------------------------------------------------------------------------------------- failures


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_curation_that_fails_leaves_recipe_and_dataset_as_they_were(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    before = {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    }
    failed = avar("curate", folder, "--set", "select.max_category_share=0.1")
    assert_one_line(failed, 2, "max_category_share")
    missing = avar("curate", folder, "--set", 'decontaminate.benchmarks=["no/such"]')
    assert_one_line(missing, 1, "no/such: neither a file nor a benchmark")
    assert contents(folder) == before
    assert avar("curate", folder, "--json").code == 0


def test_a_benchmark_is_found_from_another_folder_later(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    write_benchmark(tmp_path / "bench", {"id": "b", "question": "Who is this in the picture on the left?"})
    named = 'decontaminate.benchmarks=["bench"]'
    assert avar("curate", folder, "--set", named, cwd=tmp_path).code == 0
    assert avar("curate", folder, cwd=Path("/")).code == 0


def test_an_empty_benchmark_is_an_error(tmp_path: Path) -> None:
    benchmark = write_benchmark(tmp_path / "bench")
    with pytest.raises(SourceError, match=r"no item"):
        curated(
            tmp_path / "run", [drafted(asked(0, "x?", 1))], decontaminate={"benchmarks": [str(benchmark)]}
        )
