"""Greedy answers of a model to sample rows, in batches, for all that generate. Free of trl and datasets.

B rows, T new tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from transformers import BatchFeature, GenerationConfig, PreTrainedModel, ProcessorMixin

from schemas.errors import AttentionError
from trainer.attention import still
from trainer.messages import Conversation, encode, to_messages

Context = Callable[[Sequence[Conversation], BatchFeature], AbstractContextManager[object]]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One generated answer.

    Attributes:
        text: without special tokens.
        tokens: how many were generated, the end token included.
        finished: it ended by itself, before the limit of tokens.
    """

    text: str
    tokens: int
    finished: bool


def generate_greedy(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    rows: Sequence[Mapping[str, Any]],
    *,
    max_new_tokens: int,
    batch_size: int = 8,
    progress: Callable[[int], object] | None = None,
    context: Context | None = None,
) -> list[Generation]:
    """The answers to all rows, in their order; as `generate_batches`, where the arguments are explained.

    Args:
        progress: called after each batch with the number of answers in it.
    """
    answers: list[Generation] = []
    for batch in generate_batches(
        model, processor, rows, max_new_tokens=max_new_tokens, batch_size=batch_size, context=context
    ):
        answers += batch
        if progress is not None:
            progress(len(batch))
    return answers


def generate_batches(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    rows: Sequence[Mapping[str, Any]],
    *,
    max_new_tokens: int,
    batch_size: int = 8,
    context: Context | None = None,
) -> Iterator[list[Generation]]:
    """Greedy answers, a batch of rows at a time, padded on the left.

    Rows are taken as they come, not sorted by length: they are decoded only when their turn is, and what a
    caller has kept after each batch is a prefix.

    Args:
        rows: as in `schemas.records.sample_features`; only `images`, `question`, `choices` and, where there
            is one, `system` are read.
        context: entered around each batch's generation, given its conversations and inputs (on the CPU).
    Raises:
        AttentionError: the model's configuration names no end token.
        SpanError: a text holds the image placeholder.
    """
    for start in range(0, len(rows), batch_size):
        batch = [rows[place] for place in range(start, min(start + batch_size, len(rows)))]
        with still(model):
            answers = _generate(model, processor, batch, max_new_tokens, context)
        yield answers  # outside of `still`: the model is its owner's again in between


def _generate(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    rows: Sequence[Mapping[str, Any]],
    max_new_tokens: int,
    context: Context | None,
) -> list[Generation]:
    talks = [to_messages(row, with_response=False) for row in rows]
    encoded = encode(processor, talks, padding_side="left", add_generation_prompt=True)
    around = context(talks, encoded) if context is not None else nullcontext()
    with greedy(model, max_new_tokens) as ends, around:
        ids_BT = model.generate(**encoded.to(model.device))  # type: ignore[operator]
    new_BT = ids_BT[:, encoded["input_ids"].shape[1] :]
    texts = processor.batch_decode(new_BT, skip_special_tokens=True)
    return [
        Generation(text=text, tokens=_count(tokens, ends), finished=bool(ends & set(tokens)))
        for text, tokens in zip(texts, new_BT.tolist(), strict=True)
    ]


def _count(tokens: Sequence[int], ends: set[int]) -> int:
    """Tokens up to the first end token; what follows is padding."""
    return next((place for place, token in enumerate(tokens, 1) if token in ends), len(tokens))


@contextmanager
def greedy(model: PreTrainedModel, max_new_tokens: int) -> Iterator[set[int]]:
    """Plain greedy decoding with the model's own end tokens, which it gives.

    A configuration that is passed to `generate` inherits what it leaves open from the model's own (beams, a
    repetition penalty), so for a while the model's own is another one.

    Raises: AttentionError: the model's configuration names no end token.
    """
    own: Any = model.generation_config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list | tuple) else [own.eos_token_id]
    if ends == [None]:
        raise AttentionError("the model's generation_config names no eos_token_id: answers would never end")
    model.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=own.eos_token_id,
        pad_token_id=ends[0] if own.pad_token_id is None else own.pad_token_id,
        bos_token_id=own.bos_token_id,
    )
    try:
        yield set(ends)
    finally:
        model.generation_config = own
