from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.image_reader import ImageReader, find_image_defect
from farandole.preprocess.image import ImageTransform
from farandole.spec import Image as ImageSpec


def png(width: int = 8, height: int = 8) -> bytes:
    content = io.BytesIO()
    Image.new("L", (width, height)).save(content, "PNG")
    return content.getvalue()


def claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header claims another size."""
    content = png()
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(), ""),
        (b"", "an empty file"),
        (b"no image", "not an image that can be decoded"),
        (png()[:40], "not an image that can be decoded"),
        (png(width=512, height=512)[:-30], "not an image that can be decoded"),
        (claiming(65_535, 65_535), "more than 134,217,728 pixels"),
        (claiming(12_000, 12_000), "more than 134,217,728 pixels"),
    ],
    ids=["whole", "empty", "text", "header alone", "cut short", "huge", "large"],
)
def test_image_that_cannot_be_decoded_has_a_reason(content: bytes, expected: str) -> None:
    assert find_image_defect(content) == expected


def test_image_that_a_feature_rejects_has_the_reason_of_the_feature(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(width=40, height=40))
    spec = ImageSpec.model_validate({"kind": "image", "size": [4, 4], "max_pixels": 100})
    feature = ImageTransform("image", "image", spec)
    reader = ImageReader(tmp_path, check=True, features=(feature,))
    (found,) = reader.read(ByteRange(tmp_path / "large.png"))
    (record,) = found.malformed
    assert record.file.endswith("large.png")
    assert record.reason == "40 x 40 pixels are more than max_pixels, 100"


def test_image_of_32_bits_has_a_reason() -> None:
    content = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(content, "TIFF")
    assert find_image_defect(content.getvalue()) == "pixels of 32 bits; save it with 8 or 16"
