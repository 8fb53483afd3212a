from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest

from farandole.loading.image_augment import augment_images
from farandole.spec import ImageAugment

ROWS = 600
IDS = np.arange(ROWS)


def images(height: int = 7, width: int = 5, channels: int = 3, rows: int = ROWS) -> np.ndarray:
    """Return noise."""
    return np.random.default_rng(2).integers(0, 256, (rows, height, width, channels)).astype(np.uint8)


def augmented(given: np.ndarray, **options: Any) -> np.ndarray:
    """Return the images with these changes."""
    return augment_images(given, ImageAugment(kind="image", **options), key=11, row_ids=IDS[: len(given)])


@pytest.mark.parametrize(("option", "axis"), [("flip_horizontal", 1), ("flip_vertical", 0)])
def test_a_share_of_the_images_is_flipped_and_the_others_are_unchanged(option: str, axis: int) -> None:
    given = images()
    made = augmented(given, **{option: 0.3})
    mirrored = np.array([np.array_equal(a, np.flip(b, axis)) for a, b in zip(made, given, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(made, given, strict=True)])
    assert (mirrored | same).all()
    assert mirrored.mean() == pytest.approx(0.3, abs=0.06)
    assert np.array_equal(augmented(given, **{option: 1}), np.flip(given, axis + 1))


def test_both_flips_are_independent() -> None:
    given = images()
    made = augmented(given, flip_horizontal=0.5, flip_vertical=0.5)
    kinds = [(a, b) for a in ((), (0,)) for b in ((), (1,))]
    found = [
        next(kind for kind in kinds if np.array_equal(one, np.flip(other, kind[0] + kind[1])))
        for one, other in zip(made, given, strict=True)
    ]
    assert {kind: found.count(kind) / ROWS for kind in kinds} == pytest.approx(dict.fromkeys(kinds, 0.25), abs=0.06)


@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("constant", "constant")])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_crop_is_a_window_of_the_padded_image_and_every_window_occurs(padding: str, mode: Any, channels: int) -> None:
    crop, given = 2, images(channels=channels)
    made = augmented(given, crop=crop, padding=padding)
    padded = np.pad(given, ((0, 0), (crop, crop), (crop, crop), (0, 0)), mode=mode)
    corners = [(y, x) for y in range(2 * crop + 1) for x in range(2 * crop + 1)]
    found = {
        next((y, x) for y, x in corners if np.array_equal(made[row], padded[row, y : y + 7, x : x + 5]))
        for row in range(ROWS)
    }
    assert found == set(corners)


def test_cropping_precedes_flipping() -> None:
    given = images()
    moved = augmented(given, crop=2)
    assert np.array_equal(augmented(given, crop=2, flip_horizontal=1), moved[:, :, ::-1])


def test_images_of_any_memory_layout_are_accepted() -> None:
    given = images()
    assert np.array_equal(augmented(given[:, ::-1], crop=2), augmented(given[:, ::-1].copy(), crop=2))


def test_brightness_multiplies_all_pixels_of_an_image_alike() -> None:
    given = np.full((ROWS, 2, 2, 3), 100, dtype=np.uint8)
    made = augmented(given, brightness=0.5).astype(float)
    assert (made == made[:, :1, :1, :1]).all()
    assert (made.min(), made.max()) == (pytest.approx(50, abs=1), pytest.approx(150, abs=1))
    assert made.mean() == pytest.approx(100, abs=3)


def test_values_are_clipped_at_255() -> None:
    given = np.full((ROWS, 2, 2, 1), 200, dtype=np.uint8)
    made = augmented(given, brightness=1)
    assert made.min() < 5
    assert made.max() == 255


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_keeps_the_mean_and_stretches_differences_from_it(channels: int) -> None:
    given = np.full((ROWS, 4, 4, channels), 120, dtype=np.uint8)
    given[:, :2] = 100
    made = augmented(given, contrast=0.5).astype(float)
    assert np.abs(made.mean(axis=(1, 2, 3)) - 110).max() <= 0.5
    distance = made[:, 3, 0, 0] - made[:, 0, 0, 0]
    assert (distance.min(), distance.max()) == (pytest.approx(10, abs=1), pytest.approx(30, abs=1))


def test_saturation_changes_colours_but_not_grey_or_brightness() -> None:
    given = np.empty((ROWS, 1, 2, 3), dtype=np.uint8)
    given[:, :, 0] = (150, 110, 90)
    given[:, :, 1] = 77
    made = augmented(given, saturation=0.5)
    assert (made[:, :, 1] == 77).all()
    grey = made[:, 0, 0] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - (150 * 0.299 + 110 * 0.587 + 90 * 0.114)).max() < 1.5
    hues = [colorsys.rgb_to_hsv(*(pixel / 255))[0] for pixel in made[:, 0, 0]]
    assert hues == pytest.approx([colorsys.rgb_to_hsv(150, 110, 90)[0]] * ROWS, abs=0.02)
    spread = made[:, 0, 0].max(axis=1).astype(int) - made[:, 0, 0].min(axis=1)
    assert (spread.min(), spread.max()) == (pytest.approx(30, abs=2), pytest.approx(90, abs=2))


def test_enabling_one_change_keeps_the_draws_of_the_others() -> None:
    given = images()
    moved = augmented(given, crop=2, flip_horizontal=0.5)
    both = augmented(given, crop=2, flip_horizontal=0.5, contrast=1e-6)
    assert np.array_equal(both, moved)


def test_the_input_is_not_modified() -> None:
    given = images()
    before = given.copy()
    given.setflags(write=False)
    made = augmented(given, flip_vertical=1e-9, brightness=0.4)
    assert np.array_equal(given, before)
    assert not np.shares_memory(made, given)
    assert made.dtype == np.uint8
    assert made.shape == given.shape
