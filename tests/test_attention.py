"""Attention masses of six model families against full attention maps from the eager implementation.

B rows, H heads, K key/value heads, S tokens, D head size, C columns (one per recorded set of keys).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

from schemas.errors import AttentionError
from tests.families import (
    FAMILIES,
    IMAGES_B,
    NO_IMAGE,
    NO_SYSTEM,
    ORDINARY,
    SIDES,
    TWO_IMAGES,
    VARIANTS,
    WINDOW,
    case,
    family,
    implementations,
    run_recorded,
)
from tests.tiny import make_row, picture, student
from trainer.attention import (
    attention_layers,
    full_attention_layers,
    is_prepared,
    prepare,
    prepared,
    record,
    restore,
    start_recording,
)
from trainer.losses import Form, Queries, attention_guided_loss
from trainer.messages import encode, to_messages
from trainer.recorder import IMAGE, visible_keys
from trainer.regions import Regions, find_regions

MASS = 1e-5  # how far a float32 mass may be from the maps'
GRADIENT = 1e-5  # the same for gradients, as a share of the tensor's largest entry
# A tensor's entries that are this small beside the largest gradient of all are rounding, e.g. those of a key
# projection's bias in a tower without rotary positions: no softmax depends on it.
NOISE = 1e-3
CASES = [(name, side) for name in (*FAMILIES, *VARIANTS) for side in SIDES]
OBJECTIVES: list[tuple[Form, Queries]] = [
    ("paper", "user"),
    ("bounded", "user"),
    ("paper", "response"),
    ("bounded", "user+response"),
]
each_case = pytest.mark.parametrize(("name", "side"), CASES)
each_family = pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS])


# ------------------------------------------------------------------------------------------ oracle


@cache
def eager(name: str) -> Any:
    """A family's model with the eager implementation in every part."""
    model = copy.deepcopy(family(name).model)
    model.set_attn_implementation("eager")
    return model


@cache
def eager_maps(name: str, side: str, *, long: bool = False) -> tuple[Tensor, ...]:
    """Full attention maps, layer by layer, [B, H, S, S], with a graph to the weights of `eager(name)`."""
    _, inputs, _ = case(name, side, long=long)
    return eager(name)(**inputs, use_cache=False, output_attentions=True).attentions


def masses_of(maps: tuple[Tensor, ...], regions: Regions) -> dict[int, Tensor]:
    """The slow way: sum each query's row over the keys of each region."""
    columns_BSC = regions.columns.float()
    return {
        layer: torch.einsum("bhqk,bkc->bhqc", map_BHSS.float(), columns_BSC) * regions.valid[:, None, :, None]
        for layer, map_BHSS in enumerate(maps)
    }


def seen_in(masses: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Which queries see any key of each set: those that put attention there."""
    return {layer: (mass_BHSC > 0).any(dim=1) for layer, mass_BHSC in masses.items()}


# ------------------------------------------------------------------------------------------ subject


def gradients(loss: Tensor, model: Any) -> dict[str, Tensor]:
    """The gradient of every weight, zero where it has none."""
    weights = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in zip(weights.items(), found, strict=True)
    }


def guided(
    masses: Mapping[int, Tensor],
    visible: Mapping[int, Tensor],
    regions: Regions,
    form: Form,
    queries: Queries,
) -> Tensor:
    """The guided loss with bounds that no (layer, head) has reached."""
    bounds = {"image_target": 0.95, "system_floor": 0.01}
    return attention_guided_loss(masses, regions, 1.0, 1.0, queries, form, **bounds, visible=visible)[0]


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 1e-3 and set(found) == set(expected)
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), NOISE * largest)
        torch.testing.assert_close(
            found[name],
            gradient,
            rtol=0,
            atol=GRADIENT * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )


# ------------------------------------------------------------------------------------------ the batches


@each_case
def test_the_batches_hold_what_they_promise(name: str, side: str) -> None:
    model, inputs, regions = case(name, side)
    text = model.config.get_text_config()
    assert text.num_key_value_heads < text.num_attention_heads
    starts_BS = regions.image & ~regions.image.roll(1, dims=1)
    assert starts_BS.sum(dim=1).tolist() == list(IMAGES_B) == [2, 0, 1, 1]
    assert regions.system.any(dim=1).tolist() == [row != NO_SYSTEM for row in range(4)]
    assert (regions.user.any(dim=1) & regions.response.any(dim=1)).all()
    assert len(set(regions.valid.sum(dim=1).tolist())) == (1 if side == "none" else 4)
    assert torch.equal(inputs["attention_mask"].bool(), regions.valid)
    if full_attention_layers(model) != attention_layers(model):
        assert text.sliding_window == WINDOW < int(regions.valid.sum(dim=1).min()) // 2
    longer = case(name, side, long=True).regions
    for queries in ("user", "response"):
        assert regions.select(queries).sum(dim=1).max() * 25 < longer.valid.shape[1]


@each_case
def test_attention_is_far_from_uniform(name: str, side: str) -> None:
    """Otherwise masses that only counted keys would pass."""
    _, _, regions = case(name, side)
    for layer, map_BHSS in enumerate(eager_maps(name, side)):
        keys_BHS = (map_BHSS > 0).sum(dim=-1)
        asked_BHS = (keys_BHS > 3) & regions.valid[:, None]
        peaks = map_BHSS.amax(dim=-1)[asked_BHS]
        assert (peaks * keys_BHS[asked_BHS]).mean() > 3, "times the weight of a uniform map"
        mass_BHSC = masses_of(eager_maps(name, side), regions)[layer]
        assert (mass_BHSC.amax(dim=(0, 1, 2)) > 0.5).all(), "each set of keys is looked at by some query"


@pytest.mark.parametrize("name", FAMILIES)
def test_images_are_read_by_their_own_rows(name: str) -> None:
    model, inputs, regions = case(name, "left")
    changed = inputs | {"pixel_values": -inputs["pixel_values"]}
    with torch.no_grad():
        first, second = (run_recorded(model, kind, regions).masses for kind in (inputs, changed))
    moved_LB = torch.stack([(first[layer] - second[layer]).abs().amax(dim=(1, 2, 3)) for layer in first])
    moved_B = moved_LB.amax(dim=0)
    assert moved_B[NO_IMAGE] < MASS
    assert moved_B[[TWO_IMAGES, NO_SYSTEM, ORDINARY]].min() > 0.01


# ------------------------------------------------------------------------------------------ exactness


@each_case
def test_masses_are_those_of_the_full_maps(name: str, side: str) -> None:
    model, inputs, regions = case(name, side)
    with torch.no_grad(), prepared(model):
        masses = record(model, inputs, regions)
    expected = masses_of(eager_maps(name, side), regions)
    assert set(masses) == set(expected) == set(attention_layers(model))
    for layer, mass_BHSC in expected.items():
        assert masses[layer].dtype == torch.float32
        torch.testing.assert_close(masses[layer], mass_BHSC.detach(), rtol=0, atol=MASS)


@each_case
@pytest.mark.parametrize(("form", "queries"), OBJECTIVES)
def test_gradients_are_those_of_the_full_maps(name: str, side: str, form: Form, queries: Queries) -> None:
    model, inputs, regions = case(name, side)
    recorder = run_recorded(model, inputs, regions)
    found = guided(recorder.masses, recorder.visible, regions, form, queries)
    masses = masses_of(eager_maps(name, side), regions)
    expected = guided(masses, seen_in(masses), regions, form, queries)
    assert_same_gradients(gradients(found, model), gradients(expected, eager(name)))


@each_case
def test_a_training_step_is_that_of_the_full_maps(name: str, side: str) -> None:
    """The language-model loss and the guided loss from one forward pass, masses of the question only."""
    model, inputs, regions = case(name, side, long=True)
    labelled = inputs | {"labels": inputs["input_ids"].masked_fill(~regions.response, -100)}
    with prepared(model):
        recorder = start_recording(model, regions, queries=regions.user)
        found = model(**labelled, use_cache=False, **recorder.keywords).loss
        recorder.check()
    found = found + guided(recorder.masses, recorder.visible, regions, "paper", "user")
    output = eager(name)(**labelled, use_cache=False, output_attentions=True)
    masses = masses_of(output.attentions, regions)
    expected = output.loss + guided(masses, seen_in(masses), regions, "paper", "user")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert_same_gradients(gradients(found, model), gradients(expected, eager(name)))


@pytest.mark.parametrize("name", ["gemma3", "qwen2.5-vl sliding"])
def test_the_loss_of_a_record_knows_its_windows(name: str) -> None:
    """Masses that are passed on as they come bring along which queries see which keys."""
    model, inputs, regions = case(name, "left")
    with torch.no_grad(), prepared(model):
        masses = record(model, inputs, regions)
    found, _ = attention_guided_loss(masses, regions, 1.0, 1.0, form="paper")
    seen = seen_in(masses_of(eager_maps(name, "left"), regions))
    expected, _ = attention_guided_loss(dict(masses), regions, 1.0, 1.0, form="paper", visible=seen)
    causal, _ = attention_guided_loss(dict(masses), regions, 1.0, 1.0, form="paper")
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.item() != pytest.approx(causal.item(), rel=1e-2), "windows make a difference here"


@each_case
@pytest.mark.parametrize(("queries", "long"), [("user", False), ("user", True), ("response", True)])
def test_asking_for_some_queries_changes_only_the_others(
    name: str, side: str, queries: Literal["user", "response"], long: bool
) -> None:
    model, inputs, regions = case(name, side, long=long)
    asked_BS = regions.select(queries)
    every, some = (run_recorded(model, inputs, regions, queries=wanted) for wanted in (None, asked_BS))
    for layer, mass_BHSC in every.masses.items():
        expected = torch.where(asked_BS[:, None, :, None], mass_BHSC, 0.0)
        torch.testing.assert_close(some.masses[layer], expected, rtol=0, atol=1e-6)
        assert not some.masses[layer].detach().transpose(1, 2)[~asked_BS].any()
        assert torch.equal(some.visible[layer][asked_BS], every.visible[layer][asked_BS])
    found, expected = (
        guided(recorder.masses, recorder.visible, regions, "paper", queries) for recorder in (some, every)
    )
    assert_same_gradients(gradients(found, model), gradients(expected, model))


@pytest.mark.parametrize("name", ["internvl", "gemma3"])
@pytest.mark.parametrize("side", SIDES)
def test_any_set_of_queries_can_be_asked_for(name: str, side: str) -> None:
    """Scattered ones, a different number in every row, none in a row, and padding among them."""
    model, inputs, regions = case(name, side)
    scattered_BS = torch.rand(regions.valid.shape, generator=torch.Generator().manual_seed(2)) > 0.7
    scattered_BS[ORDINARY] = False
    last_BS = torch.zeros_like(scattered_BS)
    last_BS[TWO_IMAGES, -1] = True
    with torch.no_grad(), prepared(model):
        every = record(model, inputs, regions)
        for asked_BS in (scattered_BS, last_BS, torch.ones_like(last_BS), torch.zeros_like(last_BS)):
            some = record(model, inputs, regions, layers=[1, 2], queries=asked_BS)
            assert set(some) == {1, 2}
            for layer, mass_BHSC in some.items():
                expected = every[layer] * asked_BS[:, None, :, None]
                torch.testing.assert_close(mass_BHSC, expected, rtol=0, atol=1e-6)


@each_case
def test_recording_does_not_change_the_model(name: str, side: str) -> None:
    model, inputs, regions = case(name, side)
    with torch.no_grad():
        plain = model(**inputs).logits[regions.valid]
        with prepared(model):
            unrecorded = model(**inputs).logits[regions.valid]
            for queries in (None, regions.user):
                recorder = start_recording(model, regions, queries=queries)
                recorded = model(**inputs, use_cache=False, **recorder.keywords).logits[regions.valid]
                torch.testing.assert_close(recorded, plain, rtol=0, atol=1e-4)
        restored = model(**inputs).logits[regions.valid]
    assert torch.equal(unrecorded, plain)
    assert torch.equal(restored, plain)


@each_case
def test_visible_keys_are_those_of_the_maps(name: str, side: str) -> None:
    model, inputs, regions = case(name, side)
    with torch.no_grad():
        recorder = run_recorded(model, inputs, regions)
    for layer, seen_BSC in seen_in(masses_of(eager_maps(name, side), regions)).items():
        assert torch.equal(recorder.visible[layer], seen_BSC)


def test_visible_keys_without_a_mask_are_causal() -> None:
    columns_BSC = torch.rand(3, 700, 2) > 0.995
    mask_SS = torch.ones(700, 700, dtype=torch.bool).tril()
    expected = visible_keys(columns_BSC, mask_SS[None, None])
    assert torch.equal(visible_keys(columns_BSC), expected)
    added = torch.zeros(700, 700).masked_fill(~mask_SS, torch.finfo(torch.float32).min)
    assert torch.equal(visible_keys(columns_BSC, added[None, None]), expected)


def test_further_sets_of_keys_can_be_recorded() -> None:
    model, inputs, regions = case("qwen2.5-vl", "left")
    extra_BSE = torch.rand(*regions.valid.shape, 3, generator=torch.Generator().manual_seed(3)) > 0.5
    with torch.no_grad():
        recorder = run_recorded(model, inputs, regions, extra=extra_BSE)
    for layer, map_BHSS in enumerate(eager_maps("qwen2.5-vl", "left")):
        expected = map_BHSS.detach() @ extra_BSE.float()[:, None] * regions.valid[:, None, :, None]
        torch.testing.assert_close(recorder.masses[layer][..., 4:], expected, rtol=0, atol=MASS)


@each_family
@pytest.mark.parametrize("queries", [None, "user"])
def test_checkpointing_gives_the_same_masses_and_gradients(name: str, queries: str | None) -> None:
    original, inputs, regions = case(name, "left", long=True)
    model = copy.deepcopy(original).train()
    wanted = None if queries is None else regions.select(queries)
    layer, runs = model.get_decoder().layers[1].self_attn, []
    layer.register_forward_pre_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    results = []
    with prepared(model):  # the backward pass too: a checkpoint runs the layers again in it
        for checkpointing in (False, True):
            if checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            recorder = run_recorded(model, inputs, regions, queries=wanted)
            masses = dict(recorder.masses)
            loss = guided(masses, recorder.visible, regions, "paper", "user")
            results.append((masses, gradients(loss, model)))
            assert all(recorder.masses[layer] is mass for layer, mass in masses.items()), "first write wins"
    assert len(runs) == 3, "once plainly, and twice with checkpoints"
    (plain, expected), (again, found) = results
    for layer, mass_BHSC in plain.items():
        torch.testing.assert_close(again[layer], mass_BHSC, rtol=0, atol=1e-6)
    assert_same_gradients(found, expected)


def test_a_first_pass_that_fills_a_cache_is_recorded_all_the_same() -> None:
    model, inputs, regions = case("gemma3", "left")
    expected = masses_of(eager_maps("gemma3", "left"), regions)
    with torch.no_grad(), prepared(model):
        recorder = start_recording(model, regions)
        model(**inputs, use_cache=True, **recorder.keywords)
        recorder.check()
    for layer, mass_BHSC in expected.items():
        torch.testing.assert_close(recorder.masses[layer], mass_BHSC.detach(), rtol=0, atol=MASS)


def test_positions_counted_from_the_padding_mask_are_no_packed_rows() -> None:
    model, inputs, regions = case("internvl", "left")
    positions_BS = inputs["attention_mask"].cumsum(dim=1) - 1
    positions_BS[~regions.valid] = 1
    with torch.no_grad():
        found = run_recorded(model, inputs | {"position_ids": positions_BS}, regions)
    for layer, mass_BHSC in masses_of(eager_maps("internvl", "left"), regions).items():
        torch.testing.assert_close(found.masses[layer], mass_BHSC.detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_real_processor_and_its_regions_give_the_same(side: Literal["left", "right"]) -> None:
    model, processor = student()
    two = to_messages(make_row(0, images=[picture("red"), picture("blue")]))
    none = to_messages(make_row(1, images=[], question="Short?"))
    talks = [two, none, to_messages(make_row(2))[1:], to_messages(make_row(3))]
    encoded = encode(processor, talks, padding_side=side)
    regions = find_regions(processor, talks, encoded)
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        masses = run_recorded(model, encoded, regions).masses
        maps = twin(**encoded, use_cache=False, output_attentions=True).attentions
    for layer, mass_BHSC in masses_of(maps, regions).items():
        torch.testing.assert_close(masses[layer], mass_BHSC, rtol=0, atol=MASS)
        assert mass_BHSC[..., IMAGE].max() > 0.3


# ------------------------------------------------------------------------------------------ bfloat16


def float32_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, Tensor]:
    """Softmax attention in float32 from Q and K as they are, with an SDPA mask."""
    groups = query.shape[1] // key.shape[1]
    logits_BHSS = query.float() @ key.float().repeat_interleave(groups, dim=1).mT * scaling
    if mask is None:
        mask = torch.ones(logits_BHSS.shape[-2:], dtype=torch.bool).tril()
    map_BHSS = logits_BHSS.masked_fill(~mask, torch.finfo(torch.float32).min).softmax(dim=-1)
    output_BHSD = map_BHSS @ value.float().repeat_interleave(groups, dim=1)
    return output_BHSD.to(query.dtype).transpose(1, 2).contiguous(), map_BHSS


@each_case
@pytest.mark.parametrize("queries", [None, "user"])
def test_bfloat16_masses_are_within_a_percent(name: str, side: str, queries: str | None) -> None:
    """Each layer again, alone, on the input that it had.

    The model's own eager maps are no measure here: they are the softmax of logits rounded to bfloat16 (by up
    to 0.03 where they are 8), and what a layer rounds moves all later layers. From the same Q and K, the
    kernel is left to round its weights, and then the mass, each by at most 2**-8 of it: 0.8% in all.
    """
    original, inputs, regions = case(name, side, long=queries is not None)
    model = copy.deepcopy(original).bfloat16()
    halved = {key: value.bfloat16() if value.is_floating_point() else value for key, value in inputs.items()}
    asked_BS = regions.select(queries) if queries else regions.valid
    decoder = model.get_decoder()
    calls: dict[int, tuple[Any, Any]] = {}
    hooks = [
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, keywords: calls.update({module.layer_idx: (args, keywords)}),
            with_kwargs=True,
        )
        for layer in decoder.layers
    ]
    with torch.no_grad():
        found = run_recorded(model, halved, regions, queries=asked_BS if queries else None).masses
        for hook in hooks:
            hook.remove()
        AttentionInterface.register("float32_attention", float32_attention)
        decoder.set_attn_implementation("float32_attention")
        maps = tuple(
            decoder.layers[layer].self_attn(*args, **keywords)[1] for layer, (args, keywords) in calls.items()
        )
    for layer, mass_BHSC in masses_of(maps, regions).items():
        mass_BHSC = mass_BHSC * asked_BS[:, None, :, None]
        torch.testing.assert_close(found[layer], mass_BHSC, rtol=0.01, atol=1e-6)


# ------------------------------------------------------------------------------------------ preparing


@each_family
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_preparing_is_reversible_and_leaves_the_vision_tower_alone(name: str, implementation: str) -> None:
    model = copy.deepcopy(family(name).model)
    model.set_attn_implementation(implementation)
    before = implementations(model)
    prepare(model)
    prepare(model)
    assert is_prepared(model)
    changed = {path for path, now in implementations(model).items() if now != implementation}
    assert all(any(path.endswith(f"layers.{layer}.self_attn") for path in changed) for layer in range(3))
    assert not [path for path in changed if "vision" in path or "visual" in path]
    restore(model)
    assert implementations(model) == before and not is_prepared(model)
    restore(model)


def test_prepared_ends_with_its_context() -> None:
    model, inputs, regions = case("internvl", "left")
    with pytest.raises(AttentionError, match="no such"), prepared(model):
        raise AttentionError("no such thing")
    assert not is_prepared(model)
    with prepared(model):
        with prepared(model):
            pass
        assert is_prepared(model)
        with torch.no_grad():
            assert set(record(model, inputs, regions)) == {0, 1, 2}


LAYERS = [
    ("qwen2.5-vl", (0, 1, 2)),
    ("qwen3-vl", (0, 1, 2)),
    ("llava-onevision", (0, 1, 2)),
    ("internvl", (0, 1, 2)),
    ("idefics3", (0, 1, 2)),
    ("gemma3", (1,)),
    ("qwen2.5-vl sliding", (0,)),
]


@pytest.mark.parametrize(("name", "full"), LAYERS)
def test_layers_with_a_window_are_told_apart(name: str, full: tuple[int, ...]) -> None:
    model = family(name).model
    assert attention_layers(model) == (0, 1, 2)
    assert full_attention_layers(model) == full
