"""Training-free steering: more attention on image keys, less on system keys, while a model runs.

B rows, H heads, K key/value heads, S queries, N keys (cached ones included), D head size.

On post-softmax attention A, steering multiplies the weight of image keys by 1 + image and of system keys
by 1 - system. As the output A V is linear in V, that is V scaled row by row, after the cache and never in
it. The renormalised form (rows sum to 1 again) adds log(1 + image) and log(1 - system) to the logits: one
more column in Q and K. Either way the fused kernel stays. Free of trl and datasets.
Source: AVAR, arXiv 2603.03825, "training-free intervention".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from schemas.errors import AttentionError
from trainer.kernels import HEAD_MULTIPLE
from trainer.regions import Regions

STEERING = "avar_steering"  # the forward keyword that carries it down to every layer
STEERED = "_avar_steering"  # the attribute of a steered model


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


class SteeredPass:
    """One forward pass under steering: a snapshot, so that a checkpoint's recomputation finds it unchanged.

    Attributes:
        total: keys after this pass, cached ones included.
        reached: the layers that asked for their factors.
    """

    def __init__(self, steering: Steering, inputs_BS: Tensor, mask: object, past: int) -> None:
        """`inputs_BS`: the decoder's embeddings (or ids); `mask`: its attention_mask; `past`: keys cached."""
        self.image, self.system = steering.image, steering.system
        self.renormalise, self._regions = steering.renormalise, steering.regions
        self.total = past + inputs_BS.shape[1]
        self.reached: set[int] = set()
        self._rows = len(inputs_BS)
        self._inputs, self._mask = (inputs_BS.detach(), mask) if past == 0 else (None, None)
        self._factors: tuple[Regions, Tensor] | None = None

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
        regions = self._regions if regions is None else regions
        if regions is None:
            raise AttentionError(
                "steering does not know which tokens are image and system: "
                "give it regions=find_regions(processor, messages, encoded)"
            )
        keys = keys_BKND.shape[2]
        if keys > self.total:
            raise AttentionError(f"layer {layer}: {keys} keys for {self.total} tokens: {_STATIC}")
        if self._factors is None or self._factors[0] is not regions:
            self._refuse_other_rows(regions)
            self._factors = (regions, self._factors_of(regions))
        self.reached.add(layer)
        # A cache of a sliding window holds the last keys only.
        return self._factors[1][:, self.total - keys :].to(keys_BKND.device)

    def _factors_of(self, regions: Regions) -> Tensor:
        factor_BS = torch.ones(regions.valid.shape, device=regions.valid.device)
        factor_BS = factor_BS.masked_fill(regions.image, 1 + self.image)
        factor_BS = factor_BS.masked_fill(regions.system, 1 - self.system)
        factor_BT = F.pad(factor_BS, (0, self.total - factor_BS.shape[1]), value=1.0)
        return factor_BT.repeat_interleave(self._rows // len(factor_BT), dim=0)  # copies lie side by side

    def _refuse_other_rows(self, regions: Regions) -> None:
        prompts, tokens = regions.valid.shape
        fits = self._rows % prompts == 0 and self.total >= tokens
        if fits and self._inputs is not None and self._rows > prompts:  # copies of a prompt
            copies = self._inputs[:, :tokens].unflatten(0, (prompts, -1))
            fits = bool((copies == copies[:, :1]).all())
        if fits and isinstance(self._mask, Tensor) and self._mask.ndim == 2:
            valid_BS = regions.valid.repeat_interleave(self._rows // prompts, dim=0)
            fits = torch.equal(self._mask[:, :tokens].bool(), valid_BS.to(self._mask.device))
        if not fits:
            raise AttentionError(
                f"{self._rows} rows of {self.total} tokens, but the regions are of {prompts} rows of "
                f"{tokens}, of other texts or with other padding: set the regions of this batch; a prompt "
                "must be read at once"
            )

    def scale_values(self, value_BKND: Tensor, factor_BN: Tensor) -> Tensor:
        """The values of the form that is not renormalised."""
        return value_BKND * factor_BN[:, None, :, None].to(value_BKND.dtype)

    def bias_logits(
        self, query_BHSD: Tensor, key_BKND: Tensor, factor_BN: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Q and K of the renormalised form: one more column each, whose product is the bias."""
        bias_BKN = (factor_BN.log() / scaling).to(key_BKND.dtype)[:, None].expand(-1, key_BKND.shape[1], -1)
        key_BKNE = torch.cat([key_BKND, F.pad(bias_BKN[..., None], (0, HEAD_MULTIPLE - 1))], dim=-1)
        ones_BHS = torch.ones_like(query_BHSD[..., :1])
        return torch.cat([query_BHSD, F.pad(ones_BHS, (0, HEAD_MULTIPLE - 1))], dim=-1), key_BKNE


_STATIC = "static caches cannot be steered; use the default cache (cache_implementation=None)"


@contextmanager
def steered(model: PreTrainedModel, state: Steering, layers: Collection[int]) -> Iterator[Steering]:
    """Steer a model that is prepared for recording; `attention.steering` is the public form.

    Args:
        layers: every layer that must be steered in every pass.
    Raises: AttentionError: already steered; in a pass: layers that steering did not reach.
    """
    if getattr(model, STEERED, None) is not None:
        raise AttentionError(f"{type(model).__name__} is steered already: leave the other context first")

    def start(decoder: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return args, keywords | {STEERING: _start_pass(state, args, keywords)}

    def finish(decoder: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        missed = sorted(set(layers) - keywords[STEERING].reached)
        if missed:
            raise AttentionError(
                f"{type(decoder).__name__}: steering did not reach layers {missed}: they hand no keywords "
                "down to attention, or their attention was set anew; use a model whose layers do"
            )

    decoder: Any = model.get_decoder()
    hooks = [
        decoder.register_forward_pre_hook(start, with_kwargs=True),
        decoder.register_forward_hook(finish, with_kwargs=True),
    ]
    setattr(model, STEERED, state)
    try:
        yield state
    finally:
        for hook in hooks:
            hook.remove()
        delattr(model, STEERED)


def _start_pass(state: Steering, args: tuple[Any, ...], keywords: dict[str, Any]) -> SteeredPass:
    inputs = keywords.get("inputs_embeds")
    inputs = inputs if inputs is not None else keywords.get("input_ids", args[0] if args else None)
    if inputs is None:
        raise AttentionError("steering: the decoder was called without inputs_embeds or input_ids")
    cache = keywords.get("past_key_values")
    if cache is not None and getattr(cache, "is_compileable", False):
        raise AttentionError(f"{type(cache).__name__}: {_STATIC}")
    past = int(cache.get_seq_length()) if cache is not None else 0
    return SteeredPass(state, inputs, keywords.get("attention_mask"), past)
