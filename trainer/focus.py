"""How many image tokens a query really looks at.

B rows, H heads, S tokens, U queries, N keys. Free of trl and datasets. Source: ours (docs/method.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.attention import run_recorded, start_recording
from trainer.kernels import Selection
from trainer.regions import Regions


class FocusTally:
    """Mean effective number of image tokens over (layer, head, query) pairs that look at the image.

    With p the share of each image token in a query's attention on the image, the effective number is
    1 / sum(p^2): n where n tokens are looked at alike, 1 where a single one takes all.
    `observe` is a recorder's; memory does not grow with the number of batches.
    """

    def __init__(self, image_BS: Tensor) -> None:
        self.image_BS = image_BS
        self._sum, self._count = 0.0, 0

    def observe(self, layer: int, selection: Selection, slots: slice, maps_BHUN: Tensor) -> None:
        """Add some attention rows of a layer."""
        image_BN = self.image_BS.to(maps_BHUN.device)[:, : maps_BHUN.shape[-1]]
        seen_BHUN = maps_BHUN * image_BN[:, None, None]
        mass_BHU = seen_BHUN.sum(dim=-1)
        looking_BHU = selection.used[:, None, slots] & (mass_BHU > 0)
        # Shares first: the square of a small mass is no float32 number.
        share_BHUN = seen_BHUN / torch.where(looking_BHU, mass_BHU, 1.0)[..., None]
        number_BHU = 1 / torch.where(looking_BHU, (share_BHUN**2).sum(dim=-1), 1.0)
        self._sum += float(torch.where(looking_BHU, number_BHU, 0.0).double().sum())
        self._count += int(looking_BHU.sum())

    @property
    def mean(self) -> float:
        """At least 1; NaN where no query looks at an image."""
        return self._sum / self._count if self._count else math.nan


def effective_image_tokens(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    regions: Regions,
    queries: str = "user",
    layers: Collection[int] | None = None,
) -> float:
    """Effective number of image tokens that the queries look at; one forward pass without gradients.

    Args:
        model: prepared for recording.
        inputs: the model's inputs; labels are left out.
        queries: `user`, `response` or `user+response`.
    Returns: 1 to the number of image tokens, the mean over layers, heads and queries; NaN where no query sees
        an image.
    Raises: AttentionError: as in `attention.record`.
    """
    tally = FocusTally(regions.image)
    with torch.no_grad():
        recorder = start_recording(
            model, regions, layers=layers, queries=regions.select(queries), observe=tally.observe
        )
        run_recorded(model, inputs, recorder)
    return tally.mean
