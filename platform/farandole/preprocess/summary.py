"""What a column looks like: counts, exact moments and quantiles, whatever the order in which rows come.

Floating-point sums depend on their order, and Spark fixes none. So sums are kept exactly, as integers scaled by
powers of two, and quantiles come from counts of logarithmic buckets: merging is integer addition, and the result
is the same bit for bit for any number of partitions.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from farandole.preprocess.histogram import histogram

BUCKET_BITS = 12
"""Mantissa bits that name a bucket: quantiles are right to a relative error of 2**-12 (0.024%), and whole numbers
up to 4096 exactly."""
LARGEST = 1e150
"""Beyond it a number counts as infinite: its square would be, or nearly."""
_DROPPED = 52 - BUCKET_BITS
_SPLITTER = float(2**27 + 1)


@dataclass
class Summary:
    """The running summary of one column of float64 values; NaN stands for missing.

    Quantiles follow DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019, section 2.1) with buckets that are read off
    the number's own bits.
    """

    rows: int = 0
    missing: int = 0
    infinite: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: Fraction = Fraction(0)
    total_of_squares: Fraction = Fraction(0)
    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, values: np.ndarray) -> None:
        """Take in rows.

        Args:
            values: float64 `[rows]`, NaN where missing.
        """
        self.rows += len(values)
        present = values[~np.isnan(values)]
        self.missing += len(values) - len(present)
        finite = present[np.abs(present) <= LARGEST]
        self.infinite += len(present) - len(finite)
        if not len(finite):
            return
        self.minimum = min(self.minimum, float(finite.min()))
        self.maximum = max(self.maximum, float(finite.max()))
        self.total += exact_sum(finite)
        high, low = _exact_squares(finite)
        self.total_of_squares += exact_sum(high) + exact_sum(low)
        buckets, counts = np.unique(_bucket(finite), return_counts=True)
        self.buckets.update(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: Summary) -> None:
        """Take in what another summary saw. The order of merging does not change the result."""
        self.rows += other.rows
        self.missing += other.missing
        self.infinite += other.infinite
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.total += other.total
        self.total_of_squares += other.total_of_squares
        self.buckets.update(other.buckets)

    @property
    def present(self) -> int:
        """Rows with a finite value."""
        return self.rows - self.missing - self.infinite

    @property
    def mean(self) -> float:
        """The mean of the present values; 0 where there is none."""
        return float(self.total / self.present) if self.present else 0.0

    @property
    def deviation(self) -> float:
        """The population standard deviation of the present values; 0 where there is none."""
        if not self.present:
            return 0.0
        variance = self.total_of_squares / self.present - (self.total / self.present) ** 2
        return math.sqrt(max(float(variance), 0.0))

    def quantile(self, share: float) -> float:
        """The value below which `share` of the present values lie, to the width of a bucket."""
        if not self.present:
            return 0.0
        wanted = min(math.floor(share * self.present), self.present - 1)
        values, counts = self._distribution()
        return float(values[np.searchsorted(np.cumsum(counts), wanted, side="right")])

    def _distribution(self) -> tuple[np.ndarray, np.ndarray]:
        """The middle of each bucket, rising, and how many values it holds."""
        buckets = np.array(sorted(self.buckets), dtype=np.int64)
        counts = np.array([self.buckets[bucket] for bucket in buckets.tolist()], dtype=np.int64)
        return np.clip(_bucket_values(buckets), self.minimum, self.maximum), counts

    def to_dict(self) -> dict[str, Any]:
        """The statistics that go into the manifest; the histogram reaches from the first percentile to the 99th."""
        numbers: dict[str, Any] = {"rows": self.rows, "missing": self.missing}
        if self.present:
            numbers |= {
                "min": self.minimum,
                "max": self.maximum,
                "mean": self.mean,
                "deviation": self.deviation,
            }
            numbers |= {f"p{percent:02d}": self.quantile(percent / 100) for percent in (1, 25, 50, 75, 99)}
            numbers["histogram"] = histogram(*self._distribution(), numbers["p01"], numbers["p99"])
        return numbers


def exact_sum(values: np.ndarray) -> Fraction:
    """The sum of finite float64 values without any rounding.

    Each value is m * 2**e with an integer m of 53 bits. Values of one exponent are added as integers, in two halves
    of the mantissa: sums of 2**26 halves stay below 2**53, and so float64 holds them exactly.
    """
    if len(values) > 2**26:
        return exact_sum(values[: 2**26]) + exact_sum(values[2**26 :])
    if not len(values):
        return Fraction(0)
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64)
    lowest = int(exponents.min())
    places = exponents - lowest
    uppers, lowers = np.bincount(places, weights=whole >> 27), np.bincount(places, weights=whole & (2**27 - 1))
    total = 0
    for place in np.flatnonzero((uppers != 0) | (lowers != 0)).tolist():
        total += ((int(uppers[place]) << 27) + int(lowers[place])) << place
    return total * Fraction(2) ** (lowest - 53)


def _exact_squares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x*x as an unevaluated sum of two float64 (Dekker: "A floating-point technique …", 1971, section 5)."""
    square = values * values
    scaled = values * _SPLITTER
    high = scaled - (scaled - values)
    low = values - high
    return square, ((high * high - square) + 2.0 * high * low) + low * low


def _bucket(values: np.ndarray) -> np.ndarray:
    """The bucket of each value: its leading bits, as an integer that orders like the value."""
    bits = (values + 0.0).view(np.int64) >> _DROPPED
    return np.where(bits < 0, np.int64(-(2 ** (63 - _DROPPED))) - 1 - bits, bits)


def _bucket_values(buckets: np.ndarray) -> np.ndarray:
    """The middle of each bucket; a whole number stays itself."""
    bits = np.where(buckets < 0, -(2 ** (63 - _DROPPED)) - 1 - buckets, buckets)
    edges = (bits << _DROPPED).view(np.float64)
    middles = ((bits << _DROPPED) + (1 << (_DROPPED - 1))).view(np.float64)
    whole = (edges == np.floor(edges)) & (np.abs(edges) <= 2**BUCKET_BITS)
    return np.where(whole, edges, middles)
