"""What cannot be recorded exactly: each case is an error that says why. Free of trl and datasets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from schemas.errors import AttentionError

# Keywords that the kernel knows, or that cannot change what it computes. Anything else is refused, since
# plain SDPA swallows a keyword it does not know without a word.
_HARMLESS = frozenset(inspect.signature(sdpa_attention_forward).parameters) | {
    "sliding_window",  # already in the mask
    "position_ids",
    "cache_position",
    "use_cache",
    "return_dict",
    "num_items_in_batch",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    # of the whole model; some families hand them down to every layer
    "labels",
    "logits_to_keep",
    "image_sizes",
    "batch_num_images",
}
_PACKED = "packed rows cannot be recorded; pad them instead"
_REFUSED = {
    "s_aux": "learned attention sinks take a share of the mass that SDPA does not know; use a model without",
    "sinks": "learned attention sinks take a share of the mass that SDPA does not know; use a model without",
    "softcap": "SDPA does not know a soft cap on the logits; use a model without",
    "cu_seq_lens_q": _PACKED,
    "cu_seq_lens_k": _PACKED,
    "seq_idx": _PACKED,
}


def refuse_model(model: PreTrainedModel) -> None:
    name, config = type(model).__name__, model.config.get_text_config()
    if model.config.model_type == "mllama" or getattr(config, "cross_attention_layers", None):
        raise AttentionError(
            f"{name}: images are read in cross-attention layers, whose rows sum to 1 over the image: no "
            "share of attention is defined; use a model whose image tokens stand in the sequence"
        )
    if not model._can_set_attn_implementation():
        raise AttentionError(f"{name}: does not use transformers' AttentionInterface; use a model that does")
    if getattr(config, "attn_logit_softcapping", None) is not None:
        raise AttentionError(f"{name}: attn_logit_softcapping: {_REFUSED['softcap']}")
    for path, _ in model.named_parameters():
        if path.endswith((".sinks", ".s_aux")):
            raise AttentionError(f"{name}: {path}: {_REFUSED['sinks']}")


def refuse_reentrant(model: PreTrainedModel) -> None:
    for module in model.modules():
        checkpoint = getattr(module, "_gradient_checkpointing_func", None)
        options = getattr(checkpoint, "keywords", {})
        if getattr(module, "gradient_checkpointing", False) and options.get("use_reentrant"):
            raise AttentionError(
                f"{type(model).__name__}: reentrant checkpointing loses the gradient of the masses; set "
                "gradient_checkpointing_kwargs={'use_reentrant': False}"
            )


def refuse_keywords(layer: int | None, keywords: Mapping[str, Any], *, recording: bool) -> None:
    for name, value in keywords.items():
        if value is None:
            continue
        # Sinks and soft caps are the model's own: without them even its output would be another's.
        if name in _REFUSED and (recording or _REFUSED[name] is not _PACKED):
            raise AttentionError(f"layer {layer}: {name}: {_REFUSED[name]}")
        if recording and name not in _HARMLESS and name not in _REFUSED:
            raise AttentionError(
                f"layer {layer}: unknown attention keyword {name!r} may change the masses: use a model "
                "without it"
            )
