from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from farandole.errors import DataError
from farandole.preprocess.image import ImageTransform
from farandole.shards import Group
from farandole.spec import Image


def image(*size: int, **spec: Any) -> ImageTransform:
    """Return a transform to this size."""
    return ImageTransform("x", "raw", Image.model_validate({"kind": "image", "size": size, **spec}))


def encoded(pixels: np.ndarray | Pillow.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    picture = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def applied(transform: ImageTransform, *files: bytes | None) -> np.ndarray:
    """Return the pixels of files."""
    return transform.arrays(pa.array(files, pa.binary()))["x"]


SQUARES = np.kron(
    np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8), np.ones((4, 4, 1), np.uint8)
)
"""8 x 8: red, green, blue, black."""


def test_group_has_height_width_and_channels() -> None:
    assert image(2, 3).groups == (Group(name="x", kind="image", features=("x",), shape=(2, 3, 3)),)
    assert image(2, 3, mode="gray").groups[0].shape == (2, 3, 1)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
@hypothesis_settings(max_examples=30, deadline=None)
def test_image_of_the_right_size_keeps_every_pixel(pixels: np.ndarray) -> None:
    for fit in ("crop", "pad", "stretch"):
        for file_format, options in [("PNG", {}), ("BMP", {}), ("PPM", {}), ("WEBP", {"lossless": True})]:
            found = applied(image(*pixels.shape[:2], fit=fit), encoded(pixels, file_format, **options))
            assert np.array_equal(found[0], pixels)


def test_gray_and_rgb_are_converted() -> None:
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4)
    found = applied(image(4, 4), encoded(gray))
    assert np.array_equal(found[0], np.stack([gray] * 3, axis=2))
    assert applied(image(4, 4, mode="gray"), encoded(gray))[0, :, :, 0].tolist() == gray.tolist()
    assert applied(image(8, 8, mode="gray"), encoded(SQUARES))[0, [0, 0, 7], [0, 7, 0], 0].tolist() == [76, 150, 29]


def test_crop_cuts_the_sides_pad_adds_bars_and_stretch_distorts() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    assert (applied(image(4, 4), encoded(wide)) == 200).all()
    padded = applied(image(12, 12, fit="pad"), encoded(wide))[0, :, :, 0]
    assert (padded[:4] == 0).all()
    assert (padded[4:8, 4:8] == 200).all()
    assert (padded[8:] == 0).all()
    stretched = applied(image(4, 6, fit="stretch"), encoded(wide))[0, 0, :, 0]
    assert stretched[0] == stretched[-1] == 0
    assert stretched[2] == stretched[3] > 150


def test_rotated_image_is_turned_upright() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    found = applied(image(8, 8), encoded(SQUARES, exif=exif))[0]
    assert np.array_equal(found, np.rot90(SQUARES, -1))


def test_transparent_pixels_become_white() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, :, 3] = 255
    assert applied(image(2, 2), encoded(pixels))[0, :, 0, 0].tolist() == [0, 255]
    palette = Pillow.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert applied(image(1, 2), encoded(palette, transparency=1))[0, 0].tolist() == [[10, 20, 30], [255] * 3]


def test_sixteen_bits_are_scaled_to_8() -> None:
    deep = Pillow.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))
    assert applied(image(1, 4, mode="gray"), encoded(deep))[0, 0, :, 0].tolist() == [0, 1, 128, 255]


def test_large_photo_is_downscaled_faithfully() -> None:
    large = np.kron(SQUARES, np.ones((80, 120, 1), np.uint8))
    found = applied(image(8, 8, fit="stretch"), encoded(large, "JPEG", quality=95))[0]
    assert np.abs(found[[1, 1, 6], [1, 6, 1]].astype(int) - SQUARES[[1, 1, 6], [1, 6, 1]]).max() < 8


PNG = encoded(SQUARES)
BOMB = encoded(Pillow.new("L", (5000, 5000)))


@pytest.mark.parametrize(
    ("transform", "files", "problem"),
    [
        (
            image(4, 4),
            [PNG, b"not an image", b""],
            "2 of a batch of 3 rows hold no readable image .*its 12 bytes are none of BMP",
        ),
        (image(4, 4), [PNG[:-40]], "1 of a batch of 1 rows hold no readable image"),
        (image(4, 4), [PNG[:60] + b"\0" * 9 + PNG[69:]], "1 of a batch of 1 rows hold no readable image"),
        (image(4, 4), [encoded(SQUARES, "JPEG")[:-200]], "1 of a batch of 1 rows hold no readable image"),
        (image(4, 4, max_pixels=10**6), [BOMB], "5000 x 5000 pixels are more than max_pixels, 1,000,000"),
        (image(4, 4), [encoded(Pillow.new("F", (2, 2)), "TIFF")], "its pixels have 32 bits each"),
        (image(4, 4), [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"], "are none of BMP"),
        (image(4, 4), [PNG, None], "1 of a batch of 2 rows have no image; .*WHERE raw IS NOT NULL.*`missing: blank`"),
    ],
    ids=["other bytes", "cut PNG", "damaged PNG", "cut JPEG", "bomb", "floats", "PostScript", "missing"],
)
def test_unreadable_images_are_counted(transform: ImageTransform, files: list[Any], problem: str) -> None:
    with pytest.raises(DataError, match=rf"^features\.x: column raw: .*{problem}"):
        applied(transform, *files)


def test_header_that_promises_more_pixels_than_allowed_is_rejected() -> None:
    chunk = b"IHDR" + (50_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    header = len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    with pytest.raises(DataError, match="1 of a batch of 1 rows hold no readable image"):
        image(4, 4).observe(pa.array([b"\x89PNG\r\n\x1a\n" + header]))


def test_text_is_rejected_as_an_image() -> None:
    with pytest.raises(DataError, match=r"string is not an encoded image; give the bytes of image files"):
        image(2, 2).arrays(pa.array(["a.png"]))


def test_missing_image_can_be_black() -> None:
    assert applied(image(8, 8, missing="blank"), PNG, None).sum(axis=(1, 2, 3)).tolist() == [SQUARES.sum(), 0]


def test_fitting_measures_the_images() -> None:
    transform = image(2, 2, missing="blank")
    measured = transform.observe(pa.array([PNG, None, encoded(np.zeros((3, 5), np.uint8))]))
    assert measured["width"].tolist() == pytest.approx([8, np.nan, 5], nan_ok=True)
    assert measured["height"].tolist() == pytest.approx([8, np.nan, 3], nan_ok=True)
    learned = transform.learn({})
    assert not transform.fitted
    assert learned.fitted
    assert ImageTransform.from_dict(learned.to_dict()) == learned


def test_typical_image_is_black() -> None:
    transform = image(3, 5)
    assert applied(transform, transform.typical(pa.binary())).tolist() == np.zeros((1, 3, 5, 3)).tolist()


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_raw_pixels_are_reordered(layout: str) -> None:
    transform = image(8, 8, pixels=layout)
    assert transform.fitted
    raw = SQUARES.transpose(2, 0, 1) if layout == "chw" else SQUARES
    for values in (pa.array([raw.tobytes()] * 2, pa.binary()), pa.array([raw.tolist()] * 2)):
        found = transform.arrays(values)["x"]
        assert found.flags["C_CONTIGUOUS"]
        assert np.array_equal(found, np.stack([SQUARES] * 2))
    assert len(transform.typical(pa.binary())) == 8 * 8 * 3


def test_pixels_of_another_number_or_above_255_are_rejected() -> None:
    transform = image(2, 2, mode="gray", pixels="hwc")
    with pytest.raises(DataError, match=r"have 3 bytes .* and uint8\[2, 2, 1\] needs 4"):
        transform.arrays(pa.array([b"123"], pa.binary()))
    with pytest.raises(DataError, match=r"does not fit into uint8"):
        transform.arrays(pa.array([[0, 1, 2, 256]]))


def test_options_without_effect_on_pixels_are_rejected() -> None:
    with pytest.raises(ValueError, match="fit have no effect on `pixels: hwc`; remove them"):
        image(2, 2, pixels="hwc", fit="pad")
