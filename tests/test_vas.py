"""The visual attention score against full maps, one query at a time."""

from __future__ import annotations

import json
import math
from statistics import mean, median
from typing import Any

import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from schemas.errors import AttentionError
from tests.tiny import make_row, new_student, picture, student
from trainer.attention import is_prepared
from trainer.messages import encode, open_image, to_messages
from trainer.regions import find_regions
from trainer.vas import band_of, measure_vas

ROWS = [make_row(index) for index in range(5)]


def swap(row: dict[str, Any], image: PIL.Image.Image) -> dict[str, Any]:
    return row | {"images": [image]}


def maps_and_loss(row: dict[str, Any]) -> tuple[torch.Tensor, Any, float, int]:
    """Maps [L, H, S, S], regions, and the summed loss and number of the response's tokens."""
    model, processor = student()
    talk = to_messages(row)
    encoded = encode(processor, [talk])
    regions = find_regions(processor, [talk], encoded)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(**encoded, output_attentions=True)
    model.set_attn_implementation("sdpa")
    targets = regions.response[0, 1:]
    losses = F.cross_entropy(out.logits[0, :-1], encoded["input_ids"][0, 1:], reduction="none")
    return torch.stack(out.attentions)[:, 0], regions, float(losses[targets].sum()), int(targets.sum())


def oracle(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {
        name: [] for name in ("row", "head", "all", "image", "system", "bare", "t_image", "unseen")
    }
    for row in rows:
        maps, regions, _, _ = maps_and_loss(row)
        image, system = regions.image[0], regions.system[0]
        first = int(regions.valid[0].nonzero()[0])
        users = regions.user[0].nonzero().flatten().tolist()
        seeing = [query for query in users if image[: query + 1].any()]
        ratios, heads, images, systems, bare = [], [], [], [], []
        for layer in range(len(maps)):
            for query in seeing:
                per_head = [
                    (float(maps[layer, h, query][image].sum()), float(maps[layer, h, query][system].sum()))
                    for h in range(maps.shape[1])
                ]
                ratios += [v / s for v, s in per_head]
                heads.append(mean(v for v, _ in per_head) / mean(s for _, s in per_head))
                images += [v for v, _ in per_head]
                systems += [s for _, s in per_head]
                for h, (v, s) in enumerate(per_head):
                    bare.append(v / (s - float(maps[layer, h, query, first])))
        answers = regions.response[0]
        found["t_image"].append(float(maps[:, :, answers][..., image].sum(-1).mean()))
        found["row"].append(mean(ratios))
        found["head"].append(mean(heads))
        found["image"].append(mean(images))
        found["system"].append(mean(systems))
        found["bare"].append(mean(bare))
        found["all"] += ratios
        found["unseen"].append((len(users) - len(seeing)) * maps.shape[0] * maps.shape[1])
    return found


def test_every_figure_is_that_of_the_full_maps() -> None:
    model, processor = student()
    report = measure_vas(model, processor, ROWS, batch_size=2)
    expected = oracle(ROWS)
    assert report.row_vas == pytest.approx(expected["row"], rel=1e-3)
    assert report.vas == pytest.approx(mean(expected["row"]), rel=1e-3)
    assert report.head_averaged == pytest.approx(mean(expected["head"]), rel=1e-3)
    ratio_of_means = mean(expected["image"]) / mean(expected["system"])
    assert report.ratio_of_means == pytest.approx(ratio_of_means, rel=1e-3)
    assert report.median == pytest.approx(median(expected["all"]), rel=0.03)
    assert report.vas_without_first_token == pytest.approx(mean(expected["bare"]), rel=1e-3)
    assert report.user_shares["image"] == pytest.approx(mean(expected["image"]), rel=1e-4)
    assert report.user_shares["system"] == pytest.approx(mean(expected["system"]), rel=1e-4)
    assert report.response_shares["image"] == pytest.approx(mean(expected["t_image"]), rel=1e-4)
    assert (report.pairs_used, report.pairs_unseen) == (len(expected["all"]), sum(expected["unseen"]))
    assert report.pairs_zero_system == 0
    assert (report.rows_used, dict(report.rows_skipped)) == (5, {})
    assert not is_prepared(model) and not model.training


def test_gains_are_differences_of_losses() -> None:
    model, processor = student()
    report = measure_vas(model, processor, ROWS, batch_size=3)
    pictures = [open_image(row["images"][0]) for row in ROWS]
    right = [maps_and_loss(row)[2:] for row in ROWS]
    tokens = sum(count for _, count in right)
    assert report.loss == pytest.approx(sum(loss for loss, _ in right) / tokens, rel=1e-5)
    others = []
    for index, row in enumerate(ROWS):
        following = [pictures[(index + step) % len(ROWS)] for step in range(1, len(ROWS))]
        other = next(image for image in following if image.tobytes() != pictures[index].tobytes())
        others.append(maps_and_loss(swap(row, other))[2])
    blanks = [maps_and_loss(swap(row, PIL.Image.new("RGB", (112, 112), (128, 128, 128))))[2] for row in ROWS]
    differences = [sum(losses) - sum(loss for loss, _ in right) for losses in (others, blanks)]
    assert report.image_gain == pytest.approx(differences[0] / tokens, rel=1e-3, abs=1e-6)
    assert report.blank_gain == pytest.approx(differences[1] / tokens, rel=1e-3, abs=1e-6)


def test_the_size_of_a_batch_changes_nothing() -> None:
    model, processor = student()
    done: list[int] = []
    one = measure_vas(model, processor, ROWS, batch_size=1, progress=done.append).to_dict()
    many = measure_vas(model, processor, ROWS, batch_size=4).to_dict()
    assert done == [1] * 5
    for name, value in one.items():
        if isinstance(value, float):
            assert many[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    assert json.loads(json.dumps(one)) == one


def test_rows_that_cannot_be_scored_are_counted() -> None:
    model, processor = student()
    rows = [ROWS[0], make_row(7, images=[]), ROWS[1]]
    report = measure_vas(model, processor, rows, gains=False)
    assert (report.rows_used, dict(report.rows_skipped)) == (2, {"no_image": 1})
    assert report.image_gain is None and report.blank_gain is None
    with pytest.raises(AttentionError, match="no row can be scored"):
        measure_vas(model, processor, rows[1:2])


def test_equal_images_give_no_image_gain() -> None:
    model, processor = student()
    rows = [make_row(index, images=[picture("red")]) for index in range(2)]
    report = measure_vas(model, processor, rows)
    assert report.image_gain is None and report.blank_gain is not None


def test_looking_away_lowers_the_score() -> None:
    model, processor = new_student()
    before = measure_vas(model, processor, ROWS, gains=False)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.q_proj.weight.zero_()
            layer.self_attn.q_proj.bias.zero_()
    after = measure_vas(model, processor, ROWS[:1], gains=False)
    _, regions, _, _ = maps_and_loss(ROWS[0])
    uniform = int(regions.image.sum()) / int(regions.system.sum())
    assert after.vas == pytest.approx(uniform, rel=1e-4), "uniform attention is shared out by number"
    assert before.vas != pytest.approx(uniform, rel=0.01)


@pytest.mark.parametrize(
    ("vas", "band"),
    [
        (0.0, "narrow"),
        (9.99, "narrow"),
        (10.0, "wide"),
        (15.0, "wide"),
        (15.1, "panoramic"),
        (math.inf, "panoramic"),
    ],
)
def test_bands_are_the_papers(vas: float, band: str) -> None:
    assert band_of(vas) == band
