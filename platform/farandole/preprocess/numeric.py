"""Numbers: impute, clip, log, scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.preprocess.summary import Summary
from farandole.preprocess.transform import VALUES, ColumnsTransform, Measurements
from farandole.preprocess.values import as_numbers
from farandole.spec import Numeric


@dataclass(frozen=True)
class NumericTransform(ColumnsTransform):
    """One number as one float32 (and its indicator of a missing value as a second).

    It is learned in two passes: first what the raw values tell (`fill`, `lower`, `upper`), then what the imputed,
    clipped and logged values tell (`offset`, `factor`). Of a column with few distinct values the first pass tells both.
    """

    spec: Numeric
    fill: float | None = None
    lower: float | None = None
    upper: float | None = None
    offset: float = 0.0
    factor: float | None = None
    knows_raw: bool = False

    SPEC = Numeric
    LEARNED = ("fill", "lower", "upper", "offset", "factor")

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""
        return (self.name, f"{self.name}_missing") if self.spec.indicator else (self.name,)

    @property
    def fitted(self) -> bool:
        """Whether nothing is left to learn."""
        return self.factor is not None

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """The numbers as this pass must summarise them."""
        numbers = as_numbers(self.column, values)
        return {VALUES: self._before_scale(numbers) if self.knows_raw else numbers}

    def learn(self, seen: Measurements) -> NumericTransform:
        """The transform with what the pass told.

        Raises:
            DataError: The training split holds no usable value, or infinite ones.
        """
        summary = seen.get(VALUES, Summary())
        assert isinstance(summary, Summary)
        return self._learn_scale(summary) if self.knows_raw else self._learn_raw(summary)

    def _learn_raw(self, summary: Summary) -> NumericTransform:
        self._check(summary)
        clip, fill = self.spec.clip, self.spec.impute
        lower, upper = (clip.lower, clip.upper) if clip else (None, None)
        if clip and clip.by == "quantile":
            lower = None if lower is None else summary.quantile(lower)
            upper = None if upper is None else summary.quantile(upper)
        if isinstance(fill, str):
            fill = summary.quantile(0.5) if fill == "median" else summary.mean
        learned = replace(self, fill=fill, lower=lower, upper=upper, knows_raw=True)
        if self.spec.scale == "none":
            return replace(learned, factor=1.0)
        # Where each value was counted, a pass over the imputed, clipped and logged values would tell nothing new.
        scaled = summary.mapped(learned._before_scale)
        return learned if scaled is None else learned._learn_scale(scaled)

    def _learn_scale(self, summary: Summary) -> NumericTransform:
        offset, width = _middle_and_width(self.spec.scale, summary)
        # A constant column becomes 0 everywhere. Its deviation may be a rounding error above 0.
        constant = width <= 1e-12 * max(abs(offset), 1e-300)
        return replace(self, offset=offset, factor=0.0 if constant else 1.0 / width)

    def _check(self, summary: Summary) -> None:
        place = self.place
        if summary.infinite:
            raise DataError(
                f"{place}: {summary.infinite} of {summary.rows} training rows hold an infinite number (or one beyond"
                " 1e150); make it missing or finite in the query"
            )
        if self.spec.impute is None and summary.missing:
            raise DataError(
                f"{place}: {summary.missing} of {summary.rows} training rows have no value and `impute` is null;"
                " choose median, mean or a number, or filter the rows out in the query"
            )
        if not summary.present:
            raise DataError(f"{place}: no training row has a value; remove the feature, or mend the query")

    def apply(self, values: pa.Array) -> np.ndarray:
        """float32 `[rows, features]`.

        Raises:
            DataError: A value is missing and `impute` is null, or infinite.
        """
        assert self.factor is not None, f"{self.name} is not fitted"
        numbers = as_numbers(self.column, values)
        with np.errstate(over="ignore"):  # it is told below
            scaled = ((self._before_scale(numbers) - self.offset) * self.factor).astype(np.float32)
        if not np.isfinite(scaled).all():
            bad = numbers[~np.isfinite(scaled)]
            raise DataError(
                f"{self.place}: {len(bad)} values such as {bad[0]} cannot become a"
                " finite number; set `impute`, or mend them in the query"
            )
        columns = [scaled]
        if self.spec.indicator:
            columns.append(np.isnan(numbers).astype(np.float32))
        return np.stack(columns, axis=1)

    def _before_scale(self, numbers: np.ndarray) -> np.ndarray:
        if self.fill is not None:
            numbers = np.where(np.isnan(numbers), self.fill, numbers)
        if self.lower is not None or self.upper is not None:
            numbers = np.clip(numbers, self.lower, self.upper)
        if self.spec.log:
            numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
        return numbers

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NumericTransform:
        """What `to_dict` was made of."""
        return replace(super().from_dict(data), knows_raw=True)

    def typical(self, kind: pa.DataType) -> Any:
        """What a missing value becomes, as far as the column can hold it."""
        number = self.fill if self.fill is not None else 0.0
        whole = pa.types.is_integer(kind)
        try:
            return pa.array([round(number) if whole else number]).cast(kind)[0].as_py()
        except pa.ArrowInvalid:  # a declared `impute` that the raw column could not hold
            return pa.array([0]).cast(kind)[0].as_py()


def _middle_and_width(scale: str, summary: Summary) -> tuple[float, float]:
    """What becomes 0, and what becomes the distance 1 from it."""
    if scale == "minmax":
        return summary.minimum, summary.maximum - summary.minimum
    if scale == "robust":
        width, deviation = summary.quantile(0.75) - summary.quantile(0.25), summary.deviation
        # Where half of the values are (nearly) one, others would be beyond all float32 when divided by their width.
        return summary.quantile(0.5), width if width > 1e-12 * deviation else deviation
    return summary.mean, summary.deviation
