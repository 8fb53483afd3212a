"""Statistics of a column: counts, exact moments, quantiles and a histogram, independent of the order of rows.

Floating-point sums depend on their order, which Spark does not fix. Therefore sums are kept exactly, as integers scaled
by powers of two, and quantiles come from counts of logarithmic buckets: merging is integer addition, and the result is
bit-identical for any number of partitions. If a column has few distinct values, these are counted instead, which is
faster and gives the same result.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

BUCKET_BITS = 12
"""Mantissa bits that identify a bucket: quantiles have a relative error of at most 2**-12 (0.024%), and integers up to
4096 are exact."""
MAX_FINITE = 1e150
"""Larger numbers count as infinite, because their square (nearly) is."""
MAX_COUNTED = 2**14
"""The number of distinct values up to which the values themselves are counted."""
NUM_BINS = 30
"""The maximum number of bins of a histogram."""
_DROPPED = 52 - BUCKET_BITS
_SPLITTER = float(2**27 + 1)


@dataclass
class _Sums:
    """Exact sums and bucket counts of finite values; merging is addition."""

    total: Fraction = Fraction(0)
    total_of_squares: Fraction = Fraction(0)
    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, values: np.ndarray) -> None:
        """Add float64 `[rows]`."""
        self.total += exact_sum(values)
        high, low = _exact_squares(values)
        self.total_of_squares += exact_sum(high) + exact_sum(low)
        buckets, counts = np.unique(_bucket(values), return_counts=True)
        self.buckets.update(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))

    def add_counted(self, counted: Counter[float]) -> None:
        """Add values with the number of occurrences of each."""
        values = np.array(list(counted), dtype=np.float64)
        counts = list(counted.values())
        self.total += exact_sum(values, counts)
        high, low = _exact_squares(values)
        self.total_of_squares += exact_sum(high, counts) + exact_sum(low, counts)
        for bucket, count in zip(_bucket(values).tolist(), counts, strict=True):
            self.buckets[bucket] += count

    def merge(self, other: _Sums) -> None:
        """Add the sums of other values."""
        self.total += other.total
        self.total_of_squares += other.total_of_squares
        self.buckets.update(other.buckets)


@dataclass
class Summary:
    """Running summary of one column of float64 values; NaN represents a missing value.

    While a column has few distinct values, these are counted; everything else follows from the counts, including the
    summary of any function of the values. Only a column with many distinct values is summed row by row.

    Quantiles follow DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019, section 2.1) with buckets that are read from the
    bits of the number.
    """

    rows: int = 0
    missing: int = 0
    infinite: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    counted: Counter[float] | None = field(default_factory=Counter)
    """The number of occurrences of each finite value; None if there are more than `MAX_COUNTED` distinct ones."""
    _sums: _Sums = field(default_factory=_Sums)
    """Sums of all values, once they are too many to be counted."""
    _sums_of_counted: _Sums | None = field(default=None, compare=False, repr=False)
    """Cached sums of `counted`."""

    def add(self, values: np.ndarray) -> None:
        """Add rows.

        Args:
            values: float64 `[rows]`, NaN where missing.
        """
        self.rows += len(values)
        present = values[~np.isnan(values)]
        self.missing += len(values) - len(present)
        finite = present[np.abs(present) <= MAX_FINITE]
        self.infinite += len(present) - len(finite)
        if not len(finite):
            return
        self.minimum = min(self.minimum, float(finite.min()))
        self.maximum = max(self.maximum, float(finite.max()))
        if self.counted is not None:
            distinct, counts = np.unique(finite + 0.0, return_counts=True)  # -0.0 is 0.0
            if len(distinct) <= MAX_COUNTED:
                self._count(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))
                return
            self._stop_counting()
        self._sums.add(finite)

    def merge(self, other: Summary) -> None:
        """Add the rows of another summary. The order of merging does not change the result."""
        self.rows += other.rows
        self.missing += other.missing
        self.infinite += other.infinite
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        if other.counted is not None:
            self._count(other.counted)
        else:
            self._stop_counting()
            self._sums.merge(other._sums)

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> Summary | None:
        """Return the summary of a function of each value, missing ones included; None if there are too many values.

        Args:
            function: float64 `[values]` to float64 `[values]`, element by element.
        """
        if self.counted is None or self.infinite:
            return None
        counted = {**self.counted, math.nan: self.missing} if self.missing else self.counted
        results = function(np.array(list(counted), dtype=np.float64))
        missing = np.isnan(results)
        finite = np.abs(results) <= MAX_FINITE
        counts = np.array(list(counted.values()), dtype=np.int64)
        summary = Summary(self.rows, int(counts[missing].sum()), int(counts[~missing & ~finite].sum()))
        if finite.any():
            summary.minimum, summary.maximum = float(results[finite].min()), float(results[finite].max())
        grouped: Counter[float] = Counter()
        for result, count in zip((results[finite] + 0.0).tolist(), counts[finite].tolist(), strict=True):
            grouped[result] += count  # several values may have the same result
        summary._count(grouped)
        return summary

    def _count(self, occurrences: Mapping[float, int]) -> None:
        self._sums_of_counted = None
        if self.counted is None:
            self._sums.add_counted(Counter(occurrences))
            return
        self.counted.update(occurrences)
        if len(self.counted) > MAX_COUNTED:
            self._stop_counting()

    def _stop_counting(self) -> None:
        if self.counted is not None:
            self._sums.add_counted(self.counted)
            self.counted = self._sums_of_counted = None

    @property
    def _exact(self) -> _Sums:
        """The sums and buckets of all values."""
        if self.counted is None:
            return self._sums
        if self._sums_of_counted is None:
            self._sums_of_counted = _Sums()
            self._sums_of_counted.add_counted(self.counted)
        return self._sums_of_counted

    @property
    def present(self) -> int:
        """The number of rows with a finite value."""
        return self.rows - self.missing - self.infinite

    @property
    def buckets(self) -> Counter[int]:
        """The number of values in each bucket."""
        return self._exact.buckets

    @property
    def mean(self) -> float:
        """The mean of the present values; 0 if there is none."""
        return float(self._exact.total / self.present) if self.present else 0.0

    @property
    def deviation(self) -> float:
        """The population standard deviation of the present values; 0 if there is none."""
        if not self.present:
            return 0.0
        sums = self._exact
        variance = sums.total_of_squares / self.present - (sums.total / self.present) ** 2
        return math.sqrt(max(float(variance), 0.0))

    def quantile(self, share: float) -> float:
        """Return the value below which the fraction `share` of the present values is, to the width of a bucket."""
        if not self.present:
            return 0.0
        wanted = min(math.floor(share * self.present), self.present - 1)
        values, counts = self._distribution()
        return float(values[np.searchsorted(np.cumsum(counts), wanted, side="right")])

    def _distribution(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct values, ascending, or else the middle of each bucket, and the number of rows of each.

        A bucket is wide where numbers are large: seconds since 1970 share one for five days.
        """
        if self.counted is not None:
            distinct = sorted(self.counted)
            return np.array(distinct), np.array([self.counted[value] for value in distinct], dtype=np.int64)
        found = self.buckets
        buckets = np.array(sorted(found), dtype=np.int64)
        counts = np.array([found[bucket] for bucket in buckets.tolist()], dtype=np.int64)
        return np.clip(_bucket_values(buckets), self.minimum, self.maximum), counts

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics for the manifest; the histogram covers the first to the 99th percentile."""
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


def exact_sum(values: np.ndarray, counts: Sequence[int] | None = None) -> Fraction:
    """Return the sum of finite float64 values without any rounding.

    Each value is m * 2**e with an integer m of 53 bits. Values with the same exponent are added as integers, in two
    halves of the mantissa: sums of 2**26 halves stay below 2**53, so float64 represents them exactly.

    Args:
        values: float64 `[values]`.
        counts: How often each of them is added, `[values]`; None: once. For few values, each becomes a Python integer.
    """
    if counts is None and len(values) > 2**26:
        return exact_sum(values[: 2**26]) + exact_sum(values[2**26 :])
    if not len(values):
        return Fraction(0)
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64)
    lowest = int(exponents.min())
    shifts = exponents - lowest
    if counts is not None:
        terms = zip(whole.tolist(), shifts.tolist(), counts, strict=True)
        whole_sum: int = sum(number * count << shift for number, shift, count in terms)
        return whole_sum * Fraction(2) ** (lowest - 53)
    uppers, lowers = np.bincount(shifts, weights=whole >> 27), np.bincount(shifts, weights=whole & (2**27 - 1))
    total = 0
    for shift in np.flatnonzero((uppers != 0) | (lowers != 0)).tolist():
        total += ((int(uppers[shift]) << 27) + int(lowers[shift])) << shift
    return total * Fraction(2) ** (lowest - 53)


def _exact_squares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x*x as an unevaluated sum of two float64 (Dekker: "A floating-point technique …", 1971, section 5)."""
    square = values * values
    scaled = values * _SPLITTER
    high = scaled - (scaled - values)
    low = values - high
    return square, ((high * high - square) + 2.0 * high * low) + low * low


def _bucket(values: np.ndarray) -> np.ndarray:
    """Return the bucket of each value: its leading bits, as an integer with the same order as the value."""
    bits = (values + 0.0).view(np.int64) >> _DROPPED
    return np.where(bits < 0, np.int64(-(2 ** (63 - _DROPPED))) - 1 - bits, bits)


def _bucket_values(buckets: np.ndarray) -> np.ndarray:
    """Return the middle of each bucket; an integer keeps its value."""
    bits = np.where(buckets < 0, -(2 ** (63 - _DROPPED)) - 1 - buckets, buckets)
    edges = (bits << _DROPPED).view(np.float64)
    middles = ((bits << _DROPPED) + (1 << (_DROPPED - 1))).view(np.float64)
    whole = (edges == np.floor(edges)) & (np.abs(edges) <= 2**BUCKET_BITS)
    return np.where(whole, edges, middles)


def histogram(values: np.ndarray, counts: np.ndarray, lower: float, upper: float) -> dict[str, Any]:
    """Return a histogram with bins of equal width over [lower, upper].

    Integers get bins of integer width, centered on them: other bins would alternately contain two or three integers,
    and look like a comb.

    Args:
        values: float64 `[values]`, ascending.
        counts: int64 `[values]`, how often each occurs.
        lower: The start of the first bin.
        upper: The end of the last bin.

    Returns:
        `edges` (one more than there are bins), `counts`, and the counts `below` the first and `above` the last edge.
    """
    inside = values[(values >= lower) & (values <= upper)]
    edges = _integer_edges(lower, upper) if (inside == np.floor(inside)).all() else _edges(lower, upper)
    bins = np.searchsorted(edges, values, side="right") - 1
    bins[values == edges[-1]] = len(edges) - 2
    within = (bins >= 0) & (bins < len(edges) - 1)
    filled = np.bincount(bins[within], weights=counts[within], minlength=len(edges) - 1)
    return {
        "edges": edges.tolist(),
        "counts": filled.astype(np.int64).tolist(),
        "below": int(counts[bins < 0].sum()),
        "above": int(counts[bins >= len(edges) - 1].sum()),
    }


def _edges(lower: float, upper: float) -> np.ndarray:
    if lower == upper:
        margin = abs(lower) / 2 or 0.5
        return np.array([lower - margin, lower + margin])
    return np.unique(lower + (upper - lower) * (np.arange(NUM_BINS + 1) / NUM_BINS))


def _integer_edges(lower: float, upper: float) -> np.ndarray:
    first, last = math.ceil(lower), math.floor(upper)
    if abs(first) > 2**52 or abs(last) > 2**52:  # float64 has no halves between such integers
        return _edges(lower, upper)
    width = math.ceil((last - first + 1) / NUM_BINS)
    bins = math.ceil((last - first + 1) / width)
    return first - 0.5 + width * np.arange(bins + 1, dtype=np.float64)
