"""Folders of images: their classes and the size that they are resized to."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from farandole.errors import DataError
from farandole.ingest.readers.image_reader import SUFFIXES
from farandole.ingest.sources.files import SourceFiles

IMAGES_OPENED = 64
"""The number of images that are opened to find their size."""
_MIN_SIZE, _MAX_SIZE = 16, 128
_LEAST_IMAGES = 5
"""Images that a class needs to be learned."""


@dataclass(frozen=True)
class Pictures:
    """Images in one folder for each class.

    Args:
        classes: The class of each image.
        spec: The feature as the job file says it.
    """

    classes: tuple[str, ...]
    spec: dict[str, Any]

    @property
    def counts(self) -> Counter[str]:
        """The number of images of each class."""
        return Counter(self.classes)

    @property
    def rare(self) -> tuple[str, ...]:
        """The classes with too few images."""
        return tuple(name for name, count in sorted(self.counts.items()) if count < _LEAST_IMAGES)


def holds_images(files: SourceFiles) -> bool:
    """Return whether most files of a source are images."""
    return 2 * len(image_paths(files)) > len(files.paths)


def image_paths(files: SourceFiles) -> list[Path]:
    """Return the files that are images."""
    return [path for path in files.paths if path.suffix.lower() in SUFFIXES]


def look_at_images(files: SourceFiles) -> Pictures:
    """Find the classes of images, and look at some of them.

    Raises:
        DataError: There are fewer than two classes, or no image can be decoded.
    """
    paths = image_paths(files)
    classes = tuple(path.parent.name for path in paths)
    if len(set(classes)) < 2:
        folder = files.base or (paths[0].parent if paths else files.name)
        raise DataError(
            f"{folder}: its {len(paths)} images are in one folder; put the images of each class into a folder of its"
            " own, named like the class"
        )
    every = max(1, len(paths) // IMAGES_OPENED)
    spec = image_spec(path.read_bytes() for path in paths[::every])
    if spec is None:
        raise DataError(f"{paths[0]}: is not an image that can be decoded; write it again")
    return Pictures(classes, spec)


def image_spec(images: Iterable[bytes]) -> dict[str, Any] | None:
    """Return the feature that images become, in their median size; None if none of them can be decoded.

    Args:
        images: The contents of some image files.
    """
    seen = [found for content in images if (found := _measure(content)) is not None]
    if not seen:
        return None
    size = [_round_size(float(np.median([found[axis] for found in seen]))) for axis in (0, 1)]
    return {"kind": "image", "size": size} | ({"mode": "gray"} if all(found[2] for found in seen) else {})


def _measure(content: bytes) -> tuple[int, int, bool] | None:
    """Return height, width and whether an image has no colours; None if it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                return image.height, image.width, image.mode in ("1", "L", "LA", "I", "I;16", "F")
    except Exception:  # noqa: BLE001 - Pillow's decoders raise errors of many kinds on damaged bytes
        return None


def _round_size(pixels: float) -> int:
    """Return the size in pixels, a multiple of 8 unless it is small."""
    if pixels <= 40:
        return max(_MIN_SIZE, round(pixels))
    return int(min(_MAX_SIZE, 8 * round(pixels / 8)))
