"""Training-free steering: more attention on image keys, less on system keys, while a model runs.

B rows, H heads, K key/value heads, S queries, N keys (cached ones included), D head size.

On post-softmax attention A, steering multiplies the weight of image keys by 1 + image and of system keys
by 1 - system. As the output A V is linear in V, that is V scaled row by row, after the cache and never in
it. The renormalised form (rows sum to 1 again) adds log(1 + image) and log(1 - system) to the logits: one
more column in Q and K. Either way the fused kernel stays. Free of trl and datasets.
Source: AVAR, arXiv 2603.03825, "training-free intervention".
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from schemas.errors import AttentionError
from trainer.regions import Regions

STEERING = "avar_steering"  # the forward keyword that carries it down to every layer
STEERED = "_avar_steering"  # the attribute of a steered model
_COLUMNS = 8  # head sizes grow by as much as every fused kernel takes


class Steering:
    """How attention is steered; what `steering` gives.

    Attributes:
        image: image keys count 1 + image times, at least 0.
        system: system keys count 1 - system times, in [0, 1).
        renormalise: rows of attention sum to 1 again.
        regions: of the prompts that run next; set it before each batch. Keys that come later, as when an
            answer is generated, are not steered. A forward pass that is recorded brings its own.
    """

    def __init__(
        self, image: float, system: float, *, renormalise: bool = False, regions: Regions | None = None
    ) -> None:
        if not (math.isfinite(image) and image >= 0):
            raise AttentionError(f"steering: image = {image}, need a finite number of at least 0")
        if not 0 <= system < 1:
            raise AttentionError(f"steering: system = {system}, need 0 <= system < 1")
        self.image, self.system, self.renormalise, self.regions = image, system, renormalise, regions
        self.total = 0  # keys so far, as of the running forward pass

    @property
    def ceiling(self) -> float:
        """The largest mass that a steered query can have."""
        return 1.0 if self.renormalise else 1.0 + self.image

    def factors(self, layer: int, regions: Regions | None, keys_BKND: Tensor) -> Tensor:
        """What each key's weight is multiplied by. float32 [B, N].

        Args:
            regions: of a recorded pass; by default those of the context.
        Raises: AttentionError: no regions, or regions of other rows than these.
        """
        regions = self.regions if regions is None else regions
        if regions is None:
            raise AttentionError(
                "steering does not know which tokens are image and system: "
                "give it regions=find_regions(processor, messages, encoded)"
            )
        rows, keys = keys_BKND.shape[0], keys_BKND.shape[2]
        prompts, tokens = regions.valid.shape
        if rows % prompts or self.total < tokens:
            raise AttentionError(
                f"layer {layer}: {rows} rows of {self.total} tokens, but the regions are of {prompts} rows "
                f"of {tokens}: set the regions of this batch; a prompt must be read at once"
            )
        if keys > self.total:
            raise AttentionError(f"layer {layer}: {keys} keys for {self.total} tokens: {_STATIC}")
        device = keys_BKND.device
        factor_BS = torch.ones(prompts, tokens, device=device)
        factor_BS = factor_BS.masked_fill(regions.image.to(device), 1 + self.image)
        factor_BS = factor_BS.masked_fill(regions.system.to(device), 1 - self.system)
        factor_BT = F.pad(factor_BS, (0, self.total - tokens), value=1.0)
        # A cache of a sliding window holds the last keys only; copies of a prompt lie side by side.
        return factor_BT[:, self.total - keys :].repeat_interleave(rows // prompts, dim=0)

    def scale_values(self, value_BKND: Tensor, factor_BN: Tensor) -> Tensor:
        """The values of the form that is not renormalised."""
        return value_BKND * factor_BN[:, None, :, None].to(value_BKND.dtype)

    def bias_logits(
        self, query_BHSD: Tensor, key_BKND: Tensor, factor_BN: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Q and K of the renormalised form: one more column each, whose product is the bias."""
        bias_BKN = (factor_BN.log() / scaling).to(key_BKND.dtype)[:, None].expand(-1, key_BKND.shape[1], -1)
        key_BKNE = torch.cat([key_BKND, F.pad(bias_BKN[..., None], (0, _COLUMNS - 1))], dim=-1)
        ones_BHS = torch.ones_like(query_BHSD[..., :1])
        return torch.cat([query_BHSD, F.pad(ones_BHS, (0, _COLUMNS - 1))], dim=-1), key_BKNE


_STATIC = "static caches cannot be steered; use the default cache (cache_implementation=None)"


@contextmanager
def steered(model: PreTrainedModel, state: Steering) -> Iterator[Steering]:
    """Steer a model that is prepared for recording; `attention.steering` is the public form.

    Raises: AttentionError: already steered, or a text decoder that does not hand keywords down.
    """
    if getattr(model, STEERED, None) is not None:
        raise AttentionError(f"{type(model).__name__} is steered already: leave the other context first")
    decoder = _decoder(model)
    hook = decoder.register_forward_pre_hook(
        lambda _, args, keywords: (args, _carry(state, args, keywords)), with_kwargs=True
    )
    setattr(model, STEERED, state)
    try:
        yield state
    finally:
        hook.remove()
        delattr(model, STEERED)


def _decoder(model: PreTrainedModel) -> nn.Module:
    decoder: Any = model.get_decoder()
    parameters = inspect.signature(decoder.forward).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        raise AttentionError(f"{type(decoder).__name__} takes no further keywords: it cannot be steered")
    return decoder


def _carry(state: Steering, args: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """The decoder's keywords with the steering, once it knows how many keys there are."""
    inputs = keywords.get("inputs_embeds")
    inputs = inputs if inputs is not None else keywords.get("input_ids", args[0] if args else None)
    if inputs is None:
        raise AttentionError("steering: the decoder was called without inputs_embeds or input_ids")
    cache = keywords.get("past_key_values")
    if cache is not None and getattr(cache, "is_compileable", False):
        raise AttentionError(f"{type(cache).__name__}: {_STATIC}")
    past = int(cache.get_seq_length()) if cache is not None else 0
    state.total = past + inputs.shape[1]
    return keywords | {STEERING: state}
