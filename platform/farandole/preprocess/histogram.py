"""A histogram out of counted values: what a column looks like between its first and its last percentile."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NUM_BINS = 30
"""The most bins that a histogram has."""


def histogram(values: np.ndarray, counts: np.ndarray, lower: float, upper: float) -> dict[str, Any]:
    """Bins of equal width over [lower, upper]. Whole numbers get bins of whole widths around them: others would
    hold now two of them, now three, and look like a comb.

    Args:
        values: float64 `[values]`, rising.
        counts: int64 `[values]`, how often each occurs.
        lower: Where the first bin begins.
        upper: Where the last bin ends.

    Returns:
        `edges` (one more than there are bins), `counts`, and the counts `below` the first and `above` the last edge.
    """
    inside = values[(values >= lower) & (values <= upper)]
    edges = _whole_edges(lower, upper) if (inside == np.floor(inside)).all() else _edges(lower, upper)
    places = np.searchsorted(edges, values, side="right") - 1
    places[values == edges[-1]] = len(edges) - 2
    within = (places >= 0) & (places < len(edges) - 1)
    filled = np.bincount(places[within], weights=counts[within], minlength=len(edges) - 1)
    return {
        "edges": edges.tolist(),
        "counts": filled.astype(np.int64).tolist(),
        "below": int(counts[places < 0].sum()),
        "above": int(counts[places >= len(edges) - 1].sum()),
    }


def _edges(lower: float, upper: float) -> np.ndarray:
    if lower == upper:
        margin = abs(lower) / 2 or 0.5
        return np.array([lower - margin, lower + margin])
    return np.unique(lower + (upper - lower) * (np.arange(NUM_BINS + 1) / NUM_BINS))


def _whole_edges(lower: float, upper: float) -> np.ndarray:
    first, last = math.ceil(lower), math.floor(upper)
    if abs(first) > 2**52 or abs(last) > 2**52:  # there, no half lies between two numbers
        return _edges(lower, upper)
    width = math.ceil((last - first + 1) / NUM_BINS)
    bins = math.ceil((last - first + 1) / width)
    return first - 0.5 + width * np.arange(bins + 1, dtype=np.float64)
