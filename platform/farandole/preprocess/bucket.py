"""Numbers as intervals, with boundaries that are declared or measured on the training split."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.preprocess.summary import Summary
from farandole.preprocess.transform import VALUES, ColumnsTransform, Measurements, onehot
from farandole.preprocess.values import as_numbers, nearest_value
from farandole.spec import Bucket

MISSING, FIRST = 0, 1
"""The id of a missing value, and the id of the lowest interval."""


@dataclass(frozen=True)
class BucketTransform(ColumnsTransform):
    """One number as one int32 id, or as a float32 column for each interval and one for missing values.

    Interval k reaches from boundary k-1 (inclusive) to boundary k (exclusive); the first and the last interval are
    unbounded, so they contain infinite numbers.
    """

    spec: Bucket
    boundaries: tuple[float, ...] | None = None

    SPEC = Bucket
    LEARNED = ("boundaries",)

    @property
    def num_intervals(self) -> int:
        """The number of intervals."""
        return 1 + len(self.boundaries or ())

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its columns in the group: `x<1.5`, `1.5<=x<2`, `x>=2`, `x_missing`."""
        if self.spec.encoding == "category":
            return (self.name,)
        assert self.boundaries, f"{self.name} is not fitted"
        edges = [repr(boundary).removesuffix(".0") for boundary in self.boundaries]
        between = [f"{low}<={self.name}<{high}" for low, high in itertools.pairwise(edges)]
        return (f"{self.name}<{edges[0]}", *between, f"{self.name}>={edges[-1]}", f"{self.name}_missing")

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """The number of ids."""
        return (FIRST + self.num_intervals,) if self.spec.encoding == "category" else ()

    @property
    def fitted(self) -> bool:
        """True once nothing is left to learn."""
        return self.boundaries is not None

    def observe(self, values: pa.Array) -> dict[str, np.ndarray | pa.Array]:
        """Return the numbers to summarise."""
        return {VALUES: as_numbers(self.column, values)}

    def learn(self, measurements: Measurements) -> BucketTransform:
        """Return the transform with the declared boundaries, or with distinct quantiles.

        Raises:
            DataError: The training split has fewer than two distinct values.
        """
        if self.spec.boundaries is not None:
            return replace(self, boundaries=self.spec.boundaries)
        summary = measurements.get(VALUES, Summary())
        assert isinstance(summary, Summary)
        if summary.minimum >= summary.maximum:
            what = f"all training rows hold {summary.minimum:g}" if summary.present else "no training row has a value"
            raise DataError(f"{self.origin}: {what}, so there is only one interval; set `boundaries`, or remove it")
        shares = [number / self.spec.quantiles for number in range(1, self.spec.quantiles)]
        found = sorted({summary.quantile(share) for share in shares} - {summary.minimum})
        # If nearly all rows hold the minimum, one boundary separates it from all other values.
        return replace(self, boundaries=tuple(found) or (math.nextafter(summary.minimum, math.inf),))

    def apply(self, values: pa.Array) -> np.ndarray:
        """Return int32 `[rows, 1]`, or float32 `[rows, intervals + 1]`."""
        assert self.boundaries is not None, f"{self.name} is not fitted"
        numbers = as_numbers(self.column, values)
        intervals = FIRST + np.searchsorted(np.array(self.boundaries), numbers, side="right")
        ids = np.where(np.isnan(numbers), MISSING, intervals).astype(np.int32)
        if self.spec.encoding == "onehot":
            return onehot(ids, FIRST, MISSING, self.num_intervals)
        return ids.reshape(-1, 1)

    def typical(self, raw_type: pa.DataType) -> Any:
        """Return the middle boundary, as closely as the column's type can represent it."""
        boundaries = self.boundaries or (0.0,)
        return nearest_value(boundaries[len(boundaries) // 2], raw_type)
