"""From pixels to coloured regions: background and light, flat areas, names of colours and of shapes.

Shapes of arrays: C = 3 channels (red, green, blue, 0..255), H rows, W columns, N colours or
masks, P pixels of a small mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from synth.vocabulary import SHAPES, outline

# The reader's own idea of each colour, from common colour charts; not the generator's paints.
PROTOTYPES: dict[str, tuple[int, int, int]] = {
    "red": (220, 20, 40),
    "orange": (245, 130, 20),
    "yellow": (245, 215, 50),
    "green": (40, 150, 70),
    "cyan": (40, 190, 200),
    "blue": (45, 90, 205),
    "purple": (125, 55, 165),
    "pink": (240, 130, 180),
    "brown": (125, 75, 40),
}
_CHROMA = 38  # grey levels between the strongest and the weakest channel of a coloured pixel
_TEMPLATE = 24  # side of the masks that shapes are compared by, pixels
_BINOMIAL = ImageFilter.Kernel((3, 3), (1, 2, 1, 2, 4, 2, 1, 2, 1))
_LUMINANCE = np.array([0.3, 0.59, 0.11], np.float32)
_TURNS = (-12, -8, -4, 0, 4, 8, 12)  # degrees


@dataclass(frozen=True)
class Sheet:
    """A picture with its light evened out.

    Attributes:
        smooth: float32 [C, H, W], smoothed, as if lit evenly.
        background: colour of the background, [C].
        noise: standard deviation of the grain before smoothing, grey levels.
        ground: bool [H, W], True where the background is seen.
        coloured: bool [H, W], True where a pixel is clearly coloured.
        ink: float32 [H, W], how much darker than the background a pixel is, grey levels; not smoothed.
    """

    smooth: np.ndarray
    background: np.ndarray
    noise: float
    ground: np.ndarray
    coloured: np.ndarray
    ink: np.ndarray


@dataclass(frozen=True)
class Region:
    """A connected area of one colour.

    Attributes:
        top, left: of its mask in the picture, pixels.
        mask: bool [height, width].
        colour: median colour, [C].
    """

    top: int
    left: int
    mask: np.ndarray
    colour: np.ndarray

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the bounding box: (x, y), pixels."""
        height, width = self.mask.shape
        return self.left + width / 2, self.top + height / 2


def even_out(pixels_HWC: np.ndarray) -> Sheet:
    """Finds the background and divides out light that falls off in one direction.

    Args:
        pixels_HWC: uint8.
    """
    raw_CHW = _planes(pixels_HWC)
    padded = np.pad(pixels_HWC, ((1, 1), (1, 1), (0, 0)), mode="edge")  # Pillow leaves the border as it is
    smooth_CHW = _planes(np.asarray(Image.fromarray(padded).filter(_BINOMIAL))[1:-1, 1:-1])
    gain_CHW, background_C = _light(smooth_CHW)
    smooth_CHW *= gain_CHW
    off_HW = np.abs(smooth_CHW - background_C[:, None, None]).max(0)
    noise = _noise(raw_CHW[1], off_HW < 30)
    ground_HW = off_HW < max(14.0, 1.6 * noise)
    tint = float(background_C.max() - background_C.min())
    chroma_HW = smooth_CHW.max(0) - smooth_CHW.min(0)
    coloured_HW = (chroma_HW > _CHROMA + tint) & ~ground_HW
    ink_HW = np.tensordot(_LUMINANCE, background_C[:, None, None] - raw_CHW * gain_CHW, 1)
    return Sheet(smooth_CHW, background_C, noise, ground_HW, coloured_HW, ink_HW)


def find_regions(sheet: Sheet, least_area: float) -> list[Region]:
    """Flat coloured areas, grown back to their edges, from top to bottom.

    Two areas are told apart where an edge between them is stronger than the grain; a faint edge under
    strong grain is missed, and the areas become one.

    Args:
        least_area: smaller regions are dropped, pixels.
    """
    core_HW = sheet.coloured & (_slope(sheet.smooth) < max(16.0, 2.6 * sheet.noise))
    labels_HW, _ = _labelled(core_HW)
    sizes = np.bincount(labels_HW.ravel())
    regions = []
    for number, window in _windows(labels_HW):
        if sizes[number] >= 0.25 * least_area:
            region = _grow(sheet, labels_HW, number, window)
            if region.area >= least_area:
                regions.append(region)
    return regions


def label_areas(mask_HW: np.ndarray, *, diagonal: bool = False) -> list[tuple[int, int, np.ndarray]]:
    """Connected areas of a mask: (top, left, mask of its box); `diagonal` neighbours count as connected."""
    labels_HW, _ = _labelled(mask_HW, diagonal=diagonal)
    areas = []
    for number, window in _windows(labels_HW):
        areas.append((window[0].start, window[1].start, labels_HW[window] == number))
    return areas


def largest_area(mask_HW: np.ndarray) -> int:
    """Pixels of the largest connected area of a mask, diagonal neighbours connected."""
    labels_HW, count = _labelled(mask_HW, diagonal=True)
    return int(np.bincount(labels_HW.ravel())[1:].max()) if count else 0


def _labelled(mask_HW: np.ndarray, *, diagonal: bool = False) -> tuple[np.ndarray, int]:
    labels_HW = np.empty(mask_HW.shape, np.int32)
    count = ndimage.label(mask_HW, np.ones((3, 3)) if diagonal else None, output=labels_HW)
    return labels_HW, int(np.asarray(count))


def _windows(labels_HW: np.ndarray) -> list[tuple[int, tuple[slice, slice]]]:
    """The number of every label and the box that holds it."""
    windows = enumerate(ndimage.find_objects(labels_HW), start=1)
    return [(number, (window[0], window[1])) for number, window in windows if window is not None]


def name_colour(colour_C: np.ndarray) -> tuple[str, str]:
    """The nearest named colour, and a second one where it is nearly as near ("" where it is not)."""
    names, lab_N3 = _prototypes()
    distance_N = np.linalg.norm(lab_N3 - _lab(colour_C.reshape(1, 3)), axis=1)
    first, second = np.argsort(distance_N)[:2]
    doubtful = distance_N[first] > 0.8 * distance_N[second]
    return names[first], names[second] if doubtful else ""


def name_colours(colours_NC: np.ndarray) -> np.ndarray:
    """Index in `PROTOTYPES` of the nearest named colour, int [N]."""
    _, lab_N3 = _prototypes()
    return np.linalg.norm(_lab(colours_NC)[:, None] - lab_N3[None], axis=-1).argmin(1)


def name_shape(mask: np.ndarray) -> tuple[str, float]:
    """The shape whose outline fits a mask best, and how well: intersection over union, in [0, 1]."""
    templates_NP, names = _templates()
    patch_P = _normalised(mask).ravel()
    common_N = templates_NP @ patch_P
    overlap_N = common_N / (templates_NP.sum(1) + patch_P.sum() - common_N)
    best = int(overlap_N.argmax())
    return names[best], float(overlap_N[best])


# ------------------------------------------------------------------------------------ background


def _planes(pixels_HWC: np.ndarray) -> np.ndarray:
    """Channels first, so that the work over channels runs along whole planes; float32 [C, H, W]."""
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)).astype(np.float32)


def _light(smooth_CHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A gain per pixel that evens the background out, and the background's colour."""
    height, width = smooth_CHW.shape[1:]
    rows, columns = np.mgrid[0:height:5, 0:width:5]
    sample_NC = smooth_CHW[:, ::5, ::5].reshape(3, -1).T
    design_N3 = np.stack([np.ones(rows.size), columns.ravel() / width - 0.5, rows.ravel() / height - 0.5], 1)
    level_NC = np.tile(np.median(_border(smooth_CHW), axis=1), (len(sample_NC), 1))
    plane_3C = np.zeros((3, 3))
    for tolerance in (55, 30, 20):
        near_N = np.abs(sample_NC - level_NC).max(1) < tolerance
        if near_N.sum() < 50:
            break
        plane_3C = np.linalg.lstsq(design_N3[near_N], sample_NC[near_N], rcond=None)[0]
        level_NC = design_N3 @ plane_3C
    if not plane_3C.any():
        return np.ones((1, 1, 1), np.float32), level_NC[0].astype(np.float32)
    across_W = np.arange(width, dtype=np.float32) / width - 0.5
    down_H = np.arange(height, dtype=np.float32) / height - 0.5
    level_C, slope_x_C, slope_y_C = plane_3C.astype(np.float32)[:, :, None, None]
    fit_CHW = level_C + slope_x_C * across_W[None, :] + slope_y_C * down_H[:, None]
    background_C = fit_CHW.max(axis=(1, 2))
    return background_C[:, None, None] / np.maximum(fit_CHW, 1), background_C


def _border(pixels_CHW: np.ndarray) -> np.ndarray:
    edges = (pixels_CHW[:, :3], pixels_CHW[:, -3:], pixels_CHW[:, :, :3], pixels_CHW[:, :, -3:])
    return np.concatenate([edge.reshape(3, -1) for edge in edges], axis=1)


def _noise(raw_HW: np.ndarray, calm_HW: np.ndarray) -> float:
    """Standard deviation of the grain, from differences between neighbours on the background."""
    step_HW = np.abs(raw_HW[::3, 1:] - raw_HW[::3, :-1])
    values = step_HW[calm_HW[::3, 1:] & calm_HW[::3, :-1]]
    return float(np.sqrt(np.mean(np.minimum(values, 60.0) ** 2) / 2)) if values.size else 0.0


def _slope(smooth_CHW: np.ndarray) -> np.ndarray:
    """Largest change of any channel from one side of a pixel to the other, [H, W]."""
    slope_HW = np.zeros(smooth_CHW.shape[1:], np.float32)
    slope_HW[:, 1:-1] = np.abs(smooth_CHW[:, :, 2:] - smooth_CHW[:, :, :-2]).max(0)
    down_HW = np.abs(smooth_CHW[:, 2:] - smooth_CHW[:, :-2]).max(0)
    slope_HW[1:-1] = np.maximum(slope_HW[1:-1], down_HW)
    return slope_HW


def _grow(sheet: Sheet, labels_HW: np.ndarray, number: int, window: tuple[slice, slice]) -> Region:
    """A core grown by the width of its edge, into pixels that no other core claims."""
    reach = 4
    top, left = max(0, window[0].start - reach), max(0, window[1].start - reach)
    crop = np.s_[top : window[0].stop + reach, left : window[1].stop + reach]
    core = labels_HW[crop] == number
    room = core | (~sheet.ground[crop] & (labels_HW[crop] == 0))
    mask = ndimage.binary_dilation(core, np.ones((3, 3)), iterations=reach - 1, mask=room)
    mask = ndimage.binary_fill_holes(mask) & ((labels_HW[crop] == number) | (labels_HW[crop] == 0))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    trimmed = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    colour_C = np.median(sheet.smooth[:, *crop][:, core], axis=1)
    return Region(top + int(rows[0]), left + int(columns[0]), trimmed, colour_C)


# ------------------------------------------------------------------------------------ names


@cache
def _prototypes() -> tuple[list[str], np.ndarray]:
    return list(PROTOTYPES), _lab(np.array(list(PROTOTYPES.values()), np.float64))


def _lab(colours_NC: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of sRGB colours with lightness at half weight, since light varies more than hue."""
    linear = ((np.asarray(colours_NC, np.float64) / 255 + 0.055) / 1.055).clip(0.04) ** 2.4
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])).T
    return np.stack([0.5 * (116 * y - 16), 500 * (x - y), 200 * (y - z)], axis=1)


@cache
def _templates() -> tuple[np.ndarray, list[str]]:
    """Masks of every shape in a few turns, float32 [N, P], and the name of each."""
    masks, names = [], []
    for shape in SHAPES:
        for degrees in _TURNS:
            picture = Image.new("1", (120, 120), 0)
            corners = [(60 + 50 * x, 60 + 50 * y) for x, y in outline(shape, degrees)]
            ImageDraw.Draw(picture).polygon(corners, fill=1)
            masks.append(_normalised(np.asarray(picture)).ravel())
            names.append(shape)
    return np.stack(masks).astype(np.float32), names


def _normalised(mask: np.ndarray) -> np.ndarray:
    """A mask about its centre of mass at a standard area, float32 [_TEMPLATE, _TEMPLATE]."""
    rows, columns = np.nonzero(mask)
    scale = np.sqrt(len(rows)) / (0.55 * _TEMPLATE)
    offsets = (np.arange(_TEMPLATE) - (_TEMPLATE - 1) / 2) * scale
    y = np.rint(rows.mean() + offsets).astype(int)
    x = np.rint(columns.mean() + offsets).astype(int)
    inside_y, inside_x = (y >= 0) & (y < mask.shape[0]), (x >= 0) & (x < mask.shape[1])
    patch = np.zeros((_TEMPLATE, _TEMPLATE), np.float32)
    patch[np.ix_(inside_y, inside_x)] = mask[np.ix_(y[inside_y], x[inside_x])]
    return patch
