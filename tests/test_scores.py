"""The score's further figures against full maps, and bootstrap intervals against scipy's."""

from __future__ import annotations

import math
from functools import cache
from statistics import mean, median
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from tests.test_vas import maps_and_loss
from tests.tiny import make_row, student
from trainer.attention import steering
from trainer.bootstrap import ratio_interval
from trainer.messages import to_messages
from trainer.recorder import Recorder
from trainer.regions import Regions
from trainer.tallies import FLOOR, RatioTally, ShareTally
from trainer.vas import VasReport, measure_vas

ROWS = [
    make_row(index, trace=f"<think>{'I look again. ' * (3 * index + 1)}</think><answer>2</answer>")
    for index in range(4)
]


@cache
def report() -> VasReport:
    model, processor = student()
    return measure_vas(model, processor, ROWS, batch_size=3)


@cache
def pairs(queries: str) -> list[list[dict[str, Any]]]:
    """For each row, every (layer, head, query) that sees the image, with its masses and its position."""
    found = []
    for row in ROWS:
        maps, regions, _, _ = maps_and_loss(row)
        image, system = regions.image[0], regions.system[0]
        first_image = int(image.nonzero()[0])
        asked = regions.select(queries)[0].nonzero().flatten().tolist()
        found.append(
            [
                {
                    "layer": layer,
                    "head": head,
                    "position": position,
                    "image": float(maps[layer, head, query][image].sum()),
                    "system": float(maps[layer, head, query][system].sum()),
                    "tokens": int(image.sum()),
                }
                for layer in range(maps.shape[0])
                for head in range(maps.shape[1])
                for position, query in enumerate(asked)
                if query > first_image
            ]
        )
    return found


def over_rows(queries: str, value: Any, keep: Any = lambda pair: True) -> float:
    """Mean over a row's pairs, then over rows."""
    return mean(mean(value(pair) for pair in row if keep(pair)) for row in pairs(queries))


def ratio(pair: dict[str, Any]) -> float:
    return pair["image"] / pair["system"]


def test_geometric_mean_is_that_of_the_maps() -> None:
    expected = math.exp(over_rows("user", lambda pair: math.log(ratio(pair))))
    assert report().geometric_mean == pytest.approx(expected, rel=1e-3)
    assert (report().floor, report().pairs_floored) == (FLOOR, 0)


def test_response_ratios_are_those_of_the_maps() -> None:
    found = report().response
    assert found is not None
    assert found.vas == pytest.approx(over_rows("response", ratio), rel=1e-3)
    assert found.geometric_mean == pytest.approx(
        math.exp(over_rows("response", lambda pair: math.log(ratio(pair)))), rel=1e-3
    )
    means = [over_rows("response", lambda pair, name=name: pair[name]) for name in ("image", "system")]
    assert found.ratio_of_means == pytest.approx(means[0] / means[1], rel=1e-3)
    everything = [ratio(pair) for row in pairs("response") for pair in row]
    assert found.median == pytest.approx(median(everything), rel=0.03)
    assert found.pairs_used == len(everything)


def test_head_maps_are_those_of_the_maps() -> None:
    heads = report().heads
    for layer in range(2):
        for head in range(2):
            here = lambda pair: (pair["layer"], pair["head"]) == (layer, head)  # noqa: B023, E731
            for name, queries, value in [
                ("vas", "user", ratio),
                ("user_image", "user", lambda pair: pair["image"]),
                ("user_system", "user", lambda pair: pair["system"]),
                ("response_image", "response", lambda pair: pair["image"]),
                ("response_system", "response", lambda pair: pair["system"]),
            ]:
                expected = over_rows(queries, value, here)
                assert getattr(heads, name)[layer][head] == pytest.approx(expected, rel=1e-3), name


def test_share_per_image_token_is_the_share_over_their_number() -> None:
    for queries in ("user", "response"):
        expected = over_rows(queries, lambda pair: pair["image"] / pair["tokens"])
        assert getattr(report(), f"{queries}_share_per_image_token") == pytest.approx(expected, rel=1e-3)
    assert report().image_tokens == 16


def test_the_curve_along_the_response_is_that_of_the_maps() -> None:
    curve = report().along_response
    assert [stretch["start"] for stretch in curve[1:]] == [stretch["stop"] for stretch in curve[:-1]]
    assert curve[0]["start"] == 0
    assert len(curve) <= 32
    flat = [pair for row in pairs("response") for pair in row]
    pairs_a_query = 4  # two layers of two heads
    for stretch in curve:
        inside = [pair for pair in flat if stretch["start"] <= pair["position"] < stretch["stop"]]
        assert stretch["queries"] == len(inside) / pairs_a_query
        assert stretch["image"] == pytest.approx(mean(pair["image"] for pair in inside), rel=1e-3)
        assert stretch["system"] == pytest.approx(mean(pair["system"] for pair in inside), rel=1e-3)
    assert sum(stretch["queries"] for stretch in curve) == len(flat) / pairs_a_query
    weighed = sum(stretch["vas"] * stretch["queries"] for stretch in curve)
    assert weighed / (len(flat) / pairs_a_query) > 0


def test_positions_of_a_row_start_at_its_own_first_query() -> None:
    """Two rows of unlike places: the k-th wanted query of each is at position k."""
    queries_BS = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]).bool()
    labels_BS = torch.tensor([[2, 3, 5, 5, 5], [3, 5, 5, 0, 0]], dtype=torch.int8)
    recorder = Recorder(Regions.from_labels(labels_BS), [0])
    mass_BHSC = torch.zeros(2, 1, 5, 4)
    mass_BHSC[0, 0, 2:, 1], mass_BHSC[1, 0, 1:3, 1] = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6])
    recorder.masses[0], recorder.visible[0] = mass_BHSC, torch.ones(2, 5, 4).bool()
    tally = ShareTally()
    rows_BC = tally.add(recorder, queries_BS)
    assert rows_BC[:, 1].tolist() == pytest.approx([0.2, 0.55])
    assert [stretch["image"] for stretch in tally.along(3)] == pytest.approx([0.3, 0.4, 0.3])
    assert [stretch["queries"] for stretch in tally.along(3)] == [2, 2, 1]


def test_masses_of_nothing_are_floored_and_counted() -> None:
    labels_BS = torch.tensor([[2, 3, 4]], dtype=torch.int8)
    recorder = Recorder(Regions.from_labels(labels_BS), [0])
    recorder.masses[0] = torch.tensor([[[[0, 0, 0, 0], [0, 0, 0, 0], [0.5, 0.0, 0, 0]]]])
    recorder.visible[0] = torch.ones(1, 3, 4).bool()
    tally = RatioTally()
    rows = tally.add(recorder, labels_BS == 4)
    assert (float(rows.mean[0]), tally.floored, tally.pairs) == (0.0, 1, 1)
    assert math.exp(float(rows.log_mean[0])) == pytest.approx(FLOOR / 0.5)


def test_intervals_hold_their_figures() -> None:
    found = report()
    for name in (
        "vas",
        "head_averaged",
        "ratio_of_means",
        "geometric_mean",
        "image_gain",
        "blank_gain",
        "loss",
    ):
        interval = found.intervals[name]
        assert interval is not None and interval[0] <= getattr(found, name) <= interval[1], name
    shares = found.intervals["image_share"]
    assert shares is not None and shares[0] <= found.user_shares["image"] <= shares[1]
    assert len(found.rows) == len(found.row_vas) == len(found.row_gain) == 4
    assert [row.id for row in found.rows] == [row["id"] for row in ROWS]
    gains = [row.image_gain * row.response_tokens for row in found.rows if row.image_gain is not None]
    tokens = sum(row.response_tokens for row in found.rows)
    assert found.image_gain == pytest.approx(sum(gains) / tokens)


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_are_scipys(paired: bool) -> None:
    dice = np.random.default_rng(5)
    over, under = dice.lognormal(size=60), dice.uniform(1, 3, size=60)
    found = ratio_interval(over.tolist(), under.tolist() if paired else None)
    assert found is not None
    data = (over, under) if paired else (over, np.ones(60))
    expected = scipy.stats.bootstrap(
        data,
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=dice,
    ).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx((expected.low, expected.high), abs=0.1 * width)


def test_one_row_has_no_interval() -> None:
    assert ratio_interval([1.0]) is None
    model, processor = student()
    alone = measure_vas(model, processor, ROWS[:1], gains=False)
    assert alone.intervals["vas"] is None
    with pytest.raises(ValueError, match="2 numerators for 1 denominators"):
        ratio_interval([1.0, 2.0], [1.0])


def test_a_row_without_a_system_turn_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = student()

    def without_system(row: Any, with_response: bool = True) -> Any:
        talk = to_messages(row, with_response)
        return talk[1:] if row["id"] == ROWS[1]["id"] else talk

    monkeypatch.setattr("trainer.vas.to_messages", without_system)
    found = measure_vas(model, processor, ROWS, gains=False)
    assert (found.rows_used, dict(found.rows_skipped)) == (3, {"no_system_turn": 1})
    assert found.rows[1].vas is None and found.rows[1].loss is not None


def test_a_steered_measurement_says_so() -> None:
    model, processor = student()
    with steering(model, image=0.5, system=0.5):
        steered = measure_vas(model, processor, ROWS)
    assert report().steering is None
    assert steered.steering == {"image": 0.5, "system": 0.5, "renormalise": False}
    assert steered.ratio_of_means > 2 * report().ratio_of_means
    assert steered.image_gain != report().image_gain
