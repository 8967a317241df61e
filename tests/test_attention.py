"""Attention masses against full attention maps from the eager implementation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    MllamaConfig,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from schemas.errors import AttentionError
from tests.tiny import make_row, new_student, picture, student
from trainer.attention import (
    _recording_attention,
    attention_layers,
    full_attention_layers,
    is_prepared,
    prepare,
    prepared,
    record,
    restore,
    start_recording,
)
from trainer.losses import attention_guided_loss
from trainer.messages import encode, to_messages
from trainer.recorder import IMAGE, visible_keys
from trainer.regions import Regions, find_regions

Case = tuple[Any, dict[str, Tensor], Regions]


def mixed_batch(side: str) -> tuple[dict[str, Any], Regions]:
    """Rows with two images, with none, without a system turn, and an ordinary one."""
    _, processor = student()
    two = to_messages(make_row(0, images=[picture("red"), picture("blue")]))
    none = to_messages(make_row(1, images=[], question="Short?"))
    talks = [two, none, to_messages(make_row(2))[1:], to_messages(make_row(3))]
    encoded = encode(processor, talks, padding_side=side)  # type: ignore[arg-type]
    return dict(encoded), find_regions(processor, talks, encoded)


@cache
def student_case(side: str) -> Case:
    return (student()[0], *mixed_batch(side))


TEXT_SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
}


def hand_made(
    model: nn.Module, image_token: int, image_tokens: int, kinds: str = "mm_token_type_ids", **more: Tensor
) -> Case:
    """Two rows: system, image, user, response; the second is shorter and padded on the right."""
    dice = torch.Generator().manual_seed(0)
    labels = [[1] + [2] * 6 + [1] + [3] * image_tokens + [1] + [4] * 9 + [1] + [5] * 8]
    labels.append(labels[0][:-5] + [0] * 5)
    labels_BS = torch.tensor(labels, dtype=torch.int8)
    ids_BS = torch.randint(5, 50, labels_BS.shape, generator=dice)
    ids_BS[labels_BS == 3], ids_BS[labels_BS == 0] = image_token, 0
    inputs = {"input_ids": ids_BS, "attention_mask": (labels_BS != 0).long()}
    inputs[kinds] = (labels_BS == 3).long()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(8.0)
    return model.eval(), inputs | more, Regions.from_labels(labels_BS)


@cache
def gemma3_case() -> Case:
    """Sliding windows of 8 tokens in two of three layers, image tokens that see each other both ways."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3Config(
        text_config=TEXT_SIZES | {"sliding_window": 8, "layer_types": kinds, "query_pre_attn_scalar": 16},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
        image_token_index=60,
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    return hand_made(model, 60, 4, "token_type_ids", pixel_values=torch.randn(2, 3, 28, 28))


@cache
def qwen3_case() -> Case:
    config = Qwen3VLConfig(
        text_config=TEXT_SIZES | {"rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2]}},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": 14,
            "out_hidden_size": 64,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        },
        image_token_id=60,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    grid = torch.tensor([[1, 4, 4], [1, 4, 4]])
    return hand_made(model, 60, 4, pixel_values=torch.randn(32, 3 * 2 * 14 * 14), image_grid_thw=grid)


CASES: dict[str, Callable[[], Case]] = {
    "qwen2.5-vl, left": lambda: student_case("left"),
    "qwen2.5-vl, right": lambda: student_case("right"),
    "gemma3, sliding": gemma3_case,
    "qwen3-vl": qwen3_case,
}


def eager_maps(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
    """Full attention maps, layer by layer, [B, H, S, S]."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        return model(**inputs, use_cache=False, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)


def masses_of(maps: tuple[Tensor, ...], regions: Regions) -> dict[int, Tensor]:
    """The slow way: sum each query's row over the keys of each region."""
    columns_BSC = regions.columns.float()
    return {
        layer: torch.einsum("bhqk,bkc->bhqc", map_BHSS, columns_BSC) * regions.valid[:, None, :, None]
        for layer, map_BHSS in enumerate(maps)
    }


@pytest.mark.parametrize("name", CASES)
def test_masses_are_those_of_the_full_maps(name: str) -> None:
    model, inputs, regions = CASES[name]()
    with torch.no_grad(), prepared(model):
        masses = record(model, inputs, regions)
        expected = masses_of(eager_maps(model, inputs), regions)
    assert set(masses) == set(expected)
    for layer, mass in expected.items():
        torch.testing.assert_close(masses[layer], mass, rtol=0, atol=1e-5)
        assert mass[..., IMAGE].max() > 0.3, "attention is far from uniform, or the test is blind"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form", ["paper", "bounded"])
def test_gradients_are_those_of_the_full_maps(name: str, form: Any) -> None:
    model, inputs, regions = CASES[name]()
    parameters = dict(model.named_parameters())

    def gradients(masses: dict[int, Tensor]) -> dict[str, Tensor]:
        loss, _ = attention_guided_loss(masses, regions, 1.0, 1.0, form=form, image_target=0.9)
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return {
            name: torch.zeros_like(parameter) if gradient is None else gradient
            for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
        }

    with prepared(model):
        found = gradients(record(model, inputs, regions))
    expected = gradients(masses_of(eager_maps(model, inputs), regions))
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5 * float(largest), msg=name)
    assert largest > 0


@pytest.mark.parametrize("name", CASES)
def test_recording_does_not_change_the_model(name: str) -> None:
    model, inputs, regions = CASES[name]()
    with torch.no_grad():
        plain = model(**inputs).logits[regions.valid]
        with prepared(model):
            recorder = start_recording(model, regions)
            recorded = model(**inputs, use_cache=False, **recorder.keywords).logits[regions.valid]
            unrecorded = model(**inputs).logits[regions.valid]
        restored = model(**inputs).logits[regions.valid]
    torch.testing.assert_close(recorded, plain, rtol=0, atol=1e-4)
    assert torch.equal(unrecorded, plain)
    assert torch.equal(restored, plain)


@pytest.mark.parametrize("name", CASES)
def test_visible_keys_are_those_of_the_maps(name: str) -> None:
    model, inputs, regions = CASES[name]()
    with torch.no_grad(), prepared(model):
        recorder = start_recording(model, regions)
        model(**inputs, use_cache=False, **recorder.keywords)
        recorder.check()
    for layer, mass_BHSC in masses_of(eager_maps(model, inputs), regions).items():
        assert torch.equal(recorder.visible[layer], (mass_BHSC > 0).any(dim=1))


def test_visible_keys_without_a_mask_are_causal() -> None:
    columns_BSC = torch.rand(3, 700, 2) > 0.995
    mask_SS = torch.ones(700, 700, dtype=torch.bool).tril()
    expected = visible_keys(columns_BSC, mask_SS[None, None])
    assert torch.equal(visible_keys(columns_BSC), expected)
    added = torch.zeros(700, 700).masked_fill(~mask_SS, torch.finfo(torch.float32).min)
    assert torch.equal(visible_keys(columns_BSC, added[None, None]), expected)


def test_layers_and_queries_can_be_chosen() -> None:
    model, inputs, regions = student_case("right")
    with torch.no_grad(), prepared(model):
        everything = record(model, inputs, regions)
        some = record(model, inputs, regions, layers=[1], queries=regions.user)
    assert set(some) == {1}
    assert torch.equal(some[1], everything[1] * regions.user[:, None, :, None])
    assert attention_layers(gemma3_case()[0]) == (0, 1, 2)
    assert full_attention_layers(gemma3_case()[0]) == (1,)


def test_preparing_is_reversible() -> None:
    model, _ = new_student()
    model.set_attn_implementation({"text_config": "eager"})
    before = {name: getattr(model.config, name)._attn_implementation for name in model.config.sub_configs}
    prepare(model)
    prepare(model)
    assert is_prepared(model)
    restore(model)
    after = {name: getattr(model.config, name)._attn_implementation for name in model.config.sub_configs}
    assert after == before and not is_prepared(model)
    restore(model)


def test_checkpointing_gives_the_same_masses_and_gradients() -> None:
    _, inputs, regions = student_case("right")
    model, _ = new_student()
    results = []
    with prepared(model):
        for checkpointing in (False, True):
            if checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()
            model.zero_grad()
            masses = record(model, inputs, regions)
            attention_guided_loss(masses, regions, 1.0, 1.0, form="paper")[0].backward()
            results.append((masses, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (plain, plain_gradients), (again, again_gradients) = results
    assert all(torch.equal(plain[layer], again[layer]) for layer in plain)
    assert len(plain_gradients) == len(again_gradients)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain_gradients, again_gradients, strict=True))


# ------------------------------------------------------------------------------------------ refusals


def run_recorded(model: Any, **changes: Any) -> None:
    _, inputs, regions = student_case("right")
    with prepared(model):
        recorder = start_recording(model, regions)
        model(**{**inputs, "use_cache": False, **recorder.keywords, **changes})
        recorder.check()


def dropout(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.1
    model.train()
    run_recorded(model)


def reentrant(model: Any) -> None:
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.train()
    run_recorded(model)


def packed(model: Any) -> None:
    _, inputs, _ = student_case("right")
    rows, tokens = inputs["input_ids"].shape
    text_S = torch.cat([torch.arange(20), torch.arange(tokens - 20)])
    run_recorded(model, position_ids=text_S.expand(4, rows, tokens).clone())


def not_prepared(model: Any) -> None:
    _, inputs, regions = student_case("right")
    record(model, inputs, regions)


def no_such_layer(model: Any) -> None:
    with prepared(model):
        start_recording(model, student_case("right")[2], layers=[7])


def no_keywords(model: Any) -> None:
    _, inputs, regions = student_case("right")
    with prepared(model):
        recorder = start_recording(model, regions)
        model(**inputs)
        recorder.check()


def other_rows(model: Any) -> None:
    _, inputs, regions = student_case("right")
    shorter = Regions.from_labels(regions.to_labels()[:, :-1])
    with prepared(model):
        record(model, inputs, shorter)


def not_a_number(model: Any) -> None:
    with torch.no_grad():
        model.model.language_model.layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
    run_recorded(model)


REFUSALS = [
    (dropout, "attention dropout 0.1"),
    (reentrant, "use_reentrant"),
    (packed, "packed rows"),
    (not_prepared, "not prepared for recording"),
    (no_such_layer, r"layers \[7\] have no softmax attention"),
    (no_keywords, r"layers \[0, 1\] recorded nothing"),
    (other_rows, "record whole rows"),
    (not_a_number, r"need \[0, 1\]"),
    (lambda model: run_recorded(model, cu_seq_lens_q=torch.tensor([0, 4])), "packed rows"),
    (lambda model: run_recorded(model, tree_mask=torch.ones(1)), "unknown attention keyword 'tree_mask'"),
    (lambda model: run_recorded(model, s_aux=torch.ones(1)), "learned attention sinks"),
]


@pytest.mark.parametrize(("misuse", "message"), REFUSALS)
def test_what_cannot_be_recorded_exactly_is_refused(misuse: Callable[[Any], None], message: str) -> None:
    model, _ = new_student()
    with pytest.raises(AttentionError, match=message):
        misuse(model)


def test_reentrant_checkpointing_is_noticed_inside_the_layer_too() -> None:
    model, _ = new_student()
    _, inputs, regions = student_case("right")
    with prepared(model):
        recorder = start_recording(model, regions)
        with torch.no_grad(), pytest.raises(AttentionError, match="gradients are off inside the layer"):
            model(**inputs, use_cache=False, **recorder.keywords)


@pytest.mark.parametrize(
    ("more_keys", "keywords", "message"), [(1, {}, "use_cache=False"), (0, {"softcap": 30.0}, "soft cap")]
)
def test_a_layer_called_otherwise_is_refused(more_keys: int, keywords: dict[str, Any], message: str) -> None:
    model, _, regions = student_case("right")
    rows, tokens = regions.valid.shape
    query, key = torch.zeros(rows, 2, tokens, 32), torch.zeros(rows, 1, tokens + more_keys, 32)
    layer = model.model.language_model.layers[0].self_attn
    with prepared(model):
        recorder = start_recording(model, regions)
        with pytest.raises(AttentionError, match=message):
            _recording_attention(layer, query, key, key, None, **recorder.keywords, **keywords)


@pytest.mark.parametrize(
    ("model_type", "sizes", "message"),
    [
        ("gemma2", {}, "soft cap"),
        ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1}, "learned attention sinks"),
    ],
)
def test_models_whose_kernel_is_not_plain_softmax_are_refused(
    model_type: str, sizes: dict[str, Any], message: str
) -> None:
    config = AutoConfig.for_model(model_type, **{**TEXT_SIZES, "num_hidden_layers": 1, **sizes})
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(AttentionError, match=message):
        prepare(model)


def test_cross_attention_models_are_refused() -> None:
    model, _ = new_student()
    model.config = MllamaConfig()
    with pytest.raises(AttentionError, match=r"cross-attention layers.*use a model whose image tokens"):
        prepare(model)
