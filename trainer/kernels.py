"""Two exact ways to attention masses that never store a map, and an explicit one for a few rows.

B rows, H heads, K key/value heads, S tokens, U wanted queries of a row, N keys they can see, D head size,
C columns (one per recorded set of keys).

`attend` carries the columns through the model's own call, for all queries at once. `select_masses` leaves
that call as it is and asks a second, small attention for the wanted queries alone. Which is cheaper depends
on how many queries are wanted (`prefers_selection`; measured by `python -m tests.bench.attention`).
Free of trl and datasets. Source: METHOD, "One identity".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from schemas.errors import AttentionError

HEAD_MULTIPLE = 8  # head sizes that every fused kernel takes
# A selected query costs about 2 D per key and head, a widened one 2 * 8 more than it did: with D = 64 they
# break even near S * S / 16 pairs of query and key.
_SELECT_BELOW = 1 / 16
_UNCLEAR = -1e3  # a number below it that is added to a logit is meant to hide the key
_MAP_QUERIES = 128  # rows of a map that are in memory at one time


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The wanted queries of a batch, gathered: U is the largest number that a row has.

    Attributes:
        index: [B, U], position of each wanted query; 0 in the slots that a row does not need.
        slots: (row, slot) of the wanted queries, two vectors; `places`: (row, position) of the same.
        tokens: S.
    """

    index: Tensor
    slots: tuple[Tensor, Tensor]
    places: tuple[Tensor, Tensor]
    tokens: int

    @property
    def used(self) -> Tensor:
        """bool [B, U], slots that hold a query."""
        used_BU = torch.zeros_like(self.index, dtype=torch.bool)
        used_BU[self.slots] = True
        return used_BU

    def scatter(self, mass_BHUC: Tensor) -> Tensor:
        """Masses of the wanted queries at their positions, zero elsewhere. [B, H, S, C]."""
        rows, heads, _, sets = mass_BHUC.shape
        empty_BSHC = mass_BHUC.new_zeros(rows, self.tokens, heads, sets)
        wanted = mass_BHUC.transpose(1, 2)[self.slots]
        return empty_BSHC.index_put(self.places, wanted).transpose(1, 2)


def select_queries(wanted_BS: Tensor) -> Selection:
    """The selection of bool [B, S]."""
    row, position = wanted_BS.nonzero(as_tuple=True)
    slot = (wanted_BS.cumsum(dim=1) - 1)[row, position]
    most = int(wanted_BS.sum(dim=1).max()) if wanted_BS.numel() else 0
    index_BU = torch.zeros(len(wanted_BS), most, dtype=torch.long, device=wanted_BS.device)
    index_BU[row, slot] = position
    return Selection(index=index_BU, slots=(row, slot), places=(row, position), tokens=wanted_BS.shape[1])


def allowed_keys(selection: Selection, mask: Tensor | None, causal: bool) -> Tensor:
    """The rows of the kernel's mask that belong to the selected queries.

    Args:
        mask: [B or 1, 1 or H, S, S], bool (True: may look) or added to the logits; None: causal, or no mask.
    Returns: [B, 1 or H, U, N] of the mask's kind, N up to the last key that any of them sees. Slots without a
        query may see everything, since a row without a key is NaN in some kernels.
    """
    index_BU = selection.index
    rows, most = index_BU.shape
    if mask is None:
        last = int(index_BU.max()) + 1 if causal else selection.tokens
        keys = torch.arange(last, device=index_BU.device)
        allowed_BUN = keys <= index_BU[..., None] if causal else keys.expand(rows, most, -1) >= 0
        return allowed_BUN[:, None]
    mask = mask.expand(rows, -1, -1, -1)
    index = index_BU[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[-1])
    allowed_BHUS = mask.gather(2, index)
    used_BU = selection.used
    free = torch.ones((), dtype=torch.bool) if mask.dtype == torch.bool else torch.zeros((), dtype=mask.dtype)
    allowed_BHUS = torch.where(used_BU[:, None, :, None], allowed_BHUS, free.to(mask.device))
    seen_S = (may_look(allowed_BHUS) & used_BU[:, None, :, None]).flatten(0, -2).any(dim=0).nonzero()
    return allowed_BHUS[..., : int(seen_S[-1]) + 1 if len(seen_S) else 1]


def may_look(mask: Tensor) -> Tensor:
    """A mask as bool: True where a query may look at a key.

    Raises: AttentionError: a number added to the logits that neither hides a key nor leaves it in sight.
    """
    if mask.dtype == torch.bool:
        return mask
    hidden = mask < torch.finfo(mask.dtype).min / 2
    if bool((~hidden & (mask < _UNCLEAR)).any()):
        raise AttentionError(
            f"an attention mask adds {float(mask.masked_fill(hidden, 0).min()):g} to logits: it is unclear "
            "whether such a key is hidden; hide keys with -inf, the type's minimum, or a boolean mask"
        )
    return ~hidden


def prefers_selection(selection: Selection, keys: int) -> bool:
    """Whether a second attention of the selected queries over `keys` keys is cheaper than wider values."""
    return selection.index.shape[1] * keys <= _SELECT_BELOW * selection.tokens**2


def attend(
    module: nn.Module,
    query_BHSD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    mask: Tensor | None,
    columns_BSC: Tensor | None = None,
    *,
    scaling: float,
    **keywords: Any,
) -> tuple[Tensor, Tensor | None]:
    """SDPA as transformers calls it, with `columns` carried through as further values.

    All three tensors get one size: fused kernels want equal head sizes, and the plain kernel that takes
    unequal ones is ten times slower. Zeros in Q and K change no logit.

    Args:
        columns_BSC: in the dtype of the values.
    Returns: (output [B, S, H, D], masses [B, H, S, C] in its dtype, None without columns).
    """
    size, wide = value_BKSD.shape[-1], query_BHSD.shape[-1]
    if columns_BSC is not None:
        columns_BKSC = columns_BSC[:, None].expand(-1, value_BKSD.shape[1], -1, -1)
        wide = max(wide, size + columns_BSC.shape[-1])
        wide = _round_up(wide)
        room_BKSW = F.pad(columns_BKSC, (0, wide - size - columns_BSC.shape[-1]))
        value_BKSD = torch.cat([value_BKSD, room_BKSW], dim=-1)
    output_BSHW, _ = sdpa_attention_forward(
        module,
        _pad_to(query_BHSD, wide),
        _pad_to(key_BKSD, wide),
        _pad_to(value_BKSD, wide),
        mask,
        scaling=scaling,
        **keywords,
    )
    if output_BSHW.shape[-1] == size:
        return output_BSHW, None
    output_BSHD = output_BSHW[..., :size].contiguous()
    if columns_BSC is None:
        return output_BSHD, None
    return output_BSHD, output_BSHW[..., size : size + columns_BSC.shape[-1]].transpose(1, 2)


def select_masses(
    query_BHSD: Tensor,
    key_BKSD: Tensor,
    columns_BSC: Tensor,
    selection: Selection,
    allowed: Tensor,
    *,
    scaling: float,
) -> Tensor:
    """Masses of the selected queries alone, by an attention whose values are the columns.

    Heads that share a key stand side by side on the query axis, so that no key is repeated.

    Args:
        columns_BSC: in the dtype of the keys.
        allowed: from `allowed_keys`.
    Returns: [B, H, U, C] in the dtype of the keys.
    """
    keys, heads = allowed.shape[-1], key_BKSD.shape[1]
    folded_BKGD, folded_mask = _fold(query_BHSD, selection, allowed, heads)
    sets = columns_BSC.shape[-1]
    # CPU kernels want one head size for all three; others take values as narrow as the columns.
    width = query_BHSD.shape[-1] if key_BKSD.device.type == "cpu" else _round_up(sets)
    values_BSW = F.pad(columns_BSC[:, :keys], (0, max(width, sets) - sets))
    size = max(query_BHSD.shape[-1], sets)
    output = F.scaled_dot_product_attention(
        _pad_to(folded_BKGD, size),
        _pad_to(key_BKSD[:, :, :keys], size),
        values_BSW[:, None].expand(-1, heads, -1, -1),
        attn_mask=folded_mask,
        scale=scaling,
    )
    return output[..., :sets].unflatten(2, (-1, selection.index.shape[1])).flatten(1, 2)


def iterate_maps(
    query_BHSD: Tensor, key_BKSD: Tensor, selection: Selection, allowed: Tensor, *, scaling: float
) -> Iterator[tuple[slice, Tensor]]:
    """Full attention rows of the selected queries, some at a time.

    Yields: (their slots, float32 [B, H, at most 128, N]).
    """
    groups = query_BHSD.shape[1] // key_BKSD.shape[1]
    key_BHNE = key_BKSD[:, :, : allowed.shape[-1]].float().repeat_interleave(groups, dim=1)
    query_BHUD = _gather(query_BHSD, selection.index).float()
    for start in range(0, selection.index.shape[1], _MAP_QUERIES):
        slots = slice(start, start + _MAP_QUERIES)
        logits_BHUN = query_BHUD[:, :, slots] @ key_BHNE.transpose(-1, -2) * scaling
        part = allowed[:, :, slots]
        logits_BHUN = (
            logits_BHUN.masked_fill(~part, float("-inf"))
            if part.dtype == torch.bool
            else logits_BHUN + part.float()
        )
        yield slots, logits_BHUN.softmax(dim=-1)


def _fold(query_BHSD: Tensor, selection: Selection, allowed: Tensor, key_heads: int) -> tuple[Tensor, Tensor]:
    """Selected queries [B, K, G U, D] and their mask, G heads on one key head."""
    query_BHUD = _gather(query_BHSD, selection.index)
    groups = query_BHUD.shape[1] // key_heads
    folded = query_BHUD.unflatten(1, (key_heads, groups)).flatten(2, 3)
    if allowed.shape[1] == 1:
        return folded, allowed.repeat(1, 1, groups, 1)
    return folded, allowed.unflatten(1, (key_heads, groups)).flatten(2, 3)


def _gather(query_BHSD: Tensor, index_BU: Tensor) -> Tensor:
    _, heads, _, size = query_BHSD.shape
    return query_BHSD.gather(2, index_BU[:, None, :, None].expand(-1, heads, -1, size))


def _round_up(size: int) -> int:
    return -(-size // HEAD_MULTIPLE) * HEAD_MULTIPLE


def _pad_to(tensor: Tensor, size: int) -> Tensor:
    return F.pad(tensor, (0, size - tensor.shape[-1])) if tensor.shape[-1] < size else tensor
