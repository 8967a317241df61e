"""Sample rows as TRL wants them, and a collator that adds the token regions to each batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import ProcessorMixin

from schemas.errors import SpanError
from trainer.messages import SYSTEM_PROMPT, Conversation, encode, render_question, to_messages
from trainer.regions import find_regions

if TYPE_CHECKING:
    import datasets

__all__ = [
    "REGION_LABELS",
    "SYSTEM_PROMPT",
    "RegionCollator",
    "encode",
    "render_question",
    "sft_dataset",
    "to_messages",
]

REGION_LABELS = "region_labels"  # the batch's key: int8 [B, S], read by `Regions.from_labels`


def sft_dataset(dataset: datasets.Dataset) -> datasets.Dataset:
    """Sample rows as prompt, completion and images, made when a row is read: nothing is copied.

    Args:
        dataset: columns as in `schemas.records.sample_features`.
    Returns: a view of it; train with `remove_unused_columns=False`, since its columns stay the samples'.
    """
    return dataset.with_transform(_to_columns)


def _to_columns(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    names = list(batch)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    columns: dict[str, list[Any]] = {"prompt": [], "completion": [], "images": []}
    for row in rows:
        *prompt, completion = to_messages(row)
        columns["images"].append([part["image"] for part in prompt[-1]["content"] if part["type"] == "image"])
        columns["prompt"].append(prompt)
        columns["completion"].append([completion])
    return columns


@dataclass
class RegionCollator:
    """A collator that adds `region_labels` to what another one makes.

    The response is what the loss is taken on (labels other than -100).
    Raises: SpanError: regions that cannot be found exactly, or that contradict the labels.
    """

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]
    processor: ProcessorMixin

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        conversations = [_conversation(example) for example in examples]
        batch = self.collate([dict(example) for example in examples])
        regions = find_regions(self.processor, conversations, batch)
        batch[REGION_LABELS] = regions.with_response(batch["labels"] != -100).to_labels()
        return batch


def _conversation(example: Mapping[str, Any]) -> Conversation:
    if "prompt" not in example or "completion" not in example:
        raise SpanError(f"an example has {sorted(example)}: the guided loss needs `prompt` and `completion`")
    return [*example["prompt"], *example["completion"]]
