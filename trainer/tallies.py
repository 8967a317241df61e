"""Running sums behind the visual attention score: memory does not grow with the number of rows' tokens.

B rows, L layers, H heads, S tokens, P tokens that are wanted in any row, C columns. Free of trl and datasets.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.recorder import IMAGE, RESPONSE, SYSTEM, USER, Recorder

REGION_NAMES = ("image", "system", "user", "response")
FLOOR = 1e-6  # masses below it count as much in the geometric mean, which knows no zero
_COLUMNS = {"system": SYSTEM, "image": IMAGE, "user": USER, "response": RESPONSE}
_DECADES = (-8, 12)  # range of the histogram of ratios, powers of ten
_BINS_PER_DECADE = 100


@dataclass(frozen=True, kw_only=True)
class RowRatios:
    """What a batch's rows gave; float64 [B], NaN where a row has no pair.

    Attributes:
        mean: mean ratio over layers, heads and queries.
        head_averaged: mean ratio of masses that were averaged over heads.
        log_mean: mean log of the ratio, masses floored.
        image, system: mean masses of the pairs.
    """

    mean: Tensor
    head_averaged: Tensor
    log_mean: Tensor
    image: Tensor
    system: Tensor

    @property
    def used(self) -> Tensor:
        """bool [B], rows with at least one pair."""
        return ~self.mean.isnan()


class RatioTally:
    """Image mass over system mass, over pairs of layer, head and query.

    Attributes:
        pairs: pairs counted; unseen: left out, since the query sees no image key or no system key;
        zero_system: left out, since the system mass is exactly zero.
        floored: pairs whose image or system mass is below `FLOOR`, floored in the geometric mean.
    """

    def __init__(self, system: int = SYSTEM) -> None:
        """`system`: the column of masses that stands in the denominator."""
        self.system = system
        self.pairs = self.unseen = self.zero_system = self.floored = 0
        bins = (_DECADES[1] - _DECADES[0]) * _BINS_PER_DECADE
        self._histogram = torch.zeros(bins, dtype=torch.float64)
        self._heads: dict[int, Tensor] = {}  # layer -> [2, H]: sum of row means, rows

    def add(self, recorder: Recorder, queries_BS: Tensor) -> RowRatios:
        """Add a batch."""
        sums: dict[str, Tensor | float] = defaultdict(float)
        counts: dict[str, Tensor | int] = defaultdict(int)
        wanted_P = queries_BS.any(dim=0).nonzero().flatten()
        for layer, mass_BHSC in recorder.masses.items():
            mass_BHPC = mass_BHSC[:, :, wanted_P.to(mass_BHSC.device)]
            visible_BPC = recorder.visible[layer][:, wanted_P.to(recorder.visible[layer].device)]
            queries_BP = queries_BS[:, wanted_P].to(mass_BHPC.device)
            seen_BP = queries_BP & visible_BPC[..., IMAGE] & visible_BPC[..., self.system]
            image_BHP, system_BHP = mass_BHPC[..., IMAGE], mass_BHPC[..., self.system]
            pair_BHP = seen_BP[:, None] & (system_BHP > 0)
            counts["unseen"] += mass_BHPC.shape[1] * (queries_BP & ~seen_BP).sum().cpu()
            counts["zero_system"] += (seen_BP[:, None] & (system_BHP == 0)).sum().cpu()
            self._add_pairs(layer, image_BHP, system_BHP, pair_BHP, sums, counts)
            head_image_BP, head_system_BP = image_BHP.mean(dim=1), system_BHP.mean(dim=1)
            head_pair_BP = seen_BP & (head_system_BP > 0)
            averaged_BP = _ratio(head_image_BP, head_system_BP, head_pair_BP)
            sums["averaged"] += averaged_BP.double().sum(dim=1).cpu()
            sums["averaged_pairs"] += head_pair_BP.sum(dim=1).cpu()
        self.pairs += int(counts["pairs"])
        self.unseen += int(counts["unseen"])
        self.zero_system += int(counts["zero_system"])
        self.floored += int(counts["floored"])
        return RowRatios(
            mean=sums["ratio"] / sums["pairs"],  # type: ignore[arg-type]
            head_averaged=sums["averaged"] / sums["averaged_pairs"],  # type: ignore[arg-type]
            log_mean=sums["log"] / sums["pairs"],  # type: ignore[arg-type]
            image=sums["image"] / sums["pairs"],  # type: ignore[arg-type]
            system=sums["system"] / sums["pairs"],  # type: ignore[arg-type]
        )

    def _add_pairs(
        self,
        layer: int,
        image_BHP: Tensor,
        system_BHP: Tensor,
        pair_BHP: Tensor,
        sums: dict[str, Tensor | float],
        counts: dict[str, Tensor | int],
    ) -> None:
        ratio_BHP = _ratio(image_BHP, system_BHP, pair_BHP)
        ratio_BH, pairs_BH = ratio_BHP.double().sum(dim=2).cpu(), pair_BHP.sum(dim=2).cpu()
        log_BHP = image_BHP.clamp_min(FLOOR).log() - system_BHP.clamp_min(FLOOR).log()
        sums["ratio"] += ratio_BH.sum(dim=1)
        sums["pairs"] += pairs_BH.sum(dim=1)
        sums["log"] += torch.where(pair_BHP, log_BHP, 0.0).double().sum(dim=(1, 2)).cpu()
        sums["image"] += torch.where(pair_BHP, image_BHP, 0.0).double().sum(dim=(1, 2)).cpu()
        sums["system"] += torch.where(pair_BHP, system_BHP, 0.0).double().sum(dim=(1, 2)).cpu()
        counts["pairs"] += pairs_BH.sum()
        below_BHP = pair_BHP & ((image_BHP < FLOOR) | (system_BHP < FLOOR))
        counts["floored"] += below_BHP.sum().cpu()
        used_BH = pairs_BH > 0
        row_BH = torch.where(used_BH, ratio_BH / pairs_BH.clamp_min(1), 0.0)
        head = torch.stack([row_BH.sum(dim=0), used_BH.sum(dim=0).double()])
        self._heads[layer] = self._heads.get(layer, torch.zeros_like(head)) + head
        low, high = _DECADES
        exponents = ratio_BHP[pair_BHP].log10().clamp(low, high)  # a ratio of 0 falls into the lowest bin
        self._histogram += exponents.float().cpu().histc(len(self._histogram), min=low, max=high)

    def head_means(self) -> list[list[float]]:
        """Mean ratio per layer and head, mean of a row and then over rows. [L][H], NaN without a pair."""
        return [(self._heads[layer][0] / self._heads[layer][1]).tolist() for layer in sorted(self._heads)]

    @property
    def median(self) -> float:
        """Median ratio over all pairs, exact to half a bin (1.2%)."""
        if not self.pairs:
            return math.nan
        position = int((self._histogram.cumsum(0) < self.pairs / 2).sum())
        return 10 ** (_DECADES[0] + (position + 0.5) / _BINS_PER_DECADE)


class ShareTally:
    """Shares of attention on each region, over the queries that can see the image; also along the positions.

    Positions count the wanted queries of a row: 0 is its first response token where responses are wanted.
    """

    def __init__(self) -> None:
        self._heads: dict[int, Tensor] = {}  # layer -> [H, 4]
        self._rows: dict[int, int] = {}
        self._along_TC = torch.zeros(0, 2 + len(REGION_NAMES), dtype=torch.float64)

    def add(self, recorder: Recorder, queries_BS: Tensor) -> Tensor:
        """Add a batch. Returns: float64 [B, 4], each row's mean shares; NaN where no query sees an image."""
        wanted_P = queries_BS.any(dim=0).nonzero().flatten()
        queries_BP = queries_BS[:, wanted_P].cpu()
        rows, width = len(queries_BS), len(REGION_NAMES)
        sum_BPC = torch.zeros(rows, len(wanted_P), width, dtype=torch.float64)
        ratio_BP, seen_BP = torch.zeros(2, rows, len(wanted_P), dtype=torch.float64)
        for layer, mass_BHSC in recorder.masses.items():
            mass_BHPC = mass_BHSC[:, :, wanted_P.to(mass_BHSC.device), :width]
            visible_BPC = recorder.visible[layer][:, wanted_P.to(recorder.visible[layer].device)]
            pair_BP = queries_BP.to(mass_BHPC.device) & visible_BPC[..., IMAGE]
            kept_BHPC = torch.where(pair_BP[:, None, :, None], mass_BHPC, 0.0)
            self._add_heads(layer, kept_BHPC, pair_BP)
            mean_BPC = kept_BHPC.mean(dim=1).double()
            both_BP = pair_BP & (mean_BPC[..., SYSTEM] > 0)
            ratio_BP += _ratio(mean_BPC[..., IMAGE], mean_BPC[..., SYSTEM], both_BP).cpu()
            sum_BPC += mean_BPC.cpu()
            seen_BP += pair_BP.cpu()
        self._add_positions(queries_BP, sum_BPC, ratio_BP, seen_BP)
        return sum_BPC.sum(dim=1) / seen_BP.sum(dim=1)[:, None]

    def _add_heads(self, layer: int, kept_BHPC: Tensor, pair_BP: Tensor) -> None:
        pairs_B = pair_BP.sum(dim=1)
        used_B = pairs_B > 0
        row_BHC = kept_BHPC.double().sum(dim=2) / pairs_B.clamp_min(1)[:, None, None]
        head_HC = row_BHC[used_B].sum(dim=0).cpu()
        self._heads[layer] = self._heads.get(layer, torch.zeros_like(head_HC)) + head_HC
        self._rows[layer] = self._rows.get(layer, 0) + int(used_B.sum())

    def _add_positions(self, queries_BP: Tensor, sum_BPC: Tensor, ratio_BP: Tensor, seen_BP: Tensor) -> None:
        position_BP = (queries_BP.cumsum(dim=1) - 1).clamp_min(0)
        used_BP = queries_BP & (seen_BP > 0)
        layers_BP = seen_BP.clamp_min(1)
        columns = [
            torch.ones_like(ratio_BP),
            ratio_BP / layers_BP,
            *(sum_BPC / layers_BP[..., None]).unbind(-1),
        ]
        values_BPC = torch.stack(columns, dim=-1)[used_BP]
        longest = int(queries_BP.sum(dim=1).max()) if queries_BP.numel() else 0
        if longest > len(self._along_TC):
            grown_TC = self._along_TC.new_zeros(longest, self._along_TC.shape[1])
            grown_TC[: len(self._along_TC)] = self._along_TC
            self._along_TC = grown_TC
        self._along_TC.index_add_(0, position_BP[used_BP], values_BPC)

    def head_shares(self, region: str) -> list[list[float]]:
        """Mean share on a region per layer and head. [L][H], NaN where no row counts."""
        column = _COLUMNS[region]
        return [
            (self._heads[layer][:, column] / (self._rows[layer] or math.nan)).tolist()
            for layer in sorted(self._heads)
        ]

    def along(self, bins: int) -> list[dict[str, float]]:
        """Figures along the positions, in at most `bins` stretches of equal length that hold a query.

        Returns: `start` and `stop` (positions, stop not included), `queries`, `vas` (mean head-averaged
            ratio), and the mean shares by region.
        """
        width = max(1, math.ceil(len(self._along_TC) / bins))
        stretches = []
        for start in range(0, len(self._along_TC), width):
            part_C = self._along_TC[start : start + width].sum(dim=0)
            count = float(part_C[0])
            if not count:
                continue
            shares = {name: float(part_C[2 + _COLUMNS[name]]) / count for name in REGION_NAMES}
            stop = min(start + width, len(self._along_TC))
            stretch = {"start": start, "stop": stop, "queries": int(count), "vas": float(part_C[1]) / count}
            stretches.append(stretch | shares)
        return stretches


def shares_by_name(shares_C: Tensor) -> dict[str, float]:
    """Four shares in the order of the masses, by region."""
    return {name: float(shares_C[_COLUMNS[name]]) for name in REGION_NAMES}


def _ratio(image: Tensor, system: Tensor, pairs: Tensor) -> Tensor:
    """image / system where `pairs`, else 0."""
    return torch.where(pairs, image / torch.where(pairs, system, 1.0), 0.0)
