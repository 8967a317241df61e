"""Where sampled completions looked: prompt and completion as one batch, its regions, its readings.

B rows, S = P + C tokens (prompts padded on the left, completions on the right, as TRL lays them out),
H heads. Free of trl and datasets. Source: AVAR, arXiv 2603.03825, "visual-anchored reward".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from schemas.errors import AttentionError, SpanError
from trainer.attention import full_attention_layers, prepared, record, still
from trainer.messages import Conversation
from trainer.recorder import IMAGE, SYSTEM
from trainer.regions import Regions, find_regions
from trainer.rewards import EPS

PER_TOKEN = ("mm_token_type_ids", "token_type_ids")  # fields that grow with the tokens


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where one response looked.

    Attributes:
        ratio: mean over layers and response tokens of head-averaged image mass / (system mass + 1e-6).
        image_share, system_share: the same means of the masses themselves, [0, 1].
        pairs: pairs of layer and token behind them; pairs_below_eps: those whose system mass is below 1e-6.
    """

    ratio: float
    image_share: float
    system_share: float
    pairs: int
    pairs_below_eps: int


def read_completions(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    prompts: Sequence[Conversation],
    tokenized: tuple[Sequence[Sequence[int]], Mapping[str, Any]],
    completion_ids: Sequence[Sequence[int]],
) -> list[Reading]:
    """One recorded forward pass over prompts with an image and their completions, without a gradient.

    Args:
        prompts: B conversations that end with the user's turn.
        tokenized: their token ids as they were generated from, and the processor's other fields, per-token
            ones as lists.
        completion_ids: what was sampled, the end marker included where there is one, without padding.
    Raises: SpanError: a row without an image or without a system turn, or regions that are not exact.
        AttentionError: masses that are not exact.
    """
    prompt_ids, fields = tokenized
    tokenizer: Any = getattr(processor, "tokenizer")  # noqa: B009
    prompt = _pad_prompts(prompt_ids, fields, tokenizer.pad_token_id)
    inputs, response_BS = _append(prompt, completion_ids, tokenizer.pad_token_id)
    regions = _find_regions(processor, prompts, prompt, response_BS)
    device = model.device
    inputs = {name: value.to(device) for name, value in inputs.items()}
    regions = regions.to(device)
    layers = full_attention_layers(model)
    if not layers:
        raise AttentionError(
            f"{type(model).__name__}: every layer has a sliding window, which does not see the whole prompt: "
            "train without r_visual (grpo.rewards.visual_weight=0)"
        )
    with still(model), prepared(model):
        masses = record(model, inputs, regions, layers=layers, queries=regions.response)
    return _take_readings(masses, masses.visible, regions)


def _pad_prompts(
    prompt_ids: Sequence[Sequence[int]], fields: Mapping[str, Any], pad_id: int
) -> dict[str, Tensor]:
    """Prompts as one batch, padded on the left, with the processor's other fields."""
    batch = {
        "input_ids": _pad(prompt_ids, pad_id, left=True),
        "attention_mask": _pad([[1] * len(ids) for ids in prompt_ids], 0, left=True),
    }
    for name, field in fields.items():
        if name in PER_TOKEN:
            batch[name] = _pad(field, 0, left=True)
        else:
            batch[name] = field if isinstance(field, Tensor) else torch.as_tensor(np.array(field))
    return batch


def _append(
    prompt: Mapping[str, Tensor], completion_ids: Sequence[Sequence[int]], pad_id: int
) -> tuple[dict[str, Tensor], Tensor]:
    """The batch with the completions behind the prompts, and where they stand, bool [B, S]."""
    kept_BC = _pad([[1] * len(ids) for ids in completion_ids], 0, left=False)
    tails = {"input_ids": _pad(completion_ids, pad_id, left=False), "attention_mask": kept_BC}
    tails |= {name: torch.zeros_like(kept_BC) for name in PER_TOKEN if name in prompt}
    inputs = dict(prompt) | {name: torch.cat([prompt[name], tail], dim=1) for name, tail in tails.items()}
    before_BP = torch.zeros_like(prompt["attention_mask"])
    return inputs, torch.cat([before_BP, kept_BC], dim=1).bool()


def _pad(rows: Sequence[Sequence[int]], value: int, *, left: bool) -> Tensor:
    widest = max(map(len, rows))
    fill = [[value] * (widest - len(row)) for row in rows]
    return torch.tensor(
        [[*pad, *row] if left else [*row, *pad] for row, pad in zip(rows, fill, strict=True)],
        dtype=torch.long,
    )


def _find_regions(
    processor: ProcessorMixin,
    prompts: Sequence[Conversation],
    prompt: Mapping[str, Tensor],
    response_BS: Tensor,
) -> Regions:
    """The prompts' regions, and the completions as the response."""
    found = find_regions(processor, prompts, prompt)
    for name, mend in (
        ("image", "only rows with an image have a ratio"),
        ("system", "give the rows a `system`, or a chat template that renders one"),
    ):
        empty = (~getattr(found, name).any(dim=1)).nonzero().flatten().tolist()
        if empty:
            raise SpanError(
                f"row {empty[0]}: the prompt has no {name} token, so r_visual is not defined: {mend}"
            )
    labels_BP = found.to_labels()
    before_BS = torch.nn.functional.pad(labels_BP, (0, response_BS.shape[1] - labels_BP.shape[1]))
    regions = Regions.from_labels(before_BS)
    return Regions(regions.system, regions.image, regions.user, response_BS, regions.valid | response_BS)


def _take_readings(
    masses: Mapping[int, Tensor], visible: Mapping[int, Tensor], regions: Regions
) -> list[Reading]:
    """Readings over the pairs of layer and response token that see image and system turn."""
    sums_B5 = torch.zeros(len(regions.response), 5, dtype=torch.float64)
    for layer, mass_BHSC in masses.items():
        pair_BS = regions.response & visible[layer][..., [IMAGE, SYSTEM]].all(dim=-1)
        image_BS, system_BS = mass_BHSC[..., [IMAGE, SYSTEM]].mean(dim=1).unbind(dim=-1)
        ones_BS = torch.ones_like(image_BS)
        parts = [image_BS / (system_BS + EPS), image_BS, system_BS, ones_BS, (system_BS < EPS).float()]
        stacked_BS5 = torch.stack(parts, dim=-1)
        sums_B5 += torch.where(pair_BS[..., None], stacked_BS5, 0.0).sum(dim=1).double().cpu()
    if bool((sums_B5[:, 3] == 0).any()):
        raise AttentionError("a response that sees no image or no system token has no ratio")
    return [
        Reading(
            ratio=ratio / pairs,
            image_share=image / pairs,
            system_share=system / pairs,
            pairs=int(pairs),
            pairs_below_eps=int(below),
        )
        for ratio, image, system, pairs, below in sums_B5.tolist()
    ]
