"""The ladder: its little world, its statistics, its verdicts, and a rung trained for real."""

from __future__ import annotations

import io
import multiprocessing
import queue
import random
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from scipy import stats

from filters.answers import extract_answer, is_correct
from flows.ladder.analysis import chance, difference, estimate, estimate_figure, right_in
from flows.ladder.arms import ARMS, find_arms
from flows.ladder.claims import judge_claims
from flows.ladder.measure import for_rules, measuring_batches, problems
from flows.ladder.report import draw_ladder, ladder_page, opening, summarize
from flows.ladder.rows import (
    SYSTEM,
    base_rows,
    blindfold,
    grpo_rows,
    held_out_rows,
    seeing_rows,
    sft_rows,
    tokenizer_texts,
    world_mark,
)
from flows.ladder.run import claim_folder, ladder_settings, run_ladder
from flows.ladder.rung import read_result, run_rung, rung_folder
from flows.ladder.scenes import CELL, COLOURS, NOTHING, PLACES, SIDE, Puzzle, draw_puzzles
from flows.ladder.schedule import Job, run_jobs
from flows.ladder.traces import anchored_trace, plain_trace, short_answer
from flows.vas.canvas import render
from schemas.errors import ConfigError, FlowError, ShardError
from schemas.runs import locked
from schemas.shards import write_json
from trainer.obedience import RULES, obedience_rows
from trainer.student import build_student, save_student
from trainer.vas import measure_vas

ASKED_FOR = (
    *("name", "seeds", "accuracy", "accuracy_ci", "vas", "image_share", "image_gain"),
    *("parse_rate", "obedience", "blank_accuracy"),
)


# ------------------------------------------------------------------------------------------ the world


def read_cells(png: bytes) -> list[str]:
    """What a picture shows, cell by cell, from its pixels alone: the colour farthest from the paper."""
    pixels = np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB"), dtype=float)
    cells = []
    for place in range(SIDE * SIDE):
        top, left = place // SIDE * CELL, place % SIDE * CELL
        cell = pixels[top : top + CELL, left : left + CELL].reshape(-1, 3)
        paper = cell[0]
        seen = cell[np.abs(cell - paper).sum(axis=1).argmax()]
        if np.abs(seen - paper).sum() < 40:
            cells.append(NOTHING)
            continue
        hue = {name: np.array(rgb) - paper for name, rgb in COLOURS.items()}
        cells.append(max(hue, key=lambda name: _cosine(seen - paper, hue[name])))
    return cells


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def work_out(puzzle: Puzzle, cells: list[str]) -> str:
    """The answer to the question's words from the cells that were read."""
    if found := re.fullmatch(r"What is in the (\w+)\?", puzzle.question):
        down = next((at for at, word in enumerate(("north", "", "south")) if word and word in found[1]), 1)
        across = next((at for at, word in enumerate(("west", "", "east")) if word and word in found[1]), 1)
        return cells[down * SIDE + across]
    if found := re.fullmatch(r"How many (\w+) discs are there\?", puzzle.question):
        return str(cells.count(found[1]))
    found = re.fullmatch(r"More (\w+) or more (\w+) discs\?", puzzle.question)
    assert found
    one, other = (cells.count(colour) for colour in found.groups())
    return "equal" if one == other else found[1] if one > other else found[2]


@pytest.mark.parametrize("hard", [False, True])
def test_answers_can_be_read_off_the_pixels(hard: bool) -> None:
    for puzzle in draw_puzzles("oracle", 90, hard=hard, orders=("mixed", "rows", "uniform")):
        cells = read_cells(puzzle.grid.png)
        assert cells == list(puzzle.grid.cells)
        assert work_out(puzzle, cells) == puzzle.answer


def test_harder_problems_are_fuller() -> None:
    def filled(hard: bool) -> float:
        grids = [puzzle.grid for puzzle in draw_puzzles("full", 60, hard=hard)]
        return float(np.mean([cell != NOTHING for grid in grids for cell in grid.cells]))

    assert filled(True) > filled(False) + 0.2


def test_puzzles_depend_on_nothing_but_their_number() -> None:
    few, many = list(draw_puzzles("a", 6)), list(draw_puzzles("a", 12))
    assert many[:6] == few
    assert list(draw_puzzles("b", 6)) != few


def test_traces_say_what_is_there_and_end_with_the_answer() -> None:
    for number, puzzle in enumerate(draw_puzzles("traces", 60)):
        for trace in (anchored_trace(puzzle, random.Random(number)), plain_trace(puzzle)):
            assert extract_answer(trace) == puzzle.answer
            said = re.findall(rf"\b({'|'.join(PLACES)}) (\w+)(?: (?:yes|no))?((?: \d)*)", trace)
            assert len(said) == (1 if puzzle.family == "where" else len(PLACES))
            for place, cell, _ in said:
                assert puzzle.grid.at(place) == cell
            if puzzle.family != "where":
                counts = [str(puzzle.grid.cells.count(colour)) for colour in puzzle.subject]
                assert said[-1][2].split() == counts
        assert is_correct(short_answer(puzzle), puzzle.answer)


def test_anchored_traces_look_back_and_plain_ones_do_not() -> None:
    puzzles = list(draw_puzzles("anchors", 60))
    anchored = [anchored_trace(puzzle, random.Random(number)) for number, puzzle in enumerate(puzzles)]
    assert all("looking back at the image" in trace and "glance" in trace for trace in anchored)
    assert all(
        "image" not in plain_trace(puzzle) and "glance" not in plain_trace(puzzle) for puzzle in puzzles
    )
    corrected = sum("I correct it" in trace for trace in anchored)
    assert 20 <= corrected <= 50  # a first glance is right a third of the time, or else by luck


# -------------------------------------------------------------------------------------------- the rows


def test_arms_of_a_seed_see_the_same_pictures_and_questions() -> None:
    plain, anchored = sft_rows(1, 60, "plain"), sft_rows(1, 60, "anchored")
    for name in ("id", "question", "system", "answer"):
        assert plain[name] == anchored[name]
    assert plain["trace"] != anchored["trace"]
    assert sft_rows(2, 60, "plain")["answer"] != plain["answer"]


@pytest.mark.parametrize("rows", [base_rows(0, 400), sft_rows(0, 400, "anchored")], ids=["base", "sft"])
def test_training_holds_several_system_prompts_each_obeyed(rows: Any) -> None:
    rules = {rule.instruction: rule for rule in RULES.values()}
    prompts = set(rows["system"])
    assert prompts == {SYSTEM, *rules}
    for system, trace in zip(rows["system"], rows["trace"], strict=True):
        assert system == SYSTEM or rules[system].obeys(trace)


def test_blindfolds_take_the_picture_and_nothing_else() -> None:
    rows = held_out_rows(12, "short")
    blank, shuffled = blindfold(rows, "blank"), blindfold(rows, "shuffled")
    for row, grey, other in zip(rows, blank, shuffled, strict=True):
        assert grey["question"] == other["question"] == row["question"]
        assert grey["answer"] == other["answer"] == row["answer"]
        assert other["images"][0]["bytes"] != row["images"][0]["bytes"]
    assert len({row["images"][0]["bytes"] for row in blank}) == 1
    assert sorted(str(row["images"]) for row in shuffled) == sorted(str(row["images"]) for row in rows)


def test_no_held_out_picture_is_trained_on() -> None:
    streams = [seeing_rows(0, 150), base_rows(0, 150), sft_rows(0, 150, "plain"), grpo_rows(0, 150)]
    trained = {row["images"][0]["bytes"] for stream in streams for row in stream.data.to_pylist()}
    assert len(trained) > 450  # ordered ones come twice
    for name in ("held_out", "hard", "choosing"):
        assert not any(row["images"][0]["bytes"] in trained for row in problems(name, 60))


def test_every_rule_meets_every_kind_of_question() -> None:
    ruled = obedience_rows(for_rules(problems("held_out", 36), 36))
    assert len({(row["rule"], row["category"]) for row in ruled}) == len(RULES) * 3
    assert len({row["id"] for row in ruled}) > 24


def test_another_world_has_another_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    before = world_mark()
    assert world_mark() == before
    monkeypatch.setattr("flows.ladder.traces._OPENINGS", ("well , ",))
    assert world_mark() != before


def test_chance_is_the_best_constant_answer() -> None:
    rows = [{"category": "a", "answer": answer} for answer in "xxy"]
    rows += [{"category": "b", "answer": answer} for answer in "xyyy"]
    assert chance(rows) == pytest.approx((2 + 3) / 7)


# ------------------------------------------------------------------------------------- the statistics


def result(right: list[int], **changes: Any) -> dict[str, Any]:
    figures = dict.fromkeys(("vas", "ratio_of_means", "image_gain"), 1.0)
    sets = dict.fromkeys(("held_out", "hard", "blank", "shuffled"), right)
    return {"right": sets, "parsed": right, "obeyed": right, "attention": figures, "start": None} | changes


FIGURES = dict.fromkeys(
    (
        *("vas", "head_averaged", "ratio_of_means", "median", "geometric_mean", "vas_without_first_token"),
        *("response_head_averaged", "response_ratio_of_means", "image_share", "system_share"),
        *("response_image_share", "response_system_share", "loss", "image_gain", "blank_gain"),
    ),
    1.0,
)


def draw(share: float, seed: int, count: int = 200) -> list[int]:
    dice = random.Random(seed)
    return [int(dice.random() < share) for _ in range(count)]


def test_three_seeds_have_students_interval() -> None:
    seeds = [result(draw(0.5, seed)) for seed in range(4)]
    means = [float(np.mean(one["right"]["held_out"])) for one in seeds]
    found = estimate(seeds, right_in("held_out"))
    expected = stats.t.interval(0.95, 3, loc=np.mean(means), scale=stats.sem(means))
    assert found.mean == pytest.approx(np.mean(means))
    assert found.interval == pytest.approx(expected)


def test_one_seed_has_an_interval_over_problems() -> None:
    right = draw(0.3, 1)
    found = estimate([result(right)], right_in("held_out"))
    spread = np.std(right) / np.sqrt(len(right))
    assert found.interval is not None
    assert found.interval == pytest.approx(
        (np.mean(right) - 1.96 * spread, np.mean(right) + 1.96 * spread), abs=0.01
    )


def test_differences_are_paired() -> None:
    hard = draw(0.5, 2)
    better = [max(value, int(place % 10 == 0)) for place, value in enumerate(hard)]
    found = difference([result(better)], [result(hard)], right_in("held_out"))
    assert found.verdict == 1  # unpaired, five points of two hundred would be noise
    assert difference([result(hard)], [result(hard)], right_in("held_out")).verdict == 0


def test_a_figure_without_problems_has_an_interval_from_three_seeds_on() -> None:
    two = [result([1], attention={"vas": value}) for value in (1.0, 3.0)]
    found = estimate_figure(two, lambda one: one["attention"]["vas"])
    assert found is not None
    assert (found.mean, found.interval) == (2.0, None)
    assert estimate_figure(two, lambda one: None) is None


# ---------------------------------------------------------------------------------------- the verdicts


def verdicts(**rungs: dict[str, Any]) -> dict[str, str]:
    claims = judge_claims({name.replace("_", "-"): [one] for name, one in rungs.items()})
    return {claim.claim: claim.verdict for claim in claims}


def test_claims_hold_fail_or_are_not_shown() -> None:
    low, high = draw(0.3, 3), draw(0.8, 4)
    found = verdicts(base=result(low), traces=result(high), paper=result(low), bounded=result(high))
    assert found["SFT on anchored traces raises accuracy over the base that it starts from"] == "held"
    assert found["The guided loss as published raises accuracy over the same SFT"] == "failed"
    assert found["The guided loss in the bounded form raises accuracy over the same SFT"] == "not shown"
    assert found["Steering without training raises accuracy"] == "not tried"


def test_no_harm_needs_more_than_no_difference() -> None:
    high, few = draw(0.8, 4), draw(0.8, 4, 10)
    claim = "The guided loss as published costs no obedience to system prompts"
    assert verdicts(traces=result(high), paper=result(high))[claim] == "held"
    worse = [value if place % 4 else 0 for place, value in enumerate(high)]
    assert verdicts(traces=result(high), paper=result(high, obeyed=worse))[claim] == "failed"
    unsure = [1 - few[0], *few[1:]]
    assert verdicts(traces=result(few), paper=result(few, obeyed=unsure))[claim] == "not shown"


def test_the_reward_is_held_against_what_it_started_from() -> None:
    low, high = draw(0.3, 3), draw(0.8, 4)
    claim = "GRPO with the visual reward raises accuracy over what it starts from"
    rungs = {"traces": result(high), "paper": result(low)}
    assert verdicts(**rungs, reward=result(high, start="paper"))[claim] == "held"
    assert verdicts(**rungs, reward=result(high, start="traces"))[claim] == "not shown"


def looked(ratio: float, **changes: Any) -> dict[str, Any]:
    """A rung that looks at the image so much."""
    return result([0, 1], attention=FIGURES | {"ratio_of_means": ratio}, **changes)


def found_claim(claim: str, **rungs: list[dict[str, Any]]) -> tuple[str, str]:
    made = judge_claims({name.replace("_", "-"): results for name, results in rungs.items()})
    return next((one.verdict, one.figures) for one in made if one.claim == claim)


def test_a_rise_of_vas_needs_an_interval_like_any_claim() -> None:
    claim = "VAS rises from base to traces"
    one = found_claim(claim, base=[looked(1.0)], traces=[looked(3.0)])
    assert one == (
        "not shown",
        "ratio of means 1 -> 3, difference +2.000, no interval from fewer than three seeds",
    )
    before, after = [looked(one) for one in (1.0, 1.1, 0.9)], [looked(one) for one in (3.0, 3.2, 2.9)]
    assert found_claim(claim, base=before, traces=after)[0] == "held"
    assert found_claim(claim, base=after, traces=before)[0] == "failed"


def test_the_reward_s_vas_is_held_against_what_it_started_from() -> None:
    rungs = {"traces": [looked(1.0)] * 3, "paper": [looked(one) for one in (5.0, 5.1, 4.9)]}
    reward = [looked(one, start="paper") for one in (5.05, 5.0, 4.95)]
    claim = "VAS rises from what reward starts from to reward"
    assert found_claim(claim, **rungs, reward=reward)[0] == "not shown"


def test_the_rival_of_the_published_weights_is_chosen_on_other_problems() -> None:
    """The best of many on the very problems that it is then measured on would be so by luck."""
    rungs = {"paper": [result(draw(0.5, 1), choosing=0.5)]}
    rungs["paper-0.15-0.015"] = [result(draw(0.9, 2), choosing=0.4)]
    rungs["paper-0.15-0.005"] = [result(draw(0.5, 3), choosing=0.6)]
    claim = next(one for one in judge_claims(rungs) if one.claim.startswith("The published weights"))
    assert claim.figures.startswith("against paper-0.15-0.005: ")
    assert claim.verdict == "not shown"


def test_gains_are_compared_on_one_kind_of_response() -> None:
    claim = "The image gain follows VAS over the rungs"
    rungs = {"base": [looked(1.0)], "plain": [looked(2.0)], "traces": [looked(3.0)], "paper": [looked(4.0)]}
    assert found_claim(claim, **rungs) == ("not tried", "2 rungs")


def test_arms_bring_what_they_start_from() -> None:
    assert [arm.name for arm in find_arms(["reward"])] == ["base", "traces", "paper", "bounded", "reward"]
    assert [arm.name for arm in find_arms(["steer"])] == ["base", "traces", "steer"]
    with pytest.raises(ConfigError, match="papre"):
        find_arms(["papre"])
    for place, name in enumerate(ARMS):
        assert set(ARMS[name].start) <= set(list(ARMS)[:place])


# ------------------------------------------------------------------------------------------- for real

TINY = {
    "seeing": {"steps": 1, "batch_size": 6},
    "base": {"steps": 2, "batch_size": 6},
    "sft": {"steps": 2, "batch_size": 6},
    "grpo": {"steps": 1, "batch_size": 4, "generations": 2, "max_new_tokens": 8},
    "student.hidden_size": 64,
    "student.layers": 2,
    "problems": 6,
    "obedience_problems": 6,
    "vas_rows": 4,
    "max_new_tokens": 8,
    "jobs": 1,
}


def test_rungs_are_trained_measured_and_reported(tmp_path: Path) -> None:
    settings = ladder_settings("cpu", None, TINY)
    heard: list[int] = []

    def run(name: str) -> dict[str, Any]:
        run_rung(tmp_path, 0, name, settings, heard.append)
        return read_result(tmp_path, 0, name) or {}

    for name in ("traces", "paper"):  # which of them is the best is not asked before `reward`
        (tmp_path / "seed-0" / name).mkdir(parents=True)
        (tmp_path / "seed-0" / name / "result.json").write_text('{"choosing": -1}')
    found = {name: run(name) for name in ("base", "bounded", "reward")}
    assert sum(heard) == (1 + 2) + 2 + 1 + 3 * measuring_batches(settings)
    assert [one["start"] for one in found.values()] == [None, "base", "bounded"]
    assert found["bounded"]["training"]["guided"] is True
    assert found["base"]["training"]["guided"] is False
    summary = summarize({name: [one] for name, one in found.items()}, problems("held_out", 6))
    for row in summary["rungs"]:
        assert set(ASKED_FOR) <= set(row)
        assert 0 <= row["parse_rate"] <= 1
        assert 0 < row["image_share"] < 1
    assert not summary["informative"]
    assert summary["claims"] == []


def test_steering_is_measured_without_training(tmp_path: Path) -> None:
    settings = ladder_settings("cpu", None, TINY)
    model, processor = build_student(settings.student, tokenizer_texts(), 0)
    save_student(model, processor, rung_folder(tmp_path, 0, "traces") / "model")
    (rung_folder(tmp_path, 0, "traces") / "result.json").write_text('{"choosing": 0}')
    run_rung(tmp_path, 0, "steer", settings, lambda count: None)
    found = read_result(tmp_path, 0, "steer") or {}
    assert found["training"] is None
    rows = held_out_rows(settings.vas_rows, "anchored")
    plain = measure_vas(model, processor, rows, gains=False).ratio_of_means
    # Attention on the image times 1.15, on the system turn times 0.6, in every layer; what follows is small.
    assert found["attention"]["ratio_of_means"] / plain == pytest.approx(1.15 / 0.6, rel=0.05)


# ------------------------------------------------------------------------------------------ the command


def test_settings_are_checked_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cpu, gpu"):
        ladder_settings("tpu", None, {})
    with pytest.raises(ConfigError, match="did you mean `problems`"):
        ladder_settings("cpu", None, {"problem": 3})
    with pytest.raises(ConfigError, match="known: base, traces"):
        ladder_settings("cpu", None, {"arms": ["papre"]})
    with pytest.raises(ConfigError, match="obedience_problems: 96 of 60 problems"):
        ladder_settings("cpu", None, {"problems": 60})
    assert ladder_settings("gpu", 5, {}).seeds == 5


def test_a_folder_holds_one_ladder(tmp_path: Path) -> None:
    claim_folder(ladder_settings("cpu", None, TINY), tmp_path / "a")
    claim_folder(
        ladder_settings("cpu", 3, TINY | {"jobs": 4, "arms": ["plain"]}), tmp_path / "a"
    )  # extends it
    with pytest.raises(ConfigError, match="other settings of problems"):
        claim_folder(ladder_settings("cpu", None, TINY | {"problems": 9}), tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="not empty"):
        claim_folder(ladder_settings("cpu", None, TINY), tmp_path / "b")


def test_a_base_at_chance_stops_the_ladder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run_nothing(out: Path, jobs: list[Job], settings: Any, reporter: Any) -> None:
        rows = problems("held_out", settings.problems)
        for job in jobs:
            asked.append(job.name)
            right = [int(row["answer"] == "nothing") for row in rows]
            folder = rung_folder(out, job.seed, job.name)
            folder.mkdir(parents=True)
            times = {"training_cpu_s": 1.0, "measuring_cpu_s": 1.0}
            write_json(folder / "result.json", result(right, attention=FIGURES) | times)

    monkeypatch.setattr("flows.ladder.run.run_jobs", run_nothing)
    found = run_ladder(ladder_settings("cpu", 3, TINY), "cpu", tmp_path / "out", ["avar", "ladder"])
    assert asked == ["base"] * 3
    assert found["informative"] is False
    page = (tmp_path / "out" / "ladder.md").read_text()
    assert "Not informative" in page
    assert "The claims" not in page


def write_rungs(out: Path, seeds: int, right: dict[str, list[int]]) -> None:
    for seed in range(seeds):
        for name, values in right.items():
            times = {"training_cpu_s": 1.0, "measuring_cpu_s": 1.0}
            made = result(values, attention=FIGURES) | times
            write_json(rung_folder(out, seed, name) / "result.json", made)


def test_a_ladder_that_is_extended_keeps_its_rungs(tmp_path: Path) -> None:
    settings = ladder_settings("cpu", None, TINY | {"problems": 30, "arms": ["plain"]})
    claim_folder(settings, tmp_path)
    write_rungs(tmp_path, 1, {"base": [1] * 30, "traces": [1] * 30, "plain": [0] * 30})
    write_rungs(tmp_path, 0, {"paper": [1] * 30})  # finished for none of the seeds
    found = run_ladder(settings, "cpu", tmp_path, ["avar", "ladder"])
    assert [row["name"] for row in found["rungs"]] == ["base", "traces", "plain"]
    claims = {claim["claim"]: claim["verdict"] for claim in found["claims"]}
    assert claims["Traces with anchors teach more than the same steps without"] == "held"


def test_two_ladders_do_not_share_a_folder(tmp_path: Path) -> None:
    settings = ladder_settings("cpu", None, TINY)
    claim_folder(settings, tmp_path)
    with locked(tmp_path), pytest.raises(ShardError, match="another avar process"):
        run_ladder(settings, "cpu", tmp_path, ["avar", "ladder"])


def test_blindness_is_shown_or_open_or_refuted() -> None:
    rows = problems("held_out", 200)
    level = chance(rows)

    def told(*blind: list[int]) -> tuple[Any, str]:
        rungs = [result([1] * 200, attention=FIGURES) for _ in blind]
        for rung, values in zip(rungs, blind, strict=True):
            rung["right"] = rung["right"] | {"blank": values, "shuffled": [0] * 200}
        summary = summarize({"base": rungs}, rows)
        return summary["rungs"][0]["needs_image"], opening(summary)[0]

    few, many = ([int(place < share * 200) for place in range(200)] for share in (level - 0.1, level + 0.3))
    needs, said = told(few)
    assert needs is True and "every rung falls to chance" in said
    needs, said = told(many)
    assert needs is False and "Above chance without the right picture: base." in said
    needs, said = told(few, few, many)  # on average above chance, with an interval that holds anything
    assert needs is True and "falls to chance" in said
    needs, said = told(few, many, many)
    assert needs is None and "Perhaps above chance without it: base." in said


def test_the_page_has_the_interval_of_every_figure() -> None:
    rungs = {"base": [result(draw(0.9, seed), attention=FIGURES) for seed in range(3)]}
    told = summarize(rungs, problems("held_out", 200))
    made = dict.fromkeys(("date", "hardware", "versions", "command"), "said") | {"cpu_minutes": 3.0}
    page = ladder_page(told | {"preset": "cpu", "seeds": [0, 1, 2], "made_with": made}, "ladder.png")
    line = next(line for line in page.splitlines() if line.startswith("| `base`"))
    assert all("(" in cell and " to " in cell for cell in line.split("|")[2:-1])


def test_a_page_names_its_claims_and_where_it_was_made(tmp_path: Path) -> None:
    low, high = draw(0.65, 3), draw(0.9, 4)
    rungs = {"base": [result(low, attention=FIGURES)], "traces": [result(high, attention=FIGURES)]}
    rungs["traces"][0]["right"] = rungs["traces"][0]["right"] | {"blank": draw(0.1, 5), "shuffled": high}
    made = dict.fromkeys(("date", "hardware", "versions", "command"), "said") | {"cpu_minutes": 3.0}
    told = summarize(rungs, problems("held_out", 200)) | {"preset": "cpu", "seeds": [0], "made_with": made}
    page = ladder_page(told, "ladder.png")
    assert "| **held** | SFT on anchored traces raises accuracy over the base that it starts from |" in page
    assert "Above chance without the right picture: base, traces." in page
    assert render(lambda figure: draw_ladder(figure, told), 9, 3).startswith(b"\x89PNG")


def test_a_rung_that_fails_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    settings = ladder_settings("cpu", None, TINY)
    job = Job(0, "bounded")  # its base is said to be finished, but its model is missing
    rung_folder(tmp_path, 0, "base").mkdir(parents=True)
    (rung_folder(tmp_path, 0, "base") / "result.json").write_text('{"choosing": 0}')
    with pytest.raises(FlowError, match=r"seed 0, bounded failed: .*base/model.*same command goes on"):
        run_jobs(tmp_path, [job], settings, Quiet())
    assert not multiprocessing.active_children()


def test_every_rung_has_a_log_of_its_own(tmp_path: Path) -> None:
    assert len({Job(0, name).log(tmp_path) for name in ARMS}) == len(ARMS)


def test_ctrl_c_while_a_rung_starts_leaves_it_not_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    class Rung:
        """A process that is started at the very moment of Ctrl-C."""

        sentinel = 7

        def start(self) -> None:
            signal.raise_signal(signal.SIGINT)

        def terminate(self) -> None:
            ended.append("terminated")

        def join(self, limit_s: float | None = None) -> None: ...

        def is_alive(self) -> bool:
            return not ended

    context = SimpleNamespace(Queue=queue.Queue, Process=lambda **about: Rung())
    monkeypatch.setattr("flows.ladder.schedule.get_context", lambda kind: context)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(tmp_path, [Job(0, "base")], ladder_settings("cpu", None, TINY), Quiet())
    assert ended == ["terminated"]


class Quiet:
    """Nobody listens."""

    def advance(self, rows: int = 1, note: str = "", *, earlier: bool = False) -> None: ...

    def note(self, text: str) -> None: ...
