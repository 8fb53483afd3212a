"""Image files to rows: where each lies, the name of its folder, and its bytes, which are not decoded here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from PIL import Image

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.row_batch import MalformedRecord, RowBatch

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 2**27
"""More in one image are taken for damage, or for an attack on memory: 128 megapixels."""
_SCHEMA = pa.schema([("path", pa.string()), ("label", pa.string()), ("image", pa.binary())])


@dataclass(frozen=True)
class ImageReader:
    """Reads one source of images.

    Args:
        base: The folder that paths are relative to.
        check: Whether each image is decoded, to see whether it can be.
    """

    base: Path
    check: bool
    types = {"path": "string", "label": "string", "image": "binary"}  # noqa: RUF012 - of all of them

    def read(self, part: ByteRange) -> Iterator[RowBatch]:
        """The one row of a file.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            content = part.path.read_bytes()
        except OSError as error:
            raise DataError(f"{part.path}: cannot be read ({error.strerror}); write the file again") from error
        reason = find_image_defect(content) if self.check else ""
        if reason:
            yield RowBatch(
                pa.RecordBatch.from_pylist([], _SCHEMA), [MalformedRecord(str(part.path), None, content, reason)]
            )
            return
        path = part.path.relative_to(self.base)
        yield RowBatch(pa.record_batch([[path.as_posix()], [part.path.parent.name], [content]], schema=_SCHEMA))


def find_image_defect(content: bytes) -> str:
    """What keeps an image from being decoded; empty if nothing does."""
    if not content:
        return "an empty file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is our own
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > MAX_PIXELS:
                    return f"more than {MAX_PIXELS:,} pixels"
                image.load()
    except Image.DecompressionBombError:
        return f"more than {MAX_PIXELS:,} pixels"
    except Exception:  # noqa: BLE001 - Pillow's decoders raise errors of many kinds on damaged bytes
        return "not an image that can be decoded"
    return ""
