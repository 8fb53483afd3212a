"""The `train.augment` part of a job file: how training rows are changed at random each time they are read."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from farandole.spec.base import Spec, non_default_fields

Probability = Annotated[float, Field(ge=0, le=1)]
"""A share of rows or values; rounded to a multiple of 1/65536, and never to 0."""
Strength = Annotated[float, Field(ge=0, le=1)]
"""How far a factor moves from 1: 0.2 draws it evenly between 0.8 and 1.2."""


class _Augment(Spec):
    """One group's changes. A declared group of which nothing is changed is a mistake."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        choices = [name for name in type(self).model_fields if name not in ("kind", "features", "padding")]
        if not any(getattr(self, name) for name in choices):
            raise ValueError(f"nothing is changed; set one of {', '.join(choices)} above 0, or remove the group")
        return self


class ImageAugment(_Augment):
    """Pictures. Applied in this order: crop, flip, colour."""

    kind: Literal["image"]
    """The group holds images."""
    flip_horizontal: Probability = 0
    """The share of images whose left and right change places."""
    flip_vertical: Probability = 0
    """The share of images whose top and bottom change places."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Pad each side by so many pixels, then cut the image's own size out at a random place."""
    padding: Literal["reflect", "constant"] = "reflect"
    """What a crop finds beyond the edge: the image in a mirror, or black."""
    brightness: Strength = 0
    """Multiply all values by a random factor."""
    contrast: Strength = 0
    """Move all values from, or towards, the image's mean grey."""
    saturation: Strength = 0
    """Move the colours from, or towards, their own grey. For images of three channels."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if non_default_fields(self, "padding") and not self.crop:
            raise ValueError("padding has no effect without `crop`; remove it")
        return self


class NumbersAugment(_Augment):
    """Numbers. Applied in this order: noise, dropout."""

    kind: Literal["numbers"]
    """The group holds float32 numbers."""
    noise: Annotated[float, Field(ge=0)] = 0
    """The deviation of Gaussian noise, on the scale that the model sees: with `scale: standard` in deviations of
    the feature."""
    dropout: Probability = 0
    """The share of values that become 0; with `scale: standard` that is the feature's mean."""
    features: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Which columns of the group. Default: its numeric features; not their `_missing` flags, parts of times and
    other columns of which only certain values have a meaning."""


class IdsAugment(_Augment):
    """Categories."""

    kind: Literal["ids"]
    """The group holds int32 ids of categories."""
    dropout: Probability = 0
    """The share of values that become id 0, unknown: the model learns what to do with a value it never saw."""
    features: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Which columns of the group. Default: all."""


class TokensAugment(_Augment):
    """Text."""

    kind: Literal["tokens"]
    """The group holds int32 ids of tokens, in order."""
    dropout: Probability = 0
    """The share of tokens that become the unknown one. Padding, the end of a text and other special tokens stay."""


Augment = Annotated[ImageAugment | NumbersAugment | IdsAugment | TokensAugment, Field(discriminator="kind")]
"""How the training rows of one feature group are changed."""
