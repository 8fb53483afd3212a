"""The features of `data`: how raw columns become the tensors that a model reads.

Everything is fitted on the training split only.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from farandole.spec.base import Spec, non_default_fields

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""A name that is also a Python identifier, because models receive feature groups as keyword arguments."""
IDENTIFIERS_ONLY: dict[str, JsonValue] = {"additionalProperties": False}
"""JSON Schema extension of a mapping whose keys are identifiers: it rejects all other keys."""

_MAX_VALUES_PER_ROW = 2**26
"""Limit of the values of one row in one group: a shard's block holds at least one row."""


class Clip(Spec):
    """Bounds that values are clipped to."""

    by: Literal["value", "quantile"] = "value"
    """Whether the bounds are values, or quantiles of the training split (0 to 1)."""
    lower: float | None = None
    """The lower bound. Default: none."""
    upper: float | None = None
    """The upper bound. Default: none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lower is None and self.upper is None:
            raise ValueError("neither lower nor upper is set; set one of them")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower {self.lower} is not below upper {self.upper}")
        bounds = [bound for bound in (self.lower, self.upper) if bound is not None]
        if self.by == "quantile" and not all(0 <= bound <= 1 for bound in bounds):
            raise ValueError(f"quantiles {bounds} must be between 0 and 1")
        return self


Scale = Literal["standard", "minmax", "robust", "robust_smooth", "none"]


class Numeric(Spec):
    """A number. Applied in this order: impute, clip, log, scale."""

    kind: Literal["numeric"]
    """A number becomes one float32."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    impute: Literal["median", "mean"] | float | None = "median"
    """The value that replaces a missing one. `null`: a missing value is an error."""
    indicator: bool = False
    """Add a second feature that is 1 where the value was missing."""
    clip: Clip | None = None
    """Bounds that outliers are clipped to."""
    log: bool = False
    """Apply sign(x) * log(1 + |x|)."""
    scale: Scale = "standard"
    """`standard`: mean 0 and standard deviation 1; `minmax`: 0 to 1; `robust`: median 0 and interquartile range 1,
    which a few outliers do not affect (if half of the rows have the same value, so that this range is 0, the standard
    deviation is used instead); `robust_smooth`: as `robust` (if half of the rows have the same value, half of the range
    of all values becomes 1), then z / sqrt(1 + (z / 3)^2), which keeps outliers below 3 and in their order (RealMLP,
    arXiv 2407.04491, section 3). All are measured on the training split."""
    group: Identifier = "dense"
    """The tensor that this feature becomes a column of."""

    def groups(self, name: str) -> dict[str, str]:
        """Return the groups that the feature of this name belongs to, and the content kind of each."""
        return {self.group: "numbers"}

    def columns(self, name: str) -> tuple[str, ...]:
        """Return the names of its columns in the group."""
        return (name, f"{name}_missing") if self.indicator else (name,)


def _category_groups(group: str | None, *, onehot: bool) -> dict[str, str]:
    """Return the group of a category and its content: ids, or one-hot columns."""
    return {group or "dense": "numbers"} if onehot else {group or "categorical": "ids"}


class Categorical(Spec):
    """A value from a set: becomes one int32 id, for an embedding, or a float32 column for each value."""

    kind: Literal["categorical"]
    """A value from a set becomes an id, or one-hot columns."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    encoding: Literal["vocabulary", "hash", "onehot"] = "vocabulary"
    """`vocabulary`: ids of the values of the training split, the most frequent first, starting at 2; id 0 is unknown
    and id 1 missing. `hash`: ids of a fixed number of buckets. `onehot`: a column `NAME=VALUE` for each value of the
    vocabulary (at most 1,000) and `NAME_missing`; an unknown value is 0 in all of them."""
    min_count: Annotated[int, Field(ge=1)] = 1
    """Vocabulary: values that occur less often in the training split are unknown."""
    max_size: Annotated[int, Field(ge=1)] = 100_000
    """Vocabulary: the maximum number of values."""
    buckets: Annotated[int, Field(ge=1, le=2**30)] | None = None
    """Hash: the number of buckets."""
    group: Identifier | None = None
    """The tensor that this feature becomes columns of. Default: `dense` for onehot, else `categorical`."""

    def groups(self, name: str) -> dict[str, str]:
        """Return the groups that the feature of this name belongs to, and the content kind of each."""
        return _category_groups(self.group, onehot=self.encoding == "onehot")

    def columns(self, name: str) -> tuple[str, ...]:
        """Return the names of its columns in the group, except those that name a value."""
        return (f"{name}_missing",) if self.encoding == "onehot" else (name,)

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
    """The interval that a number falls into: becomes one int32 id, or a float32 column for each interval."""

    kind: Literal["bucket"]
    """A number becomes the interval that it falls into."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    quantiles: Annotated[int, Field(ge=2, le=1000)] = 10
    """The number of intervals with about equally many training rows; fewer where many rows have the same value."""
    boundaries: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """The boundaries between intervals, ascending; a boundary belongs to the interval above it. Replaces
    `quantiles`."""
    encoding: Literal["category", "onehot"] = "category"
    """`category`: an int32 id, where 1 is the lowest interval and 0 is missing; `onehot`: a column of 0 and 1 for each
    interval, and `NAME_missing`."""
    group: Identifier | None = None
    """The tensor that this feature becomes columns of. Default: `dense` for onehot, else `categorical`."""

    def groups(self, name: str) -> dict[str, str]:
        """Return the groups that the feature of this name belongs to, and the content kind of each."""
        return _category_groups(self.group, onehot=self.encoding == "onehot")

    def columns(self, name: str) -> tuple[str, ...]:
        """Return the names of its columns in the group, except those that name a value."""
        return (f"{name}_missing",) if self.encoding == "onehot" else (name,)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.boundaries is not None and non_default_fields(self, "quantiles"):
            raise ValueError("quantiles has no effect where boundaries are given; remove one of them")
        if self.boundaries is not None and list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries {list(self.boundaries)} are not ascending; sort them, each once")
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
    """The parts of a timestamp or date, in UTC."""

    kind: Literal["time"]
    """A timestamp becomes its parts."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    parts: Annotated[tuple[TimePart, ...], Field(min_length=1)]
    """Which parts; each becomes a feature named `NAME_PART`. `week` is the week of ISO 8601, `weekday` starts on
    Monday, `is_weekend` is 1 on Saturdays and Sundays, and `days` is the number of days since 1970-01-01, with
    fractions."""
    encoding: Literal["cyclic", "category", "number"] = "cyclic"
    """`cyclic`: the sine and cosine of the part's position in its cycle (two float32 features);
    `category`: an int32 id, where 0 is missing; `number`: one float32, scaled, where the median replaces a missing
    value."""
    scale: Scale = "standard"
    """For numbers: as for a numeric feature."""
    group: Identifier | None = None
    """The tensor. Default: `categorical` for categories, else `dense`."""

    def groups(self, name: str) -> dict[str, str]:
        """Return the groups that the feature of this name belongs to, and the content kind of each."""
        category = self.encoding == "category"
        return {self.group or ("categorical" if category else "dense"): "ids" if category else "numbers"}

    def columns(self, name: str) -> tuple[str, ...]:
        """Return the names of its columns in the group."""
        names = [f"{name}_{part}" for part in self.parts]
        waves = ("_sin", "_cos") if self.encoding == "cyclic" else ("",)
        return tuple(f"{part}{wave}" for part in names for wave in waves)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.parts)) != len(self.parts):
            raise ValueError(f"a part is named twice in {list(self.parts)}; name each once")
        unsuitable = {"cyclic": _WITHOUT_CYCLE, "category": _UNBOUNDED, "number": set[str]()}[self.encoding]
        for part in self.parts:
            if part in unsuitable:
                why = "has no cycle" if self.encoding == "cyclic" else "has no fixed set of values"
                raise ValueError(f"{part} {why}, so it cannot be {self.encoding}; use `encoding: number`")
        if self.encoding != "number" and non_default_fields(self, "scale"):
            raise ValueError(f"scale has no effect on `encoding: {self.encoding}`; remove it")
        return self


class Tensor(Spec):
    """Numbers of a fixed shape, copied unchanged."""

    kind: Literal["tensor"]
    """An array of a fixed shape becomes its own tensor."""
    column: str | None = None
    """The raw column: arrays of numbers (also nested ones), or bytes that hold the values in C order and little
    endian. Default: the feature's own name."""
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    """The shape of one row's values."""
    dtype: Literal["float32", "float64", "int8", "int16", "int32", "int64", "uint8"] = "float32"
    """The type of a value. A number that it cannot represent is an error."""
    group: Identifier | None = None
    """The tensor. Default: the feature's own name."""

    def groups(self, name: str) -> dict[str, str]:
        """Return the groups that the feature of this name makes, and the content kind of each."""
        return {self.group or name: "tensor"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        count = math.prod(self.shape)
        if count > _MAX_VALUES_PER_ROW:
            raise ValueError(f"shape {list(self.shape)} has {count:,} values; at most {_MAX_VALUES_PER_ROW:,}")
        return self


class Text(Spec):
    """Text, split into tokens by a tokenizer that is trained on the training split.

    Id 0 is padding, id 1 an unknown token, id 2 the end of a text, followed by `special_tokens`.
    """

    kind: Literal["text"]
    """A text becomes int32 token ids."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    mode: Literal["pad", "pack"] = "pad"
    """`pad`: one window for each text, and a second tensor `GROUP_mask` that is 1 where there is a token and 0 where
    there is padding. `pack`: for language models, the texts of a shard are concatenated, each followed by an
    end-of-text token, and cut into windows, of which only a shard's last one is padded; it must be the only feature,
    without a label, and the rows of the dataset are windows."""
    length: Annotated[int, Field(ge=1, le=2**20)]
    """The number of tokens of a window."""
    truncate: Literal["end", "start", "error"] = "end"
    """Which end of a text that is longer than its window is cut off; `error`: such a text is an error."""
    tokenizer: Literal["bpe", "wordpiece", "words", "whitespace"] = "bpe"
    """`bpe`: pieces of words down to single bytes, so nothing is unknown (as in GPT-2); `wordpiece`: pieces of words
    (as in BERT); `words`: whole words, and the punctuation between them; `whitespace`: everything between
    whitespace."""
    vocab_size: Annotated[int, Field(ge=8, le=1_000_000)] = 8000
    """The maximum number of tokens."""
    min_count: Annotated[int, Field(ge=1)] = 2
    """How often words, or pairs of pieces that could be joined, must occur in the training split to become a token."""
    special_tokens: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts such as `<sep>` that are always one token, wherever they occur."""
    unicode: Literal["nfc", "nfkc", "none"] = "nfc"
    """The Unicode normalization form of texts; `nfkc` also unifies characters with the same meaning."""
    lower: bool = False
    """Convert all letters to lower case."""
    strip_accents: bool = False
    """Remove accents from letters."""
    group: Identifier | None = None
    """The tensor. Default: the feature's own name."""

    def groups(self, name: str) -> dict[str, str]:
        """Return the groups that the feature of this name makes, and the content kind of each."""
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
                raise ValueError(f"the special token {token!r} contains whitespace; remove it")
        least = 3 + len(self.special_tokens) + (256 if self.tokenizer == "bpe" else 1)
        if self.vocab_size < least:
            raise ValueError(f"vocab_size {self.vocab_size}: {self.tokenizer} needs at least {least}")
        return self


class Image(Spec):
    """An image, decoded and resized to one size."""

    kind: Literal["image"]
    """The bytes of an image file become a tensor of pixels: uint8 `[height, width, channels]`."""
    column: str | None = None
    """The raw column, of bytes: PNG, JPEG, WebP, GIF (its first frame), TIFF, BMP or PPM; or of pixels, see `pixels`.
    Default: the feature's own name."""
    pixels: Literal["encoded", "hwc", "chw"] = "encoded"
    """`encoded`: the column holds image files. `hwc`, `chw`: it holds the pixels themselves, from 0 to 255, as bytes or
    an array, already of this size: row by row, with the channels of a pixel next to each other, or (`chw`, as
    CIFAR-10) channel by channel."""
    size: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]]
    """The height and the width, in pixels."""
    mode: Literal["rgb", "gray"] = "rgb"
    """Three channels, or one. Transparent pixels become white."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How an image with another aspect ratio is resized: `crop` fills the size and cuts off the rest, evenly on both
    sides; `pad` shows the whole image between black bars; `stretch` changes the aspect ratio."""
    missing: Literal["error", "blank"] = "error"
    """How a row without an image is handled: an error, or a black image."""
    max_pixels: Annotated[int, Field(ge=1, le=89_000_000)] = 50_000_000
    """An image with more pixels is an error: a small file may decompress to an image that exhausts the memory."""
    group: Identifier | None = None
    """The tensor. Default: the feature's own name."""

    def groups(self, name: str) -> dict[str, str]:
        """Return the groups that the feature of this name makes, and the content kind of each."""
        return {self.group or name: "image"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        without_effect = non_default_fields(self, "fit", "missing", "max_pixels")
        if self.pixels != "encoded" and without_effect:
            raise ValueError(f"{', '.join(without_effect)} have no effect on `pixels: {self.pixels}`; remove them")
        return self


Feature = Annotated[Numeric | Categorical | Bucket | Time | Text | Image | Tensor, Field(discriminator="kind")]
"""One declared feature."""


class Label(Spec):
    """The column that the model learns to predict. A missing label is an error: filter such rows out in the query."""

    column: str
    """The raw column."""
    kind: Literal["auto", "binary", "multiclass", "regression"] = "auto"
    """Two classes, several classes, or a number. `auto` guesses it from the files: two values, few whole numbers or
    texts, or other numbers."""
    positive: str | bool | int | None = None
    """Binary: the value whose probability is predicted. Default: the greater one (`true`, `1`)."""
    transform: Literal["none", "log"] = "none"
    """Regression: `log` learns `log(1 + y)`, for numbers of several magnitudes such as prices; a negative label is an
    error. Predictions and metrics are in the column's own units."""
    scale: Literal["standard", "none"] = "standard"
    """Regression: `standard` learns the label minus its mean, divided by its standard deviation (of the training split,
    after `transform`). Your own loss receives scaled outputs and labels; predictions and metrics are in the column's
    own units, and so is what your own metrics receive. `none`: the number itself, as float32."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        without_effect = non_default_fields(self, "transform", "scale")
        if without_effect and self.kind not in ("auto", "regression"):
            raise ValueError(f"{' and '.join(without_effect)}: only for `kind: regression`; remove it")
        if self.positive is not None and self.kind not in ("auto", "binary"):
            raise ValueError(f"positive has no effect on a {self.kind} label; remove it")
        return self
