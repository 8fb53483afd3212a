"""How a raw column becomes numbers that a model can read. Fitted on the training split only."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from farandole.spec.base import Spec, non_default_fields

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""A name that is also a Python identifier: models receive feature groups as keyword arguments."""
IDENTIFIERS_ONLY: dict[str, JsonValue] = {"additionalProperties": False}
"""For the JSON Schema of a mapping by names: other keys are mistakes."""


class Clip(Spec):
    """Bounds that values are moved to."""

    by: Literal["value", "quantile"] = "value"
    """Whether the bounds are values, or quantiles of the training split (0 to 1)."""
    lower: float | None = None
    """The lower bound; none: not bounded below."""
    upper: float | None = None
    """The upper bound; none: not bounded above."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lower is None and self.upper is None:
            raise ValueError("neither lower nor upper is set; set one of them")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower {self.lower} is not below upper {self.upper}")
        bounds = [bound for bound in (self.lower, self.upper) if bound is not None]
        if self.by == "quantile" and not all(0 <= bound <= 1 for bound in bounds):
            raise ValueError(f"quantiles {bounds} must lie between 0 and 1")
        return self


Scale = Literal["standard", "minmax", "robust", "none"]


class Numeric(Spec):
    """A number. Applied in this order: impute, clip, log, scale."""

    kind: Literal["numeric"]
    """A number becomes one float32."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    impute: Literal["median", "mean"] | float | None = "median"
    """What a missing value becomes. `null`: a missing value is an error."""
    indicator: bool = False
    """Add a second feature that is 1 where the value was missing."""
    clip: Clip | None = None
    """Bounds that outliers are moved to."""
    log: bool = False
    """Take sign(x) * log(1 + |x|)."""
    scale: Scale = "standard"
    """`standard`: mean 0 and deviation 1; `minmax`: 0 to 1; `robust`: median 0 and interquartile range 1, which few
    outliers do not move (where half of the rows agree, so that this range is 0, the deviation takes its place). All
    are measured on the training split."""
    group: Identifier = "dense"
    """The tensor that this feature becomes a column of."""

    def groups(self, name: str) -> dict[str, str]:
        """The groups that the feature of this name belongs to, and what each holds."""
        return {self.group: "numbers"}


def _ids_or_columns(group: str | None, *, onehot: bool) -> dict[str, str]:
    """Where a category goes, and what it becomes there: an id, or columns of 0 and 1."""
    return {group or "dense": "numbers"} if onehot else {group or "categorical": "ids"}


class Categorical(Spec):
    """A value out of a set: becomes one int32 id, for an embedding, or a float32 column for each value."""

    kind: Literal["categorical"]
    """A value out of a set becomes an id, or columns of 0 and 1."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    encoding: Literal["vocabulary", "hash", "onehot"] = "vocabulary"
    """`vocabulary`: ids of the values of the training split, the most frequent first, from 2 on; id 0 is unknown and
    id 1 missing. `hash`: ids of a fixed number of buckets. `onehot`: a column `NAME=VALUE` for each value of the
    vocabulary (at most 1,000) and `NAME_missing`; an unknown value is 0 in all of them."""
    min_count: Annotated[int, Field(ge=1)] = 1
    """Vocabulary: values seen fewer times in the training split are unknown."""
    max_size: Annotated[int, Field(ge=1)] = 100_000
    """Vocabulary: the most values it keeps."""
    buckets: Annotated[int, Field(ge=1, le=2**30)] | None = None
    """Hash: the number of buckets."""
    group: Identifier | None = None
    """The tensor that this feature becomes columns of. Default: `dense` for onehot, else `categorical`."""

    def groups(self, name: str) -> dict[str, str]:
        """The groups that the feature of this name belongs to, and what each holds."""
        return _ids_or_columns(self.group, onehot=self.encoding == "onehot")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.encoding == "hash" and self.buckets is None:
            raise ValueError("encoding hash needs `buckets`, for example 1024")
        if self.encoding != "hash" and self.buckets is not None:
            raise ValueError("buckets has no effect on a vocabulary; use `encoding: hash`, or remove it")
        if self.encoding == "hash" and non_default_fields(self, "min_count", "max_size"):
            raise ValueError("min_count and max_size have no effect on `encoding: hash`; remove them")
        return self


class Bucket(Spec):
    """A number as the interval that it lies in: becomes one int32 id, or a float32 column for each interval."""

    kind: Literal["bucket"]
    """A number becomes the interval that it lies in."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    quantiles: Annotated[int, Field(ge=2, le=1000)] = 10
    """So many intervals that each hold about as many training rows; fewer where many rows agree."""
    boundaries: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """Where one interval ends and the next begins, rising; a boundary belongs to the interval above it. Replaces
    `quantiles`."""
    encoding: Literal["category", "onehot"] = "category"
    """`category`: an int32 id, from 1 for the lowest interval on, where 0 is missing; `onehot`: a column of 0 and 1
    for each interval, and `NAME_missing`."""
    group: Identifier | None = None
    """The tensor that this feature becomes columns of. Default: `dense` for onehot, else `categorical`."""

    def groups(self, name: str) -> dict[str, str]:
        """The groups that the feature of this name belongs to, and what each holds."""
        return _ids_or_columns(self.group, onehot=self.encoding == "onehot")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.boundaries is not None and non_default_fields(self, "quantiles"):
            raise ValueError("quantiles has no effect where boundaries are given; remove one of them")
        if self.boundaries is not None and list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries {list(self.boundaries)} do not rise; sort them, each once")
        return self


TimePart = Literal[
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "day_of_year",
    "weekday",
    "is_weekend",
    "hour",
    "minute",
    "second",
    "days",
]
_WITHOUT_CYCLE = {"year", "days", "is_weekend"}
_UNBOUNDED = {"year", "days"}


class Time(Spec):
    """A timestamp or date, in UTC, taken apart."""

    kind: Literal["time"]
    """A timestamp becomes its parts."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    parts: Annotated[tuple[TimePart, ...], Field(min_length=1)]
    """Which parts; each is a feature named `NAME_PART`. `week` is that of ISO 8601, `weekday` begins with Monday,
    `is_weekend` is 1 on Saturdays and Sundays, and `days` are those since 1970-01-01, with their fraction."""
    encoding: Literal["cyclic", "category", "number"] = "cyclic"
    """`cyclic`: the sine and cosine of the part's place in its cycle (two float32 features);
    `category`: an int32 id, where 0 is missing; `number`: one float32, scaled, where a missing one becomes the
    median."""
    scale: Scale = "standard"
    """Of numbers: as of a numeric feature."""
    group: Identifier | None = None
    """The tensor. Default: `categorical` for categories, else `dense`."""

    def groups(self, name: str) -> dict[str, str]:
        """The groups that the feature of this name belongs to, and what each holds."""
        category = self.encoding == "category"
        return {self.group or ("categorical" if category else "dense"): "ids" if category else "numbers"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.parts)) != len(self.parts):
            raise ValueError(f"a part is named twice in {list(self.parts)}; name each once")
        unfit = {"cyclic": _WITHOUT_CYCLE, "category": _UNBOUNDED, "number": set[str]()}[self.encoding]
        for part in self.parts:
            if part in unfit:
                why = "does not come round again" if self.encoding == "cyclic" else "is not one of a fixed number"
                raise ValueError(f"{part} {why}, so it cannot be {self.encoding}; use `encoding: number`")
        if self.encoding != "number" and non_default_fields(self, "scale"):
            raise ValueError(f"scale has no effect on `encoding: {self.encoding}`; remove it")
        return self


class Tensor(Spec):
    """Numbers of a fixed shape, taken over as they are."""

    kind: Literal["tensor"]
    """An array of a fixed shape becomes a tensor of its own."""
    column: str | None = None
    """The raw column: arrays of numbers (also nested ones), or bytes, which hold the values in C order and little
    endian. Default: the feature's own name."""
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    """The shape of one row's values."""
    dtype: Literal["float32", "float64", "int8", "int16", "int32", "int64", "uint8"] = "float32"
    """The type of a value. A number that it cannot hold is an error."""
    group: Identifier | None = None
    """The tensor. Default: the feature's own name."""

    def groups(self, name: str) -> dict[str, str]:
        """The groups that the feature of this name makes, and what each holds."""
        return {self.group or name: "tensor"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if math.prod(self.shape) > _MOST_VALUES:
            raise ValueError(f"shape {list(self.shape)} has {math.prod(self.shape):,} values; at most {_MOST_VALUES:,}")
        return self


class Text(Spec):
    """A text, taken apart into tokens by a tokenizer that is trained on the training split. Id 0 is padding, id 1 an
    unknown token, id 2 the end of a text; then come `special_tokens`."""

    kind: Literal["text"]
    """A text becomes int32 ids of tokens."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    mode: Literal["pad", "pack"] = "pad"
    """`pad`: one window for each text, and a second tensor `GROUP_mask` that is 1 where there is a token and 0 where
    there is padding. `pack`: for language models, the texts of a shard one after the other, each with an end token,
    cut into windows, of which only a shard's last one is padded; it must be the only feature, without a label, and the
    rows of the dataset are windows."""
    length: Annotated[int, Field(ge=1, le=2**20)]
    """How many tokens a window has."""
    truncate: Literal["end", "start", "error"] = "end"
    """What is cut off a text that is longer than its window, or that it is an error."""
    tokenizer: Literal["bpe", "wordpiece", "words", "whitespace"] = "bpe"
    """`bpe`: pieces of words down to single bytes, so nothing is unknown (as GPT-2's); `wordpiece`: pieces of words, as
    BERT's; `words`: whole words, and signs between them; `whitespace`: what stands between blanks."""
    vocab_size: Annotated[int, Field(ge=8, le=1_000_000)] = 8000
    """How many tokens there are at most."""
    min_count: Annotated[int, Field(ge=1)] = 2
    """How often words, or pairs of pieces that could be joined, must occur in the training split to be a token."""
    special_tokens: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts such as `<sep>` that are one token each wherever they occur."""
    unicode: Literal["nfc", "nfkc", "none"] = "nfc"
    """The form of Unicode that texts are brought to; `nfkc` also makes one of characters that mean the same."""
    lower: bool = False
    """Make all letters small."""
    strip_accents: bool = False
    """Take accents off letters."""
    group: Identifier | None = None
    """The tensor. Default: the feature's own name."""

    def groups(self, name: str) -> dict[str, str]:
        """The groups that the feature of this name makes, and what each holds."""
        group = self.group or name
        return {group: "tokens"} if self.mode == "pack" else {group: "tokens", f"{group}_mask": "mask"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode == "pack" and non_default_fields(self, "truncate"):
            raise ValueError("truncate has no effect on `mode: pack`, which cuts nothing off; remove it")
        if len(set(self.special_tokens)) != len(self.special_tokens):
            raise ValueError(f"a token is named twice in {list(self.special_tokens)}; name each once")
        for token in self.special_tokens:
            if token != "".join(token.split()):
                raise ValueError(f"the special token {token!r} has blanks in it; leave them out")
        least = 3 + len(self.special_tokens) + (256 if self.tokenizer == "bpe" else 1)
        if self.vocab_size < least:
            raise ValueError(f"vocab_size {self.vocab_size}: {self.tokenizer} needs at least {least}")
        return self


class Image(Spec):
    """A picture, decoded and brought to one size."""

    kind: Literal["image"]
    """The bytes of an image file become a tensor of pixels: uint8 `[height, width, channels]`."""
    column: str | None = None
    """The raw column, of bytes: PNG, JPEG, WebP, GIF (its first frame), TIFF, BMP or PPM; or of pixels, see `pixels`.
    Default: the feature's own name."""
    pixels: Literal["encoded", "hwc", "chw"] = "encoded"
    """`encoded`: the column holds image files. `hwc`, `chw`: it holds the pixels themselves, from 0 to 255, as bytes or
    an array, already of this size: row after row, the channels of a pixel beside each other, or (`chw`, as CIFAR-10)
    one whole channel after the other."""
    size: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]]
    """The height and the width, in pixels."""
    mode: Literal["rgb", "gray"] = "rgb"
    """Three channels, or one. What is transparent becomes white."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How an image of other proportions is brought to the size: `crop` fills it and cuts off what juts out, evenly on
    both sides; `pad` shows all of it, between black bars; `stretch` changes the proportions."""
    missing: Literal["error", "blank"] = "error"
    """What a row without an image is: an error, or a black one."""
    max_pixels: Annotated[int, Field(ge=1, le=89_000_000)] = 50_000_000
    """An image of more pixels is an error: a small file may unpack to one that fills the memory."""
    group: Identifier | None = None
    """The tensor. Default: the feature's own name."""

    def groups(self, name: str) -> dict[str, str]:
        """The groups that the feature of this name makes, and what each holds."""
        return {self.group or name: "image"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        without_effect = non_default_fields(self, "fit", "missing", "max_pixels")
        if self.pixels != "encoded" and without_effect:
            raise ValueError(f"{', '.join(without_effect)} have no effect on `pixels: {self.pixels}`; remove them")
        return self


_MOST_VALUES = 2**26
"""Values of one row in one group: a shard's block holds at least one row."""

Feature = Annotated[Numeric | Categorical | Bucket | Time | Text | Image | Tensor, Field(discriminator="kind")]
"""One declared feature."""

_SHARED = ("numbers", "ids")
"""What features share groups of, as columns."""


def feature_groups(features: dict[str, Feature]) -> dict[str, str]:
    """The groups of all features together, and what each holds.

    Args:
        features: Name to feature.

    Raises:
        ValueError: Features that cannot be columns of one tensor share a group, or a group is called `label`.
    """
    owners: dict[str, tuple[str, str]] = {}
    for name, feature in features.items():
        for group, kind in feature.groups(name).items():
            owner, held = owners.setdefault(group, (name, kind))
            if group == "label":
                raise ValueError(f"features.{name}: a group cannot be named `label`; name another")
            if held != kind and held in _SHARED and kind in _SHARED:
                raise ValueError(
                    f"features.{name}: group {group} holds {held}; a group holds either float32 numbers or int32 ids;"
                    " name another group"
                )
            if owner != name and not (held in _SHARED and kind in _SHARED):
                raise ValueError(
                    f"features.{name}: group {group} is that of features.{owner}; texts, images and tensors have groups"
                    " of their own: name another group"
                )
        if isinstance(feature, Text) and feature.mode == "pack" and len(features) > 1:
            raise ValueError(
                f"features.{name}: `mode: pack` joins rows, so no other feature can stand beside it; remove"
                f" {', '.join(other for other in features if other != name)}, or use `mode: pad`"
            )
    return {group: kind for group, (_, kind) in owners.items()}


class Label(Spec):
    """What the model learns to predict. A missing label is an error: filter such rows out in the query."""

    column: str
    """The raw column."""
    kind: Literal["binary", "multiclass", "regression"]
    """Two classes, several classes, or a number."""
    positive: str | bool | int | None = None
    """Binary: the value whose probability is predicted. Default: the greater one (`true`, `1`)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.positive is not None and self.kind != "binary":
            raise ValueError(f"positive has no effect on a {self.kind} label; remove it")
        return self
