"""A row's conversation with a wrong image, which image gain is measured against. Free of trl and datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import PIL.Image

from trainer.messages import Conversation, open_image

Swap = Literal["other", "blank"]
_GREY = (128, 128, 128)


def swap_images(
    samples: Sequence[Mapping[str, Any]],
    number: int,
    kind: Swap,
    conversation: Conversation,
) -> Conversation | None:
    """The conversation of row `number` with grey images (`blank`) or another problem's (`other`).

    Returns: None where no row has an image that differs from its first.
    """
    images = find_swap(samples, number, kind)
    if images is None:
        return None
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


def find_swap(samples: Sequence[Mapping[str, Any]], number: int, kind: Swap) -> list[PIL.Image.Image] | None:
    """As many images as row `number` has, grey ones of their sizes (`blank`) or another problem's (`other`).

    Returns: None where no row has an image that differs from its first.
    """
    own = [open_image(image) for image in samples[number]["images"]]
    if kind == "blank":
        return [PIL.Image.new("RGB", image.size, _GREY) for image in own]
    other = _other_images(samples, number, own[0]) if own else []
    return None if other is None else [other[place % len(other)] for place in range(len(own))]


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
