"""What cannot be recorded exactly is refused, with the reason and the mend."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, StaticCache

from schemas.errors import AttentionError
from tests.families import (
    TEXT,
    case,
    family,
    implementations,
    mllama,
    run_recorded,
)
from trainer.attention import (
    _recording_attention,
    full_attention_layers,
    is_prepared,
    prepare,
    prepared,
    record,
    start_recording,
    visible_keys,
)
from trainer.regions import Regions


def run(model: Any, **changes: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    with prepared(model):
        recorder = start_recording(model, regions)
        model(**{**inputs, "use_cache": False, **recorder.keywords, **changes})
        recorder.check()


def dropout(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.1
    run(model)  # no dropout without training
    model.train()
    run(model)


def reentrant(model: Any) -> None:
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.train()
    run(model)


def packed(model: Any) -> None:
    _, inputs, _ = case("qwen2.5-vl", "right")
    rows, tokens = inputs["input_ids"].shape
    text_S = torch.cat([torch.arange(15), torch.arange(tokens - 15)])
    run(model, position_ids=text_S.expand(4, rows, tokens).clone())


def not_prepared(model: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    record(model, inputs, regions)


def no_such_layer(model: Any) -> None:
    with prepared(model):
        start_recording(model, case("qwen2.5-vl", "right").regions, layers=[1, 7])


def no_layer(model: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    run_recorded(model, inputs, regions, layers=[])


def no_keywords(model: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    with prepared(model):
        recorder = start_recording(model, regions)
        model(**inputs)
        recorder.check()


def restored_too_early(model: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    with prepared(model):
        recorder = start_recording(model, regions)
    model(**inputs, **recorder.keywords)
    recorder.check()


def fewer_tokens(model: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    run_recorded(model, inputs, Regions.from_labels(regions.to_labels()[:, :-1]))


def fewer_rows(model: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    run_recorded(model, inputs, Regions.from_labels(regions.to_labels()[:-1]))


def not_a_number(model: Any) -> None:
    with torch.no_grad():
        model.get_decoder().layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
    run(model)


def more_than_all(model: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    recorder = run_recorded(model, inputs, regions)
    recorder.masses[1] = recorder.masses[1] * 1.2
    recorder.check()


def less_than_nothing(model: Any) -> None:
    _, inputs, regions = case("qwen2.5-vl", "right")
    recorder = run_recorded(model, inputs, regions)
    recorder.masses[1] = recorder.masses[1] - 0.1
    recorder.check()


def static_cache(model: Any) -> None:
    run(model, use_cache=True, past_key_values=StaticCache(model.config.get_text_config(), max_cache_len=64))


def a_layer_of_its_own(model: Any) -> None:
    attention = model.get_decoder().layers[1].self_attn
    attention.config = copy.deepcopy(attention.config)
    try:
        prepare(model)
    finally:
        assert not is_prepared(model) and set(implementations(model).values()) == {"sdpa"}


REFUSALS: list[tuple[Callable[[Any], None], str]] = [
    (dropout, "attention dropout 0.1"),
    (reentrant, "use_reentrant"),
    (packed, "position ids start again.*packed rows"),
    (lambda model: run(model, cu_seq_lens_q=torch.tensor([0, 4])), "cu_seq_lens_q: packed rows"),
    (lambda model: run(model, cu_seq_lens_k=torch.tensor([0, 4])), "cu_seq_lens_k: packed rows"),
    (lambda model: run(model, seq_idx=torch.zeros(1)), "seq_idx: packed rows"),
    (lambda model: run(model, tree_mask=torch.ones(1)), "unknown attention keyword 'tree_mask'"),
    (lambda model: run(model, s_aux=torch.ones(1)), "learned attention sinks"),
    (not_prepared, "not prepared for recording"),
    (no_such_layer, r"layers \[7\] have no softmax attention"),
    (no_layer, "no layer was asked for"),
    (no_keywords, r"layers \[0, 1, 2\] recorded nothing"),
    (restored_too_early, r"layers \[0, 1, 2\] recorded nothing"),
    (fewer_tokens, "the regions are of 4 rows of.*record whole rows"),
    (fewer_rows, "the regions are of 3 rows of.*record whole rows"),
    (not_a_number, r"\[nan, nan\], need \[0, 1\]"),
    (more_than_all, r"need \[0, 1\]"),
    (less_than_nothing, r"masses lie in \[-0.1.*need \[0, 1\]"),
    (static_cache, "64 keys.*use_cache=False"),
    (a_layer_of_its_own, "layers.1.self_attn keeps its own attention"),
]


@pytest.mark.parametrize(("misuse", "message"), REFUSALS)
def test_what_cannot_be_recorded_exactly_is_refused(misuse: Callable[[Any], None], message: str) -> None:
    model = copy.deepcopy(family("qwen2.5-vl").model)
    with pytest.raises(AttentionError, match=message):
        misuse(model)


def test_packed_rows_are_noticed_in_every_family_that_numbers_its_tokens() -> None:
    model, inputs, regions = case("internvl", "none")
    rows, tokens = inputs["input_ids"].shape
    text_S = torch.cat([torch.arange(15), torch.arange(tokens - 15)])
    with pytest.raises(AttentionError, match="packed rows"):
        run_recorded(model, inputs | {"position_ids": text_S.expand(rows, -1)}, regions)


@pytest.mark.parametrize("name", ["internvl", "gemma3"])
def test_tokens_that_follow_a_cache_are_refused(name: str) -> None:
    model, inputs, regions = case(name, "none")
    first = inputs | {key: inputs[key][:, :-2] for key in inputs if key != "pixel_values"}
    last = Regions.from_labels(regions.to_labels()[:, -2:])
    with torch.no_grad(), prepared(model):
        past = model(**first, use_cache=True).past_key_values
        recorder = start_recording(model, last)
        with pytest.raises(AttentionError, match=r"rows of 2 queries and.*use_cache=False"):
            model(input_ids=inputs["input_ids"][:, -2:], past_key_values=past, **recorder.keywords)


@pytest.mark.parametrize("keyword", ["s_aux", "sinks", "softcap"])
def test_a_kernel_of_another_kind_is_refused_even_unrecorded(keyword: str) -> None:
    model, inputs, _ = case("internvl", "left")
    with prepared(model), pytest.raises(AttentionError, match=f"layer 0: {keyword}: "):
        model(**inputs, **{keyword: torch.ones(1)})


def test_reentrant_checkpointing_is_noticed_inside_the_layer_too() -> None:
    model, inputs, regions = case("qwen2.5-vl", "right")
    with prepared(model):
        recorder = start_recording(model, regions)
        with torch.no_grad(), pytest.raises(AttentionError, match="gradients are off inside the layer"):
            model(**inputs, use_cache=False, **recorder.keywords)


@pytest.mark.parametrize(
    ("more_keys", "keywords", "message"), [(1, {}, "use_cache=False"), (0, {"softcap": 30.0}, "soft cap")]
)
def test_a_layer_called_otherwise_is_refused(more_keys: int, keywords: dict[str, Any], message: str) -> None:
    model, _, regions = case("qwen2.5-vl", "right")
    rows, tokens = regions.valid.shape
    query_BHSD, key_BKND = torch.zeros(rows, 4, tokens, 16), torch.zeros(rows, 2, tokens + more_keys, 16)
    layer = model.get_decoder().layers[0].self_attn
    with prepared(model):
        recorder = start_recording(model, regions)
        with pytest.raises(AttentionError, match=message):
            _recording_attention(layer, query_BHSD, key_BKND, key_BKND, None, **recorder.keywords, **keywords)


UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("gemma2", {"head_dim": 16}, "attn_logit_softcapping.*soft cap"),
    (
        "gpt_oss",
        {"head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
        "sinks: learned attention",
    ),
    ("bloom", {"n_layer": 1, "n_head": 4}, "does not use transformers' AttentionInterface"),
]


@pytest.mark.parametrize(("model_type", "sizes", "message"), UNFIT)
def test_models_whose_kernel_is_not_plain_softmax_are_refused(
    model_type: str, sizes: dict[str, Any], message: str
) -> None:
    config = AutoConfig.for_model(model_type, **{**TEXT, "num_hidden_layers": 1, **sizes})
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(AttentionError, match=message):
        prepare(model)
    assert not is_prepared(model)


def test_models_with_cross_attention_are_refused() -> None:
    model = mllama()
    for part in (model, model.model.language_model):
        with pytest.raises(AttentionError, match=r"cross-attention layers.*use a model whose image tokens"):
            prepare(part)
        assert not is_prepared(part)


def test_a_recorder_is_for_one_forward_pass() -> None:
    model, inputs, regions = case("internvl", "left")
    with torch.no_grad(), prepared(model):
        recorder = start_recording(model, regions)
        model(**inputs, use_cache=False, **recorder.keywords)
        with pytest.raises(AttentionError, match="a recorder is for one forward pass"):
            model(**inputs, use_cache=False, **recorder.keywords)
        ignoring = start_recording(model, regions, later_passes="ignore")
        model(**inputs, use_cache=False, **ignoring.keywords)
        before = {layer: mass.clone() for layer, mass in ignoring.masses.items()}
        other = inputs | {"input_ids": inputs["input_ids"].flip(0)}
        model(**{**other, "pixel_values": inputs["pixel_values"] * 0}, use_cache=False, **ignoring.keywords)
    assert all(torch.equal(before[layer], mass) for layer, mass in ignoring.masses.items())


@pytest.mark.parametrize("hidden", [-1e9, -1e4])
def test_a_mask_whose_hidden_keys_are_unclear_is_refused(hidden: float) -> None:
    mask_SS = torch.zeros(4, 4).masked_fill(~torch.ones(4, 4).bool().tril(), hidden)
    columns_BSC = torch.ones(1, 4, 1).bool()
    with pytest.raises(
        AttentionError, match=rf"adds {hidden:g} to logits: it is unclear".replace("+", r"\+")
    ):
        visible_keys(columns_BSC, mask_SS[None, None])
    for clear in (float("-inf"), torch.finfo(torch.float32).min):
        mask = torch.zeros(4, 4).masked_fill(mask_SS < 0, clear)
        assert visible_keys(columns_BSC, mask[None, None]).all()


def test_windows_without_layer_types_are_windows() -> None:
    """Mistral has one window for all layers, and names no kinds."""
    config = AutoConfig.for_model("mistral", **{**TEXT, "head_dim": 16, "sliding_window": 8})
    assert full_attention_layers(AutoModelForCausalLM.from_config(config)) == ()
    config.sliding_window = None
    assert full_attention_layers(AutoModelForCausalLM.from_config(config)) == (0, 1, 2)
