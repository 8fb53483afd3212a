"""Reader of image files: a row holds the path, the name of the folder, and the encoded bytes of one image."""

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
from farandole.preprocess.image import ImageTransform

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 2**27
"""Maximum size of an image, 128 megapixels; more is considered damage, or an attack on memory."""
_SCHEMA = pa.schema([("path", pa.string()), ("label", pa.string()), ("image", pa.binary())])


@dataclass(frozen=True)
class ImageReader:
    """Reader of one source of images.

    Args:
        base: The folder that paths are relative to.
        check: Decode each image, to find those that cannot be decoded.
        features: Features that each image must be able to become, if `check` is set.
    """

    base: Path
    check: bool
    features: tuple[ImageTransform, ...] = ()
    types = {"path": "string", "label": "string", "image": "binary"}  # noqa: RUF012 - shared by all instances

    def read(self, byte_range: ByteRange) -> Iterator[RowBatch]:
        """Read the only row of a file.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            content = byte_range.path.read_bytes()
        except OSError as error:
            raise DataError(f"{byte_range.path}: cannot be read ({error.strerror}); write the file again") from error
        reason = self._find_defect(content) if self.check else ""
        if reason:
            yield RowBatch(
                pa.RecordBatch.from_pylist([], _SCHEMA), [MalformedRecord(str(byte_range.path), None, content, reason)]
            )
            return
        path = byte_range.path.relative_to(self.base)
        yield RowBatch(pa.record_batch([[path.as_posix()], [byte_range.path.parent.name], [content]], schema=_SCHEMA))

    def _find_defect(self, content: bytes) -> str:
        defects = (find_image_defect(content), *(feature.find_defect(content) for feature in self.features))
        return next((defect for defect in defects if defect), "")


def find_image_defect(content: bytes) -> str:
    """Return why an image cannot be decoded, an empty string if it can."""
    if not content:
        return "an empty file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > MAX_PIXELS:
                    return f"more than {MAX_PIXELS:,} pixels"
                image.load()
                if image.mode in ("I", "F"):
                    return "pixels of 32 bits; save it with 8 or 16"
    except Image.DecompressionBombError:
        return f"more than {MAX_PIXELS:,} pixels"
    except Exception:  # noqa: BLE001 - Pillow's decoders raise errors of many kinds on damaged bytes
        return "not an image that can be decoded"
    return ""
