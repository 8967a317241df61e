"""What is remembered of a picture: MD5 of its bytes, two perceptual hashes, and a thumbnail.

The hash is the usual 64-bit pHash (greyscale, 32 x 32, cosine transform, the 8 x 8 lowest frequencies against
their median), bit for bit that of the `imagehash` package; its twenty lines stand here so that the package
and the PyWavelets it needs do not. The second hash is of the picture without its white borders.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageChops
from scipy.fft import dctn

from filters.pairs import expand_ranges, unique_pairs

NEAR_BITS = 4  # DATA: at 8 bits 82 of 4,639 unrelated pictures are near another one
FAR_BITS = 16  # of 64; two unrelated pictures differ in about 32
MAX_PIXELS = 40_000_000
_WHITE = (
    192  # levels; a pixel with a darker channel is no border: JPEG's ringing stays above, yellow does not
)
_IS_CONTENT = [255] * _WHITE + [0] * (256 - _WHITE)
_BLANK = 2.0  # standard deviation in grey levels, below which there is nothing to recognise
_THUMB = 32  # pixels
_BANDS = 5  # five bands of 64 bits: with at most 4 bits different, one band is equal


@dataclass(frozen=True, slots=True)
class ImagePrint:
    """One picture, remembered.

    Attributes:
        md5: of the encoded bytes, 16 bytes.
        phash, trimmed: 64-bit perceptual hashes of the picture as it is and without white borders; None
            where it cannot be decoded, has more than `MAX_PIXELS`, or is blank.
        thumbs: 32 x 32 RGB pixels of the whole and then of the trimmed picture, b"" without hashes.
    """

    md5: bytes
    phash: int | None = None
    trimmed: int | None = None
    thumbs: bytes = b""


def print_image(encoded: bytes) -> ImagePrint:
    """The print of an encoded picture. One that no decoder reads keeps its MD5 alone: never an error."""
    md5 = hashlib.md5(encoded, usedforsecurity=False).digest()
    picture = _decode(encoded)
    if picture is None:
        return ImagePrint(md5)
    grey = picture.convert("L")
    box = _trim_box(picture)
    if box is None or np.asarray(grey).std() < _BLANK:
        return ImagePrint(md5)
    thumbs = [
        part.resize((_THUMB, _THUMB), PillowImage.Resampling.HAMMING) for part in (picture, picture.crop(box))
    ]
    return ImagePrint(md5, phash(grey), phash(grey.crop(box)), b"".join(thumb.tobytes() for thumb in thumbs))


def phash(grey: PillowImage.Image) -> int:
    """The 64-bit perceptual hash of a greyscale picture, first row's first bit highest."""
    pixels = np.asarray(grey.resize((32, 32), PillowImage.Resampling.LANCZOS), dtype=np.float64)
    low = np.asarray(dctn(pixels))[:8, :8]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def _decode(encoded: bytes) -> PillowImage.Image | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
            picture = PillowImage.open(BytesIO(encoded))
            if picture.width * picture.height > MAX_PIXELS:
                return None
            return _on_white(picture)
    # Pillow's decoders raise what they like on broken files; the print says that there are no hashes.
    except Exception:  # noqa: BLE001
        return None


def _on_white(picture: PillowImage.Image) -> PillowImage.Image:
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = PillowImage.new("RGBA", layer.size, "white")
        return PillowImage.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _trim_box(picture: PillowImage.Image) -> tuple[int, int, int, int] | None:
    """The box around everything that is not white; None for a white picture."""
    red, green, blue = picture.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    return darkest.point(_IS_CONTENT).getbbox()


def count_bits(left: ImagePrint, right: ImagePrint) -> int | None:
    """Bits in which two pictures differ, of the whole or of the trimmed ones, whichever are nearer; None
    where one of them has no hashes."""
    if left.phash is None or right.phash is None or left.trimmed is None or right.trimmed is None:
        return None
    return min((left.phash ^ right.phash).bit_count(), (left.trimmed ^ right.trimmed).bit_count())


def thumb_difference(left: ImagePrint, right: ImagePrint) -> int:
    """The largest difference in any pixel and colour, in [0, 255], of the thumbnails of the whole or of the
    trimmed pictures, whichever is smaller; 255 without thumbnails."""
    if not left.thumbs or not right.thumbs:
        return 255
    first, second = (
        np.frombuffer(side.thumbs, np.uint8).reshape(2, -1).astype(int) for side in (left, right)
    )
    return int(np.abs(first - second).max(axis=1).min())


class NearHashes:
    """64-bit hashes, found again with at most `bits` different bits.

    Split into five bands, two such hashes agree in at least one: each band is a sorted array, candidates
    share a band and are then compared whole.

    Args:
        hashes: uint64 array.
        bits: at most 4.
    """

    def __init__(self, hashes: np.ndarray, bits: int = NEAR_BITS) -> None:
        if not 0 <= bits < _BANDS:
            raise ValueError(f"bits: {bits} is not in [0, {_BANDS - 1}]")
        self._hashes = hashes
        self._bits = bits
        bands = _bands(hashes)
        self._orders = [np.argsort(values, kind="stable") for values in bands]
        self._sorted = [values[order] for values, order in zip(bands, self._orders, strict=True)]

    def find(self, queries: np.ndarray) -> np.ndarray:
        """All pairs (query, hash) that are near, int64 [pairs, 2], sorted, each once."""
        return np.concatenate([np.empty((0, 2), np.int64), *self.find_blocks(queries)])

    def find_blocks(self, queries: np.ndarray, most: int = 1 << 21) -> Iterator[np.ndarray]:
        """The same pairs in blocks of whole queries, for which about `most` candidates are looked at."""
        ranges = [
            (np.searchsorted(known, keys, "left"), np.searchsorted(known, keys, "right"))
            for known, keys in zip(self._sorted, _bands(queries), strict=True)
        ]
        candidates = np.sum([end - first for first, end in ranges], axis=0)
        block = np.cumsum(candidates) // most
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(queries)]):
            yield self._find_block(queries, ranges, start, end)

    def _find_block(
        self, queries: np.ndarray, ranges: list[tuple[np.ndarray, np.ndarray]], start: int, end: int
    ) -> np.ndarray:
        found = []
        for (first, last), order in zip(ranges, self._orders, strict=True):
            query, at = expand_ranges(first[start:end], last[start:end])
            query, stored = query + start, order[at]
            near = np.bitwise_count(queries[query] ^ self._hashes[stored]) <= self._bits
            found.append(np.stack([query[near], stored[near]], axis=1))
        return unique_pairs(*np.concatenate(found).T)


def _bands(hashes: np.ndarray) -> list[np.ndarray]:
    """The bits of each hash in five parts of 13 bits, the last of 12."""
    return [(hashes >> np.uint64(13 * band)) & np.uint64(0x1FFF) for band in range(_BANDS)]
