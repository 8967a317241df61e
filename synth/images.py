"""Opens pictures that strangers made: an explicit list of formats, a pixel limit, one reason per defect."""

from __future__ import annotations

import warnings
from io import BytesIO

from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from schemas.errors import RowError
from schemas.records import SourceFault

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


def check_image(data: bytes, name: str, max_pixels: int) -> None:
    """Decodes a picture once, so that a defect is a row's reason here and no surprise later.

    The size is read from the header and checked before any pixel is decoded. Of an animation, only the
    first frame is looked at.

    Args:
        data: the encoded file.
        name: for the message.
        max_pixels: width x height allowed, pixels.
    Raises: RowError: empty, of another format, too large, truncated or corrupt.
    """
    if not data:
        raise RowError(SourceFault.IMAGE_UNREADABLE, f"{name}: the file is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
            with PillowImage.open(BytesIO(data), formats=FORMATS) as picture:
                _check_size(picture, name, max_pixels)
                picture.load()
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise RowError(SourceFault.IMAGE_UNREADABLE, f"{name}: not a readable {kinds} file") from error
    except PillowImage.DecompressionBombError as error:
        raise RowError(SourceFault.IMAGE_TOO_LARGE, f"{name}: {error}") from error
    except (OSError, ValueError, SyntaxError, IndexError, EOFError, TypeError, KeyError) as error:
        # Pillow's decoders let these through on damaged files.
        raise RowError(SourceFault.IMAGE_UNREADABLE, f"{name}: corrupt or truncated ({error})") from error


def _check_size(picture: PillowImage.Image, name: str, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise RowError(
            SourceFault.IMAGE_TOO_LARGE,
            f"{name}: {width} x {height} pixels, the limit is {max_pixels:,} (source.max_pixels)",
        )
