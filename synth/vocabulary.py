"""The words that scenes and their reader share: names of colours and shapes, outlines, a bitmap font.

A vocabulary, not facts: it says what a triangle is, never which triangles a picture holds.
"""

from __future__ import annotations

import math

Point = tuple[float, float]

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown")
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "hexagon")

# Five columns by seven rows per glyph, drawn and read without any font library.
GLYPHS = {
    "0": ("01110", "10001", "10011", "10101", "11001", "10001", "01110"),
    "1": ("00100", "01100", "00100", "00100", "00100", "00100", "01110"),
    "2": ("01110", "10001", "00001", "00110", "01000", "10000", "11111"),
    "3": ("11110", "00001", "00001", "01110", "00001", "00001", "11110"),
    "4": ("00010", "00110", "01010", "10010", "11111", "00010", "00010"),
    "5": ("11111", "10000", "11110", "00001", "00001", "10001", "01110"),
    "6": ("00110", "01000", "10000", "11110", "10001", "10001", "01110"),
    "7": ("11111", "00001", "00010", "00100", "01000", "01000", "01000"),
    "8": ("01110", "10001", "10001", "01110", "10001", "10001", "01110"),
    "9": ("01110", "10001", "10001", "01111", "00001", "00010", "01100"),
    "?": ("01110", "10001", "00001", "00110", "00100", "00000", "00100"),
}

_CROSS_ARM = 0.36
_CROSS = (
    (-_CROSS_ARM, -1.0),
    (_CROSS_ARM, -1.0),
    (_CROSS_ARM, -_CROSS_ARM),
    (1.0, -_CROSS_ARM),
    (1.0, _CROSS_ARM),
    (_CROSS_ARM, _CROSS_ARM),
    (_CROSS_ARM, 1.0),
    (-_CROSS_ARM, 1.0),
    (-_CROSS_ARM, _CROSS_ARM),
    (-1.0, _CROSS_ARM),
    (-1.0, -_CROSS_ARM),
    (-_CROSS_ARM, -_CROSS_ARM),
)


def outline(shape: str, degrees: float = 0.0) -> list[Point]:
    """Corners of a shape around (0, 0), y downwards, farthest corner at distance 1 (square: 1.13).

    Args:
        degrees: clockwise turn.
    Raises: KeyError: a name that is not in SHAPES.
    """
    turn = math.radians(degrees)
    cosine, sine = math.cos(turn), math.sin(turn)
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in _upright(shape)]


def area(shape: str) -> float:
    """Area of a shape whose radius is 1."""
    corners = outline(shape)
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2


def _upright(shape: str) -> list[Point]:
    if shape == "cross":
        return list(_CROSS)
    if shape == "star":
        return [_polar(-90 + 36 * i, 1.0 if i % 2 == 0 else 0.44) for i in range(10)]
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "diamond":
        return [(0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0)]
    if shape == "triangle":
        return [_polar(-90 + 120 * i, 1.0) for i in range(3)]
    sides = {"hexagon": 6, "circle": 48}[shape]
    return [_polar(360 * i / sides, 1.0 if shape == "hexagon" else 0.92) for i in range(sides)]


def _polar(degrees: float, radius: float) -> Point:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def article(name: str) -> str:
    """`name` with its indefinite article: "an orange star", "a red circle"."""
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def plural(name: str) -> str:
    """The plural of a noun phrase: "red circles", "crosses"."""
    return f"{name}es" if name.endswith("ss") else f"{name}s"
