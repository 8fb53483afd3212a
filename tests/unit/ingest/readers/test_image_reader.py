from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image

from farandole.ingest.readers.image_reader import find_image_defect


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
