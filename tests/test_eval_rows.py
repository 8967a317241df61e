"""Rows of public benchmarks as an evaluation asks them: the published columns, read back as any copy is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import PIL.Image
import pytest

from filters.benchmark_rows import BenchmarkRow
from filters.benchmark_table import BENCHMARKS
from filters.benchmarks import undecoded
from flows.evaluate.benchmarks import IN_PICTURE, adapt, find_options, name_images
from flows.evaluate.rows import RowSettings, read_rows
from schemas.errors import ConfigError, ShardError, SourceError
from schemas.shards import DatasetWriter
from tests.conftest import SHARED_DATA
from tests.public_rows import PUBLIC, encoded, mathvision, mmmu
from tests.tiny import make_row
from trainer.evaluate import score_answer
from trainer.obedience import RULES


def ask(name: str, folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """The benchmark's rows, saved to disk and read back by its name and path."""
    path = folder / "copy"
    PUBLIC[name]().save_to_disk(path)
    return read_rows([f"{name}={path}"], RowSettings(**settings))


def score(row: dict[str, Any], text: str) -> str:
    return score_answer(row, text, finished=True, tokens=3).verdict


def test_every_benchmark_of_the_table_has_rows_here() -> None:
    assert set(PUBLIC) == set(BENCHMARKS)


def test_mathvista_asks_in_its_unit_and_counts_its_decimals(tmp_path: Path) -> None:
    length, side, years = ask("mathvista", tmp_path)
    assert (length["question"], length["decimals"]) == ("How long is it? (Unit: m)", 1)
    assert [score(length, text) for text in ("1.24", "1.2", "1.4")] == ["equal", "equal", "different"]
    assert (side["choices"], side["answer"], side["decimals"]) == (["(A) left", "right"], "right", None)
    assert [score(side, text) for text in ("B", "right", "A")] == ["equal", "equal", "different"]
    assert years["answers"] == ["[2001, 2005]"], "a list is one answer, not two that are right"
    assert [score(years, text) for text in ("[2001, 2005]", "2001")] == ["equal", "different"]
    assert {row["category"] for row in (length, side, years)} == {"figure question answering"}
    assert length["source"] == "mathvista" and length["id"] == "1"


def test_mathvision_drops_its_lone_marker(tmp_path: Path) -> None:
    count, part = ask("mathvision", tmp_path)
    assert count["question"] == "How many discs are there?"
    as_read = encoded(kind="JPEG")["bytes"]
    assert count["images"][0]["bytes"] == as_read, "the bytes of the file, not a picture encoded again"
    assert (part["question"], part["choices"]) == ("Which part fits?", ["A", "B", "C"])
    assert (count["category"], part["category"]) == ("counting", "solid geometry")
    assert score(part, "<answer>B</answer>") == "equal"


def test_mathverse_asks_the_picture_and_checks_by_the_spelt_question(tmp_path: Path) -> None:
    choice, free = ask("mathverse_vision_only", tmp_path)
    assert [row["id"] for row in (choice, free)] == ["5", "10"], "rows of other versions are left out"
    assert {row["question"] for row in (choice, free)} == {IN_PICTURE}
    assert choice["choices"] == [] and choice["options"] == ["12", "5√{2}", "7", "9"]
    assert [score(choice, text) for text in ("B", "5√2", "A", "12")] == [
        "equal",
        "equal",
        "different",
        "different",
    ]
    assert free["options"] == [] and score(free, "5 cm") == "equal"
    assert choice["category"] == "Plane Geometry"


def test_mmmu_names_its_images_and_takes_any_right_answer(tmp_path: Path) -> None:
    painter, larger, ratio = ask("mmmu", tmp_path)
    assert (painter["question"], painter["choices"]) == ("Who painted this?", ["Kahlo", "O'Keeffe"])
    assert larger["question"] == "Compare image 1 with image 2: which is larger?"
    assert larger["choices"] == ["image 1", "image 2"], "image_3 is the second of the two that there are"
    assert [image["bytes"] for image in larger["images"]] == [
        encoded("blue")["bytes"],
        encoded("green")["bytes"],
    ]
    assert ratio["answers"] == ["24/7", "3.429"]
    assert [score(ratio, text) for text in ("3.429", r"\boxed{\frac{24}{7}}", "24")] == [
        "equal",
        "equal",
        "different",
    ]
    assert score_answer(ratio, "x", finished=True, tokens=1).gold == "24/7 | 3.429"
    assert [row["category"] for row in (painter, larger)] == ["Art Theory", "Math"]


def read(name: str, place: int, **columns: Any) -> dict[str, Any]:
    """A row of a benchmark with other values."""
    values: Any = undecoded(PUBLIC[name]())[place]
    raw = BenchmarkRow(
        values={**values, **columns}, columns=BENCHMARKS[name], source=name, where="x", folder=None
    )
    return adapt(raw)


def test_an_image_that_stands_twice_has_one_number() -> None:
    same = read("mmmu", 1)["images"][0]
    row = read("mmmu", 1, image_2=same, question="<image 1> <image 2> <image 3>?", options="[]")
    assert (row["question"], len(row["images"])) == ("image 1 image 1 image 2?", 2)


def test_letters_are_letters_where_options_are_letters_too() -> None:
    """Gold A is the first option, whose text is V, and not the second one, which reads A."""
    crossed = read("mmmu", 0, options="['V', 'A', 'C', 'W']", answer="A")
    assert [score(crossed, text) for text in ("A", "(A)", "The answer is A.")] == ["equal"] * 3
    assert [score(crossed, text) for text in ("B", "V", "C")] == ["different"] * 3
    assert crossed["choices"] == ["V", "A", "C", "W"]
    plain = read("mmmu", 0, options="['A', 'B', 'C', 'D']", answer="B")
    assert plain["options"] == ["A", "B", "C", "D"]


def test_an_option_is_named_as_mathverse_writes_it() -> None:
    spelt = "How long is BC? ()\nChoices:\nA:2\nB:2√{{3}}\nC:√{{3}}\nD:2√{{2}}"
    row = read("mathverse_vision_only", 0, question_for_eval=spelt, answer="C")
    for text in ("C", "C:√3", "C:√{{3}}", "√3", r"\sqrt{3}", r"C. $\sqrt{3}$"):
        assert score(row, text) == "equal", text
    assert [score(row, text) for text in ("B:2√3", "2√3", "C:2√3")] == ["different", "different", "undecided"]


def test_mmmu_pro_has_ten_options_shown_or_in_the_picture(tmp_path: Path) -> None:
    [standard] = ask("mmmu_pro", tmp_path / "standard")
    [vision] = ask("mmmu_pro_vision", tmp_path / "vision")
    assert len(standard["choices"]) == 10 and standard["question"] == "Which force acts in image 1?"
    assert (vision["question"], vision["choices"]) == (IN_PICTURE, [])
    for row in (standard, vision):
        assert [score(row, text) for text in ("J", "10 N", "9 N", "A")] == [
            "equal",
            "equal",
            "different",
            "different",
        ]
        assert row["category"] == "Physics"


def test_mmstar_keeps_its_options_in_the_question(tmp_path: Path) -> None:
    [row] = ask("mmstar", tmp_path)
    assert row["question"].endswith("D: none of these") and row["choices"] == []
    assert row["options"] == ["a dog", "two cats, on a mat", "1,000 birds", "none of these"]
    assert [score(row, text) for text in ("B", "two cats, on a mat", "C")] == ["equal", "equal", "different"]


def test_hallusionbench_asks_some_rows_without_a_picture(tmp_path: Path) -> None:
    rows = ask("hallusionbench", tmp_path)
    assert [len(row["images"]) for row in rows] == [1, 1, 0, 0, 1, 1]
    assert [row["answer"] for row in rows] == ["Yes", "No", "Yes", "No", "Yes", "No"]
    assert rows[2]["id"] == "VS_chart_0_0_0", "question_id alone repeats"
    assert [score(rows[0], text) for text in ("Yes, it is.", "No.", "yes", "Maybe")] == [
        "equal",
        "different",
        "equal",
        "different",
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["How many?\n<image1>"], ["How many?"]),
        (["<image 1> Who?"], ["Who?"]),
        (["In <image 1> it is"], ["In image 1 it is"]),
        (["<image1>", "<image2>"], ["image 1", "image 2"]),
        (["<image1>\n<image2> Which?"], ["image 1\nimage 2 Which?"]),
        (["none"], ["none"]),
        (["Which is shown in <image 1>"], ["Which is shown in image 1"]),
        (["Is it red. <image 1>"], ["Is it red."]),
        (["Which?", "<image 1>", "none"], ["Which?", "image 1", "none"]),
    ],
)
def test_markers_of_images_become_words(texts: list[str], expected: list[str]) -> None:
    assert name_images(texts, {}) == expected


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which?\nOptions: A: 1, B: 2", ["1", "2"]),
        ("Which?\nChoices:\n(A) 1\n(B) 2", ["1", "2"]),
        ("Which?\nOptions: A. x, C. y", []),
        ("How long?\nChoices:\nA:2\nB:2√{{3}}", ["2", "2√{3}"]),
        ("Which?\nOptions: A: 1", []),
        ("What are the options: A or B?", []),
        ("No options", []),
    ],
)
def test_options_are_read_only_where_their_letters_follow_one_another(
    question: str, options: list[str]
) -> None:
    assert find_options(question) == options


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "splits", "hub"])
def test_copies_of_every_kind_give_the_same_rows(kind: str, tmp_path: Path) -> None:
    table = mathvision()
    expected = ask("mathvision", tmp_path / "saved")
    path = tmp_path / "mathvision"
    path.mkdir()
    if kind == "parquet":
        table.to_parquet(path / "rows.parquet")
    elif kind == "splits":  # other splits are not asked
        datasets.DatasetDict({"test": table, "testmini": table.select([0])}).save_to_disk(path)
    elif kind == "hub":
        (path / "data").mkdir()
        table.to_parquet(path / "data" / "test-00000-of-00001-3532b8d3f1b4047a.parquet")
        table.select([0]).to_parquet(path / "data" / "testmini-00000-of-00001-f8ff70fcb2f29b1d.parquet")
    else:
        lines = []
        for number, row in enumerate(table.cast_column("decoded_image", datasets.Image(decode=False))):
            assert isinstance(row, dict)
            (path / f"{number}.img").write_bytes(row["decoded_image"]["bytes"])
            lines.append(json.dumps(row | {"decoded_image": f"{number}.img"}))
        (path / "rows.jsonl").write_text("\n".join(lines))
    found = read_rows([str(path)], RowSettings())
    assert [row["question_hash"] for row in found] == [row["question_hash"] for row in expected]


def test_a_copy_with_configurations_is_asked_where_they_count(tmp_path: Path) -> None:
    for config in ("standard (10 options)", "standard (4 options)", "vision"):
        (tmp_path / config).mkdir()
        name = "mmmu_pro_vision" if config == "vision" else "mmmu_pro"
        PUBLIC[name]().to_parquet(tmp_path / config / "test-00000-of-00001.parquet")
    rows = read_rows([f"mmmu_pro={tmp_path}", f"mmmu_pro_vision={tmp_path}"], RowSettings())
    assert [(row["source"], bool(row["choices"])) for row in rows] == [
        ("mmmu_pro", True),
        ("mmmu_pro_vision", False),
    ]


def test_names_are_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(path: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((path, config, split))
        return mmmu().map(lambda row: {"id": row["id"].replace("validation", f"validation_{config}")})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(read_rows(["mmmu"], RowSettings(limit=5))) == 5
    assert asked == [("MMMU/MMMU", "Accounting", "validation"), ("MMMU/MMMU", "Agriculture", "validation")]


def test_real_rows_of_mathvision_are_asked() -> None:
    path = SHARED_DATA / "mathv_testmini"
    if not path.is_dir():
        pytest.skip("the real rows are not beside the project")
    rows = read_rows([str(path)], RowSettings())
    assert len(rows) == 177
    for row in rows:
        assert "<image" not in row["question"] + "".join(row["choices"])
        assert row["images"]
        assert score(row, f"<think>x</think><answer>{row['answer']}</answer>") == "equal"
    assert rows[0]["question"] == "How many different digits can you find in this picture?"


def write_run(folder: Path) -> Path:
    with DatasetWriter(folder) as writer:
        writer.write("train", make_row(0, source="scenes", category="count"))
        for index in (1, 2):
            writer.write("validation", make_row(index, source="scenes", category="count"))
        writer.write("validation", make_row(2, source="scenes", sample_index=1))
    return folder


def test_a_run_is_asked_each_problem_once(tmp_path: Path) -> None:
    run = str(write_run(tmp_path))
    rows = read_rows([run], RowSettings())
    assert [row["id"] for row in rows] == [f"{1:020d}", f"{2:020d}"]
    assert rows[0]["images"] == make_row(1)["images"]
    assert (rows[0]["source"], rows[0]["category"]) == ("scenes", "count")
    assert len(read_rows([run], RowSettings(split="accepted"))) == 3
    assert [row["id"] for row in read_rows([run], RowSettings(split="train"))] == [f"{0:020d}"]


def test_controls_show_other_pictures_and_leave_the_rest(tmp_path: Path) -> None:
    own = ask("hallusionbench", tmp_path / "own")
    blank = ask("hallusionbench", tmp_path / "blank", images="blank")
    other = ask("hallusionbench", tmp_path / "other", images="other")
    for before, grey, wrong in zip(own, blank, other, strict=True):
        assert before["question"] == grey["question"] == wrong["question"]
        if not before["images"]:
            assert grey["images"] == wrong["images"] == []
            continue
        assert decoded(grey).getcolors() == [(112 * 112, (128, 128, 128))]
        assert decoded(wrong).tobytes() != decoded(before).tobytes()
        assert len({before["question_hash"], grey["question_hash"], wrong["question_hash"]}) == 3
    assert decoded(other[0]).tobytes() == decoded(own[1]).tobytes()
    with pytest.raises(ConfigError, match="all rows have the same image"):
        ask("mmstar", tmp_path / "one", images="other")


def decoded(row: dict[str, Any]) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(row["images"][0]["bytes"]))


def test_system_prompts_are_part_of_what_is_asked(tmp_path: Path) -> None:
    plain = ask("mmmu", tmp_path / "plain")
    other = ask("mmmu", tmp_path / "other", system="Be brief.")
    ruled = ask("mmmu", tmp_path / "ruled", obedience=True)
    assert {row["system"] for row in other} == {"Be brief."} and "system" not in plain[0]
    assert [row["rule"] for row in ruled] == list(RULES)[:3]
    hashes = {row["question_hash"] for rows in (plain, other, ruled) for row in rows}
    assert len(hashes) == 9


def test_a_picture_that_servers_do_not_take_is_encoded_anew(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(encoded(kind="BMP")["bytes"])
    (tmp_path / "rows.jsonl").write_text('{"question": "q", "answer": "a", "image": "a.bmp"}')
    [row] = read_rows([str(tmp_path / "rows.jsonl")], RowSettings())
    assert decoded(row).format == "PNG"
    assert decoded(row).tobytes() == PIL.Image.open(tmp_path / "a.bmp").tobytes()


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        ([], SourceError, "no row to ask"),
        ([{"question": "q"}], SourceError, "line 1: no gold answer"),
        ([{"question": " ", "answer": "a"}], SourceError, "line 1: the question is empty"),
        ([{"answer": "a"}], SourceError, "line 1: no column `question`; found: answer"),
        ([{"question": "q", "answer": "a", "image": "a.png"}], SourceError, "line 1: an image of 4 bytes"),
        ([{"id": 1, "question": "q", "answer": "a"}] * 2, SourceError, "two rows are called 1"),
    ],
)
def test_rows_that_cannot_be_asked_are_named(
    lines: list[dict[str, Any]], error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(error, match=message):
        read_rows([str(path)], RowSettings())


def test_datasets_that_are_not_there_are_named(tmp_path: Path) -> None:
    for name in ("nowhere", "mmmu=nowhere", "x" * 5000):
        with pytest.raises(ConfigError, match="neither a file nor a benchmark; known: hallusionbench, math"):
            read_rows([name], RowSettings())
    (tmp_path / "run" / "drafts").mkdir(parents=True)
    with pytest.raises(ShardError, match="run `avar curate"):
        read_rows([str(tmp_path / "run")], RowSettings())
    with DatasetWriter(tmp_path / "empty") as writer:
        writer.write("train", make_row(0))
    with pytest.raises(ShardError, match="the validation split is empty"):
        read_rows([str(tmp_path / "empty")], RowSettings())
    PUBLIC["hallusionbench"]().remove_columns("image").save_to_disk(tmp_path / "hallusionbench")
    with pytest.raises(SourceError, match="no column `image`; found: category"):
        read_rows([str(tmp_path / "hallusionbench")], RowSettings())
