"""Sample rows as TRL wants them, and a collator that adds the token regions to each batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers import ProcessorMixin

from schemas.errors import SpanError
from trainer.messages import (
    SYSTEM_PROMPT,
    Conversation,
    encode,
    iterate_parts,
    plain,
    refuse_placeholder,
    render_question,
    to_messages,
)
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


def sft_dataset(dataset: datasets.Dataset, processor: ProcessorMixin | None = None) -> datasets.Dataset:
    """Sample rows as prompt, completion and images, made when a row is read: nothing is copied.

    Args:
        dataset: columns as in `schemas.records.sample_features`.
        processor: with it, a row whose text holds one of its image tokens is a SpanError that names the row.
    Returns: a view of it; train with `remove_unused_columns=False`, since its columns stay the samples'.
    """
    return dataset.with_transform(partial(_to_columns, processor))


def batch_rows(batch: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The rows of a batch that is given by columns."""
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


def images_of(conversation: Conversation) -> list[Any]:
    """The images of a conversation, in order."""
    return [part["image"] for _, part in iterate_parts(conversation) if part["type"] == "image"]


def _to_columns(processor: ProcessorMixin | None, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"prompt": [], "completion": [], "images": []}
    for row in batch_rows(batch):
        *prompt, completion = messages = to_messages(row)
        if processor is not None:
            refuse_placeholder(processor, messages, f"row {row['id']}")
        # TRL wants the images beside the messages, and puts them into the placeholders itself.
        columns["images"].append(images_of(prompt))
        columns["prompt"].append(plain(prompt))
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
