from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from farandole.loading import slice_bounds


@given(parts=st.integers(1, 40), rows=st.integers(0, 10**6))
def test_slices_cover_all_rows_in_order_and_differ_by_one_row_at_most(parts: int, rows: int) -> None:
    slices = [slice_bounds(part, parts, rows) for part in range(parts)]
    assert slices[0][0] == 0
    assert slices[-1][1] == rows
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(slices))
    sizes = [stop - start for start, stop in slices]
    assert max(sizes) - min(sizes) <= 1


def test_nobody_is_left_without_a_row_where_there_are_enough() -> None:
    assert [slice_bounds(part, 3, 3) for part in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert [slice_bounds(part, 3, 8) for part in range(3)] == [(0, 2), (2, 5), (5, 8)]
