"""Exact token regions: which tokens are system, image, user and response.

B rows, S tokens. Regions come from the chat template and the token ids alone (trainer/layouts.py), are
checked against the real rendering and against the ids, and are never guessed. Free of trl and datasets.
Source: AVAR, arXiv 2603.03825, section 3; the edge cases are decided in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import ProcessorMixin

from schemas.errors import SpanError
from trainer.alignment import NORMAL_FORMS, align, cuts, token_ends, unused_character
from trainer.layouts import Label, Piece, Structure, build_layout, fill_layout, structure_of
from trainer.messages import Conversation, Message, plain

_LAYOUTS: dict[tuple[Any, ...], tuple[Piece, ...]] = {}
_MAX_LAYOUTS = 256


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
    Raises: SpanError: a template that rewrites content, a text that holds an image token, token ids that
        are not those of the rendered conversation, packed or truncated rows.
    """
    ids_BS = encoded["input_ids"]
    if len(messages) != len(ids_BS):
        raise SpanError(f"{len(messages)} conversations for {len(ids_BS)} rows: packed rows have no regions")
    valid_BS = encoded.get("attention_mask", torch.ones_like(ids_BS)).bool()
    image_BS = _image_tokens(processor, encoded)
    labels_BS = torch.zeros(ids_BS.shape, dtype=torch.int8)
    for row, conversation in enumerate(messages):
        keep_S = valid_BS[row].cpu()
        ids, images = ids_BS[row].cpu()[keep_S].tolist(), image_BS[row].cpu()[keep_S].tolist()
        try:
            labels = _label_row(processor, conversation, ids, images)
        except SpanError as error:
            raise SpanError(f"row {row}: {error}") from error
        labels_BS[row, keep_S] = torch.tensor(labels, dtype=torch.int8)
    return Regions.from_labels(labels_BS.to(ids_BS.device))


def _image_tokens(processor: ProcessorMixin, encoded: Mapping[str, Any]) -> Tensor:
    kinds_BS = encoded.get("mm_token_type_ids")
    if kinds_BS is not None:
        return kinds_BS == 1
    token = getattr(processor, "image_token_id", None)
    if token is None:
        token = getattr(processor.tokenizer, "image_token_id", None)
    if token is None:
        raise SpanError(f"{type(processor).__name__} names no image token: encode with mm_token_type_ids")
    return encoded["input_ids"] == token


def _label_row(
    processor: ProcessorMixin, conversation: Conversation, ids: list[int], images: list[bool]
) -> list[int]:
    """A label for every token of one row, padding taken off."""
    tokenizer = processor.tokenizer
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    mask = unused_character(text)
    masked = text
    for token_id in {token for token, image in zip(ids, images, strict=True) if image}:
        token = tokenizer.decode([token_id], skip_special_tokens=False)
        masked = masked.replace(token, mask * len(token))
    labels = _label_characters(processor, conversation, masked, mask)
    ends = token_ends(tokenizer, text, ids, cuts(labels))
    return [
        int(Label.IMAGE if image else labels[max(end - 1, 0)])
        for end, image in zip(ends, images, strict=True)
    ]


def _label_characters(
    processor: ProcessorMixin, conversation: Conversation, masked: str, mask: str
) -> list[Label]:
    """A label for every character of the decoded row, its image tokens masked."""
    prompts = [False] if conversation[-1]["role"] == "assistant" else [True, False]
    bos = processor.tokenizer.bos_token or ""
    for add_generation_prompt in prompts:
        pieces = _render_pieces(processor, conversation, add_generation_prompt)
        if bos and masked.startswith(bos) and not pieces[0].text.startswith(bos):
            pieces = [Piece(text=bos, label=Label.OTHER), *pieces]
        for normal in NORMAL_FORMS:
            labels = align(pieces, masked, mask, normal)
            if labels is not None:
                return labels
    raise SpanError(
        "the token ids are not those of the rendered conversation: was it truncated, packed, encoded with "
        "another template, or does a text hold an image token?"
    )


def _render_pieces(
    processor: ProcessorMixin, conversation: Conversation, add_generation_prompt: bool
) -> list[Piece]:
    """The conversation as the template writes it, cut into labelled pieces."""
    structure = structure_of(conversation)
    rendered = _render(processor, plain(conversation), add_generation_prompt)
    for fresh in (False, True):  # a layout may age: some templates write today's date
        layout = _layout(processor, structure, add_generation_prompt, fresh)
        pieces = fill_layout(layout, conversation, rendered)
        if pieces is not None:
            return pieces
    raise SpanError(
        "the chat template rewrites content: put back into what it writes around the texts, they do not "
        "give what it renders"
    )


def _render(processor: ProcessorMixin, messages: Sequence[Message], add_generation_prompt: bool) -> str:
    rendered: Any = processor.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return rendered


def _layout(
    processor: ProcessorMixin, structure: Structure, add_generation_prompt: bool, fresh: bool
) -> tuple[Piece, ...]:
    tokenizer = processor.tokenizer
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    specials = tuple(tokenizer.all_special_tokens)
    key = (str(template), specials, structure, add_generation_prompt)
    if fresh or key not in _LAYOUTS:
        while len(_LAYOUTS) >= _MAX_LAYOUTS:
            _LAYOUTS.pop(next(iter(_LAYOUTS)))
        _LAYOUTS[key] = build_layout(
            lambda messages, prompt: _render(processor, messages, prompt),
            structure,
            add_generation_prompt=add_generation_prompt,
            bos=tokenizer.bos_token or "",
            special_tokens=specials,
            placeholders=_placeholders(processor),
        )
    return _LAYOUTS[key]


def _placeholders(processor: ProcessorMixin) -> tuple[str, ...]:
    owners = (processor, processor.tokenizer)
    names = ("boi_token", "image_token", "fake_image_token")
    found = [getattr(owner, name, None) for name in names for owner in owners]
    return tuple(dict.fromkeys(token for token in found if isinstance(token, str) and token))
