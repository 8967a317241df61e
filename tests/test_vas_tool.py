"""`avar vas`: what it prints, draws and writes, and its mistakes."""

from __future__ import annotations

import io
import json
import math
import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
from rich.console import Console
from scipy import stats

from flows import train
from flows.vas.correlation import correlate, read_accuracy
from flows.vas.figures import draw_figures
from flows.vas.output import output_folder
from flows.vas.page import render_page
from flows.vas.run import VasRun, VasSettings, name_models, parse_layers, run_vas
from flows.vas.tables import print_run
from flows.vas.words import cautions, left_out, say_together, show_ratio
from schemas.errors import AttentionError, AvarError, ConfigError, ShardError
from schemas.shards import STAGING, DatasetWriter
from tests.conftest import avar  # with own_prefect: no server is needed here, and so none is started
from tests.tiny import make_dataset, make_row, new_student
from trainer import checkpoints
from trainer.scores import HeadMaps, VasReport

ROWS = 6
FIGURES = ("shares", "along_response", "heads", "rows", "gain")
HOSTILE = "<script>alert('x')</script>"
ACCURACY = {"a": 40, "b": 60.5, "c": 50}


def write_dataset(root: Path, split: str = "validation", **changes: Any) -> Path:
    with DatasetWriter(root) as writer:
        for index in range(ROWS):
            writer.write(split, make_row(index, **changes))
    return root


@dataclass(frozen=True)
class Measured:
    """Three models that were measured together, and where everything lies."""

    folder: Path
    data: Path
    models: tuple[str, ...]
    out: Path
    run: VasRun
    alive: tuple[int, ...]  # models still in memory whenever another was loaded


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    folder = tmp_path_factory.mktemp("vas")
    models = tuple(
        str(checkpoints.save_student(*new_student(seed), folder / "models" / name))
        for seed, name in enumerate("abc")
    )
    data = write_dataset(folder / "data")
    (folder / "accuracy.json").write_text(json.dumps(ACCURACY))
    seen, alive, load = [], [], checkpoints.load_model

    def watched(path: str) -> Any:
        alive.append(sum(model() is not None for model in seen))
        loaded = load(path)
        seen.append(weakref.ref(loaded[0]))
        return loaded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "load_model", watched)
        run = run_vas(
            models, data, VasSettings(), accuracy=folder / "accuracy.json", out=folder / "out" / "vas"
        )
    yield Measured(folder, data, models, folder / "out" / "vas", run, tuple(alive))


@pytest.fixture(scope="module")
def report(measured: Measured) -> VasReport:
    return measured.run.reports["a"]


def without_answers(report: VasReport) -> VasReport:
    """A report of rows without a response, and with heads that saw nothing."""
    nothing = dict.fromkeys(report.response_shares, math.nan)
    empty = [[math.nan] * 2] * 2
    names = [field.name for field in fields(report.rows[0]) if field.name.startswith("response_")]
    blank = dict.fromkeys([*names, "loss", "image_gain", "blank_gain"]) | {"response_tokens": 0}
    return replace(
        report,
        **dict.fromkeys(("response", "loss", "image_gain", "blank_gain")),
        response_shares=nothing,
        response_share_per_image_token=math.nan,
        along_response=[],
        heads=HeadMaps(**{field.name: empty for field in fields(HeadMaps)}),
        intervals=dict.fromkeys(report.intervals),
        rows=tuple(replace(row, **blank) for row in report.rows),
    )


def one_model(measured: Measured, report: VasReport, name: str = "a") -> VasRun:
    return replace(measured.run, paths={name: f"/m/{name}"}, reports={name: report}, correlation=None)


# ------------------------------------------------------------------------------------------ the command


def test_one_model_by_the_command(measured: Measured, tmp_path: Path) -> None:
    model = measured.models[1]
    ran = avar(
        *("vas", model, measured.data, "--json", "--out", tmp_path / "new" / "out", "--layers", "1"),
        *("--batch-size", "3", "--limit", "4"),
        own_prefect=True,
    )
    assert ran.code == 0, ran.err
    found = ran.last_json
    assert {field.name for field in fields(VasReport)} | {"model"} == set(found)
    assert found["model"] == model
    assert (found["layers"], found["rows_used"], len(found["rows"])) == ([1], 4, 4)
    assert json.loads((tmp_path / "new/out/vas.json").read_text())["models"]["b"] == found
    assert "VAS: 4/4" in ran.err


def test_no_row_that_can_be_scored_is_one_line(measured: Measured, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", split="train", images=[])
    ran = avar("vas", measured.models[0], data, "--out", tmp_path / "out", own_prefect=True)
    assert ran.code == 1
    assert [line for line in ran.err.splitlines() if not line.startswith("VAS:")] == [
        "avar: a: no row can be scored ({'no_image': 6}): the score needs an image and a system turn"
    ]
    assert not (tmp_path / "out").exists()


def test_bad_layers_by_the_command(measured: Measured) -> None:
    ran = avar("vas", measured.models[0], measured.data, "--layers", "3-1", own_prefect=True)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "avar: --layers '3-1': '3-1' is no layer or range; write for example 0-3,7\n"


# ---------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("models", "data", "changes", "kind", "words"),
    [
        (["a"], "data", {"layers": (0, 9)}, ConfigError, "has no layer 9: it has 0 to 1"),
        (["a", "b", "nosuch"], "data", {}, ConfigError, "models/nosuch': cannot be opened"),
        (["a", "b", "a"], "data", {}, ConfigError, "models/a' is named twice"),
        (["a"], "none", {}, ShardError, "no such folder"),
        (["a"], "empty", {}, ShardError, "split is empty"),
        (["a", "b"], "data", {"accuracy": "accuracy.json"}, ConfigError, "at least 3 models, here are 2"),
        (["a", "b", "c"], "data", {"accuracy": "none.json"}, ConfigError, "none.json: cannot be read"),
        (["a"], "data", {"out": "data"}, ConfigError, "not a result of avar vas; choose another --out"),
    ],
)
def test_mistakes_come_before_the_work(
    measured: Measured,
    monkeypatch: pytest.MonkeyPatch,
    models: list[str],
    data: str,
    changes: dict[str, Any],
    kind: type[AvarError],
    words: str,
) -> None:
    monkeypatch.setattr(checkpoints, "load_model", lambda path: pytest.fail(f"loaded {path}"))
    with DatasetWriter(measured.folder / "empty"):
        pass
    given = {
        name: measured.folder / changes[name] if name in changes else None for name in ("accuracy", "out")
    }
    with pytest.raises(kind, match=re.escape(words)) as caught:
        run_vas(
            [str(measured.folder / "models" / name) for name in models],
            measured.folder / data,
            VasSettings(layers=changes.get("layers")),
            **given,
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 40, "b": 50, "x": 1}', "no accuracy for 'c'; it has a, b, x"),
        ("{}", "no accuracy for 'a'; it has none"),
        ('{"a": 40, "b": 50, "c": "60"}', "'c': '60' is no accuracy in percent, 0 to 100"),
        ('{"a": 40, "b": 50, "c": 101}', "'c': 101 is no accuracy"),
        ('{"a": 40, "b": 50, "c": NaN}', "'c': nan is no accuracy"),
        ('{"a": 40, "b": 50, "c": true}', "'c': True is no accuracy"),
        ('{"a": 0.4, "b": 0.5, "c": 0.6}', "write percent (62.5), not fractions (0.625)"),
        ('{"a": 40, "b": 40, "c": 40}', "all accuracies are 40: r needs two that differ"),
        ("[40, 50, 60]", "not an object of accuracies"),
        ('{"a": 40', "not JSON"),
    ],
)
def test_a_file_of_accuracies_that_cannot_be_used(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_accuracy(tmp_path / "x.json", {name: f"models/{name}" for name in "abc"})


def test_accuracies_are_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"models/a": 40, "b": 50, "c": 60, "further": 70}')
    models = {name: f"models/{name}" for name in "abc"}
    assert read_accuracy(tmp_path / "x.json", models) == {"a": 40.0, "b": 50.0, "c": 60.0}


@pytest.mark.parametrize(
    ("text", "layers"), [("0-3,7", (0, 1, 2, 3, 7)), ("5", (5,)), (" 2 , 1-1,2", (1, 2))]
)
def test_layers_are_read(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "0-99999999", "1.5", "²"])
def test_what_is_no_layer(text: str) -> None:
    with pytest.raises(ConfigError, match="is no layer or range"):
        parse_layers(text)


def test_models_have_short_names_where_those_are_unique() -> None:
    assert name_models(["runs/x/guided", "hub/Model-7B/"]) == {
        "guided": "runs/x/guided",
        "Model-7B": "hub/Model-7B/",
    }
    assert list(name_models(["x/guided", "y/guided", "z"])) == ["x/guided", "y/guided", "z"]
    assert list(name_models(["a\x1b[31m\nb"])) == ["a\N{REPLACEMENT CHARACTER}[31m b"]


# ------------------------------------------------------------------------------------------ the measuring


def test_models_are_in_memory_one_at_a_time(measured: Measured) -> None:
    assert measured.alive == (0, 0, 0)


def test_rows_stay_on_disk_until_they_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr("trainer.vas.measure_vas", lambda _model, _processor, rows, **_: given.append(rows))
    train.score(None, None, make_dataset(3), 2, "VAS")
    assert isinstance(given[0], datasets.Dataset) and len(given[0]) == 2


def test_several_models_are_written_side_by_side(measured: Measured) -> None:
    files = {str(path.relative_to(measured.out)) for path in measured.out.rglob("*") if path.is_file()}
    drawn = {f"figures/{name}.png" for name in (*FIGURES, "correlation")}
    assert files == {"vas.json", "index.html"} | drawn
    written = json.loads((measured.out / "vas.json").read_text())
    assert {name: written[name] for name in ("models", "correlation")} == json.loads(
        json.dumps(measured.run.summary())
    )
    assert list(written["models"]) == ["a", "b", "c"]
    settings = {"limit": 200, "batch_size": 8, "split": "validation", "layers": None, "gains": True}
    assert written["settings"] == settings
    assert (written["split"], written["rows"]) == ("validation", ROWS)
    assert written["correlation"]["accuracy"] == ACCURACY
    assert set(written["versions"]) == {"avar", "torch", "transformers"}


def test_r_is_that_of_scipy() -> None:
    dice = np.random.default_rng(0)
    vas = {str(number): float(dice.uniform(5, 20)) for number in range(9)}
    accuracy = {name: 40 + score + float(dice.normal()) for name, score in vas.items()}
    found = correlate(vas, accuracy)
    pearson: Any = stats.pearsonr(list(vas.values()), list(accuracy.values()))
    spearman: Any = stats.spearmanr(list(vas.values()), list(accuracy.values()))
    assert (found.pearson_r, found.pearson_p) == (pearson.statistic, pearson.pvalue)
    assert (found.spearman_rho, found.spearman_p) == (spearman.statistic, spearman.pvalue)
    assert found.pearson_interval == pytest.approx(tuple(pearson.confidence_interval()))
    equal = correlate(dict.fromkeys("abc", 1.0), ACCURACY)
    assert (equal.models, equal.pearson_r, equal.pearson_p, equal.spearman_rho) == (3, None, None, None)


# ---------------------------------------------------------------------------------------------- the folder


def fill(out: Path, text: str) -> None:
    with output_folder(out) as staging:
        (staging / "figures").mkdir()
        (staging / "figures" / f"{text}.png").write_text(text)
        for name in ("index.html", "vas.json"):
            (staging / name).write_text(json.dumps({"format": "avar vas 1", "text": text}))


def test_a_result_replaces_an_earlier_one_whole(tmp_path: Path) -> None:
    for text in ("first", "second"):
        fill(tmp_path / "out", text)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures", "index.html", "vas.json"]
    assert [path.name for path in (tmp_path / "out/figures").iterdir()] == ["second.png"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        with pytest.raises(AttentionError), output_folder(out) as staging:
            (staging / "vas.json").write_text("half")
            raise AttentionError("no")

    fail(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    fill(tmp_path / "out", "first")
    fail(tmp_path / "out")
    assert json.loads((tmp_path / "out/vas.json").read_text())["text"] == "first"


def test_what_a_kill_left_behind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out" / STAGING / "figures").mkdir(parents=True)
    fill(tmp_path / "out", "again")
    assert not (tmp_path / "out" / STAGING).exists()


@pytest.mark.parametrize(
    "files",
    [{"notes.txt": ""}, {"index.html": ""}, {"vas.json": "{}"}, {"vas.json": "mine"}, {"figures/a.csv": ""}],
    ids=str,
)
def test_nothing_of_anyone_elses_is_replaced(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="choose another --out"):
        fill(tmp_path, "new")
    assert all((tmp_path / name).read_text() == text for name, text in files.items())


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="choose another --out"):
        fill(tmp_path / "file", "new")
    with pytest.raises(ShardError, match="cannot write here"):
        fill(tmp_path / "file" / "below", "new")


# --------------------------------------------------------------------------------------------- the figures


def test_figures_are_pictures_of_the_data(measured: Measured, report: VasReport) -> None:
    many = draw_figures(measured.run.reports, measured.run.correlation)
    one, again = (draw_figures({"a": report}) for _ in range(2))
    assert tuple(many) == (*FIGURES, "correlation") and tuple(one) == FIGURES
    for png in (*many.values(), *one.values()):
        image = PIL.Image.open(io.BytesIO(png))
        assert image.format == "PNG" and 800 < image.width < 1300 and 250 < image.height < 3000
        assert len(image.convert("RGB").getcolors(2**24) or ()) > 20, "drawn on"
        assert b"Software" not in png and b"tIME" not in png
    assert one == again
    other = draw_figures({"a": measured.run.reports["b"]})
    assert all(one[name] != other[name] for name in FIGURES)


def test_any_name_can_be_drawn(report: VasReport) -> None:
    names = ("$\\frac{", "_hidden", "$a$", "数\udc80", "x" * 300)
    figures = draw_figures(dict.fromkeys(names, report) | {"b": without_answers(report)})
    assert tuple(figures) == FIGURES


def test_figures_without_data_are_left_out(report: VasReport) -> None:
    bare = without_answers(report)
    assert tuple(draw_figures({"a": bare})) == ("shares", "heads", "rows")
    odd = replace(
        bare, vas=math.inf, rows=(replace(bare.rows[0], vas=0.0), replace(bare.rows[1], vas=math.inf))
    )
    assert draw_figures({"a": odd})["rows"] != draw_figures({"a": bare})["rows"]


# ------------------------------------------------------------------------------------------------ the page


def test_the_page_asks_nothing_of_anyone_and_obeys_nobody(measured: Measured, report: VasReport) -> None:
    rows = tuple(replace(row, id=f"{HOSTILE}&{number}") for number, row in enumerate(report.rows))
    run = one_model(measured, replace(report, rows=rows), HOSTILE)
    run = replace(
        run,
        dataset=HOSTILE,
        reports={HOSTILE: run.reports[HOSTILE], "b": report},
        paths={HOSTILE: "", "b": ""},
    )
    page = render_page(run, draw_figures(run.reports), date(2026, 1, 2))
    assert "<script" not in page and "&lt;script&gt;" in page
    addresses = re.findall(
        r"""(?:src|href|action|data)\s*=\s*["']?([^"'>\s]{0,30})|url\(([^)]*)\)|@import""", page
    )
    assert len(addresses) == len(FIGURES)
    assert all(address.startswith("data:image/png;base64,") for address, _ in addresses)
    assert not re.search(r"https?:", page)
    assert "2026-01-02" in page


def test_the_page_says_what_is_not_defined(measured: Measured, report: VasReport) -> None:
    bare = replace(without_answers(report), rows_skipped={"no_system_turn": 2}, pairs_floored=7)
    run = one_model(measured, bare)
    page = render_page(run, draw_figures(run.reports), date(2026, 1, 2))
    text = re.sub(r"data:[^\"]*|<style>.*?</style>", "", page, flags=re.S)
    assert not re.search(r"\b(nan|None|inf)\b", text)
    assert "No row has a response" in text and "2 rows without a system turn left out" in text
    assert "by VAS" in text and 'class="number">-<' in text
    assert "transformers" in text and "measured" in text


# ------------------------------------------------------------------------------------------------ the words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vas": 10.0, "ratio_of_means": 2.0}, "VAS is 5 times the ratio of means"),
        ({"vas": 5.0, "ratio_of_means": 2.0}, None),
        ({"intervals": {"vas": (1, 2), "image_gain": (-0.1, 0.1)}}, "no sign that the model uses the image"),
        ({"intervals": {"vas": (1, 2), "image_gain": (0.1, 0.2)}}, None),
        ({"intervals": {"vas": (1, 2), "image_gain": (-0.2, -0.1)}}, "serves the model better"),
        ({"intervals": {"vas": None, "image_gain": (0.1, 0.2)}}, "One row alone"),
        ({"image_gain": None}, "All images are equal"),
        ({"image_gain": None, "blank_gain": None}, "Image gain was not measured"),
        ({"image_gain": None, "blank_gain": None, "loss": None}, "No row has a response"),
    ],
)
def test_what_is_to_be_read_with_care(report: VasReport, changes: dict[str, Any], words: str | None) -> None:
    calm = {"vas": 1.0, "ratio_of_means": 1.0, "intervals": {"vas": (1, 2), "image_gain": (0.1, 0.2)}}
    said = cautions(replace(report, **(calm | changes)))
    assert (words is None and not said) or (words or "") in " ".join(said)
    assert len(said) == (words is not None)


def test_what_was_left_out_is_said_with_its_reason(report: VasReport) -> None:
    skipped = {"no_system_turn": 2, "no_question": 1, "image_not_visible": 3, "no_image": 1, "new_reason": 4}
    counts = {"pairs_unseen": 1234, "pairs_zero_system": 1, "pairs_floored": 5, "pairs_used": 6000}
    said = left_out(replace(report, rows_skipped=skipped, floor=1e-6, **counts))
    assert said == [
        "2 rows without a system turn left out: they have no ratio.",
        "1 row without a question left out: it has no question token.",
        "3 rows left out: they have no question token that sees the image.",
        "1 row without an image left out: it has nothing to look at.",
        "4 rows left out: new_reason.",
        "1,234 pairs of layer, head and question token left out: the token cannot see the image or the "
        "system prompt.",
        "1 pair left out: exactly no attention on the system prompt.",
        "Floor of attention in the geometric mean: 1e-06; it touched 5 of 6,000 pairs.",
    ]


def test_a_sentence_about_all_models_is_said_once(report: VasReport) -> None:
    told = {"a": ["same", "own"], "b": ["same"]}
    reports = {name: replace(report, layers=(len(told[name]),)) for name in told}
    said = say_together(reports, lambda one: told["a" if one.layers == (2,) else "b"])
    assert said == ["same", "a: own"]


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_shows_every_model_in_full(measured: Measured, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    print_run(console, measured.run, Path("out"))
    text = console.export_text()
    assert "3 models on 6 rows of" in text and "Pearson's r = " in text and "Page: out/index.html" in text
    for report in measured.run.reports.values():
        assert show_ratio(report.vas, report.intervals["vas"]) in text
        assert f"{report.user_shares['image']:.1%}" in text


def test_a_terminal_shows_what_is_not_defined(measured: Measured, report: VasReport) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    print_run(console, one_model(measured, without_answers(report)), None)
    text = console.export_text()
    assert re.search(r"^image gain +-", text, re.M) and re.search(
        r"^band +panoramic \(above 15\)", text, re.M
    )
    assert "nan" not in text and "None" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "inf"),
        (0.0, "0"),
        (0.00042, "4.20e-04"),
        (0.2174, "0.217"),
        (7.5, "7.50"),
        (18.94, "18.9"),
        (121.16, "121"),
        (1469.2, "1,469"),
        (5e8, "5.00e+08"),
    ],
)
def test_ratios_have_about_three_digits(value: float | None, shown: str) -> None:
    assert show_ratio(value) == shown
