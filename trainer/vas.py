"""The visual attention score: where a model looks, and beside it whether it uses what it sees.

B rows, H heads, S tokens, C columns (system, image, user, response, system without the first token).
Free of trl and datasets. Source: AVAR, arXiv 2603.03825, "visual attention score".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from schemas.errors import AttentionError
from trainer.attention import prepared, start_recording, steering_of, still
from trainer.messages import Conversation, encode, to_messages
from trainer.recorder import IMAGE, SYSTEM, Recorder
from trainer.regions import Regions, find_regions
from trainer.scores import Band, HeadMaps, ResponseRatios, Rows, RowScore, VasReport, band_of
from trainer.swaps import Swap, swap_images
from trainer.tallies import FLOOR, REGION_NAMES, RatioTally, ShareTally, shares_by_name

__all__ = ["Band", "RowScore", "VasReport", "band_of", "measure_vas"]

STRETCHES = 32  # of the response, in the curve along it
_GAINS: dict[str, Swap] = {"image_gain": "other", "blank_gain": "blank"}
_WITHOUT_FIRST = len(REGION_NAMES)  # the extra column


def measure_vas(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    samples: Sequence[Mapping[str, Any]],
    *,
    batch_size: int = 8,
    layers: Collection[int] | None = None,
    gains: bool = True,
    progress: Callable[[int], object] | None = None,
) -> VasReport:
    """Measure a model on sample rows. Memory does not grow with their number, but for some figures a row.

    Args:
        samples: rows as in `schemas.records.sample_features`; anything with a length and an index.
        layers: by default all softmax-attention layers of the text decoder.
        gains: also measure the two gains, at two more forward passes per row.
        progress: called after each batch with the number of rows in it.
    Raises: AttentionError: a model that cannot be recorded, or no row with an image and a system turn.
        SpanError: regions that cannot be found exactly.
    Source: AVAR, arXiv 2603.03825; the gains: ours (docs/method.md).
    """
    tally = _Tally(steering_of(model))
    with still(model), prepared(model):
        for start in range(0, len(samples), batch_size):
            numbers = range(start, min(start + batch_size, len(samples)))
            _measure_batch(tally, model, processor, samples, numbers, layers, gains)
            if progress is not None:
                progress(len(numbers))
    return tally.report()


def _measure_batch(
    tally: _Tally,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    samples: Sequence[Mapping[str, Any]],
    numbers: range,
    layers: Collection[int] | None,
    gains: bool,
) -> None:
    rows = {number: samples[number] for number in numbers}
    seeing = {number: to_messages(row) for number, row in rows.items() if row["images"]}
    tally.skipped["no_image"] += len(rows) - len(seeing)
    if not seeing:
        return
    inputs, regions = _inputs(processor, list(seeing.values()), model.device)
    recorder = start_recording(
        model,
        regions,
        layers=layers,
        queries=regions.user | regions.response,
        extra=_without_first(regions)[..., None],
    )
    loss_B, tokens_B = _response_loss(model, inputs, regions, recorder)
    recorder.check()
    tally.add(recorder, regions, [str(rows[number].get("id", "")) for number in seeing])
    tally.add_loss("loss", loss_B, tokens_B, range(len(seeing)))
    if not gains:
        return
    for name, kind in _GAINS.items():
        swapped = {number: swap_images(samples, number, kind, talk) for number, talk in seeing.items()}
        kept = [place for place, talk in enumerate(swapped.values()) if talk is not None]
        if kept:
            inputs, regions = _inputs(processor, [talk for talk in swapped.values() if talk], model.device)
            # A recorder that records nothing: steering learns from it which tokens are which.
            silent = start_recording(model, regions, layers=())
            worse_B, _ = _response_loss(model, inputs, regions, silent)
            tally.add_loss(name, worse_B - loss_B[kept], tokens_B[kept], kept)


def _inputs(
    processor: ProcessorMixin, conversations: Sequence[Conversation], device: torch.device
) -> tuple[dict[str, Any], Regions]:
    encoded = encode(processor, conversations)
    regions = find_regions(processor, conversations, encoded).to(device)
    return dict(encoded.to(device)), regions


def _without_first(regions: Regions) -> Tensor:
    """System keys but for the row's first token. bool [B, S]."""
    first_BS = regions.valid & (regions.valid.cumsum(dim=1) == 1)
    return regions.system & ~first_BS


def _response_loss(
    model: PreTrainedModel, inputs: Mapping[str, Any], regions: Regions, recorder: Recorder
) -> tuple[Tensor, Tensor]:
    """Summed LM loss of each row's response, nats, and its number of tokens. Both [B], on the CPU.

    Only the positions from the first response token on go through the language-model head.
    """
    ids_BS, target_BS = inputs["input_ids"], regions.response
    starts = target_BS.any(dim=0).nonzero()
    kept = ids_BS.shape[1] - int(starts[0]) + 1 if len(starts) else 1
    logits_BKV = model(**inputs, use_cache=False, logits_to_keep=kept, **recorder.keywords).logits
    losses_BK = F.cross_entropy(
        logits_BKV[:, :-1].float().transpose(1, 2), ids_BS[:, ids_BS.shape[1] - kept + 1 :], reduction="none"
    )
    mask_BK = target_BS[:, ids_BS.shape[1] - kept + 1 :]
    return torch.where(mask_BK, losses_BK, 0.0).double().sum(dim=1).cpu(), mask_BK.sum(dim=1).cpu()


class _Tally:
    """Everything that is summed over the rows."""

    def __init__(self, steering: Mapping[str, float | bool] | None) -> None:
        self.steering = steering
        self.skipped: Counter[str] = Counter()
        self.ratios, self.without_first = RatioTally(), RatioTally(system=_WITHOUT_FIRST)
        self.response_ratios = RatioTally()
        self.users, self.responses = ShareTally(), ShareTally()
        self.rows: list[RowScore] = []
        self._bare: list[tuple[float, float]] = []  # vas and head-averaged without the first token
        self._shares: dict[str, list[Tensor]] = {"user": [], "response": []}
        self.layers: tuple[int, ...] = ()
        self._batch = 0  # where the last batch's rows start

    def add(self, recorder: Recorder, regions: Regions, ids: Sequence[str]) -> None:
        """Add a recorded batch, a row for each id."""
        has_system_B, has_user_B = regions.system.any(dim=1), regions.user.any(dim=1)
        usable_B = has_system_B & has_user_B
        users_BS, responses_BS = (mask & usable_B[:, None] for mask in (regions.user, regions.response))
        user, bare = self.ratios.add(recorder, users_BS), self.without_first.add(recorder, users_BS)
        response = self.response_ratios.add(recorder, responses_BS)
        user_BC, response_BC = self.users.add(recorder, users_BS), self.responses.add(recorder, responses_BS)
        self.skipped["no_system_turn"] += int((~has_system_B).sum())
        self.skipped["no_question"] += int((has_system_B & ~has_user_B).sum())
        self.skipped["image_not_visible"] += int((usable_B.cpu() & ~user.used).sum())
        self.layers = tuple(sorted(recorder.masses))
        self._batch = len(self.rows)
        named = {
            **{name: getattr(user, kind) for name, kind in _RATIOS.items()},
            **{f"response_{name}": getattr(response, kind) for name, kind in _RATIOS.items()},
            **{f"{name}_share": user_BC[:, column] for name, column in _SHARES.items()},
            **{f"response_{name}_share": response_BC[:, column] for name, column in _SHARES.items()},
        }
        counts = zip(regions.image.sum(dim=1).tolist(), regions.response.sum(dim=1).tolist(), strict=True)
        for row, (images, responses) in enumerate(counts):
            values = {name: _number(column_B[row]) for name, column_B in named.items()}
            score = RowScore(id=ids[row], image_tokens=images, response_tokens=responses, **values)
            self.rows.append(score)
            if score.vas is not None:
                self._bare.append((float(bare.mean[row]), float(bare.head_averaged[row])))
                self._shares["user"].append(user_BC[row])
            if score.response_image_share is not None:
                self._shares["response"].append(response_BC[row])

    def add_loss(self, name: str, loss_B: Tensor, tokens_B: Tensor, places: Sequence[int]) -> None:
        """Set summed losses, or differences of losses, of rows of the last batch, per response token."""
        for place, loss, tokens in zip(places, loss_B.tolist(), tokens_B.tolist(), strict=True):
            if tokens:
                row = self._batch + place
                self.rows[row] = replace(self.rows[row], **{name: loss / tokens, "response_tokens": tokens})

    def report(self) -> VasReport:
        """The report, or AttentionError where no row counts."""
        rows, ratios = Rows(self.rows), self.ratios
        scored = [row for row in self.rows if row.vas is not None]
        if not scored:
            raise AttentionError(
                f"no row can be scored ({dict(+self.skipped)}): the score needs an image and a system turn"
            )
        bare = [pair for pair in self._bare if not math.isnan(pair[0])] or [(math.nan, math.nan)]
        bare_vas, bare_head_averaged = (math.fsum(column) / len(bare) for column in zip(*bare, strict=True))
        return VasReport(
            vas=rows.mean("vas"),
            band=band_of(rows.mean("vas")),
            head_averaged=rows.mean("head_averaged"),
            ratio_of_means=rows.ratio("image", "system"),
            median=ratios.median,
            geometric_mean=math.exp(rows.mean("log_ratio")),
            floor=FLOOR,
            pairs_floored=ratios.floored,
            vas_without_first_token=bare_vas,
            head_averaged_without_first_token=bare_head_averaged,
            response=self._response(rows),
            user_shares=self._mean_shares("user"),
            response_shares=self._mean_shares("response"),
            user_share_per_image_token=_per_token(scored, "image_share"),
            response_share_per_image_token=_per_token(scored, "response_image_share"),
            image_tokens=Rows(scored).mean("image_tokens"),
            along_response=self.responses.along(STRETCHES),
            heads=self._heads(),
            loss=rows.per_token("loss"),
            image_gain=rows.per_token("image_gain"),
            blank_gain=rows.per_token("blank_gain"),
            intervals=rows.intervals(),
            rows_used=len(scored),
            rows_skipped=dict(+self.skipped),
            pairs_used=ratios.pairs,
            pairs_unseen=ratios.unseen,
            pairs_zero_system=ratios.zero_system,
            layers=self.layers,
            steering=self.steering,
            rows=rows.rows,
        )

    def _response(self, rows: Rows) -> ResponseRatios | None:
        if not rows.column("response_vas"):
            return None
        return ResponseRatios(
            vas=rows.mean("response_vas"),
            head_averaged=rows.mean("response_head_averaged"),
            ratio_of_means=rows.ratio("response_image", "response_system"),
            median=self.response_ratios.median,
            geometric_mean=math.exp(rows.mean("response_log_ratio")),
            pairs_used=self.response_ratios.pairs,
        )

    def _mean_shares(self, queries: str) -> dict[str, float]:
        rows = self._shares[queries]
        empty = torch.full((len(REGION_NAMES),), math.nan)
        return shares_by_name(torch.stack(rows).mean(dim=0) if rows else empty)

    def _heads(self) -> HeadMaps:
        return HeadMaps(
            vas=self.ratios.head_means(),
            user_image=self.users.head_shares("image"),
            user_system=self.users.head_shares("system"),
            response_image=self.responses.head_shares("image"),
            response_system=self.responses.head_shares("system"),
        )


_RATIOS = {
    "vas": "mean",
    "head_averaged": "head_averaged",
    "log_ratio": "log_mean",
    "image": "image",
    "system": "system",
}
_SHARES = {"image": IMAGE, "system": SYSTEM}


def _number(value: Tensor) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _per_token(rows: Sequence[RowScore], name: str) -> float:
    found = [getattr(row, name) / row.image_tokens for row in rows if getattr(row, name) is not None]
    return math.fsum(found) / len(found) if found else math.nan
