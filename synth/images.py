"""Opens pictures that strangers made: an explicit list of formats, a pixel limit, one reason per defect."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from contextlib import nullcontext
from io import BytesIO

from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from schemas.errors import RowError
from schemas.records import SourceFault

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
# What Pillow's decoders raise on damaged files; each format has its own habits.
DAMAGE = (
    *(OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, OverflowError),
    *(NotImplementedError, struct.error, zlib.error),
)

# Pillow warns far below our limit, and of oddities in EXIF and colour profiles. Not by `catch_warnings`: with
# several threads it changes what all of them see.
warnings.filterwarnings("ignore", module=r"PIL\.")
_LARGE_PIXELS = 2**24  # decoded, 48 to 64 MiB
_one_at_a_time = threading.Lock()


def check_image(data: bytes, name: str, max_pixels: int) -> None:
    """Decodes a picture once, so that a defect is a row's reason here and no surprise later.

    The size is read from the header and checked before any pixel is decoded. A picture that is sound but
    unusual (one pixel, a palette, CMYK, turned by its EXIF) passes: whether it can be used, a teacher says.

    Args:
        data: the encoded file.
        name: for the message.
        max_pixels: width x height allowed, pixels.
    Raises: RowError: empty, of another format, too large, animated, truncated or corrupt.
    """
    if not data:
        raise RowError(SourceFault.IMAGE_UNREADABLE, f"{name}: the file is empty (0 bytes)")
    try:
        with PillowImage.open(BytesIO(data), formats=FORMATS) as picture:
            _check_size(picture, name, max_pixels)
            _check_still(picture, name)
            with _one_at_a_time if picture.width * picture.height > _LARGE_PIXELS else nullcontext():
                picture.load()
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise RowError(SourceFault.IMAGE_UNREADABLE, f"{name}: not a readable {kinds} file") from error
    except PillowImage.DecompressionBombError as error:
        raise RowError(
            SourceFault.IMAGE_TOO_LARGE, f"{name}: {error}; source.max_pixels is {max_pixels:,}"
        ) from error
    except DAMAGE as error:
        raise RowError(SourceFault.IMAGE_UNREADABLE, f"{name}: corrupt or truncated ({error})") from error


def _check_size(picture: PillowImage.Image, name: str, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise RowError(
            SourceFault.IMAGE_TOO_LARGE,
            f"{name}: {width} x {height} pixels, the limit is {max_pixels:,} (source.max_pixels)",
        )


def _check_still(picture: PillowImage.Image, name: str) -> None:
    """A question about an animation has no one picture to look at, and each teacher would take another.

    A JPEG never moves: the further pictures that cameras put into one are previews and depth maps.
    """
    if picture.format in {"GIF", "PNG", "WEBP"} and getattr(picture, "is_animated", False):
        raise RowError(
            SourceFault.IMAGE_ANIMATED,
            f"{name}: a {picture.format} of several frames, need one: save the frame that is asked about",
        )
