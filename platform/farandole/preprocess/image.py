"""Encoded images as pixels of one size.

Shapes: B images, H x W pixels, C channels. Pixels keep the layout of decoders, `[B, H, W, C]`: for torch,
`.permute(0, 3, 1, 2)` turns them into `[B, C, H, W]` without a copy, in the memory format `channels_last`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from farandole.errors import DataError
from farandole.preprocess.tensor import TensorTransform
from farandole.preprocess.transform import Measurements, Transform
from farandole.shards import Group
from farandole.spec import Image, Tensor

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are decoded. Pillow supports more, some of which start other programs."""
_CHANNELS = {"rgb": 3, "gray": 1}
_MODES = {"rgb": "RGB", "gray": "L"}
_FILTER = Pillow.Resampling.BILINEAR
"""Averages all source pixels of a target pixel, so that downscaling does not add patterns."""


@dataclass(frozen=True)
class ImageTransform(Transform):
    """Bytes of image files as one uint8 tensor. Its only fitting pass measures the sizes of the images.

    Args:
        measured: Whether that pass is done.
    """

    spec: Image
    measured: bool = False

    SPEC = Image

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its own group."""
        (name,) = self.spec.groups(self.name)
        shape = (*self.spec.size, self._channels)
        return (Group(name=name, kind="image", features=(self.name,), shape=shape),)

    @property
    def fitted(self) -> bool:
        """True once the images are measured; raw pixels already have their final size."""
        return self.measured or self.spec.pixels != "encoded"

    @property
    def _channels(self) -> int:
        return _CHANNELS[self.spec.mode]

    @property
    def _raw(self) -> TensorTransform:
        """The transform that reads raw pixels."""
        channels_first = self.spec.pixels == "chw"
        shape = (self._channels, *self.spec.size) if channels_first else (*self.spec.size, self._channels)
        return TensorTransform(self.name, self.column, Tensor(kind="tensor", shape=shape, dtype="uint8"))

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return widths and heights in pixels, before resizing.

        Raises:
            DataError: A value is not a readable image.
        """
        sizes = self._map_images(values, lambda image: image.size)
        found = np.array([size or (np.nan, np.nan) for size in sizes], dtype=np.float64).reshape(-1, 2)
        return {"width": found[:, 0], "height": found[:, 1]}

    def learn(self, measurements: Measurements) -> ImageTransform:
        """Return the transform, marked as measured."""
        return replace(self, measured=True)

    def arrays(self, values: pa.Array) -> dict[str, np.ndarray]:
        """Return uint8 `[B, H, W, C]`.

        Raises:
            DataError: A value is missing, or not a readable image.
        """
        (group,) = self.groups
        if self.spec.pixels != "encoded":
            (raw,) = self._raw.arrays(values).values()
            return {group.name: np.ascontiguousarray(raw.transpose(0, 2, 3, 1)) if self.spec.pixels == "chw" else raw}
        pixels = np.zeros((len(values), *group.shape), dtype=np.uint8)
        for row, image in enumerate(self._map_images(values, self._pixels)):
            if image is not None:
                pixels[row] = image
        return {group.name: pixels}

    def _map_images(self, values: pa.Array, function: Callable[[Pillow.Image], Any]) -> list[Any]:
        """Apply a function to each image; None for a missing one. All failures are reported in one error."""
        if not pa.types.is_binary(values.type):
            raise DataError(
                f"{self.origin}: {values.type} is not an encoded image; give the bytes of image files (binary)"
            )
        if values.null_count and self.spec.missing == "error":
            raise DataError(
                f"{self.origin}: {values.null_count} of a batch of {len(values)} rows have no image; filter them out in"
                f" the query (WHERE {self.column} IS NOT NULL), or set `missing: blank`"
            )
        results: list[Any] = []
        problems: list[str] = []
        for content in values.to_pylist():
            try:
                results.append(None if content is None else function(self._open(content)))
            except Exception as error:  # noqa: BLE001 - each decoder raises its own errors for broken bytes
                problems.append(" ".join(str(error).split()) or type(error).__name__)
        if problems:
            raise DataError(
                f"{self.origin}: {len(problems)} of a batch of {len(values)} rows hold no readable image (the first:"
                f" {problems[0]}); fix the files, or filter these rows out"
            )
        return results

    def find_defect(self, content: bytes) -> str:
        """Return why an image file cannot become this feature, an empty string if it can."""
        try:
            self._pixels(self._open(content))
        except Exception as error:  # noqa: BLE001 - each decoder raises its own errors for broken bytes
            return " ".join(str(error).split()) or type(error).__name__
        return ""

    def _open(self, content: bytes) -> Pillow.Image:
        """Read the header of an image and check its size."""
        try:
            image = Pillow.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"its {len(content)} bytes are none of {', '.join(FORMATS)}") from None
        width, height = image.size
        if width * height > self.spec.max_pixels:
            raise ValueError(f"{width} x {height} pixels are more than max_pixels, {self.spec.max_pixels:,}")
        return image

    def _pixels(self, image: Pillow.Image) -> np.ndarray:
        """Decode and resize an image to uint8 `[H, W, C]`."""
        height, width = self.spec.size
        # A JPEG can be decoded at a half, a quarter or an eighth of its size. It may be rotated by its EXIF data.
        least = 2 * max(height, width)
        if min(image.size) > 2 * least:
            image.draft(_MODES[self.spec.mode], (least * image.width // min(image.size), least))
        image = _in_mode(ImageOps.exif_transpose(image), _MODES[self.spec.mode])
        if self.spec.fit == "crop":
            image = ImageOps.fit(image, (width, height), _FILTER)
        elif self.spec.fit == "pad":
            image = ImageOps.pad(image, (width, height), _FILTER, color=0)
        else:
            image = image.resize((width, height), _FILTER)
        return np.asarray(image).reshape(height, width, -1)

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return a black image."""
        if self.spec.pixels != "encoded":
            return self._raw.typical(raw_type)
        height, width = self.spec.size
        file = io.BytesIO()
        Pillow.new(_MODES[self.spec.mode], (width, height)).save(file, "PNG")
        return file.getvalue()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageTransform:
        """Restore a fitted transform from the result of `to_dict`."""
        return replace(super().from_dict(data), measured=True)


def _in_mode(image: Pillow.Image, mode: str) -> Pillow.Image:
    """Convert an image to 8 bits per channel; transparent pixels become white."""
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip instead of scaling
        image = Pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits each; save it with 8 or 16")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
