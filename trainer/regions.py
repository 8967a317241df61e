"""Exact token regions: which tokens are system, image, user and response.

B rows, S tokens. Regions come from the chat template and the token ids alone (trainer/layouts.py), are
checked against the real rendering and against the ids, and are never guessed. Free of trl and datasets.
Source: AVAR, arXiv 2603.03825, section 3; the edge cases are decided in docs/method.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import ProcessorMixin

from schemas.errors import SpanError
from trainer.alignment import (
    NORMAL_FORMS,
    align,
    check_expansions,
    own_tokens,
    token_spans,
    unused_character,
)
from trainer.layouts import Label, Piece, render_pieces, render_reply
from trainer.messages import Conversation
from trainer.skeleton import Structure, read_structure


@dataclass(frozen=True)
class Regions:
    """Disjoint boolean masks over the tokens of a batch, each [B, S].

    Attributes:
        system: the system turn with its markers (also one that the template adds by itself).
        image: tokens that the vision tower's features replace.
        user: the rest of the user turns with their markers: the question.
        response: the assistant's tokens, their end marker included.
        valid: every token that is not padding.
    """

    system: Tensor
    image: Tensor
    user: Tensor
    response: Tensor
    valid: Tensor

    @property
    def other(self) -> Tensor:
        """Tokens of no region: markers of vision, of the assistant's turn, a BOS. bool [B, S]."""
        return self.valid & ~(self.system | self.image | self.user | self.response)

    @property
    def pad(self) -> Tensor:
        """Padding. bool [B, S]."""
        return ~self.valid

    @property
    def columns(self) -> Tensor:
        """System, image, user and response as one bool tensor [B, S, 4], in the order of the masses."""
        return torch.stack([self.system, self.image, self.user, self.response], dim=-1)

    def select(self, names: str) -> Tensor:
        """The union of regions named `user`, `response` or `user+response`. bool [B, S]."""
        return torch.stack([getattr(self, name) for name in names.split("+")]).any(dim=0)

    def to(self, device: torch.device | str) -> Regions:
        """The same regions on another device."""
        return Regions(*(mask.to(device) for mask in self._masks()))

    def _masks(self) -> tuple[Tensor, ...]:
        return (self.system, self.image, self.user, self.response, self.valid)

    def to_labels(self) -> Tensor:
        """One int8 tensor [B, S] that `from_labels` reads: what a collator puts into a batch."""
        labels_BS = self.valid.to(torch.int8) * Label.OTHER
        for label, mask_BS in zip(
            (Label.SYSTEM, Label.IMAGE, Label.USER, Label.RESPONSE), self._masks(), strict=False
        ):
            labels_BS[mask_BS] = label
        return labels_BS

    @staticmethod
    def from_labels(labels_BS: Tensor) -> Regions:
        """The inverse of `to_labels`."""
        return Regions(
            system=labels_BS == Label.SYSTEM,
            image=labels_BS == Label.IMAGE,
            user=labels_BS == Label.USER,
            response=labels_BS == Label.RESPONSE,
            valid=labels_BS != Label.PAD,
        )

    def with_response(self, response_BS: Tensor) -> Regions:
        """The same regions with another response, e.g. the tokens that a loss is taken on.

        Raises: SpanError: it covers tokens of another region.
        """
        taken_BS = self.system | self.image | self.user | self.pad
        if bool((response_BS & taken_BS).any()):
            row = int((response_BS & taken_BS).any(dim=1).nonzero()[0])
            raise SpanError(f"row {row}: loss is taken on prompt tokens; use completion-only labels")
        return Regions(self.system, self.image, self.user, response_BS, self.valid)


def find_regions(
    processor: ProcessorMixin, messages: Sequence[Conversation], encoded: Mapping[str, Any]
) -> Regions:
    """The regions of a batch, exactly, whatever the chat template and the side of the padding.

    Args:
        messages: B conversations, as they were encoded (with the response, or as prompts).
        encoded: the processor's output for them: input_ids [B, S], attention_mask [B, S] and, where the
            processor gives it, mm_token_type_ids [B, S].
    Returns: masks on the device of input_ids.
    Raises: SpanError: a template that rewrites content, a text that holds an image token, images that are
        not in the ids, token ids that are not those of the rendered conversation, packed or truncated rows,
        padding inside a row.
    """
    ids_BS = encoded["input_ids"]
    if len(messages) != len(ids_BS):
        raise SpanError(f"{len(messages)} conversations for {len(ids_BS)} rows: packed rows have no regions")
    valid_BS = _valid_tokens(encoded).cpu().numpy()
    image_BS = _image_tokens(processor, encoded).cpu().numpy()
    rows_BS = ids_BS.cpu().numpy()
    labels_BS = np.zeros(rows_BS.shape, np.int8)
    for row, conversation in enumerate(messages):
        keep_S = valid_BS[row]
        try:
            labels_BS[row, keep_S] = _label_row(
                processor, conversation, rows_BS[row, keep_S], image_BS[row, keep_S]
            )
        except SpanError as error:
            raise SpanError(f"row {row}: {error}") from error
    return Regions.from_labels(torch.from_numpy(labels_BS).to(ids_BS.device))


def _valid_tokens(encoded: Mapping[str, Any]) -> Tensor:
    """Every token that is not padding. bool [B, S]."""
    ids_BS = encoded["input_ids"]
    mask = encoded.get("attention_mask")
    if mask is None:
        return torch.ones_like(ids_BS, dtype=torch.bool)
    if mask.shape != ids_BS.shape:
        raise SpanError(
            f"attention_mask is {tuple(mask.shape)} for input_ids {tuple(ids_BS.shape)}: regions need one "
            "value per token, rows that are not packed"
        )
    valid_BS = mask.bool()
    turned_on_B = valid_BS.long().diff(dim=1, prepend=torch.zeros_like(ids_BS[:, :1])).eq(1).sum(dim=1)
    for row in (turned_on_B != 1).nonzero().flatten().tolist():
        raise SpanError(
            f"row {row}: attention_mask has {int(turned_on_B[row])} runs of tokens, need 1: pad on the left "
            "or on the right, never inside a row"
        )
    return valid_BS


def _image_tokens(processor: ProcessorMixin, encoded: Mapping[str, Any]) -> Tensor:
    """Tokens that image features replace, not the markers some processors count among them. bool [B, S]."""
    owners = (processor.tokenizer, processor)  # Gemma 3's processor names the marker that opens an image
    named = [getattr(owner, "image_token_id", None) for owner in owners]
    token = next((found for found in named if found is not None), None)
    kinds_BS = encoded.get("mm_token_type_ids")
    if token is None and kinds_BS is None:
        raise SpanError(f"{type(processor).__name__} names no image token: encode with mm_token_type_ids")
    if kinds_BS is None:
        return encoded["input_ids"] == token
    image_BS = kinds_BS == 1
    feature_BS = image_BS & (encoded["input_ids"] == token) if token is not None else image_BS
    return feature_BS if bool(feature_BS.any()) else image_BS


def _label_row(
    processor: ProcessorMixin,
    conversation: Conversation,
    ids_S: NDArray[np.int64],
    image_S: NDArray[np.bool_],
) -> NDArray[np.int8]:
    """A label for every token of one row, padding taken off. int8 [S]."""
    structure, texts = read_structure(conversation)
    _check_images(sum(shape.images for shape in structure), int(image_S.sum()))
    tokenizer = processor.tokenizer
    text = tokenizer.decode(ids_S, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    mask = unused_character(text)
    masked = text
    for token_id in np.unique(ids_S[image_S]).tolist():
        token = tokenizer.decode([token_id], skip_special_tokens=False)
        masked = masked.replace(token, mask * len(token))
    pieces, owner_C = _match_row(processor, conversation, structure, texts, masked, mask)
    ids = ids_S.tolist()
    owner_S = own_tokens(
        pieces, owner_C, token_spans(tokenizer, text, ids, lambda: render_reply(processor, conversation))
    )
    check_expansions(tokenizer, ids, owner_S)
    labels_S = np.array([*(piece.label for piece in pieces), Label.OTHER], np.int8)[owner_S]
    labels_S[image_S] = Label.IMAGE
    return labels_S


def _check_images(images: int, tokens: int) -> None:
    if images and tokens < images:
        raise SpanError(
            f"the conversation holds {images} images, its ids {tokens or 'no'} image token(s): encode the "
            "conversation with its images, keep mm_token_type_ids, and do not truncate"
        )
    if tokens and not images:
        raise SpanError(
            f"the ids hold {tokens} image tokens, the conversation no image: was its image part left out, or "
            "does a text hold an image token?"
        )


def _match_row(
    processor: ProcessorMixin,
    conversation: Conversation,
    structure: Structure,
    texts: list[str],
    masked: str,
    mask: str,
) -> tuple[list[Piece], NDArray[np.int64]]:
    """The rendered conversation in pieces, and the piece of every character of the row. int [C]."""
    prompts = [False] if structure[-1].role == "assistant" else [True, False]
    bos = processor.tokenizer.bos_token or ""
    for prompt in prompts:
        pieces = render_pieces(processor, conversation, structure, texts, prompt)
        if bos and masked.startswith(bos) and not pieces[0].text.startswith(bos):
            pieces = [Piece(text=bos, label=Label.OTHER), *pieces]
        for normal in NORMAL_FORMS:
            owner_C = align(pieces, masked, mask, normal)
            if owner_C is not None:
                return pieces, owner_C
    images, runs = sum(shape.images for shape in structure), len(re.findall(f"{mask}+", masked))
    raise SpanError(
        f"the token ids ({runs} runs of image tokens) are not those of the rendered conversation ({images} "
        "images): was it truncated, packed or encoded with another template, or does a text hold an image "
        "token?"
    )
