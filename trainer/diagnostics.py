"""What a training run says about itself beside its losses: where it looks, and which term pulls how hard.

B rows, H heads, S tokens, C columns (system, image, user, response). Free of trl and datasets.
Source: docs/method.md, "Attention-guided objective".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from schemas.errors import ConfigError
from trainer.recorder import IMAGE, SYSTEM
from trainer.regions import Regions

_SHARDING = frozenset({"FSDP", "DEEPSPEED", "MEGATRON_LM"})  # names of accelerate's DistributedType


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Where some queries look.

    Attributes:
        image, system: mean share of attention on image and system keys, [0, 1]; NaN where `rows` is 0.
        rows: rows with a query that sees the image; each counts once, whatever its length.
        pairs: pairs of layer and query behind them.
    """

    image: float
    system: float
    rows: int
    pairs: int


def attention_shares(
    masses: Mapping[int, Tensor], visible: Mapping[int, Tensor], queries_BS: Tensor
) -> Shares:
    """Mean share of the queries' attention on the image and on the system turn.

    Averaged over heads, over the pairs of layer and query that can see the image (system keys stand before
    it, so the two shares are of the same attention), then over rows: the means of `VasReport`'s shares.

    Args:
        masses: layer -> [B, H, S, C], share of each query's attention.
        visible: layer -> bool [B, S, C], whether the query can see such a key.
        queries_BS: bool, whose attention.
    Example: a row whose two question tokens put .2 and .4 on the image, in its only layer: image = .3.
    """
    shares_B2, pairs_B = torch.zeros(len(queries_BS), 2), torch.zeros(len(queries_BS))
    for layer, mass_BHSC in masses.items():
        pair_BS = (queries_BS & visible[layer][..., IMAGE]).to(mass_BHSC.device)
        mass_BS2 = mass_BHSC.detach()[..., [IMAGE, SYSTEM]].mean(dim=1)
        shares_B2 += torch.where(pair_BS[..., None], mass_BS2, 0.0).sum(dim=1).float().cpu()
        pairs_B += pair_BS.sum(dim=1).cpu()
    used_B = pairs_B > 0
    means_2 = (shares_B2[used_B] / pairs_B[used_B, None]).mean(dim=0)
    return Shares(
        image=float(means_2[0]), system=float(means_2[1]), rows=int(used_B.sum()), pairs=int(pairs_B.sum())
    )


def region_shares(
    masses: Mapping[int, Tensor], visible: Mapping[int, Tensor], regions: Regions
) -> dict[str, Shares]:
    """The shares of U, `user`, and of T, `response`: the masses must hold the queries of both."""
    return {name: attention_shares(masses, visible, regions.select(name)) for name in ("user", "response")}


def gradient_norms(
    losses: Mapping[str, Tensor],
    parameters: Iterable[Tensor],
    average: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> dict[str, float]:
    """The Euclidean norm of each loss's own gradient. The graph and every `.grad` stay as they are.

    Args:
        losses: scalars of one graph, which is kept for the step's own backward pass.
        parameters: those that do not require a gradient are left out.
        average: means a gradient over processes; called for every parameter on each of them, in one order.
    Returns: name -> norm, 0 where no parameter moves the loss.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    device = next(iter(losses.values())).device
    with torch.autocast(device.type, enabled=False):  # a backward pass has the types of its forward
        return {name: _norm(loss, trained, average) for name, loss in losses.items()}


def _norm(loss: Tensor, trained: Sequence[Tensor], average: Callable[[Tensor], Tensor]) -> float:
    gradients: Sequence[Tensor | None] = [None] * len(trained)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
    squares = []
    for parameter, gradient in zip(trained, gradients, strict=True):
        # Zeros, not nothing: another process may have a gradient here, and waits for this one.
        mean = average(torch.zeros_like(parameter) if gradient is None else gradient)
        squares.append(mean.float().square().sum().to(loss.device))
    return torch.stack(squares).sum().sqrt().item() if squares else 0.0


def refuse_sharded(kind: str, parameters: Iterable[Tensor], settings: Sequence[str]) -> None:
    """Raise ConfigError where a process holds only pieces of the parameters.

    Args:
        kind: the name of accelerate's `DistributedType`.
        settings: the keys that need whole parameters, for the message.
    """
    sharded = kind in _SHARDING or any(
        isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in parameters
    )
    if sharded:
        keys = " and ".join(f"{name}=0" for name in settings)
        raise ConfigError(
            f"parameters are sharded over processes ({kind}), and readings need them whole: set {keys}"
        )


class Figures:
    """What is logged: means and counts, over micro-batches first and then over processes.

    A mean is kept as a sum and the number of things in it, so that each thing counts once wherever it was.
    """

    def __init__(self) -> None:
        self._means: dict[str, list[tuple[float | Tensor, float | Tensor]]] = {}
        self._counts: dict[str, int] = {}

    def add_sum(self, name: str, total: float | Tensor, number: float | Tensor) -> None:
        """The sum of `number` things whose mean is wanted."""
        self._means.setdefault(name, []).append((total, number))

    def add_mean(self, name: str, value: float | Tensor, number: int = 1) -> None:
        """The mean of `number` things; NaN is the mean of nothing."""
        number = 0 if math.isnan(value) else number
        self.add_sum(name, value * number if number else 0.0, number)

    def add_count(self, name: str, number: int) -> None:
        """So many more."""
        self._counts[name] = self._counts.get(name, 0) + number

    def take(
        self, add_up: Callable[[Tensor], Tensor], device: torch.device | str = "cpu"
    ) -> dict[str, float]:
        """All figures, which are then forgotten; a mean of nothing is left out.

        Args:
            add_up: sums a tensor over processes. All must hold figures of the same names, in one order.
        """
        means, counts = self._means, self._counts
        self._means, self._counts = {}, {}
        if not means and not counts:
            return {}
        sums = [_add_entries(entries, device) for entries in means.values()]
        sums += [torch.tensor([number, 1.0], device=device) for number in counts.values()]
        totals = add_up(torch.stack(sums)).tolist()
        figures = {
            name: total / number for name, (total, number) in zip(means, totals, strict=False) if number > 0
        }
        counted = zip(counts, totals[len(means) :], strict=True)
        return figures | {name: total for name, (total, _) in counted}


def _add_entries(
    entries: Sequence[tuple[float | Tensor, float | Tensor]], device: torch.device | str
) -> Tensor:
    """(total, number) of a figure. float32 [2]."""
    parts = [
        torch.as_tensor(part, dtype=torch.float32, device=device).detach()
        for pair in entries
        for part in pair
    ]
    return torch.stack(parts).view(-1, 2).sum(dim=0)
