"""Drift: the rows of the last hour compared with the training data, over all workers of a service.

Each worker counts rows by interval or category in a file of its own, mapped into memory, so that a killed worker loses
nothing and every worker can add up the counts of all. The measure is the population stability index, PSI
(N. Siddiqi: Credit Risk Scorecards, 2006): below 0.1 little has changed, above 0.25 much.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SLOTS = 12
_SLOT_S = 300.0
"""Counts are kept in slots of five minutes, of which twelve are an hour."""
_SMALLEST_SHARE = 1e-4
"""A share of 0 would make the index infinite."""
_MIN_ROWS = 100
"""With fewer rows, the index mostly measures chance."""
_MAX_ROWS_PER_S = 2000
"""Rows a second and worker that are counted; more would say the same."""


@dataclass(frozen=True)
class Bins:
    """Intervals or categories of one column, and their shares in the training data.

    Args:
        name: The column.
        shares: The shares of all bins; the last one is that of missing values, and before it, for categories, that of
            all other texts.
        edges: The inner edges of intervals; None for categories.
        values: The categories.
    """

    name: str
    shares: np.ndarray
    edges: np.ndarray | None = None
    values: tuple[str, ...] = ()

    def labels(self) -> list[str]:
        """Return the names of the bins."""
        if self.edges is None:
            return [*self.values, "other", "missing"]
        numbers = [f"{edge:g}" for edge in self.edges]
        return [f"{low}..{high}" for low, high in zip(["-inf", *numbers], [*numbers, "inf"], strict=True)] + ["missing"]

    def count(self, column: Any) -> np.ndarray:
        """Return how many values of a column are in each bin."""
        values = column if isinstance(column, pa.Array) else _as_arrow(column)
        counts = np.zeros(len(self.shares), np.int64)
        missing = values.null_count
        if missing:
            values = values.drop_null()
        counts[-1] = missing
        if not len(values):
            return counts
        if self.edges is not None:
            numbers = np.asarray(_as_numbers(values))
            is_nan = np.isnan(numbers)
            counts[-1] += int(is_nan.sum())
            places = np.searchsorted(self.edges, numbers[~is_nan], side="right")
        else:
            found = pc.index_in(values.cast(pa.string()), value_set=pa.array(self.values, pa.string()))
            places = np.asarray(found.fill_null(len(self.values)))
        counts[:-1] += np.bincount(places, minlength=len(counts) - 1)
        return counts


def _as_arrow(values: np.ndarray) -> pa.Array:
    return pa.array(values.tolist(), pa.string()) if values.dtype == object else pa.array(values)


def _as_numbers(values: pa.Array) -> pa.Array:
    if pa.types.is_temporal(values.type):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
    return values.cast(pa.float64(), safe=False)


def read_bins(statistics: Mapping[str, Any]) -> list[Bins]:
    """Return the bins of a part of a bundle's `statistics.json`; entries of other forms are left out.

    Args:
        statistics: Column to `kind`, `edges` or `values`, `shares` and `missing_share`.
    """
    found = []
    for name, entry in statistics.items():
        shares, edges = entry.get("shares"), entry.get("edges")
        missing = float(entry.get("missing_share") or 0.0)
        if not shares:
            continue
        present = np.asarray(shares, float)
        if edges is not None and len(edges) in (len(present) - 1, len(present) + 1):
            inner = edges if len(edges) == len(present) - 1 else edges[1:-1]
            found.append(Bins(name, np.append(present, missing), np.asarray(inner, float)))
        elif (values := entry.get("values")) is not None and len(values) == len(present):
            other = max(0.0, 1.0 - missing - float(present.sum()))
            texts = tuple(str(value) for value in values)
            found.append(Bins(name, np.append(present, [other, missing]), values=texts))
    return found


class DriftCounter:
    """Counts of one model version in one worker.

    Args:
        bins: The bins of its columns and of its predictions.
        path: The file of this worker.
    """

    def __init__(self, bins: Sequence[Bins], path: Path) -> None:
        self.bins = tuple(bins)
        width = 1 + sum(len(each.shares) for each in self.bins)
        self._counts = np.memmap(path, np.int64, "w+", shape=(_SLOTS, width))
        self._second, self._rows = 0, 0

    def observe(self, columns: Mapping[str, Any], num_rows: int) -> None:
        """Count the rows of a batch.

        Args:
            columns: Column to its values, an Arrow or NumPy array.
            num_rows: The number of rows.
        """
        now_s = time.time()
        if int(now_s) != self._second:
            self._second, self._rows = int(now_s), 0
        self._rows += num_rows
        if self._rows > max(_MAX_ROWS_PER_S, num_rows) or not self.bins:
            return
        slot = self._slot(now_s)
        start = 1
        for each in self.bins:
            stop = start + len(each.shares)
            if each.name in columns:
                slot[start:stop] += each.count(columns[each.name])
            start = stop

    def _slot(self, now_s: float) -> np.ndarray:
        """Return the counts of the current slot, which are zeroed when its time begins."""
        stamp = int(now_s // _SLOT_S)
        slot: np.ndarray = self._counts[stamp % _SLOTS]
        if slot[0] != stamp:
            slot[1:] = 0
            slot[0] = stamp
        return slot


def counter_path(directory: Path, key: str) -> Path:
    """Return the file of this worker for a model version."""
    return directory / f"drift-{key}-{os.getpid()}.counts"


def read_counts(directory: Path, key: str, bins: Sequence[Bins]) -> list[np.ndarray]:
    """Return the counts of the last hour for each column, of all workers."""
    width = 1 + sum(len(each.shares) for each in bins)
    total = np.zeros(width - 1, np.int64)
    newest = int(time.time() // _SLOT_S)
    for path in directory.glob(f"drift-{key}-*.counts"):
        counts = np.fromfile(path, np.int64)
        if len(counts) != _SLOTS * width:
            continue  # a worker is creating it
        counts = counts.reshape(_SLOTS, width)
        total += counts[counts[:, 0] > newest - _SLOTS, 1:].sum(axis=0)
    stops = np.cumsum([len(each.shares) for each in bins])[:-1]
    return np.split(total, stops)


def population_stability_index(counts: np.ndarray, shares: np.ndarray) -> float | None:
    """Return the PSI of counts against the shares of the training data; None with too few rows.

    Args:
        counts: The rows of each bin.
        shares: The shares expected, which add up to 1.
    """
    rows = int(counts.sum())
    if rows < _MIN_ROWS:
        return None
    found = np.maximum(counts / rows, _SMALLEST_SHARE)
    expected = np.maximum(shares / shares.sum(), _SMALLEST_SHARE)
    return float(((found - expected) * np.log(found / expected)).sum())
