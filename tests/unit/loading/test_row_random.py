from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.loading.row_random import NUM_VALUES, draw, to_bernoulli, to_factors, to_integers, to_normal

MANY_DRAWS = draw(7, np.arange(100_000), 1)[:, 0]
ALL_VALUES = np.arange(NUM_VALUES, dtype=np.uint16)


@given(
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 2**63 - 1), max_size=8),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
)
def test_a_row_draws_the_same_alone_and_with_other_rows(key: int, ids: list[int], count: int, stream: int) -> None:
    together = draw(key, np.array(ids, dtype=np.int64), count, stream)
    assert together.shape == (len(ids), count)
    assert together.dtype == np.uint16
    for row, number in enumerate(ids):
        assert np.array_equal(draw(key, np.array([number]), count, stream)[0], together[row])
        assert np.array_equal(draw(key, np.array([number]), count + 9, stream)[0, :count], together[row])


def test_different_keys_rows_and_streams_draw_different_numbers() -> None:
    ids = np.array([3, 2**32 + 3])
    one, other = draw(1, ids, 8)
    assert not np.array_equal(one, other)
    assert not np.array_equal(draw(2, ids, 8), draw(1, ids, 8))
    assert not np.array_equal(draw(1, ids, 8, stream=1), draw(1, ids, 8))


def test_draws_match_recorded_values() -> None:
    assert draw(2**63, np.array([0, 2**40]), 3, 5).tolist() == [[13261, 12408, 1778], [13207, 60590, 35977]]
    assert hashlib.sha256(to_normal(ALL_VALUES).astype("<f4").tobytes()).hexdigest()[:16] == "c626a2537fccfd81"


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_bernoulli_is_true_with_its_probability(probability: float) -> None:
    assert to_bernoulli(MANY_DRAWS, probability).mean() == pytest.approx(probability, abs=0.01)
    assert to_bernoulli(ALL_VALUES, probability).sum() == round(probability * NUM_VALUES)


def test_tiny_probability_is_not_rounded_to_zero() -> None:
    assert to_bernoulli(ALL_VALUES, 1e-9).sum() == 1


@given(st.integers(1, 500))
def test_integers_are_uniform(limit: int) -> None:
    counts = np.bincount(to_integers(ALL_VALUES, limit), minlength=limit)
    assert len(counts) == limit
    assert counts.max() - counts.min() <= 1


def test_factors_are_uniform_around_one() -> None:
    factors = to_factors(ALL_VALUES, 0.25)
    assert factors.dtype == np.float32
    assert factors.min() == pytest.approx(0.75, abs=1e-4)
    assert factors.max() == pytest.approx(1.25, abs=1e-4)
    assert factors.mean(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert (to_factors(ALL_VALUES, 0) == 1).all()


def test_normal_deviates_follow_the_normal_distribution() -> None:
    from scipy import stats

    deviates = to_normal(ALL_VALUES)
    assert deviates.dtype == np.float32
    assert (deviates == -deviates[::-1]).all()
    assert stats.kstest(deviates, "norm").statistic < 1e-4
    assert deviates.std(dtype=np.float64) == pytest.approx(1, abs=1e-3)
    assert stats.kstest(to_normal(MANY_DRAWS), "norm").pvalue > 0.01
