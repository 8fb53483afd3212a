"""Who reads what: pure functions of the rank and the number of workers."""

from __future__ import annotations


def slice_bounds(part: int, parts: int, rows: int) -> tuple[int, int]:
    """The rows [start, stop) of `part` when `rows` are dealt to `parts`; sizes differ by one at most.

    A rank takes such a slice of every global batch, and a lane takes such a slice too, so that with as many ranks
    as lanes, or a divisor of it, each rank reads lanes of its own.
    """
    return part * rows // parts, (part + 1) * rows // parts
