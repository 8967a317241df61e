"""What one forward pass leaves behind: attention masses, and which queries could see which keys.

B rows, H heads, S tokens, C columns (one per recorded set of keys). Free of trl and datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from schemas.errors import AttentionError
from trainer.kernels import Selection, allowed_keys, may_look, prefers_selection, select_queries
from trainer.regions import Regions

RECORDER = "avar_recorder"  # the forward keyword that carries a recorder down to every layer
SYSTEM, IMAGE, USER, RESPONSE = range(4)  # columns of a mass
_CHUNK = 512  # queries whose visibility is worked out at one time
_SLACK = 0.02  # bfloat16 rounds a mass of 1 by up to 0.4% and sums it in parts

# Hears the attention rows of wanted queries: layer, their slots in the selection, maps [B, H, slots, N].
Observe = Callable[[int, Selection, slice, Tensor], None]
LaterPasses = Literal["refuse", "ignore"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the layers that share a mask are recorded.

    Attributes:
        visible: bool [B, S, C], whether a wanted query can see any key of a set.
        selection: the wanted queries where a second attention of theirs is cheaper (or maps are asked for),
            None where all queries go through the model's own call.
        allowed: the selection's rows of the mask.
    """

    visible: Tensor
    selection: Selection | None = None
    allowed: Tensor | None = None


class Masses(dict[int, Tensor]):
    """layer -> masses [B, H, S, C]; `visible`: layer -> bool [B, S, C], whether the query sees such a key."""

    visible: dict[int, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.visible = {}


class Recorder:
    """Collects the masses of one forward pass; make one per forward with `attention.start_recording`.

    Attributes:
        masses: layer -> float32 [B, H, S, C], share of each query's attention on each set of keys; zero
            where the query is padding or was not asked for.
        visible: layer -> bool [B, S, C], whether the query can see any key of the set at all. Layers with
            the same mask share one tensor.
        ceiling: the largest mass there can be: 1, or more where steering enlarges masses.
    """

    def __init__(
        self,
        regions: Regions,
        layers: Collection[int],
        *,
        queries_BS: Tensor | None = None,
        extra_BSE: Tensor | None = None,
        expects_gradient: bool = False,
        observe: Observe | None = None,
        later_passes: LaterPasses = "refuse",
    ) -> None:
        """`extra_BSE`: further sets of keys, as columns after the four regions.

        `observe`: called with the full attention rows of the wanted queries, some at a time.
        """
        self.regions = regions
        columns = [regions.columns] if extra_BSE is None else [regions.columns, extra_BSE]
        self.columns_BSC = torch.cat(columns, dim=-1)
        self.valid_BS = regions.valid
        self.wanted_BS = regions.valid if queries_BS is None else regions.valid & queries_BS
        self.layers = frozenset(layers)
        self.expects_gradient = expects_gradient
        self.observe = observe
        self.later_passes: LaterPasses = later_passes
        self.masses = Masses()
        self.visible = self.masses.visible
        self.ceiling = 1.0
        self._restricted = queries_BS is not None or observe is not None
        self._plans: list[tuple[Tensor | None, bool, Plan]] = []
        self._admitted = False

    @property
    def keywords(self) -> dict[str, Recorder]:
        """What to add to the forward call: `model(**inputs, **recorder.keywords)`."""
        return {RECORDER: self}

    def admit(self, layer: int, query_BHSD: Tensor, key_BKSD: Tensor, position_ids: Tensor | None) -> None:
        """Raise AttentionError where this layer's masses would not be those of the whole rows."""
        rows, tokens = self.valid_BS.shape
        found = (query_BHSD.shape[0], query_BHSD.shape[2], key_BKSD.shape[2])
        if found != (rows, tokens, tokens):
            raise AttentionError(
                f"layer {layer}: {found[0]} rows of {found[1]} queries and {found[2]} keys, but the regions "
                f"are of {rows} rows of {tokens} tokens: record whole rows, without packing, use_cache=False"
            )
        if self.expects_gradient and not torch.is_grad_enabled():
            raise AttentionError(
                f"layer {layer}: gradients are off inside the layer: reentrant checkpointing loses the "
                "masses' gradient; set use_reentrant=False"
            )
        if not self._admitted:
            self._refuse_packed(position_ids)
            self._admitted = True

    def _refuse_packed(self, position_ids: Tensor | None) -> None:
        if position_ids is None or position_ids.ndim != 2:
            return
        valid_BS = self.valid_BS.to(position_ids.device)
        restarts = (position_ids.diff(dim=-1) <= 0) & valid_BS[:, 1:] & valid_BS[:, :-1]
        if bool(restarts.any()):
            raise AttentionError(
                "position ids start again within a row: packed rows cannot be recorded, unpack them"
            )

    def plan(self, mask: Tensor | None, causal: bool, device: torch.device) -> Plan:
        """How to record a layer with this mask; worked out once per mask."""
        for seen, seen_causal, plan in self._plans:
            if seen is mask and seen_causal == causal and plan.visible.device == device:
                return plan
        columns_BSC, wanted_BS = self.columns_BSC.to(device), self.wanted_BS.to(device)
        visible_BSC = visible_keys(columns_BSC, mask, causal=causal) & wanted_BS[..., None]
        plan = Plan(visible=visible_BSC)
        if self._restricted:
            plan = self._plan_selection(visible_BSC, wanted_BS, mask, causal)
        self._plans.append((mask, causal, plan))
        return plan

    def _plan_selection(self, visible: Tensor, wanted_BS: Tensor, mask: Tensor | None, causal: bool) -> Plan:
        selection = select_queries(wanted_BS)
        most = selection.index.shape[1]
        observed = self.observe is not None
        if most == 0 or not (observed or prefers_selection(selection, most)):
            return Plan(visible=visible)
        allowed = allowed_keys(selection, mask, causal)
        if not (observed or prefers_selection(selection, allowed.shape[-1])):
            return Plan(visible=visible)
        return Plan(visible=visible, selection=selection, allowed=allowed)

    def keep(self, layer: int, mass_BHSC: Tensor, plan: Plan) -> None:
        """Take a layer's masses. The first write stays: a checkpoint runs the layer again in backward.

        Raises: AttentionError: a second forward pass.
        """
        if layer in self.masses and self.later_passes == "refuse" and not _in_backward():
            raise AttentionError(f"layer {layer}: a recorder is for one forward pass: start another one")
        wanted_BS = self.wanted_BS.to(mass_BHSC.device)
        # `where`, not a product: the row of a padding query is NaN in some kernels. Done the second time
        # too, since a checkpoint must save the same tensors as the first run.
        mass_BHSC = torch.where(wanted_BS[:, None, :, None], mass_BHSC.float(), 0.0)
        if layer not in self.masses:
            self.masses[layer] = mass_BHSC
            self.visible[layer] = plan.visible

    def check(self) -> None:
        """Close the recording.

        Raises: AttentionError: a layer is missing, or a mass is NaN or outside [0, 1].
        """
        missing = sorted(self.layers - self.masses.keys())
        if missing:
            raise AttentionError(
                f"layers {missing} recorded nothing: was the model prepared, and called with the recorder's "
                "keywords?"
            )
        if not self.masses:
            raise AttentionError("no layer was asked for: the model has no softmax attention to record")
        device = next(iter(self.masses.values())).device
        ends = [end.to(device) for mass in self.masses.values() for end in mass.detach().aminmax()]
        low, high = torch.stack(ends[::2]).min().item(), torch.stack(ends[1::2]).max().item()
        if not (low >= -_SLACK and high <= self.ceiling + _SLACK):
            raise AttentionError(
                f"attention masses lie in [{low:.4g}, {high:.4g}], need [0, {self.ceiling:g}]: "
                "NaN or overflow?"
            )


def _in_backward() -> bool:
    """Whether autograd is running, as when a checkpoint computes a layer anew."""
    return torch._C._current_graph_task_id() != -1


def visible_keys(columns_BSC: Tensor, mask: Tensor | None = None, *, causal: bool = True) -> Tensor:
    """Which queries can see any key of each set.

    Args:
        columns_BSC: bool, the sets of keys.
        mask: the kernel's own mask, [B or 1, 1 or H, S, S], bool (True: may look) or added to the logits;
            None: causal or no mask.
    Returns: bool [B, S, C].
    """
    if mask is None:
        seen_BSC = columns_BSC.cumsum(dim=1) > 0
        return seen_BSC if causal else seen_BSC[:, -1:].expand_as(seen_BSC)
    keys_BSC = columns_BSC.to(mask.device, torch.float32)
    parts = []
    for part in mask.split(_CHUNK, dim=2):
        allowed_BQS = may_look(part).any(dim=1).float().expand(len(keys_BSC), -1, -1)
        parts.append(torch.bmm(allowed_BQS, keys_BSC) > 0)
    return torch.cat(parts, dim=1).to(columns_BSC.device)
