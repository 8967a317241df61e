"""Training steps to be priced: plain SDPA, ours, full attention maps, and other ways to a mass.

B rows, H heads, K key/value heads, S tokens, D head size, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, Qwen2Config, Qwen2ForCausalLM
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from trainer.attention import prepared, start_recording
from trainer.kernels import Selection, allowed_keys, attend, select_masses, select_queries
from trainer.losses import attention_guided_loss
from trainer.recorder import IMAGE, SYSTEM
from trainer.regions import Label, Regions

CANDIDATE = "avar_bench_candidate"
Step = Callable[[], float]  # one training step; its loss
WEIGHT = 0.15
SHARPER = 8.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A language model and the lengths it is measured at."""

    device: str
    dtype: torch.dtype
    sequences: tuple[int, ...]
    config: dict[str, Any] = field(hash=False)


def cpu_shape() -> Shape:
    """4 layers of 8 heads of 64, float32."""
    config: dict[str, Any] = {
        "num_hidden_layers": 4,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    }
    return Shape(device="cpu", dtype=torch.float32, sequences=(512, 1024, 2048, 4096, 8192), config=config)


def cuda_shape() -> Shape:
    """One decoder layer like the 7B model's: 28 heads of 128 on 4 key/value heads, bfloat16."""
    config: dict[str, Any] = {
        "num_hidden_layers": 1,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    }
    sequences = (2048, 4096, 8192, 16384, 32768)
    return Shape(device="cuda", dtype=torch.bfloat16, sequences=sequences, config=config)


@cache
def make_model(shape: Shape) -> Any:
    """The language model, with random weights and a small vocabulary.

    Queries and keys are scaled up: with uniform attention the two terms cancel, and no loss tells a mistake.
    """
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 1024, "max_position_embeddings": 65536, "use_cache": False}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**sizes, **shape.config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(SHARPER)
    return model.to(shape.device, shape.dtype).train()


def make_batch(tokens: int, device: str) -> tuple[dict[str, Tensor], Regions]:
    """One row: 1/16 system (at most 64 tokens), 1/4 image, 1/8 question (at most 128), then response."""
    system, image, user = min(64, tokens // 16), tokens // 4, min(128, tokens // 8)
    labels = [Label.SYSTEM] * system + [Label.IMAGE] * image + [Label.USER] * user
    labels += [Label.RESPONSE] * (tokens - len(labels))
    regions = Regions.from_labels(torch.tensor([labels], dtype=torch.int8)).to(device)
    dice = torch.Generator().manual_seed(tokens)
    ids_BS = torch.randint(0, 1024, (1, tokens), generator=dice).to(device)
    targets_BS = ids_BS.masked_fill(~regions.response, -100)
    return {"input_ids": ids_BS, "labels": targets_BS}, regions


def make_step(shape: Shape, tokens: int, variant: str) -> Step:
    """A step of this variant, ready to be called again and again."""
    model = make_model(shape)
    inputs, regions = make_batch(tokens, shape.device)
    make = VARIANTS[variant]

    def step() -> float:
        loss = make(model, inputs, regions)
        loss.backward()
        model.zero_grad(set_to_none=True)  # so that what lies there between two steps is the model alone
        return float(loss.detach())

    return step


def _guided(masses: Mapping[int, Tensor], regions: Regions) -> Tensor:
    return attention_guided_loss(masses, regions, WEIGHT, WEIGHT, form="paper")[0]


# ---------------------------------------------------------------------------------- the three that count


def plain(model: Any, inputs: dict[str, Tensor], regions: Regions) -> Tensor:
    """The model's own SDPA, the language-model loss alone."""
    return model(**inputs).loss


def ours(model: Any, inputs: dict[str, Tensor], regions: Regions) -> Tensor:
    """What the trainer does: masses of the question's tokens."""
    with prepared(model):
        recorder = start_recording(model, regions, queries=regions.user)
        loss = model(**inputs, **recorder.keywords).loss
        recorder.check()
        return loss + _guided(recorder.masses, regions)


def ours_all(model: Any, inputs: dict[str, Tensor], regions: Regions) -> Tensor:
    """Masses of every token."""
    with prepared(model):
        recorder = start_recording(model, regions)
        loss = model(**inputs, **recorder.keywords).loss
        recorder.check()
        return loss + _guided(recorder.masses, regions)


def maps(model: Any, inputs: dict[str, Tensor], regions: Regions) -> Tensor:
    """Every attention map of every layer is kept, and summed over the keys of a region."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        output = model(**inputs, output_attentions=True)
    finally:
        model.set_attn_implementation(before)
    columns_BKC = regions.columns.to(output.attentions[0].dtype)[:, None]
    masses = {layer: (map_BHSS @ columns_BKC).float() for layer, map_BHSS in enumerate(output.attentions)}
    return output.loss + _guided(masses, regions)


# ------------------------------------------------------------------------------------------- candidates


class Call(NamedTuple):
    """One layer's attention: causal, scaled, and whose masses are wanted."""

    module: nn.Module
    query: Tensor  # [B, H, S, D]
    key: Tensor  # [B, K, S, D]
    value: Tensor
    columns: Tensor  # [B, S, C]
    selection: Selection
    scaling: float

    def plain(self) -> Tensor:
        """The model's own attention. [B, S, H, D]."""
        return attend(self.module, self.query, self.key, self.value, None, scaling=self.scaling)[0]


# Gives the output [B, S, H, D], and masses [B, H, S or U, C].
Kernel = Callable[[Call], tuple[Tensor, Tensor]]


def candidate(kernel: Kernel, model: Any, inputs: dict[str, Tensor], regions: Regions) -> Tensor:
    """A step whose attention and masses come from `kernel`."""
    AttentionInterface.register(CANDIDATE, _candidate_attention)
    AttentionMaskInterface.register(CANDIDATE, sdpa_mask)
    masses: dict[int, Tensor] = {}
    before = model.config._attn_implementation
    model.set_attn_implementation(CANDIDATE)
    try:
        carried = {"bench": (kernel, select_queries(regions.user), regions, masses)}
        loss = model(**inputs, **carried).loss
    finally:
        model.set_attn_implementation(before)
    return loss + _guided(masses, regions)


def _candidate_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **keywords: Any,
) -> tuple[Tensor, None]:
    kernel, selection, regions, masses = keywords["bench"]
    call = Call(module, query, key, value, regions.columns.to(value.dtype), selection, scaling)
    output_BSHD, mass = kernel(call)
    mass_BHSC = mass if mass.shape[2] == query.shape[2] else selection.scatter(mass)
    masses[int(module.layer_idx)] = mass_BHSC.float()  # type: ignore[arg-type]
    return output_BSHD, None


def columns(backend: SDPBackend | None, call: Call) -> tuple[Tensor, Tensor]:
    """Value columns in the model's own call, Q, K and V padded to one size, on one backend."""
    with nullcontext() if backend is None else sdpa_kernel(backend):
        output, mass = attend(*call[:4], None, call.columns, scaling=call.scaling)
    assert mass is not None
    return output, mass


def _with_columns(call: Call) -> Tensor:
    """The values with the columns beside them, 8 wide."""
    columns_BSW = F.pad(call.columns, (0, 8 - call.columns.shape[-1]))
    return torch.cat([call.value, columns_BSW[:, None].expand(-1, call.value.shape[1], -1, -1)], dim=-1)


def narrow(backend: SDPBackend | None, call: Call) -> tuple[Tensor, Tensor]:
    """Value columns without padding Q and K: for backends that take unequal head sizes."""
    sets, size, groups = (
        call.columns.shape[-1],
        call.value.shape[-1],
        call.query.shape[1] // call.key.shape[1],
    )
    key, wide = (tensor.repeat_interleave(groups, dim=1) for tensor in (call.key, _with_columns(call)))
    with nullcontext() if backend is None else sdpa_kernel(backend):
        output = F.scaled_dot_product_attention(call.query, key, wide, is_causal=True, scale=call.scaling)
    return output[..., :size].transpose(1, 2).contiguous(), output[..., size : size + sets]


def selected(call: Call) -> tuple[Tensor, Tensor]:
    """The model's own call, and a second attention of the wanted queries alone."""
    allowed = allowed_keys(call.selection, None, causal=True)
    mass = select_masses(call.query, call.key, call.columns, call.selection, allowed, scaling=call.scaling)
    return call.plain(), mass


def twice(call: Call) -> tuple[Tensor, Tensor]:
    """The model's own call, and a second one of all queries whose values are the columns."""
    values = F.pad(call.columns, (0, call.value.shape[-1] - call.columns.shape[-1]))
    values = values[:, None].expand_as(call.value)
    output = attend(call.module, call.query, call.key, values, None, scaling=call.scaling)[0].transpose(1, 2)
    return call.plain(), output[..., : call.columns.shape[-1]]


@cache
def _flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def flex(call: Call) -> tuple[Tensor, Tensor]:
    """FlexAttention: a mass is exp of the log-sum-exp over its keys minus that over all keys.

    A region's log-sum-exp needs an attention of its own, over the region's keys alone.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def causal(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k

    attention, tokens = _flex(), call.query.shape[2]
    block = create_block_mask(causal, None, None, tokens, tokens, device=str(call.query.device))
    options = {"scale": call.scaling, "enable_gqa": True, "return_lse": True}
    output, total = attention(call.query, call.key, call.value, block_mask=block, **options)
    masses = [torch.zeros_like(total)] * call.columns.shape[-1]
    for column in (SYSTEM, IMAGE):
        places = call.columns[0, :, column].nonzero().flatten()
        first, count = int(places[0]), len(places)

        def within(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor, first: int = first) -> Tensor:
            return torch.where(q >= k + first, score, -float("inf"))

        part_key, part_value = (part[:, :, first : first + count] for part in (call.key, call.value))
        _, part = attention(call.query, part_key, part_value, score_mod=within, **options)
        masses[column] = (part - total).exp()
    return output.transpose(1, 2).contiguous(), torch.stack(masses, dim=-1)


def flash2(call: Call) -> tuple[Tensor, Tensor]:
    """FlashAttention-2's own package, heads padded to the next size it takes."""
    from flash_attn import flash_attn_func  # type: ignore[import-not-found]

    sets, size = call.columns.shape[-1], call.value.shape[-1]
    padded = (F.pad(call.query, (0, 8)), F.pad(call.key, (0, 8)), _with_columns(call))
    parts = (part.transpose(1, 2) for part in padded)
    output = flash_attn_func(*parts, softmax_scale=call.scaling, causal=True)
    return output[..., :size].contiguous(), output[..., size : size + sets].transpose(1, 2)


_KERNELS: dict[str, Kernel] = {
    "columns": partial(columns, None),
    "columns, flash": partial(columns, SDPBackend.FLASH_ATTENTION),
    "columns, cudnn": partial(columns, SDPBackend.CUDNN_ATTENTION),
    "columns, efficient": partial(columns, SDPBackend.EFFICIENT_ATTENTION),
    "narrow, cudnn": partial(narrow, SDPBackend.CUDNN_ATTENTION),
    "narrow, efficient": partial(narrow, SDPBackend.EFFICIENT_ATTENTION),
    "narrow, math": partial(narrow, SDPBackend.MATH),
    "flex lse": flex,
    "flash-attn 2": flash2,
    "selected": selected,
    "twice": twice,
}
VARIANTS: dict[str, Callable[[Any, dict[str, Tensor], Regions], Tensor]] = {
    "plain": plain,
    "ours": ours,
    "maps": maps,
    "ours, all queries": ours_all,
} | {name: partial(candidate, kernel) for name, kernel in _KERNELS.items()}
