from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.preprocess import Summary
from farandole.preprocess.summary import NUM_BINS, histogram

NUMBERS = st.one_of(st.floats(-1e100, 1e100), st.integers(-5000, 5000).map(float))


@given(st.lists(NUMBERS, min_size=1, max_size=60))
@hypothesis_settings(max_examples=80, deadline=None)
def test_every_value_is_counted_once_in_bins_that_rise(values: list[float]) -> None:
    summary = Summary()
    summary.add(np.array(values))
    found = summary.to_dict()["histogram"]
    assert sum(found["counts"]) + found["below"] + found["above"] == len(values)
    assert 1 <= len(found["counts"]) == len(found["edges"]) - 1 <= NUM_BINS
    assert (np.diff(found["edges"]) > 0).all()


def test_bins_are_numpys() -> None:
    values = np.random.default_rng(0).normal(0, 3, 5000)
    values = np.sort(values)
    lower, upper = float(values[50]), float(values[4950])
    found = histogram(values, np.ones(5000, dtype=np.int64), lower, upper)
    counts, edges = np.histogram(values, NUM_BINS, (lower, upper))
    assert found["counts"] == counts.tolist()
    assert found["edges"] == pytest.approx(edges)
    assert (found["below"], found["above"]) == (50, 49)


def test_whole_numbers_lie_in_the_middle_of_their_bins() -> None:
    found = histogram(np.arange(1.0, 8.0), np.full(7, 5), 1.0, 7.0)
    assert found["edges"] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert found["counts"] == [5] * 7


def test_bins_of_many_whole_numbers_hold_equally_many() -> None:
    found = histogram(np.arange(366.0), np.ones(366, dtype=np.int64), 0.0, 365.0)
    assert set(found["counts"][:-1]) == {13}


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 2.0**60, -1e100])
def test_a_constant_is_one_bar(value: float) -> None:
    found = histogram(np.array([value]), np.array([9]), value, value)
    assert found["counts"] == [9]
    assert found["edges"][0] < value < found["edges"][1]


def test_what_lies_outside_is_counted_beside() -> None:
    found = histogram(np.array([-9.5, 0.25, 1.0, 4.5]), np.array([1, 2, 3, 4]), 0.25, 1.0)
    assert (found["below"], found["above"], sum(found["counts"])) == (1, 4, 5)
