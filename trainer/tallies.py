"""Running sums behind the visual attention score: memory does not grow with the number of rows' tokens.

B rows, H heads, S tokens. Free of trl and datasets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.recorder import IMAGE, SYSTEM, Recorder

REGION_NAMES = ("image", "system", "user", "response")
_COLUMNS = {"system": 0, "image": 1, "user": 2, "response": 3}
_DECADES = (-8, 12)  # range of the histogram of ratios, powers of ten
_BINS_PER_DECADE = 100


class RatioTally:
    """Image mass over system mass, over pairs of layer, head and query.

    Attributes:
        row_means: mean ratio of each row that has a pair, in order.
        pairs: pairs counted; unseen: left out, since the query sees no image key or no system key;
        zero_system: left out, since the system mass is exactly zero.
    """

    def __init__(self, system: int = SYSTEM) -> None:
        """`system`: the column of masses that stands in the denominator."""
        self.system = system
        self.row_means: list[float] = []
        self.pairs = self.unseen = self.zero_system = 0
        self._row_head_averaged: list[float] = []
        self._row_image: list[float] = []
        self._row_system: list[float] = []
        bins = (_DECADES[1] - _DECADES[0]) * _BINS_PER_DECADE
        self._histogram = torch.zeros(bins, dtype=torch.float64)

    def add(self, recorder: Recorder, queries_BS: Tensor) -> Tensor:
        """Add a batch. Returns: bool [B], the rows that have at least one pair."""
        empty_B = torch.zeros(len(queries_BS), dtype=torch.float64)
        sums = {name: empty_B.clone() for name in ("ratio", "count", "image", "system")}
        averaged = {name: empty_B.clone() for name in ("ratio", "count")}
        for layer, mass_BHSC in recorder.masses.items():
            seen_BSC = recorder.visible[layer]
            seen_BS = queries_BS & seen_BSC[..., IMAGE] & seen_BSC[..., self.system]
            self.unseen += mass_BHSC.shape[1] * int((queries_BS & ~seen_BS).sum())
            image_BHS, system_BHS = mass_BHSC[..., IMAGE], mass_BHSC[..., self.system]
            pair_BHS = seen_BS[:, None] & (system_BHS > 0)
            self.zero_system += int((seen_BS[:, None] & (system_BHS == 0)).sum())
            self._count(image_BHS, system_BHS, pair_BHS, sums)
            head_image_BS, head_system_BS = image_BHS.mean(dim=1), system_BHS.mean(dim=1)
            head_pair_BS = seen_BS & (head_system_BS > 0)
            averaged["ratio"] += _ratio(head_image_BS, head_system_BS, head_pair_BS).sum(dim=1).cpu()
            averaged["count"] += head_pair_BS.sum(dim=1).cpu()
        return self._close(sums, averaged)

    def _count(
        self, image_BHS: Tensor, system_BHS: Tensor, pair_BHS: Tensor, sums: dict[str, Tensor]
    ) -> None:
        ratio_BHS = _ratio(image_BHS, system_BHS, pair_BHS)
        sums["ratio"] += ratio_BHS.double().sum(dim=(1, 2)).cpu()
        sums["count"] += pair_BHS.sum(dim=(1, 2)).cpu()
        sums["image"] += torch.where(pair_BHS, image_BHS, 0.0).sum(dim=(1, 2)).cpu()
        sums["system"] += torch.where(pair_BHS, system_BHS, 0.0).sum(dim=(1, 2)).cpu()
        low, high = _DECADES
        exponents = ratio_BHS[pair_BHS].log10().clamp(low, high)  # a ratio of 0 falls into the lowest bin
        self._histogram += exponents.float().cpu().histc(len(self._histogram), min=low, max=high)
        self.pairs += int(pair_BHS.sum())

    def _close(self, sums: dict[str, Tensor], averaged: dict[str, Tensor]) -> Tensor:
        used_B = sums["count"] > 0
        for kept, parts in (
            (self.row_means, (sums["ratio"], sums["count"])),
            (self._row_head_averaged, (averaged["ratio"], averaged["count"])),
            (self._row_image, (sums["image"], sums["count"])),
            (self._row_system, (sums["system"], sums["count"])),
        ):
            kept += (parts[0][used_B] / parts[1][used_B]).tolist()
        return used_B

    @property
    def mean(self) -> float:
        """Mean ratio of a row, over rows; NaN without a row."""
        return _mean(self.row_means)

    @property
    def head_averaged(self) -> float:
        """As `mean`, with both masses averaged over heads before they are divided."""
        return _mean(self._row_head_averaged)

    @property
    def ratio_of_means(self) -> float:
        """Mean image mass over mean system mass."""
        return _mean(self._row_image) / _mean(self._row_system) if self._row_system else math.nan

    @property
    def median(self) -> float:
        """Median ratio over all pairs, exact to half a bin (1.2%)."""
        if not self.pairs:
            return math.nan
        position = int((self._histogram.cumsum(0) < self.pairs / 2).sum())
        return 10 ** (_DECADES[0] + (position + 0.5) / _BINS_PER_DECADE)


class ShareTally:
    """Mean share of attention on each region, over the queries that can see the image."""

    def __init__(self) -> None:
        self._sum_C = torch.zeros(len(REGION_NAMES), dtype=torch.float64)
        self._count = 0

    def add(self, recorder: Recorder, queries_BS: Tensor) -> None:
        """Add a batch; each row counts once, whatever its length."""
        sum_BC = torch.zeros(len(queries_BS), len(REGION_NAMES), dtype=torch.float64)
        count_B = torch.zeros(len(queries_BS), dtype=torch.float64)
        for layer, mass_BHSC in recorder.masses.items():
            pair_BS = queries_BS & recorder.visible[layer][..., IMAGE]
            mass_BSC = torch.where(pair_BS[..., None], mass_BHSC[..., : len(REGION_NAMES)].mean(dim=1), 0.0)
            sum_BC += mass_BSC.double().sum(dim=1).cpu()
            count_B += pair_BS.sum(dim=1).cpu()
        used_B = count_B > 0
        self._sum_C += (sum_BC[used_B] / count_B[used_B, None]).sum(dim=0)
        self._count += int(used_B.sum())

    def means(self) -> dict[str, float]:
        """Region -> share in [0, 1]; NaN without a row."""
        shares_C = self._sum_C / self._count if self._count else torch.full_like(self._sum_C, math.nan)
        return {name: float(shares_C[_COLUMNS[name]]) for name in REGION_NAMES}


def _ratio(image: Tensor, system: Tensor, pairs: Tensor) -> Tensor:
    """image / system where `pairs`, else 0."""
    return torch.where(pairs, image / torch.where(pairs, system, 1.0), 0.0)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
