"""The attention-guided objective (AGTO): look at the image, look less at the system prompt.

B sequences, H heads, S tokens, C columns (system, image, user, response).
Source: AVAR, arXiv 2603.03825, "attention-guided objective"; decisions in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from schemas.errors import AttentionError
from trainer.recorder import IMAGE, SYSTEM, Masses, visible_keys
from trainer.regions import Regions

EPS = 1e-6  # of L_suppress, as in the paper
_TINY = 1e-12  # keeps log(0) finite where a mass underflows; far below any mass a kernel returns

Form = Literal["paper", "bounded"]
Queries = Literal["user", "response", "user+response"]


@dataclass(frozen=True, kw_only=True)
class GuidedParts:
    """What the guided loss is made of.

    Attributes:
        enhance, suppress: the two terms before their weights, scalars that carry a gradient.
        image_share, system_share: mean share of the queries' attention, [0, 1], over the sequences that
            have the term; NaN where none has.
        sequences: rows of the batch; the next three count those that a term leaves out.
        without_queries: no query token; without_image, without_system: no query that sees such a key.
    """

    enhance: Tensor
    suppress: Tensor
    image_share: Tensor
    system_share: Tensor
    sequences: int
    without_queries: int
    without_image: int
    without_system: int

    def to_floats(self) -> dict[str, float]:
        """The parts as plain numbers, for a log."""
        return {name: float(value) for name, value in vars(self).items()}


def attention_guided_loss(
    masses: Mapping[int, Tensor],
    regions: Regions,
    alpha: float,
    beta: float,
    queries: Queries = "user",
    form: Form = "bounded",
    image_target: float = 0.5,
    system_floor: float = 0.25,
    visible: Mapping[int, Tensor] | None = None,
) -> tuple[Tensor, GuidedParts]:
    """alpha * L_enhance + beta * L_suppress, the mean over all sequences of the batch.

    paper:    L_enhance  = -mean_l mean_h log(m / |image|),
              L_suppress = mean_l mean_h log(n / |system| + eps)
    bounded:  L_enhance  = mean_l mean_h max(0, log(image_target / m))^2 / 2,
              L_suppress = mean_l mean_h max(0, log((n + eps) / (system_floor + eps)))^2 / 2
    with m and n the mean mass of a query on all image and on all system keys, over the queries that can see
    such a key. In the bounded form n is taken over queries that can also see the image, where there is one:
    a query before the image has nowhere else to look, and a floor over it would push the others to nothing.
    Example: m = 0.25 with a target of 0.5 gives (log 2)^2 / 2 = 0.24; m = 0.5 or more gives 0, no gradient.

    Args:
        masses: layer -> float32 [B, H, S, C], from `attention.record` or a recorder.
        queries: whose attention is guided.
        image_target, system_floor: shares of attention in (0, 1], bounded form only.
        visible: layer -> bool [B, S, C], which queries can see which keys; by default what the masses of
            `attention.record` bring along, causal for a plain mapping. Only pairs of layer and query that
            can see a key count; a layer without any is left out for the sequence.
    Returns: (loss, parts). A sequence without image, system turn or query adds zero to that term.
    Raises: AttentionError: no masses.
    """
    if not masses:
        raise AttentionError("no attention masses: was the forward pass recorded?")
    if visible is None and isinstance(masses, Masses):
        visible = masses.visible
    elif visible is None:
        visible = dict.fromkeys(masses, visible_keys(regions.columns))
    queries_BS = regions.select(queries)
    image = _Term(IMAGE, _enhance(form, image_target))
    system = _Term(SYSTEM, _suppress(form, system_floor))
    for layer, mass_BHSC in masses.items():
        seen_BSC = visible[layer]
        sighted_BS = queries_BS & seen_BSC[..., IMAGE]
        system_BS = queries_BS
        if form == "bounded":
            system_BS = torch.where(regions.image.any(dim=1, keepdim=True), sighted_BS, queries_BS)
        image.add(mass_BHSC, sighted_BS, regions.columns)
        system.add(mass_BHSC, system_BS & seen_BSC[..., SYSTEM], regions.columns)
    enhance, image_share, without_image = image.reduce()
    suppress, system_share, without_system = system.reduce()
    parts = GuidedParts(
        enhance=enhance,
        suppress=suppress,
        image_share=image_share,
        system_share=system_share,
        sequences=len(queries_BS),
        without_queries=int((~queries_BS.any(dim=1)).sum()),
        without_image=without_image,
        without_system=without_system,
    )
    return alpha * enhance + beta * suppress, parts


# A penalty turns a (layer, head)'s mean share and the number of keys it is spread over into a loss.
_Penalty = Callable[[Tensor, Tensor], Tensor]


def _enhance(form: Form, target: float) -> _Penalty:
    if form == "paper":
        return lambda share_BH, keys_B1: -torch.log(share_BH.clamp_min(_TINY) / keys_B1)
    return lambda share_BH, keys_B1: _hinge(torch.log(target / share_BH.clamp_min(_TINY)))


def _suppress(form: Form, floor: float) -> _Penalty:
    if form == "paper":
        return lambda share_BH, keys_B1: torch.log(share_BH / keys_B1 + EPS)
    return lambda share_BH, keys_B1: _hinge(torch.log((share_BH + EPS) / (floor + EPS)))


def _hinge(excess_BH: Tensor) -> Tensor:
    """Half the square of what is above zero: the pull fades on the way to the bound.

    A plain hinge pulls at full strength up to the bound, and Adam's momentum then carries far beyond it.
    """
    return 0.5 * excess_BH.clamp_min(0) ** 2


class _Term:
    """One of the two terms, summed layer by layer."""

    def __init__(self, column: int, penalty: _Penalty) -> None:
        self.column, self.penalty = column, penalty
        self.losses: list[Tensor] = []  # each [B], zero where the layer is left out
        self.shares: list[Tensor] = []
        self.counted: list[Tensor] = []

    def add(self, mass_BHSC: Tensor, pairs_BS: Tensor, columns_BSC: Tensor) -> None:
        """Add one layer, over the queries of `pairs_BS`."""
        device, column = mass_BHSC.device, self.column
        pairs_BS = pairs_BS.to(device)
        keys_B1 = columns_BSC[..., column].sum(dim=1, keepdim=True).clamp_min(1).to(device)
        pairs_B = pairs_BS.sum(dim=1)
        mass_BH = torch.where(pairs_BS[:, None], mass_BHSC[..., column], 0.0).sum(dim=-1)
        counted_B = pairs_B > 0
        # 1 stands in for rows that are left out, so that no NaN reaches their gradient.
        share_BH = torch.where(counted_B[:, None], mass_BH / pairs_B.clamp_min(1)[:, None], 1.0)
        loss_B = self.penalty(share_BH, keys_B1).mean(dim=1)
        self.losses.append(torch.where(counted_B, loss_B, 0.0))
        self.shares.append(torch.where(counted_B, share_BH.detach().mean(dim=1), 0.0))
        self.counted.append(counted_B)

    def reduce(self) -> tuple[Tensor, Tensor, int]:
        """(mean loss over all sequences, mean share over those that count, how many do not)."""
        device = self.losses[0].device
        loss_B, share_B, layers_B = (
            torch.stack([part.to(device) for part in parts]).sum(dim=0)
            for parts in (self.losses, self.shares, self.counted)
        )
        counted_B = layers_B > 0
        loss = (loss_B / layers_B.clamp_min(1)).mean()
        share = (share_B / layers_B.clamp_min(1))[counted_B].mean()
        return loss, share, int((~counted_B).sum())
