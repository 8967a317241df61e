"""Images that arrive as data URLs, from strangers: an explicit list of formats, a pixel limit, a reason."""

from __future__ import annotations

import base64
import binascii
import io
import re

import numpy as np
from PIL import Image

from synth.images import DAMAGE, FORMATS

MAX_PIXELS = 40_000_000

_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)


class Refusal(Exception):  # noqa: N818 (an answer of the API, not a fault of the server)
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status.
        param: the field at fault, None where it is the whole request.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


def decode_image(url: str) -> np.ndarray:
    """The pixels behind a base64 data URL, uint8 [height, width, 3]; of an animation, its first frame.

    The size is read from the header and checked before any pixel is decoded.
    Raises: Refusal: another kind of URL, not base64, another format, damaged, or over MAX_PIXELS.
    """
    head = _DATA_URL.match(url)
    if head is None:
        raise Refusal(f"image_url: only base64 data URLs are read, got {url[:40]!r}", param="messages")
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(f"image_url: not base64: {error}", param="messages") from error
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _require_size(image)
            return flatten(image)
    except Refusal:
        raise
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise Refusal(
            f"image_url: {len(data)} bytes that do not decode: {error}", param="messages"
        ) from error


def _require_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise Refusal(f"image_url: {size} pixels, the limit is {MAX_PIXELS} in all", param="messages")


def flatten(image: Image.Image) -> np.ndarray:
    """Pixels in RGB, uint8 [height, width, 3]; what is transparent lies on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))
