"""Division of rows among ranks and lanes."""

from __future__ import annotations


def slice_bounds(index: int, count: int, rows: int) -> tuple[int, int]:
    """Return the rows [start, stop) of slice `index` when `rows` are divided into `count` slices.

    Slice sizes differ by at most one row. Each rank takes such a slice of every global batch, and so does each lane:
    if the number of ranks divides the number of lanes, no two ranks read the same lane.
    """
    return index * rows // count, (index + 1) * rows // count
