"""Crops, flips and colours of a whole batch of images at once; each image has its own.

Shapes: B images, H x W pixels, C channels.
"""

from __future__ import annotations

import numpy as np

from farandole.loading.row_random import around_one, below, draws, happens
from farandole.spec import ImageAugment

# The place of each choice among a row's draws: to add another kind of change to a job leaves the others as they were.
_FLIP_X, _FLIP_Y, _CROP_X, _CROP_Y, _BRIGHTNESS, _CONTRAST, _SATURATION = range(7)
_GREY_WEIGHTS = (77, 150, 29)
"""How bright red, green and blue are to the eye, in 256ths (ITU-R BT.601)."""


def augment_images(images: np.ndarray, spec: ImageAugment, key: int, row_ids: np.ndarray) -> np.ndarray:
    """Images that are moved, mirrored and tinted.

    Args:
        images: uint8 `[B, H, W, C]`.
        spec: What may change.
        key: 64 bits.
        row_ids: int64 `[B]`.

    Returns:
        uint8 `[B, H, W, C]`, new memory.
    """
    drawn = draws(key, row_ids, 7)
    moved = _move(images, spec, drawn)
    return _tint(moved, spec, drawn) if spec.brightness or spec.contrast or spec.saturation else moved


def _move(images: np.ndarray, spec: ImageAugment, drawn: np.ndarray) -> np.ndarray:
    """Crop and flip, by one gather of pixels."""
    rows, height, width, channels = images.shape
    y, outside_y = _sources(height, spec.flip_vertical, drawn[:, _FLIP_Y], spec, drawn[:, _CROP_Y])
    x, outside_x = _sources(width, spec.flip_horizontal, drawn[:, _FLIP_X], spec, drawn[:, _CROP_X])
    lines = np.arange(rows)[:, None] * height + y
    pixels = np.ascontiguousarray(images).reshape(-1, channels).view(f"V{channels}").reshape(-1)
    moved: np.ndarray = pixels.take(lines[:, :, None] * width + x[:, None, :]).view(np.uint8).reshape(images.shape)
    if spec.crop and spec.padding == "constant":
        moved[outside_y[:, :, None] | outside_x[:, None, :]] = 0
    return moved


def _sources(
    size: int, flip: float, flip_drawn: np.ndarray, spec: ImageAugment, crop_drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Along one side, the pixel that each pixel comes from, and whether it lies beyond the edge: both `[B, size]`."""
    flipped = happens(flip_drawn, flip)[:, None]
    places = np.where(flipped, np.arange(size)[::-1], np.arange(size))
    places = places + below(crop_drawn, 2 * spec.crop + 1)[:, None] - spec.crop
    outside = (places < 0) | (places >= size)
    mirrored = (size - 1) - np.abs((size - 1) - np.abs(places))
    return (mirrored if spec.padding == "reflect" else np.clip(places, 0, size - 1)), outside


def _tint(images: np.ndarray, spec: ImageAugment, drawn: np.ndarray) -> np.ndarray:
    """Brightness, contrast and saturation in one step, so that nothing is rounded or cut off in between.

    With factors b, c and s, a pixel's grey g and the image's mean grey m, a value v becomes
    b (c (s v + (1 - s) g) + (1 - c) m): each of the three is linear, and leaves greys to the other two.
    """
    choices = ((_BRIGHTNESS, spec.brightness), (_CONTRAST, spec.contrast), (_SATURATION, spec.saturation))
    b, c, s = (around_one(drawn[:, place], strength).reshape(-1, 1, 1, 1) for place, strength in choices)
    grey = _grey(images)
    # The sum of whole numbers is exact, whatever order a machine adds them in.
    sums = grey.sum(axis=(1, 2), dtype=np.int64)
    mean = (sums / (images.shape[1] * images.shape[2])).astype(np.float32).reshape(-1, 1, 1, 1)
    values = images.astype(np.float32)
    values *= b * c * s
    values += grey.astype(np.float32)[..., None] * (b * c * (1 - s)) + mean * (b * (1 - c))
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def _grey(images: np.ndarray) -> np.ndarray:
    """How bright each pixel is: uint32 `[B, H, W]`, 0 to 255."""
    if images.shape[3] == 1:
        return images[..., 0].astype(np.uint32)
    red, green, blue = (images[..., channel].astype(np.uint32) * weight for channel, weight in enumerate(_GREY_WEIGHTS))
    grey: np.ndarray = red + green + blue + 128 >> 8
    return grey
