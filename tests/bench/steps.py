"""Training steps to be priced: plain SDPA, ours, full attention maps, and other ways to a mass.

B rows, H heads, K key/value heads, S tokens, D head size, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, Qwen2Config, Qwen2ForCausalLM
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from tests.bench.meter import Step
from trainer.attention import prepared, start_recording
from trainer.kernels import Selection, allowed_keys, attend, select_masses, select_queries
from trainer.losses import attention_guided_loss
from trainer.recorder import IMAGE, SYSTEM
from trainer.regions import Label, Regions

CANDIDATE = "avar_bench_candidate"
WEIGHT = 0.15


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
    """The language model, with random weights and a small vocabulary."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 1024, "max_position_embeddings": 65536, "use_cache": False}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**sizes, **shape.config))
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
        model.zero_grad(set_to_none=True)
        loss = make(model, inputs, regions)
        loss.backward()
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


Kernel = Callable[..., tuple[Tensor, Tensor]]


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
    columns_BSC = regions.columns.to(value.dtype)
    output_BSHD, mass = kernel(module, query, key, value, columns_BSC, selection, scaling)
    mass_BHSC = mass if mass.shape[2] == query.shape[2] else selection.scatter(mass)
    masses[int(module.layer_idx)] = mass_BHSC.float()  # type: ignore[arg-type]
    return output_BSHD, None


def _plain_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    return attend(module, query, key, value, None, scaling=scaling)[0]


def columns(
    backend: SDPBackend | None,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    columns_BSC: Tensor,
    selection: Selection,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """Value columns in the model's own call, Q, K and V padded to one size, on one backend."""
    with nullcontext() if backend is None else sdpa_kernel(backend):
        output, mass = attend(module, query, key, value, None, columns_BSC, scaling=scaling)
    assert mass is not None
    return output, mass


def narrow(
    backend: SDPBackend | None,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    columns_BSC: Tensor,
    selection: Selection,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """Value columns without padding Q and K: for backends that take unequal head sizes."""
    sets, size, groups = columns_BSC.shape[-1], value.shape[-1], query.shape[1] // key.shape[1]
    columns_BKSW = F.pad(columns_BSC, (0, 8 - sets))[:, None].expand(-1, value.shape[1], -1, -1)
    wide = torch.cat([value, columns_BKSW], dim=-1)
    key, wide = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, wide))
    with nullcontext() if backend is None else sdpa_kernel(backend):
        output = F.scaled_dot_product_attention(query, key, wide, is_causal=True, scale=scaling)
    return output[..., :size].transpose(1, 2).contiguous(), output[..., size : size + sets]


def selected(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    columns_BSC: Tensor,
    selection: Selection,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """The model's own call, and a second attention of the wanted queries alone."""
    allowed = allowed_keys(selection, None, causal=True)
    mass = select_masses(query, key, columns_BSC, selection, allowed, scaling=scaling)
    return _plain_attention(module, query, key, value, scaling), mass


def twice(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    columns_BSC: Tensor,
    selection: Selection,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """The model's own call, and a second one of all queries whose values are the columns."""
    values = F.pad(columns_BSC, (0, value.shape[-1] - columns_BSC.shape[-1]))[:, None].expand_as(value)
    output = attend(module, query, key, values, None, scaling=scaling)[0].transpose(1, 2)
    return _plain_attention(module, query, key, value, scaling), output[..., : columns_BSC.shape[-1]]


@cache
def _flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def flex(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    columns_BSC: Tensor,
    selection: Selection,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """FlexAttention: a mass is exp of the log-sum-exp over its keys minus that over all keys.

    A region's log-sum-exp needs an attention of its own, over the region's keys alone.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def causal(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k

    attention, tokens = _flex(), query.shape[2]
    block = create_block_mask(causal, None, None, tokens, tokens, device=str(query.device))
    options = {"scale": scaling, "enable_gqa": True, "return_lse": True}
    output, total = attention(query, key, value, block_mask=block, **options)
    masses = [torch.zeros_like(total)] * columns_BSC.shape[-1]
    for column in (SYSTEM, IMAGE):
        places = columns_BSC[0, :, column].nonzero().flatten()
        first, count = int(places[0]), len(places)

        def within(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor, first: int = first) -> Tensor:
            return torch.where(q >= k + first, score, -float("inf"))

        part_key, part_value = key[:, :, first : first + count], value[:, :, first : first + count]
        _, part = attention(query, part_key, part_value, score_mod=within, **options)
        masses[column] = (part - total).exp()
    return output.transpose(1, 2).contiguous(), torch.stack(masses, dim=-1)


def flash2(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    columns_BSC: Tensor,
    selection: Selection,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """FlashAttention-2's own package, heads padded to the next size it takes."""
    from flash_attn import flash_attn_func  # type: ignore[import-not-found]

    sets, size = columns_BSC.shape[-1], value.shape[-1]
    columns_BKSW = F.pad(columns_BSC, (0, 8 - sets))[:, None].expand(-1, value.shape[1], -1, -1)
    wide = torch.cat([value, columns_BKSW], dim=-1)
    padded = (F.pad(query, (0, 8)), F.pad(key, (0, 8)), wide)
    output = flash_attn_func(*(part.transpose(1, 2) for part in padded), softmax_scale=scaling, causal=True)
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
