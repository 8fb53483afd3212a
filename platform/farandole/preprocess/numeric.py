"""Numbers: impute, clip, log, scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.preprocess.summary import MAX_COUNTED, Summary
from farandole.preprocess.transform import ROUNDED, VALUES, ColumnsTransform, Measurements
from farandole.preprocess.values import as_numbers, nearest_value, rounded_integers, without_rounding
from farandole.spec import Numeric

_SMOOTH_LIMIT = 3.0
"""`robust_smooth`: the number that scaled outliers approach (RealMLP, arXiv 2407.04491, section 3)."""


_KEPT = 0.99
"""Share of the distinct values that may be expected: of many measured values, some are equal once they are rounded."""


@dataclass(frozen=True)
class NumericTransform(ColumnsTransform):
    """One number as one float32 (and an indicator of missing values as a second one).

    It is learned in two passes: `fill`, `lower` and `upper` from the raw values, then `offset` and `factor` from the
    imputed, clipped and logged values. For a column with few distinct values, one pass is enough for both.
    """

    spec: Numeric
    fill: float | None = None
    lower: float | None = None
    upper: float | None = None
    offset: float = 0.0
    factor: float | None = None
    first_pass_done: bool = False
    shift: float = 0.0
    """A value in the middle, which the second pass subtracts before it summarises."""

    SPEC = Numeric
    LEARNED = ("fill", "lower", "upper", "offset", "factor")

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""
        return self.spec.columns(self.name)

    @property
    def fitted(self) -> bool:
        """True once nothing is left to learn."""
        return self.factor is not None

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return the numbers that this pass must summarise."""
        numbers = as_numbers(self.column, values)
        if self.first_pass_done:
            return {VALUES: self._before_scale(numbers) - self.shift}
        rounded = rounded_integers(values)
        return {VALUES: numbers} if rounded is None else {VALUES: numbers, ROUNDED: rounded}

    def learn(self, measurements: Measurements) -> NumericTransform:
        """Return the transform with the results of the pass.

        Raises:
            DataError: The training split has no usable value, or infinite ones.
        """
        summary = measurements.get(VALUES, Summary())
        assert isinstance(summary, Summary)
        return self._learn_scale(summary) if self.first_pass_done else self._learn_raw(summary)

    def _learn_raw(self, summary: Summary) -> NumericTransform:
        self._check(summary)
        clip, fill = self.spec.clip, self.spec.impute
        lower, upper = (clip.lower, clip.upper) if clip else (None, None)
        if clip and clip.by == "quantile":
            lower = None if lower is None else summary.quantile(lower)
            upper = None if upper is None else summary.quantile(upper)
        if isinstance(fill, str):
            fill = summary.quantile(0.5) if fill == "median" else summary.mean
        learned = replace(self, fill=fill, lower=lower, upper=upper, first_pass_done=True)
        if self.spec.scale == "none":
            return replace(learned, factor=1.0)
        # If each distinct value was counted, a second pass would add no information.
        scaled = summary.mapped(learned._before_scale)
        if scaled is not None:
            return learned._learn_scale(scaled)
        # Quantiles are exact to a share of their value: those of seconds since 1970 would be days off.
        return replace(learned, shift=float(learned._before_scale(np.array([summary.mean]))[0]))

    def _learn_scale(self, summary: Summary) -> NumericTransform:
        offset, width = _center_and_width(self.spec.scale, summary)
        # A constant column becomes 0 everywhere. Its deviation may be a rounding error above 0.
        constant = summary.minimum == summary.maximum or width <= 0
        return replace(self, offset=self.shift + offset, factor=0.0 if constant else 1.0 / width)

    def _check(self, summary: Summary) -> None:
        if summary.infinite:
            raise DataError(
                f"{self.origin}: {summary.infinite} of {summary.rows} training rows hold an infinite number (or one"
                " beyond 1e150); make it missing or finite in the query"
            )
        if self.spec.impute is None and summary.missing:
            raise DataError(
                f"{self.origin}: {summary.missing} of {summary.rows} training rows have no value and `impute` is null;"
                " choose median, mean or a number, or filter the rows out in the query"
            )
        if not summary.present:
            raise DataError(f"{self.origin}: no training row has a value; remove the feature, or fix the query")

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return float32 `[rows, features]`.

        Raises:
            DataError: A value is infinite, or missing although `impute` is null.
        """
        numbers = as_numbers(self.column, values)
        with np.errstate(over="ignore"):  # reported below
            scaled = self._scale(self._before_scale(numbers)).astype(np.float32)
        if not np.isfinite(scaled).all():
            bad = numbers[~np.isfinite(scaled)]
            raise DataError(
                f"{self.origin}: {len(bad)} values such as {bad[0]:g} cannot become a"
                " finite number; set `impute`, or fix them in the query"
            )
        columns = [scaled]
        if self.spec.indicator:
            columns.append(np.isnan(numbers).astype(np.float32))
        return np.stack(columns, axis=1)

    def _scale(self, numbers: np.ndarray) -> np.ndarray:
        assert self.factor is not None, f"{self.name} is not fitted"
        scaled: np.ndarray = (numbers - self.offset) * self.factor
        if self.spec.scale == "robust_smooth":
            with np.errstate(invalid="ignore"):  # an infinite number becomes NaN, which is reported as such
                scaled = scaled / np.hypot(1, scaled / _SMOOTH_LIMIT)
        return scaled

    def _before_scale(self, numbers: np.ndarray) -> np.ndarray:
        if self.fill is not None:
            numbers = np.where(np.isnan(numbers), self.fill, numbers)
        if self.lower is not None or self.upper is not None:
            numbers = np.clip(numbers, self.lower, self.upper)
        if self.spec.log:
            numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
        return numbers

    def find_loss(self, summary: Summary) -> str | None:
        """Describe how many distinct values are lost because features are float32; returns None if hardly any are.

        Values without a scale are wanted as they are: there every lost value counts, otherwise more than 1%.

        Args:
            summary: The summary of the raw values of the training rows.
        """
        if summary.counted is None or self.factor == 0 or not summary.counted:
            return self._find_certain_loss(summary)
        before = self._before_scale(without_rounding(np.array(list(summary.counted))))
        distinct, left = len(np.unique(before)), len(np.unique(self._scale(before).astype(np.float32)))
        if left >= distinct * (1.0 if self.spec.scale == "none" else _KEPT):
            return None
        return self._describe_loss(f"{distinct:,}", f"{left:,}")

    def _find_certain_loss(self, summary: Summary) -> str | None:
        """Compare the number of values that are not counted with the number of float32 between the extremes."""
        if summary.counted is not None or self.factor == 0:
            return None
        ends = self._scale(self._before_scale(np.array([summary.minimum, summary.maximum]))).astype(np.float32)
        bits = ends.view(np.int32).astype(np.int64)
        low, high = np.where(bits < 0, -(2**31) - bits, bits)
        room = int(high - low) + 1
        return self._describe_loss(f"more than {MAX_COUNTED:,}", f"at most {room:,}") if room <= MAX_COUNTED else None

    def _describe_loss(self, distinct: str, left: str) -> str:
        remedy = "remove `scale: none`" if self.spec.scale == "none" else "use `scale: robust` or `log: true`"
        return (
            f"{self.origin}: {distinct} distinct values of the training rows become {left} as float32; {remedy},"
            " subtract a constant in the query, or use `kind: categorical` if they are codes"
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NumericTransform:
        """Restore a fitted transform from the result of `to_dict`."""
        return replace(super().from_dict(data), first_pass_done=True)

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return the fill value, as closely as the column's type can represent it."""
        return nearest_value(self.fill if self.fill is not None else 0.0, raw_type)


def _center_and_width(scale: str, summary: Summary) -> tuple[float, float]:
    """Return the value that is scaled to 0, and the distance that is scaled to 1."""
    if scale == "minmax":
        return summary.minimum, summary.maximum - summary.minimum
    if scale == "robust_smooth":
        width = summary.quantile(0.75) - summary.quantile(0.25)
        span = summary.maximum - summary.minimum
        return summary.quantile(0.5), width if width > 1e-12 * summary.deviation else span / 2
    if scale == "robust":
        width, deviation = summary.quantile(0.75) - summary.quantile(0.25), summary.deviation
        # If half of the values are (nearly) equal, dividing by their range would overflow float32 for the others.
        return summary.quantile(0.5), width if width > 1e-12 * deviation else deviation
    return summary.mean, summary.deviation
