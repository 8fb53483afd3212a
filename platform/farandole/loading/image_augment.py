"""Random crops, flips and colour changes of a batch of images; each image is changed differently.

Shapes: B images, H x W pixels, C channels.
"""

from __future__ import annotations

import numpy as np

from farandole.loading.row_random import draw, to_bernoulli, to_factors, to_integers
from farandole.spec import ImageAugment

# Index of each choice among a row's draws. The indices are fixed, so enabling one change leaves the others as they
# were.
_FLIP_X, _FLIP_Y, _CROP_X, _CROP_Y, _BRIGHTNESS, _CONTRAST, _SATURATION = range(7)
_LUMA_WEIGHTS = (77, 150, 29)
"""Luma weights of red, green and blue, in 256ths (ITU-R BT.601)."""


def augment_images(images: np.ndarray, spec: ImageAugment, key: int, row_ids: np.ndarray) -> np.ndarray:
    """Crop, flip and tint images at random.

    Args:
        images: uint8 `[B, H, W, C]`.
        spec: The changes to make.
        key: 64 bits.
        row_ids: int64 `[B]`.

    Returns:
        uint8 `[B, H, W, C]` in new memory.
    """
    draws = draw(key, row_ids, 7)
    moved = _crop_and_flip(images, spec, draws)
    return _tint(moved, spec, draws) if spec.brightness or spec.contrast or spec.saturation else moved


def _crop_and_flip(images: np.ndarray, spec: ImageAugment, draws: np.ndarray) -> np.ndarray:
    """Crop and flip with one gather of pixels."""
    rows, height, width, channels = images.shape
    y, outside_y = _source_pixels(height, spec.flip_vertical, draws[:, _FLIP_Y], spec, draws[:, _CROP_Y])
    x, outside_x = _source_pixels(width, spec.flip_horizontal, draws[:, _FLIP_X], spec, draws[:, _CROP_X])
    lines = np.arange(rows)[:, None] * height + y
    pixels = np.ascontiguousarray(images).reshape(-1, channels).view(f"V{channels}").reshape(-1)
    moved: np.ndarray = pixels.take(lines[:, :, None] * width + x[:, None, :]).view(np.uint8).reshape(images.shape)
    if spec.crop and spec.padding == "constant":
        moved[outside_y[:, :, None] | outside_x[:, None, :]] = 0
    return moved


def _source_pixels(
    size: int, flip: float, flip_draws: np.ndarray, spec: ImageAugment, crop_draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the source of each pixel along one axis, and whether it lies outside the image: both `[B, size]`."""
    flipped = to_bernoulli(flip_draws, flip)[:, None]
    sources = np.where(flipped, np.arange(size)[::-1], np.arange(size))
    sources = sources + to_integers(crop_draws, 2 * spec.crop + 1)[:, None] - spec.crop
    outside = (sources < 0) | (sources >= size)
    mirrored = (size - 1) - np.abs((size - 1) - np.abs(sources))
    return (mirrored if spec.padding == "reflect" else np.clip(sources, 0, size - 1)), outside


def _tint(images: np.ndarray, spec: ImageAugment, draws: np.ndarray) -> np.ndarray:
    """Change brightness, contrast and saturation in one step, without rounding or clipping in between.

    With factors b, c and s, a pixel's grey g and the image's mean grey m, a value v becomes
    b (c (s v + (1 - s) g) + (1 - c) m): each of the three changes is linear and keeps the
    grey values that the others use.
    """
    choices = ((_BRIGHTNESS, spec.brightness), (_CONTRAST, spec.contrast), (_SATURATION, spec.saturation))
    b, c, s = (to_factors(draws[:, index], strength).reshape(-1, 1, 1, 1) for index, strength in choices)
    grey = _to_grey(images)
    # An integer sum is exact in any order of addition.
    sums = grey.sum(axis=(1, 2), dtype=np.int64)
    mean = (sums / (images.shape[1] * images.shape[2])).astype(np.float32).reshape(-1, 1, 1, 1)
    values = images.astype(np.float32)
    values *= b * c * s
    values += grey.astype(np.float32)[..., None] * (b * c * (1 - s)) + mean * (b * (1 - c))
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def _to_grey(images: np.ndarray) -> np.ndarray:
    """Return the luma of each pixel: uint32 `[B, H, W]`, 0 to 255."""
    if images.shape[3] == 1:
        return images[..., 0].astype(np.uint32)
    red, green, blue = (images[..., channel].astype(np.uint32) * weight for channel, weight in enumerate(_LUMA_WEIGHTS))
    grey: np.ndarray = red + green + blue + 128 >> 8
    return grey
