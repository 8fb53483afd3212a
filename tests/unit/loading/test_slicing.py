from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from farandole.loading import slice_bounds


@given(count=st.integers(1, 40), rows=st.integers(0, 10**6))
def test_slices_cover_all_rows_in_order_and_differ_by_at_most_one_row(count: int, rows: int) -> None:
    slices = [slice_bounds(index, count, rows) for index in range(count)]
    assert slices[0][0] == 0
    assert slices[-1][1] == rows
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(slices))
    sizes = [stop - start for start, stop in slices]
    assert max(sizes) - min(sizes) <= 1


def test_every_slice_has_a_row_if_there_are_enough_rows() -> None:
    assert [slice_bounds(index, 3, 3) for index in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert [slice_bounds(index, 3, 8) for index in range(3)] == [(0, 2), (2, 5), (5, 8)]
