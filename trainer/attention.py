"""Attention masses from the model's own fused kernel, without a single attention map.

B rows, H heads, K key/value heads, S tokens, D head size, C columns (one per recorded set of keys).

Attention output is linear in the values: O = A V. A column appended to V that is one at some keys and zero
elsewhere comes out as exactly the mass that A puts on those keys, per query and head, differentiable. The
mask stays the kernel's business, so padding, sliding windows and grouped heads are right by construction.
Free of trl and datasets. Source: METHOD, "One identity"; AVAR, arXiv 2603.03825, eq. 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from schemas.errors import AttentionError
from trainer.kernels import attend, iterate_maps, select_masses
from trainer.recorder import (
    IMAGE,
    RECORDER,
    RESPONSE,
    SYSTEM,
    USER,
    LaterPasses,
    Masses,
    Observe,
    Recorder,
    visible_keys,
)
from trainer.refusals import refuse_keywords, refuse_model, refuse_reentrant
from trainer.regions import Regions
from trainer.steering import STEERED, STEERING, SteeredPass, Steering, steered

__all__ = [
    "IMAGE",
    "RESPONSE",
    "SYSTEM",
    "USER",
    "Recorder",
    "Steering",
    "attention_layers",
    "bare_model",
    "full_attention_layers",
    "is_prepared",
    "prepare",
    "prepared",
    "record",
    "restore",
    "run_recorded",
    "start_recording",
    "steering",
    "steering_of",
    "still",
    "visible_keys",
]

IMPLEMENTATION = "avar_recording"
_STATE = "_avar_attention_before"


def prepare(model: PreTrainedModel) -> None:
    """Switch the text decoder to recording attention; without a recorder it computes what SDPA does.

    Undone by `restore`; preparing twice is harmless.
    Raises: AttentionError: a model whose masses cannot be recorded exactly, and why.
    """
    if is_prepared(model):
        return
    refuse_model(model)
    AttentionInterface.register(IMPLEMENTATION, _recording_attention)
    # Without an entry of its own here transformers builds no mask for it, and padding vanishes.
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
    before = _implementations(model)
    setattr(model, _STATE, before)
    model.set_attn_implementation(before | {_text_key(model): IMPLEMENTATION})
    missed = [name for name, own in _attention_configs(model) if own._attn_implementation != IMPLEMENTATION]
    if missed:
        restore(model)
        raise AttentionError(
            f"{type(model).__name__}: {missed[0]} keeps its own attention ({len(missed)} layers do): "
            "only layers that use transformers' AttentionInterface can be recorded"
        )


def restore(model: PreTrainedModel) -> None:
    """Give a prepared model its former attention back."""
    if is_prepared(model):
        model.set_attn_implementation(getattr(model, _STATE))
        delattr(model, _STATE)


@contextmanager
def prepared(model: PreTrainedModel) -> Iterator[None]:
    """`prepare` for a while; a model that was prepared before stays so."""
    already = is_prepared(model)
    prepare(model)
    try:
        yield
    finally:
        if not already:
            restore(model)


@contextmanager
def still(model: PreTrainedModel) -> Iterator[None]:
    """No gradient and no dropout: a look that draws no random number and changes no step."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def bare_model(model: Any) -> Any:
    """The model itself, out of peft's wrapper where there is one; its adapters stay in place."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def is_prepared(model: nn.Module) -> bool:
    """True between `prepare` and `restore`."""
    return getattr(model, _STATE, None) is not None


def attention_layers(model: PreTrainedModel) -> tuple[int, ...]:
    """The text decoder's softmax-attention layers: all, unless some are recurrent."""
    return tuple(_layer_kinds(model))


def full_attention_layers(model: PreTrainedModel) -> tuple[int, ...]:
    """Layers that see the whole sequence: those without a sliding or chunked window."""
    return tuple(layer for layer, kind in _layer_kinds(model).items() if kind == "full_attention")


def start_recording(
    model: PreTrainedModel,
    regions: Regions,
    *,
    layers: Collection[int] | None = None,
    queries: Tensor | None = None,
    extra: Tensor | None = None,
    observe: Observe | None = None,
    later_passes: LaterPasses = "refuse",
) -> Recorder:
    """A recorder for the next forward pass: `model(**inputs, **recorder.keywords)`, then `check()`.

    Args:
        layers: which layers, by default every softmax-attention layer.
        queries: bool [B, S], queries whose masses are wanted, by default all; the others are zero. Few of
            them cost less than all.
        extra: bool [B, S, E], further sets of keys, as columns 4 and up of the masses.
        observe: hears the full attention rows of the wanted queries, some at a time (`recorder.Observe`).
        later_passes: what to do with a second forward pass that is given this recorder: refuse it, or ignore
            it where a library is known to run one.
    Raises: AttentionError: the model is not prepared, has no such layer, or uses reentrant checkpointing.
    """
    if not is_prepared(model):
        raise AttentionError(
            f"{type(model).__name__} is not prepared for recording: call attention.prepare(model)"
        )
    known = attention_layers(model)
    unknown = sorted(set(() if layers is None else layers) - set(known))
    if unknown:
        raise AttentionError(
            f"layers {unknown} have no softmax attention; this model has it in {list(known)}"
        )
    gradients = torch.is_grad_enabled()
    if gradients and model.training:
        refuse_reentrant(model)
    return Recorder(
        regions,
        known if layers is None else layers,
        queries_BS=queries,
        extra_BSE=extra,
        expects_gradient=gradients,
        observe=observe,
        later_passes=later_passes,
    )


def record(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    regions: Regions,
    layers: Collection[int] | None = None,
    queries: Tensor | None = None,
) -> Masses:
    """Attention masses onto system, image, user and response keys, without the language-model head.

    Args:
        inputs: the model's inputs, B rows of S tokens; labels are left out.
        layers, queries: as in `start_recording`.
    Returns: a dict, layer -> float32 [B, H, S, 4] in [0, 1], share of each query's attention, differentiable
        where gradients are on; its `visible` says which queries see which keys, and the guided loss reads it.
    Raises: AttentionError: masses that would not be exact.
    Source: AVAR, arXiv 2603.03825, eq. 1.
    """
    recorder = start_recording(model, regions, layers=layers, queries=queries)
    run_recorded(model, inputs, recorder)
    return recorder.masses


def run_recorded(model: PreTrainedModel, inputs: Mapping[str, Any], recorder: Recorder) -> None:
    """A recorded forward pass without the language-model head, and its check."""
    kept = {name: value for name, value in inputs.items() if name not in {"labels", "use_cache"}}
    bare_model(model).base_model(**kept, use_cache=False, **recorder.keywords)
    recorder.check()


@contextmanager
def steering(
    model: PreTrainedModel,
    image: float = 0.15,
    system: float = 0.40,
    renormalise: bool = False,
    *,
    regions: Regions | None = None,
) -> Iterator[Steering]:
    """Multiply attention on image keys by 1 + image, on system keys by 1 - system, while the context lasts.

    Works in forward passes and inside `generate()`, with or without a cache, in every layer:

        with steering(model, image=0.15, system=0.40, regions=regions):
            model.generate(**encoded)

    Args:
        image: at least 0; 0.15 in the paper.
        system: in [0, 1); 0, 0.05, 0.40 or 0.60 in the paper.
        renormalise: make each query's attention sum to 1 again; the paper does not.
        regions: of the prompts; for several batches set `.regions` of what the context gives before each. A
            pass that is recorded (`record`, `measure_vas`) brings its own. Masses recorded under steering are
            those of the steered attention, its factors included.
            Regions of another batch are noticed by their shape and padding, where these differ.
    Raises: AttentionError: a strength out of range, a model that cannot be prepared, a layer that steering
        does not reach, a static cache, or regions that do not fit the rows.
    Source: AVAR, arXiv 2603.03825, "training-free intervention".
    """
    state = Steering(image, system, renormalise=renormalise, regions=regions)
    with prepared(model), steered(model, state, attention_layers(model)):
        yield state


def steering_of(model: PreTrainedModel) -> dict[str, float | bool] | None:
    """The strengths that a model is steered with at this moment, None where it is not."""
    state: Steering | None = getattr(model, STEERED, None)
    if state is None:
        return None
    return {"image": state.image, "system": state.system, "renormalise": state.renormalise}


def _recording_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **keywords: Any,
) -> tuple[Tensor, Tensor | None]:
    """SDPA as transformers calls it; the recorder's masses beside it, steered where asked."""
    recorder: Recorder | None = keywords.pop(RECORDER, None)
    steer: SteeredPass | None = keywords.pop(STEERING, None)
    layer = getattr(module, "layer_idx", None)
    refuse_keywords(layer, keywords, recording=recorder is not None or steer is not None)
    regions = recorder.regions if recorder is not None else None
    if recorder is not None and layer not in recorder.layers:
        recorder = None
    if layer is None or (recorder is None and steer is None):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **keywords
        )
    if dropout > 0:
        raise AttentionError(f"layer {layer}: attention dropout {dropout} makes masses random: set it to 0")
    if recorder is not None:
        recorder.admit(layer, query, key, keywords.get("position_ids"))
    scale: float = query.shape[-1] ** -0.5 if scaling is None else scaling
    keywords |= {"dropout": dropout, "scaling": scale}
    scaled_BN: Tensor | None = None  # what values, and so the columns, are multiplied by
    if steer is not None:
        factor_BN = steer.factors(layer, regions, key)
        if steer.renormalise:
            query, key = steer.bias_logits(query, key, factor_BN, scale)
        else:
            scaled_BN = factor_BN
            value = steer.scale_values(value, factor_BN)
    if recorder is None:
        return attend(module, query, key, value, attention_mask, **keywords)[0], None
    columns_BSC = recorder.columns_BSC.to(value.device, value.dtype)
    if scaled_BN is not None:
        columns_BSC = columns_BSC * scaled_BN[..., None].to(value.dtype)
    recorder.ceiling = steer.ceiling if steer else 1.0
    tensors = (query, key, value)
    return _record_layer(recorder, layer, module, tensors, attention_mask, columns_BSC, keywords), None


def _record_layer(
    recorder: Recorder,
    layer: int,
    module: nn.Module,
    tensors: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    columns_BSC: Tensor,
    keywords: Mapping[str, Any],
) -> Tensor:
    """The layer's output [B, S, H, D]; its masses go to the recorder."""
    query, key, _ = tensors
    causal = keywords.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    plan = recorder.plan(mask, causal, key.device)
    if plan.selection is None or plan.allowed is None or keywords.get("position_bias") is not None:
        output_BSHD, mass_BHSC = attend(module, *tensors, mask, columns_BSC, **keywords)
        assert mass_BHSC is not None
        recorder.keep(layer, mass_BHSC, plan)
        return output_BSHD
    scaling = keywords["scaling"]
    if recorder.observe is not None:
        for slots, maps_BHUN in iterate_maps(query, key, plan.selection, plan.allowed, scaling=scaling):
            recorder.observe(layer, plan.selection, slots, maps_BHUN)
    mass_BHUC = select_masses(query, key, columns_BSC, plan.selection, plan.allowed, scaling=scaling)
    recorder.keep(layer, plan.selection.scatter(mass_BHUC), plan)
    return attend(module, *tensors, mask, **keywords)[0]


def _layer_kinds(model: PreTrainedModel) -> dict[int, str]:
    config: Any = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if not kinds:  # as Mistral's: one window for all layers
        windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        kinds = ["sliding_attention" if windowed else "full_attention"] * config.num_hidden_layers
    softmax = {"full_attention", "sliding_attention", "chunked_attention"}
    return {layer: kind for layer, kind in enumerate(kinds) if kind in softmax}


def _attention_configs(model: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    """(name, config) of the text decoder's attention modules: vision modules have no layer index."""
    text_type = type(model.config.get_text_config())
    for name, module in model.named_modules():
        own = getattr(module, "config", None)
        if getattr(module, "layer_idx", None) is not None and isinstance(own, text_type):
            yield name, own


def _implementations(model: PreTrainedModel) -> dict[str, Any]:
    config: Any = model.config
    subs = {name: getattr(config, name, None) for name in config.sub_configs}
    return {"": config._attn_implementation} | {
        name: sub._attn_implementation for name, sub in subs.items() if sub is not None
    }


def _text_key(model: PreTrainedModel) -> str:
    """The sub-config that holds the text decoder, "" for a model that is one."""
    config: Any = model.config
    text = config.get_text_config()
    return next((name for name in config.sub_configs if getattr(config, name, None) is text), "")
