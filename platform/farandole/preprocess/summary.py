"""What a column looks like: counts, exact moments and quantiles, whatever the order in which rows come.

Floating-point sums depend on their order, and Spark fixes none. So sums are kept exactly, as integers scaled by
powers of two, and quantiles come from counts of logarithmic buckets: merging is integer addition, and the result
is the same bit for bit for any number of partitions. Where a column has few distinct values, they are counted instead,
which is faster and tells the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
MOST_COUNTED = 2**14
"""Of a column with more different numbers, the numbers themselves are no longer counted."""
_DROPPED = 52 - BUCKET_BITS
_SPLITTER = float(2**27 + 1)


@dataclass
class _Sums:
    """Exact sums and counted buckets of finite values; merging is addition."""

    total: Fraction = Fraction(0)
    total_of_squares: Fraction = Fraction(0)
    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, values: np.ndarray) -> None:
        """Take in float64 `[rows]`."""
        self.total += exact_sum(values)
        high, low = _exact_squares(values)
        self.total_of_squares += exact_sum(high) + exact_sum(low)
        buckets, counts = np.unique(_bucket(values), return_counts=True)
        self.buckets.update(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))

    def add_counted(self, counted: Counter[float]) -> None:
        """Take in values that occur so many times each."""
        values = np.array(list(counted), dtype=np.float64)
        counts = list(counted.values())
        self.total += exact_sum(values, counts)
        high, low = _exact_squares(values)
        self.total_of_squares += exact_sum(high, counts) + exact_sum(low, counts)
        for bucket, count in zip(_bucket(values).tolist(), counts, strict=True):
            self.buckets[bucket] += count

    def merge(self, other: _Sums) -> None:
        """Take in what another summed up."""
        self.total += other.total
        self.total_of_squares += other.total_of_squares
        self.buckets.update(other.buckets)


@dataclass
class Summary:
    """The running summary of one column of float64 values; NaN stands for missing.

    As long as a column has few distinct values they are counted, each by itself; all else follows from these counts,
    also the summary of what any function makes of the values. Only a column of many values is summed up row by row.

    Quantiles follow DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019, section 2.1) with buckets that are read off
    the number's own bits.
    """

    rows: int = 0
    missing: int = 0
    infinite: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    counted: Counter[float] | None = field(default_factory=Counter)
    """How often each finite value occurs; None: there are more than `MOST_COUNTED` different ones."""
    _sums: _Sums = field(default_factory=_Sums)
    """Of all values, once they are too many to be counted."""
    _of_counted: _Sums | None = field(default=None, compare=False, repr=False)
    """What follows from `counted`, once it was asked for."""

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
        if self.counted is not None:
            distinct, counts = np.unique(finite + 0.0, return_counts=True)  # -0.0 is 0.0
            if len(distinct) <= MOST_COUNTED:
                self._count(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))
                return
            self._stop_counting()
        self._sums.add(finite)

    def merge(self, other: Summary) -> None:
        """Take in what another summary saw. The order of merging does not change the result."""
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
        """The summary of what a function makes of each value, missing ones too; None: they are too many to tell.

        Args:
            function: float64 `[values]` to float64 `[values]`, each by itself.
        """
        if self.counted is None or self.infinite:
            return None
        counted = {**self.counted, math.nan: self.missing} if self.missing else self.counted
        results = function(np.array(list(counted), dtype=np.float64))
        missing = np.isnan(results)
        finite = np.abs(results) <= LARGEST
        counts = np.array(list(counted.values()), dtype=np.int64)
        made = Summary(self.rows, int(counts[missing].sum()), int(counts[~missing & ~finite].sum()))
        if finite.any():
            made.minimum, made.maximum = float(results[finite].min()), float(results[finite].max())
        grouped: Counter[float] = Counter()
        for result, count in zip((results[finite] + 0.0).tolist(), counts[finite].tolist(), strict=True):
            grouped[result] += count  # several values may become one
        made._count(grouped)
        return made

    def _count(self, found: Mapping[float, int]) -> None:
        self._of_counted = None
        if self.counted is None:
            self._sums.add_counted(Counter(found))
            return
        self.counted.update(found)
        if len(self.counted) > MOST_COUNTED:
            self._stop_counting()

    def _stop_counting(self) -> None:
        if self.counted is not None:
            self._sums.add_counted(self.counted)
            self.counted = self._of_counted = None

    @property
    def _exact(self) -> _Sums:
        """The sums and buckets of all values."""
        if self.counted is None:
            return self._sums
        if self._of_counted is None:
            self._of_counted = _Sums()
            self._of_counted.add_counted(self.counted)
        return self._of_counted

    @property
    def present(self) -> int:
        """Rows with a finite value."""
        return self.rows - self.missing - self.infinite

    @property
    def buckets(self) -> Counter[int]:
        """How many values fall into each bucket."""
        return self._exact.buckets

    @property
    def mean(self) -> float:
        """The mean of the present values; 0 where there is none."""
        return float(self._exact.total / self.present) if self.present else 0.0

    @property
    def deviation(self) -> float:
        """The population standard deviation of the present values; 0 where there is none."""
        if not self.present:
            return 0.0
        sums = self._exact
        variance = sums.total_of_squares / self.present - (sums.total / self.present) ** 2
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
        found = self.buckets
        buckets = np.array(sorted(found), dtype=np.int64)
        counts = np.array([found[bucket] for bucket in buckets.tolist()], dtype=np.int64)
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


def exact_sum(values: np.ndarray, counts: Sequence[int] | None = None) -> Fraction:
    """The sum of finite float64 values without any rounding.

    Args:
        values: float64 `[values]`.
        counts: How often each of them is added, `[values]`; None: once. For few values, each is an integer of Python.

    Each value is m * 2**e with an integer m of 53 bits. Values of one exponent are added as integers, in two halves
    of the mantissa: sums of 2**26 halves stay below 2**53, and so float64 holds them exactly.
    """
    if counts is None and len(values) > 2**26:
        return exact_sum(values[: 2**26]) + exact_sum(values[2**26 :])
    if not len(values):
        return Fraction(0)
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64)
    lowest = int(exponents.min())
    places = exponents - lowest
    if counts is not None:
        terms = zip(whole.tolist(), places.tolist(), counts, strict=True)
        whole_sum: int = sum(number * count << place for number, place, count in terms)
        return whole_sum * Fraction(2) ** (lowest - 53)
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
