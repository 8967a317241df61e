"""The effective number of image tokens against full maps, one query at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.families import FAMILIES, case
from trainer.attention import prepared
from trainer.focus import FocusTally, effective_image_tokens
from trainer.kernels import select_queries


@pytest.mark.parametrize("queries", ["user", "response"])
@pytest.mark.parametrize("name", FAMILIES)
def test_effective_tokens_are_those_of_the_maps(name: str, queries: str) -> None:
    model, inputs, regions = case(name, "left")
    with torch.no_grad(), prepared(model):
        found = effective_image_tokens(model, inputs, regions, queries)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(**inputs, use_cache=False, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    numbers = []
    for map_BHSS in maps:
        for row, query in regions.select(queries).nonzero().tolist():
            for attention in map_BHSS[row, :, query][:, regions.image[row]]:
                if attention.sum() > 0:
                    share = attention / attention.sum()
                    numbers.append(1 / float((share**2).sum()))
    assert found == pytest.approx(sum(numbers) / len(numbers), rel=1e-3)
    most = int(regions.image.sum(1).max())
    assert 1 <= found < most


def test_tokens_looked_at_alike_count_all_and_a_single_one_counts_one() -> None:
    image_BS = torch.tensor([[True, True, True, True, False]])
    selection = select_queries(torch.tensor([[False, False, False, True, True]]))
    maps_BHUN = torch.tensor([[[[0.2, 0.2, 0.2, 0.2, 0.2], [0.0, 0.0, 0.5, 0.0, 0.5]]]])
    tally = FocusTally(image_BS)
    tally.observe(0, selection, slice(0, 1), maps_BHUN[:, :, :1])
    assert tally.mean == pytest.approx(4)
    tally.observe(0, selection, slice(1, 2), maps_BHUN[:, :, 1:])
    assert tally.mean == pytest.approx((4 + 1) / 2)


def test_no_query_that_sees_an_image_gives_no_number() -> None:
    model, inputs, regions = case("internvl", "right")
    nowhere = torch.zeros_like(regions.image)
    with prepared(model):
        assert math.isnan(effective_image_tokens(model, inputs, replace(regions, image=nowhere)))
        assert math.isnan(effective_image_tokens(model, inputs, replace(regions, user=nowhere)))


@pytest.mark.parametrize("mass", [1e-3, 1e-20, 1e-30])
def test_a_small_mass_counts_as_much_as_a_large_one(mass: float) -> None:
    """The square of 1e-20 is no float32 number."""
    image_BS = torch.tensor([[True, True, True, True, False]])
    selection = select_queries(torch.tensor([[False, False, False, False, True]]))
    tally = FocusTally(image_BS)
    tally.observe(0, selection, slice(0, 1), torch.tensor([[[[mass / 4] * 4 + [1.0]]]]))
    assert tally.mean == pytest.approx(4, rel=1e-4)
