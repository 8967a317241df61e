"""The visual attention score: where a model looks, and beside it whether it uses what it sees.

B rows, H heads, S tokens, C columns (system, image, user, response, system without the first token).
Free of trl and datasets. Source: AVAR, arXiv 2603.03825, "visual attention score".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from schemas.errors import AttentionError
from trainer.attention import prepared, start_recording
from trainer.messages import Conversation, encode, open_image, to_messages
from trainer.recorder import Recorder
from trainer.regions import Regions, find_regions
from trainer.tallies import REGION_NAMES, RatioTally, ShareTally

Band = Literal["narrow", "wide", "panoramic"]
WIDE, PANORAMIC = 10.0, 15.0
_WITHOUT_FIRST = len(REGION_NAMES)  # the extra column
_GREY = (128, 128, 128)


@dataclass(frozen=True, kw_only=True)
class VasReport:
    """Where the question looks (U: user tokens), where the answer looks (T: response tokens), and the gain.

    A ratio is a query's attention on the image over its attention on the system prompt, in [0, inf). It is
    taken over pairs of layer, head and query that can see the image, and averaged over a row, then over rows.

    Attributes:
        vas: the paper's score, the mean of the ratio over layers, heads and U.
        band: narrow (vas < 10), wide (10 to 15) or panoramic (above 15).
        head_averaged: the ratio of masses averaged over heads first (the reward's form).
        ratio_of_means: mean image mass over mean system mass: one small denominator cannot carry it away.
        median: median ratio over all pairs, exact to 1.2% (a histogram of 100 bins per decade).
        vas_without_first_token, head_averaged_without_first_token: the first token, which often serves as a
            sink, not counted as system.
        user_shares, response_shares: mean share of attention, [0, 1], on image, system, user and response.
        loss: LM loss per response token, nats; None where no row has a response.
        image_gain, blank_gain: the loss with another problem's image, or with a grey one, minus the loss with
            the right one, nats per response token; None where not asked for, or where all images are equal.
        rows_used, rows_skipped: rows counted, and those left out by reason.
        pairs_used, pairs_unseen, pairs_zero_system: pairs counted; left out because the query cannot see the
            image or the system prompt; left out because its system mass is exactly zero.
        row_vas: the score of each used row, for confidence intervals.
        layers: the layers measured.
    """

    vas: float
    band: Band
    head_averaged: float
    ratio_of_means: float
    median: float
    vas_without_first_token: float
    head_averaged_without_first_token: float
    user_shares: Mapping[str, float]
    response_shares: Mapping[str, float]
    loss: float | None
    image_gain: float | None
    blank_gain: float | None
    rows_used: int
    rows_skipped: Mapping[str, int]
    pairs_used: int
    pairs_unseen: int
    pairs_zero_system: int
    row_vas: tuple[float, ...]
    layers: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self) | {"row_vas": list(self.row_vas), "layers": list(self.layers)}


def band_of(vas: float) -> Band:
    """The paper's bands: narrow below 10, wide from 10 to 15, panoramic above 15."""
    if vas > PANORAMIC:
        return "panoramic"
    return "wide" if vas >= WIDE else "narrow"


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
    """Measure a model on sample rows. Memory does not grow with their number, but for one score a row.

    Args:
        samples: rows as in `schemas.records.sample_features`; anything with a length and an index.
        layers: by default all softmax-attention layers of the text decoder.
        gains: also measure the two gains, at two more forward passes per row.
        progress: called after each batch with the number of rows in it.
    Raises: AttentionError: a model that cannot be recorded, or no row with an image and a system turn.
        SpanError: regions that cannot be found exactly.
    Source: AVAR, arXiv 2603.03825; the gains: ours (docs/method.md).
    """
    tally = _Tally()
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), prepared(model):
            for start in range(0, len(samples), batch_size):
                numbers = range(start, min(start + batch_size, len(samples)))
                _measure_batch(tally, model, processor, samples, numbers, layers, gains)
                if progress is not None:
                    progress(len(numbers))
    finally:
        model.train(training)
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
    recorder = start_recording(model, regions, layers=layers, extra=_without_first(regions)[..., None])
    loss_B, tokens_B = _response_loss(model, inputs, regions, recorder)
    recorder.check()
    tally.add(recorder, regions)
    tally.add_loss("right", loss_B, tokens_B)
    if not gains:
        return
    for kind in ("other", "blank"):
        swapped = {number: _with_images(samples, number, kind, talk) for number, talk in seeing.items()}
        kept = [place for place, talk in enumerate(swapped.values()) if talk is not None]
        if kept:
            talks = [talk for talk in swapped.values() if talk is not None]
            worse_B, _ = _response_loss(model, *_inputs(processor, talks, model.device))
            tally.add_loss(kind, worse_B - loss_B[kept], tokens_B[kept])


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
    model: PreTrainedModel, inputs: Mapping[str, Any], regions: Regions, recorder: Recorder | None = None
) -> tuple[Tensor, Tensor]:
    """Summed LM loss of each row's response, nats, and its number of tokens. Both [B], on the CPU.

    Only the positions from the first response token on go through the language-model head.
    """
    ids_BS, target_BS = inputs["input_ids"], regions.response
    starts = target_BS.any(dim=0).nonzero()
    kept = ids_BS.shape[1] - int(starts[0]) + 1 if len(starts) else 1
    logits_BKV = model(
        **inputs, use_cache=False, logits_to_keep=kept, **(recorder.keywords if recorder else {})
    ).logits
    losses_BK = F.cross_entropy(
        logits_BKV[:, :-1].float().transpose(1, 2), ids_BS[:, ids_BS.shape[1] - kept + 1 :], reduction="none"
    )
    mask_BK = target_BS[:, ids_BS.shape[1] - kept + 1 :]
    return torch.where(mask_BK, losses_BK, 0.0).double().sum(dim=1).cpu(), mask_BK.sum(dim=1).cpu()


def _with_images(
    samples: Sequence[Mapping[str, Any]], number: int, kind: str, conversation: Conversation
) -> Conversation | None:
    """The conversation with grey or another problem's images; None where no row has another image."""
    own = [open_image(image) for image in samples[number]["images"]]
    if kind == "blank":
        images = [PIL.Image.new("RGB", image.size, _GREY) for image in own]
    else:
        other = _other_images(samples, number, own[0])
        if other is None:
            return None
        images = [other[place % len(other)] for place in range(len(own))]
    places = iter(images)
    return [
        message
        | {
            "content": [
                {"type": "image", "image": next(places)} if part["type"] == "image" else part
                for part in message["content"]
            ]
        }
        for message in conversation
    ]


def _other_images(
    samples: Sequence[Mapping[str, Any]], number: int, own: PIL.Image.Image
) -> list[PIL.Image.Image] | None:
    """The images of the next row (around the end) whose first image differs from `own`."""
    for step in range(1, len(samples)):
        images = samples[(number + step) % len(samples)]["images"]
        other = [open_image(image) for image in images]
        if other and (other[0].size != own.size or other[0].tobytes() != own.tobytes()):
            return other
    return None


class _Tally:
    """Everything that is summed over the rows."""

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()
        self.ratios, self.without_first = RatioTally(), RatioTally(system=_WITHOUT_FIRST)
        self.users, self.responses = ShareTally(), ShareTally()
        self.losses: dict[str, float] = defaultdict(float)
        self.tokens: Counter[str] = Counter()
        self.layers: tuple[int, ...] = ()

    def add(self, recorder: Recorder, regions: Regions) -> None:
        """Add a recorded batch."""
        has_system_B, has_user_B = regions.system.any(dim=1), regions.user.any(dim=1)
        usable_B = has_system_B & has_user_B
        queries_BS = regions.user & usable_B[:, None]
        used_B = self.ratios.add(recorder, queries_BS)
        self.without_first.add(recorder, queries_BS)
        self.users.add(recorder, queries_BS)
        self.responses.add(recorder, regions.response & usable_B[:, None])
        self.skipped["no_system_turn"] += int((~has_system_B).sum())
        self.skipped["no_question"] += int((has_system_B & ~has_user_B).sum())
        self.skipped["image_not_visible"] += int((usable_B.cpu() & ~used_B).sum())
        self.layers = tuple(sorted(recorder.masses))

    def add_loss(self, kind: str, loss_B: Tensor, tokens_B: Tensor) -> None:
        """Add summed losses, or differences of losses, of rows."""
        self.losses[kind] += float(loss_B.sum())
        self.tokens[kind] += int(tokens_B.sum())

    def per_token(self, kind: str) -> float | None:
        """Loss per response token, None where no token was counted."""
        return self.losses[kind] / self.tokens[kind] if self.tokens[kind] else None

    def report(self) -> VasReport:
        """The report, or AttentionError where no row counts."""
        ratios = self.ratios
        if not ratios.row_means:
            raise AttentionError(
                f"no row can be scored ({dict(+self.skipped)}): the score needs an image and a system turn"
            )
        return VasReport(
            vas=ratios.mean,
            band=band_of(ratios.mean),
            head_averaged=ratios.head_averaged,
            ratio_of_means=ratios.ratio_of_means,
            median=ratios.median,
            vas_without_first_token=self.without_first.mean,
            head_averaged_without_first_token=self.without_first.head_averaged,
            user_shares=self.users.means(),
            response_shares=self.responses.means(),
            loss=self.per_token("right"),
            image_gain=self.per_token("other"),
            blank_gain=self.per_token("blank"),
            rows_used=len(ratios.row_means),
            rows_skipped=dict(+self.skipped),
            pairs_used=ratios.pairs,
            pairs_unseen=ratios.unseen,
            pairs_zero_system=ratios.zero_system,
            row_vas=tuple(ratios.row_means),
            layers=self.layers,
        )
