"""The `train.augment` part of a job file: random changes of training rows, drawn anew each time a row is read."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from farandole.spec.base import Spec, non_default_fields

Probability = Annotated[float, Field(ge=0, le=1)]
"""A fraction of rows or values; rounded to a multiple of 1/65536, but never to 0."""
Strength = Annotated[float, Field(ge=0, le=1)]
"""The range of a random factor around 1: 0.2 draws it uniformly between 0.8 and 1.2."""


class _Augment(Spec):
    """Base of the augmentations of one group. Declaring a group without any augmentation is an error."""

    @model_validator(mode="after")
    def _require_an_effect(self) -> Self:
        choices = [name for name in type(self).model_fields if name not in ("kind", "features", "padding")]
        if not any(getattr(self, name) for name in choices):
            raise ValueError(f"nothing is augmented; set one of {', '.join(choices)} above 0, or remove the group")
        return self


class ImageAugment(_Augment):
    """Augmentation of images. Applied in this order: crop, flip, color."""

    kind: Literal["image"]
    """The group holds images."""
    flip_horizontal: Probability = 0
    """The fraction of images that are mirrored left to right."""
    flip_vertical: Probability = 0
    """The fraction of images that are mirrored top to bottom."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Pad each side by this many pixels, then cut out the original size at a random position."""
    padding: Literal["reflect", "constant"] = "reflect"
    """How the padding of a crop is filled: with the mirrored image, or with black."""
    brightness: Strength = 0
    """Multiply all values by a random factor."""
    contrast: Strength = 0
    """Scale the distance of all values from the image's mean gray by a random factor."""
    saturation: Strength = 0
    """Scale the distance of each pixel's color from its gray by a random factor. For images with three channels."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if non_default_fields(self, "padding") and not self.crop:
            raise ValueError("padding has no effect without `crop`; remove it")
        return self


class NumbersAugment(_Augment):
    """Augmentation of numbers. Applied in this order: noise, dropout."""

    kind: Literal["numbers"]
    """The group holds float32 numbers."""
    noise: Annotated[float, Field(ge=0)] = 0
    """The standard deviation of Gaussian noise, on the scale that the model sees: with `scale: standard`, in standard
    deviations of the feature."""
    dropout: Probability = 0
    """The fraction of values that are set to 0; with `scale: standard` that is the feature's mean."""
    features: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Which columns of the group. Default: its numeric features, without their `_missing` flags, parts of times and
    other columns that only take certain values."""


class IdsAugment(_Augment):
    """Augmentation of categories."""

    kind: Literal["ids"]
    """The group holds int32 category ids."""
    dropout: Probability = 0
    """The fraction of values that are set to id 0, unknown: the model learns how to handle values it has never seen."""
    features: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Which columns of the group. Default: all."""


class TokensAugment(_Augment):
    """Augmentation of text."""

    kind: Literal["tokens"]
    """The group holds int32 token ids, in order."""
    dropout: Probability = 0
    """The fraction of tokens that are replaced by the unknown token. Padding, the end-of-text token and other special
    tokens stay."""


Augment = Annotated[ImageAugment | NumbersAugment | IdsAugment | TokensAugment, Field(discriminator="kind")]
"""The augmentation of one feature group."""
