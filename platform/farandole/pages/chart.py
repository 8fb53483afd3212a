"""The geometry of small bar charts, for inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from farandole.pages.page import number

WIDTH, HEIGHT = 300, 72
"""The size of a histogram's drawing, in its own units."""
_LEAST = 1.0
"""A bin that holds anything is at least this high, so that it can be seen."""


def histogram_bars(edges: Sequence[float], counts: Sequence[int]) -> list[dict[str, Any]]:
    """The bars of a histogram.

    Args:
        edges: Where bins begin and end, rising; one more than there are counts.
        counts: Values in each bin.

    Returns:
        For each bin its rectangle (`x`, `y`, `width`, `height`) and what it stands for (`title`).
    """
    span, most = edges[-1] - edges[0], max(1, *counts)
    bars = []
    for start, stop, count in zip(edges[:-1], edges[1:], counts, strict=True):
        height = max(_LEAST, HEIGHT * count / most) if count else 0.0
        bars.append(
            {
                "x": round(WIDTH * (start - edges[0]) / span, 2),
                "y": round(HEIGHT - height, 2),
                "width": round(max(WIDTH * (stop - start) / span - 1, 0.5), 2),
                "height": round(height, 2),
                "title": f"{number(start)} to {number(stop)}: {count:,}",
            }
        )
    return bars


def shares(counts: Sequence[int]) -> list[float]:
    """How long each of several bars is, in percent of the longest."""
    most = max(1, *counts) if counts else 1
    return [round(100 * count / most, 2) for count in counts]
