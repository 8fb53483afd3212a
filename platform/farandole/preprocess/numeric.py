"""Numbers: impute, clip, log, scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.preprocess.summary import Summary
from farandole.preprocess.values import as_numbers
from farandole.spec import Numeric


@dataclass(frozen=True)
class NumericTransform:
    """One number as one float32 (and its indicator of a missing value as a second).

    What is `None` below is learned in two passes: first what the raw values tell (`fill`, `lower`, `upper`), then
    what the imputed, clipped and logged values tell (`offset`, `factor`).
    """

    name: str
    column: str
    spec: Numeric
    fill: float | None = None
    lower: float | None = None
    upper: float | None = None
    knows_raw: bool = False
    offset: float = 0.0
    factor: float | None = None

    @property
    def group(self) -> str:
        """The group that it belongs to."""
        return self.spec.group

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group."""
        return (self.name, f"{self.name}_missing") if self.spec.indicator else (self.name,)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Numbers have none."""
        return ()

    @property
    def fitted(self) -> bool:
        """Whether nothing is left to learn."""
        return self.factor is not None

    def observe(self, values: pa.Array) -> np.ndarray:
        """What this pass must summarise: float64 `[rows]`."""
        numbers = as_numbers(self.column, values)
        return self._before_scale(numbers) if self.knows_raw else numbers

    def learn(self, summary: Summary) -> NumericTransform:
        """The transform with what the pass told.

        Raises:
            DataError: The training split holds no usable value, or infinite ones.
        """
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
        return replace(learned, factor=1.0) if self.spec.scale == "none" else learned

    def _learn_scale(self, summary: Summary) -> NumericTransform:
        if self.spec.scale == "standard":
            offset, width = summary.mean, summary.deviation
        else:
            offset, width = summary.minimum, summary.maximum - summary.minimum
        # A constant column becomes 0 everywhere. Its deviation may be a rounding error above 0.
        constant = width <= 1e-12 * max(abs(offset), 1e-300)
        return replace(self, offset=offset, factor=0.0 if constant else 1.0 / width)

    def _check(self, summary: Summary) -> None:
        place = f"features.{self.name}: column {self.column}"
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
        scaled = ((self._before_scale(numbers) - self.offset) * self.factor).astype(np.float32)
        if not np.isfinite(scaled).all():
            bad = numbers[~np.isfinite(scaled)]
            raise DataError(
                f"features.{self.name}: column {self.column}: {len(bad)} values such as {bad[0]} cannot become a"
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

    def to_dict(self) -> dict[str, Any]:
        """As data, for the manifest."""
        learned = {key: getattr(self, key) for key in ("fill", "lower", "upper", "offset", "factor")}
        return {
            "name": self.name,
            "column": self.column,
            "spec": self.spec.model_dump(mode="json"),
            **learned,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NumericTransform:
        """What `to_dict` was made of."""
        return cls(**{**data, "spec": Numeric.model_validate(data["spec"])}, knows_raw=True)
