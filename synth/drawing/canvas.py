"""The canvas of procedural scenes: antialiased shapes, digits, lighting, noise and PNG bytes.

Everything random comes in through a `random.Random`, whose stream Python guarantees from one version to
the next; no font and no encoder default that differs between machines is used.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from synth.vocabulary import GLYPHS, Point

RGB = tuple[int, int, int]

_SUPERSAMPLING = 3
_NOISE_STEP = 5  # grey levels: coarse noise compresses well and looks the same


class Canvas:
    """A square picture in the making; coordinates are pixels of the finished picture, floats allowed."""

    def __init__(self, side: int, background: RGB) -> None:
        self.side = side
        self._image = Image.new("RGB", (side * _SUPERSAMPLING, side * _SUPERSAMPLING), background)
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Sequence[Point], fill: RGB, edge: RGB, edge_width: float) -> None:
        """A filled polygon with an edge of its own colour, `edge_width` pixels wide."""
        corners = [(x * _SUPERSAMPLING, y * _SUPERSAMPLING) for x, y in points]
        self._draw.polygon(corners, fill=fill)
        self._edge(corners, edge, edge_width)

    def striped(
        self, points: Sequence[Point], fills: tuple[RGB, RGB], edge: RGB, edge_width: float, stripe: float
    ) -> None:
        """A polygon in slanting stripes of two tones, each `stripe` pixels wide."""
        corners = [(x * _SUPERSAMPLING, y * _SUPERSAMPLING) for x, y in points]
        mask = Image.new("1", self._image.size, 0)
        ImageDraw.Draw(mask).polygon(corners, fill=1)
        tones = self._image.copy()
        brush, size, width = ImageDraw.Draw(tones), self._image.width, stripe * _SUPERSAMPLING
        for number in range(round(2 * size / width) + 1):
            x = number * width
            ends = [(x, 0), (x + width, 0), (x + width - size, size), (x - size, size)]
            brush.polygon(ends, fill=fills[number % 2])
        self._image.paste(tones, mask=mask)
        self._edge(corners, edge, edge_width)

    def _edge(self, corners: list[Point], edge: RGB, edge_width: float) -> None:
        width = max(1, round(edge_width * _SUPERSAMPLING))
        self._draw.line([*corners, *corners[:2]], fill=edge, width=width, joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, fill: RGB) -> None:
        """A filled rectangle; also lines, which are thin rectangles."""
        scaled = [round(value * _SUPERSAMPLING) for value in (left, top, right, bottom)]
        self._draw.rectangle((scaled[0], scaled[1], scaled[2] - 1, scaled[3] - 1), fill=fill)

    def text(self, text: str, right: float, middle: float, scale: int, ink: RGB) -> None:
        """Glyphs of the bitmap font, right-aligned at `right`, centred at `middle`."""
        left, top = round(right) - text_width(text, scale), round(middle - 3.5 * scale)
        for position, character in enumerate(text):
            x = left + position * 6 * scale
            for row, bits in enumerate(GLYPHS[character]):
                for column, bit in enumerate(bits):
                    if bit == "1":
                        dot_x, dot_y = x + column * scale, top + row * scale
                        self.box(dot_x, dot_y, dot_x + scale, dot_y + scale, ink)

    def pixels(self, blur: float = 0.0) -> np.ndarray:
        """The finished picture, uint8 [side, side, 3].

        Args:
            blur: radius by which it is out of focus, pixels.
        """
        finished = self._image.reduce(_SUPERSAMPLING)
        return np.asarray(finished.filter(ImageFilter.GaussianBlur(blur)) if blur > 0 else finished)


def text_width(text: str, scale: int) -> int:
    """Width of `text` in pixels."""
    return max(0, 6 * len(text) - 1) * scale


def light(pixels: np.ndarray, strength: float, rng: random.Random) -> np.ndarray:
    """Light that falls off along a random direction, up to +-`strength` (share of the brightness)."""
    ramp = np.linspace(-0.5, 0.5, pixels.shape[0])
    across, down = rng.uniform(-1, 1), rng.uniform(-1, 1)
    factor = 1 - strength + strength * (across * ramp[None, :] + down * ramp[:, None])
    return np.clip(np.rint(pixels * factor[..., None]), 0, 255).astype(np.uint8)


def add_noise(pixels: np.ndarray, sigma: float, rng: random.Random) -> np.ndarray:
    """Grain of standard deviation `sigma` grey levels, the same in all channels."""
    count = pixels.shape[0] * pixels.shape[1]
    dice = np.frombuffer(rng.randbytes(2 * count), np.uint8).reshape(2, count).astype(np.float64).sum(0)
    grain = (dice - 255) / 104.5 * sigma  # 104.5: standard deviation of the sum of two bytes
    grain = np.rint(grain / _NOISE_STEP) * _NOISE_STEP
    noisy = pixels + grain.reshape(pixels.shape[:2])[..., None]
    return np.clip(noisy, 0, 255).astype(np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG without metadata; equal pixels give equal bytes with one Pillow build."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def visible_shares(outlines: Sequence[Sequence[Point]], side: int = 160) -> list[float]:
    """How much of each polygon is seen when they are drawn in order.

    Args:
        outlines: corners as fractions of the picture's side.
        side: resolution of the check, pixels.
    Returns: a share in [0, 1] for each polygon.
    """
    top = Image.new("I", (side, side), 0)
    drawn = ImageDraw.Draw(top)
    totals = []
    for number, corners in enumerate(outlines, start=1):
        scaled = [(x * side, y * side) for x, y in corners]
        alone = Image.new("1", (side, side), 0)
        ImageDraw.Draw(alone).polygon(scaled, fill=1)
        totals.append(np.count_nonzero(np.asarray(alone)))
        drawn.polygon(scaled, fill=number)
    seen = np.bincount(np.asarray(top).ravel(), minlength=len(outlines) + 1)[1:]
    return [float(part) / max(total, 1) for part, total in zip(seen, totals, strict=True)]
