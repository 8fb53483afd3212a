"""The `data.expect` part of a job file: what must be true of the rows, checked before they become features."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from farandole.spec.base import Spec

Bound = bool | int | float | str
"""A number, a text, or a date or timestamp as text."""


class _Expectation(Spec):
    on_failure: Literal["fail", "warn"] = "fail"
    """`fail`: the preparation stops; `warn`: it says so and goes on."""


class _OfRows(_Expectation):
    max_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of all rows that may break the rule."""


class Range(_OfRows):
    """Values lie between two bounds. Missing values are not judged."""

    kind: Literal["range"]
    """Values lie between two bounds."""
    column: str
    """The column."""
    min: Bound | None = None
    """The least value that is right."""
    max: Bound | None = None
    """The greatest value that is right."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("neither min nor max is set; set one of them")
        return self


class Allowed(_OfRows):
    """Values are out of a list. Missing values are not judged."""

    kind: Literal["allowed"]
    """Values are out of a list."""
    column: str
    """The column."""
    values: Annotated[tuple[Bound, ...], Field(min_length=1)]
    """All values that are right."""


class Pattern(_OfRows):
    """Whole values match a regular expression. Missing values are not judged."""

    kind: Literal["pattern"]
    """Whole values match a regular expression."""
    column: str
    """The column, read as text."""
    regex: str
    """A regular expression in Java's syntax, as Spark has it."""


class Nulls(_OfRows):
    """Few values are missing."""

    kind: Literal["nulls"]
    """At most `max_share` of the values are missing; by default none."""
    column: str
    """The column."""


class Condition(_OfRows):
    """A boolean expression over the columns of a row holds. Where it is null, nothing is judged."""

    kind: Literal["condition"]
    """A Spark SQL expression holds, for example `start <= finish`."""
    sql: str
    """The expression."""


class Unique(_OfRows):
    """No two rows agree in the columns. Rows in which one of them is missing are not judged."""

    kind: Literal["unique"]
    """No two rows agree in the columns."""
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """One or several columns."""


class Rows(_Expectation):
    """There are not too few and not too many rows."""

    kind: Literal["rows"]
    """The number of rows lies between two bounds."""
    min: Annotated[int, Field(ge=0)] | None = None
    """The least number of rows."""
    max: Annotated[int, Field(ge=0)] | None = None
    """The greatest number of rows."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("neither min nor max is set; set one of them")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


Expectation = Annotated[Range | Allowed | Pattern | Nulls | Condition | Unique | Rows, Field(discriminator="kind")]
"""One thing that must be true of the rows."""
