"""Folders of images: their classes and the size that they are resized to."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from farandole.errors import DataError
from farandole.ingest.readers.image_reader import SUFFIXES
from farandole.ingest.sources.files import SourceFiles

_OPENED = 64
_MIN_SIZE, _MAX_SIZE = 16, 128
_LEAST_IMAGES = 5
"""Images that a class needs to be learned."""


@dataclass(frozen=True)
class Pictures:
    """Images in one folder for each class.

    Args:
        classes: Class to its number of images.
        size: Height and width that they are resized to.
        mode: `rgb`, or `gray` where no image has colours.
        rows: The number of images.
    """

    classes: dict[str, int]
    size: tuple[int, int]
    mode: str
    rows: int

    @property
    def rare(self) -> tuple[str, ...]:
        """The classes with too few images."""
        return tuple(name for name, count in self.classes.items() if count < _LEAST_IMAGES)


def holds_images(files: SourceFiles) -> bool:
    """Return whether most files of a source are images."""
    return 2 * len(image_paths(files)) > len(files.paths)


def image_paths(files: SourceFiles) -> list[Path]:
    """Return the files that are images."""
    return [path for path in files.paths if path.suffix.lower() in SUFFIXES]


def look_at_images(files: SourceFiles) -> Pictures:
    """Count the images of each class, and look at some of them.

    Raises:
        DataError: There are fewer than two classes, or no image can be decoded.
    """
    paths = image_paths(files)
    classes = Counter(path.parent.name for path in paths)
    if len(classes) < 2:
        raise DataError(
            f"{files.base or paths[0].parent}: all {len(paths)} images are in one folder; put the images of each class"
            " into a folder of its own, named like the class"
        )
    every = max(1, len(paths) // _OPENED)
    seen = [found for path in paths[::every] if (found := _measure(path)) is not None]
    if not seen:
        raise DataError(f"{paths[0]}: is not an image that can be decoded; write it again")
    height, width = (_round_size(float(np.median([found[axis] for found in seen]))) for axis in (0, 1))
    gray = all(found[2] for found in seen)
    return Pictures(dict(sorted(classes.items())), (height, width), "gray" if gray else "rgb", len(paths))


def _measure(path: Path) -> tuple[int, int, bool] | None:
    """Return height, width and whether an image has no colours; None if it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(path.read_bytes())) as image:
                return image.height, image.width, image.mode in ("1", "L", "LA", "I", "I;16", "F")
    except Exception:  # noqa: BLE001 - Pillow's decoders raise errors of many kinds on damaged bytes
        return None


def _round_size(pixels: float) -> int:
    """Return the size in pixels, a multiple of 8 unless it is small."""
    if pixels <= 40:
        return max(_MIN_SIZE, round(pixels))
    return int(min(_MAX_SIZE, 8 * round(pixels / 8)))
