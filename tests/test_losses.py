"""The attention-guided loss against its equations written as loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from schemas.errors import AttentionError
from trainer.losses import EPS, attention_guided_loss
from trainer.regions import Regions

LAYERS, HEADS = 3, 2
# 0 padding, 1 other, 2 system, 3 image, 4 user, 5 response
ROWS = {
    "ordinary": [2, 2, 2, 4, 1, 3, 3, 3, 1, 4, 4, 1, 5, 5],
    "left padded": [0, 0, 0, 2, 2, 1, 3, 3, 1, 4, 4, 1, 5, 5],
    "no image": [2, 2, 2, 4, 4, 4, 4, 4, 4, 1, 5, 5, 0, 0],
    "no system": [4, 1, 3, 3, 3, 1, 4, 4, 4, 4, 1, 5, 5, 5],
    "image after the question": [2, 2, 4, 4, 1, 3, 3, 3, 3, 1, 1, 5, 5, 5],
    "no question": [2, 2, 1, 3, 3, 3, 3, 1, 1, 5, 5, 5, 0, 0],
}


def regions_of(*names: str) -> Regions:
    return Regions.from_labels(torch.tensor([ROWS[name] for name in names], dtype=torch.int8))


def random_masses(regions: Regions, seed: int) -> dict[int, Tensor]:
    """Masses of random causal attention maps."""
    dice = torch.Generator().manual_seed(seed)
    rows, tokens = regions.valid.shape
    allowed_BSS = torch.ones(tokens, tokens, dtype=torch.bool).tril() & regions.valid[:, None]
    masses = {}
    for layer in range(LAYERS):
        logits_BHSS = 3 * torch.randn(rows, HEADS, tokens, tokens, generator=dice)
        maps_BHSS = logits_BHSS.masked_fill(~allowed_BSS[:, None], -1e9).softmax(-1)
        masses[layer] = (maps_BHSS @ regions.columns.float()[:, None]).requires_grad_()
    return masses


def oracle(
    masses: dict[int, Tensor], regions: Regions, form: str, queries: str, target: float, floor: float
) -> tuple[float, float]:
    """(L_enhance, L_suppress), one query, head, layer and row at a time."""
    totals = [0.0, 0.0]
    rows, tokens = regions.valid.shape
    for row in range(rows):
        asked = [q for q in range(tokens) if any(getattr(regions, n)[row, q] for n in queries.split("+"))]
        keys = [[k for k in range(tokens) if mask[row, k]] for mask in (regions.image, regions.system)]
        for term, column in enumerate((1, 0)):
            sees = [q for q in asked if any(k <= q for k in keys[term])]
            if form == "bounded" and keys[0]:
                sees = [q for q in sees if any(k <= q for k in keys[0])]
            if not sees:
                continue
            losses = []
            for mass_BHSC in masses.values():
                for head in range(HEADS):
                    share = sum(float(mass_BHSC.detach()[row, head, q, column]) for q in sees) / len(sees)
                    if form == "paper":
                        per_key = share / len(keys[term])
                        losses.append(-math.log(per_key) if term == 0 else math.log(per_key + EPS))
                    elif term == 0:
                        losses.append(max(0.0, math.log(target / share)) ** 2 / 2)
                    else:
                        losses.append(max(0.0, math.log((share + EPS) / (floor + EPS))) ** 2 / 2)
            totals[term] += sum(losses) / len(losses)
    return totals[0] / rows, totals[1] / rows


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(list(ROWS)), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    form=st.sampled_from(["paper", "bounded"]),
    queries=st.sampled_from(["user", "response", "user+response"]),
)
def test_loss_is_the_equation(names: list[str], seed: int, form: Any, queries: Any) -> None:
    regions = regions_of(*names)
    masses = random_masses(regions, seed)
    loss, parts = attention_guided_loss(
        masses, regions, 0.3, 0.7, queries=queries, form=form, image_target=0.4, system_floor=0.2
    )
    enhance, suppress = oracle(masses, regions, form, queries, target=0.4, floor=0.2)
    assert parts.enhance.item() == pytest.approx(enhance, rel=1e-4, abs=1e-6)
    assert parts.suppress.item() == pytest.approx(suppress, rel=1e-4, abs=1e-6)
    assert loss.item() == pytest.approx(0.3 * enhance + 0.7 * suppress, rel=1e-4, abs=1e-6)
    loss.backward()
    assert all(mass.grad is None or mass.grad.isfinite().all() for mass in masses.values())


@pytest.mark.parametrize(
    ("name", "queries", "image", "system"),
    [
        ("no image", 0, 1, 0),
        ("no system", 0, 0, 1),
        ("no question", 1, 1, 1),
        ("image after the question", 0, 1, 1),
    ],
)
def test_what_a_sequence_lacks_adds_zero_and_is_counted(
    name: str, queries: int, image: int, system: int
) -> None:
    both = regions_of("ordinary", name)
    masses = random_masses(both, 0)
    _, parts = attention_guided_loss(masses, both, 1, 1)
    assert (parts.sequences, parts.without_queries) == (2, queries)
    assert (parts.without_image, parts.without_system) == (image, system)
    alone = {layer: mass[:1] for layer, mass in masses.items()}
    _, ordinary = attention_guided_loss(alone, regions_of("ordinary"), 1, 1)
    if image:
        assert parts.enhance.item() == pytest.approx(ordinary.enhance.item() / 2)
    if system:
        assert parts.suppress.item() == pytest.approx(ordinary.suppress.item() / 2)


def test_bounded_form_lets_go_at_its_bounds() -> None:
    regions = regions_of("ordinary")
    masses = {0: torch.zeros(1, HEADS, 14, 4)}
    masses[0][..., 1], masses[0][..., 0] = 0.5, 0.2
    masses[0].requires_grad_()
    loss, parts = attention_guided_loss(masses, regions, 1, 1, image_target=0.5, system_floor=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-10)
    assert masses[0].grad is not None and masses[0].grad.abs().max() < 1e-5
    assert (parts.image_share.item(), parts.system_share.item()) == pytest.approx((0.5, 0.2))
    half, _ = attention_guided_loss(masses, regions, 1, 0, image_target=1.0)
    assert half.item() == pytest.approx(math.log(2) ** 2 / 2)


def test_layers_that_see_nothing_are_left_out_for_the_sequence() -> None:
    regions = regions_of("ordinary", "left padded")
    masses = random_masses(regions, 1)
    full = (regions.columns.cumsum(1) > 0) & regions.valid[..., None]
    visible = {0: full, 1: full, 2: torch.zeros_like(full)}
    _, parts = attention_guided_loss(masses, regions, 1, 1, form="paper", visible=visible)
    seeing = {layer: masses[layer] for layer in (0, 1)}
    _, expected = attention_guided_loss(seeing, regions, 1, 1, form="paper")
    assert parts.enhance.item() == pytest.approx(expected.enhance.item())
    assert parts.without_image == 0


def test_a_mass_of_zero_gives_a_finite_loss() -> None:
    masses = {0: torch.zeros(1, HEADS, 14, 4, requires_grad=True)}
    loss, _ = attention_guided_loss(masses, regions_of("ordinary"), 1, 1, form="paper")
    loss.backward()
    assert loss.isfinite() and masses[0].grad is not None and masses[0].grad.isfinite().all()


def test_no_masses_is_an_error() -> None:
    with pytest.raises(AttentionError, match="was the forward pass recorded"):
        attention_guided_loss({}, regions_of("ordinary"), 1, 1)
