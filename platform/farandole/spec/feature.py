"""How a raw column becomes numbers that a model can read. Fitted on the training split only."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from farandole.spec.base import Spec, changed

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""A name that is also a Python identifier: models receive feature groups as keyword arguments."""
ONLY_NAMES: dict[str, JsonValue] = {"additionalProperties": False}
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
    scale: Literal["standard", "minmax", "none"] = "standard"
    """`standard`: mean 0 and deviation 1; `minmax`: 0 to 1, both measured on the training split."""
    group: Name = "dense"
    """The tensor that this feature becomes a column of."""


class Categorical(Spec):
    """A value out of a set: becomes one int32 id, for an embedding. Id 0 is unknown, id 1 is missing."""

    kind: Literal["categorical"]
    """A value becomes one int32 id."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    encoding: Literal["vocabulary", "hash"] = "vocabulary"
    """`vocabulary`: the values of the training split, the most frequent first; `hash`: a fixed number of buckets."""
    min_count: Annotated[int, Field(ge=1)] = 1
    """Vocabulary: values seen fewer times in the training split are unknown."""
    max_size: Annotated[int, Field(ge=1)] = 100_000
    """Vocabulary: the most values it keeps."""
    buckets: Annotated[int, Field(ge=1, le=2**30)] | None = None
    """Hash: the number of buckets."""
    group: Name = "categorical"
    """The tensor that this feature becomes a column of."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.encoding == "hash" and self.buckets is None:
            raise ValueError("encoding hash needs `buckets`, for example 1024")
        if self.encoding == "vocabulary" and self.buckets is not None:
            raise ValueError("buckets has no effect on a vocabulary; use `encoding: hash`, or remove it")
        if self.encoding == "hash" and changed(self, "min_count", "max_size"):
            raise ValueError("min_count and max_size have no effect on `encoding: hash`; remove them")
        return self


Part = Literal["month", "day", "day_of_year", "weekday", "hour", "minute"]


class Time(Spec):
    """A timestamp or date, in UTC, taken apart."""

    kind: Literal["time"]
    """A timestamp becomes its parts."""
    column: str | None = None
    """The raw column. Default: the feature's own name."""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    """Which parts; each is a feature named `NAME_PART`."""
    encoding: Literal["cyclic", "category"] = "cyclic"
    """`cyclic`: the sine and cosine of the part's place in its cycle (two float32 features);
    `category`: an int32 id, where 0 is missing."""
    group: Name | None = None
    """The tensor. Default: `dense` for cyclic parts, `categorical` for categories."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.parts)) != len(self.parts):
            raise ValueError(f"a part is named twice in {list(self.parts)}; name each once")
        return self


Feature = Annotated[Numeric | Categorical | Time, Field(discriminator="kind")]
"""One declared feature."""


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
