"""A sample row as a conversation, and conversations as a model's inputs. Free of trl and datasets.

A conversation is a list of messages `{"role": ..., "content": [parts]}`; a part is
`{"type": "text", "text": str}` or `{"type": "image", "image": PIL image}`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import PIL.Image
from transformers import BatchFeature, ProcessorMixin

from schemas.errors import SpanError
from schemas.records import choice_letter

Message = dict[str, Any]
Conversation = list[Message]

SYSTEM_PROMPT = (
    "You solve problems by looking at the image. Think between <think> and </think>, looking back at the "
    "image whenever it can settle a step, then give the final answer between <answer> and </answer>."
)


def to_messages(row: Mapping[str, Any], with_response: bool = True) -> Conversation:
    """The conversation of a sample row (columns as in `schemas.records.sample_features`).

    Args:
        row: may also have a `system`, the system prompt to use instead of avar's own.
        with_response: end with the row's trace as the assistant's turn.
    Returns: system, user (images, then the question and its choices) and assistant messages.
    """
    images = [{"type": "image", "image": open_image(image)} for image in row["images"]]
    question = {"type": "text", "text": render_question(row["question"], row["choices"])}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": row.get("system") or SYSTEM_PROMPT}]},
        {"role": "user", "content": [*images, question]},
    ]
    if with_response:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": row["trace"]}]})
    return messages


def render_question(question: str, choices: Sequence[str] | None) -> str:
    """The question, its choices below it as lines `A. ...` (from the 27th on: `AA. ...`)."""
    if not choices:
        return question
    lines = [f"{choice_letter(index)}. {choice}" for index, choice in enumerate(choices)]
    return "\n".join([question, "Choices:", *lines])


def open_image(image: Any) -> PIL.Image.Image:
    """A PIL image in RGB from what a row holds: a PIL image already, or `{"bytes": ..., "path": ...}`.

    What is transparent lies on white, as on a page; black lines would vanish on black.
    """
    if not isinstance(image, PIL.Image.Image):
        image = PIL.Image.open(io.BytesIO(image["bytes"]))
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def iterate_parts(conversation: Sequence[Message]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(message index, part) in order; a content that is a string counts as one text part."""
    for index, message in enumerate(conversation):
        content = message["content"]
        if isinstance(content, str):
            yield index, {"type": "text", "text": content}
        else:
            for part in content:
                yield index, part


def plain(conversation: Sequence[Message]) -> Conversation:
    """The conversation without its pixels, for rendering."""
    return [
        {"role": message["role"], "content": content if isinstance(content, str) else _plain(content)}
        for message in conversation
        for content in [message["content"]]
    ]


def _plain(parts: Sequence[Message]) -> list[Message]:
    return [
        {"type": "image"} if part["type"] == "image" else {"type": "text", "text": part["text"]}
        for part in parts
    ]


def encode(
    processor: ProcessorMixin,
    conversations: Sequence[Conversation],
    *,
    padding_side: Literal["left", "right"] = "right",
    add_generation_prompt: bool = False,
) -> BatchFeature:
    """Conversations, with their images, as one padded batch of tensors.

    Returns: input_ids, attention_mask, pixel_values, ... as the processor gives them.
    Raises: SpanError: a text holds the image placeholder, which the model would take for an image.
    """
    for number, conversation in enumerate(conversations):
        refuse_placeholder(processor, conversation, f"conversation {number}")
    return processor.apply_chat_template(  # type: ignore[return-value]
        list(conversations),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=add_generation_prompt,
        processor_kwargs={"padding": True, "padding_side": padding_side, "add_special_tokens": False},
    )


def refuse_placeholder(processor: Any, conversation: Sequence[Message], where: str) -> None:
    """Raise SpanError where a text part holds one of the processor's image or video tokens."""
    names = ("image_token", "video_token", "boi_token", "eoi_token")
    tokens = {getattr(processor, name, None) for name in names}
    for index, part in iterate_parts(conversation):
        text = part.get("text") or ""
        found = next((token for token in tokens if isinstance(token, str) and token in text), None)
        if found is not None:
            raise SpanError(
                f"{where}: message {index} holds {found!r} as text, which the model reads as an image: "
                "remove it from the text"
            )
