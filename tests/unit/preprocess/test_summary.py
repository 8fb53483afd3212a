from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.preprocess import Summary
from farandole.preprocess import summary as summary_module
from farandole.preprocess.summary import NUM_BINS, exact_sum, histogram

ANY = st.floats(allow_nan=False, allow_infinity=False)
SENSIBLE = st.one_of(
    st.just(0.0), st.floats(1e-100, 1e100), st.floats(-1e100, -1e-100), st.integers(-(2**53), 2**53).map(float)
)
MORE = hypothesis_settings(max_examples=60, deadline=None)


@pytest.fixture(autouse=True, scope="module", params=[summary_module.MAX_COUNTED, 3], ids=["counted", "summed"])
def most_counted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test with all values counted, and with most columns summed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary_module, "MAX_COUNTED", request.param)
        yield


def summary(*parts: list[float]) -> Summary:
    """Summarise each part alone, and merge them."""
    merged = Summary()
    for part in parts:
        alone = Summary()
        alone.add(np.array(part, dtype=np.float64))
        merged.merge(alone)
    return merged


@given(st.lists(ANY, max_size=30))
@MORE
def test_sum_is_exact(values: list[float]) -> None:
    total = exact_sum(np.array(values, dtype=np.float64))
    assert total == sum((Fraction(value) for value in values), Fraction(0))
    if all(abs(value) < 1e300 for value in values):  # for larger values, fsum may overflow
        assert float(total) == math.fsum(values)


def test_sum_keeps_what_floating_point_loses() -> None:
    assert exact_sum(np.array([1e300, 1.0, -1e300, 5e-324])) == 1 + Fraction(5e-324)
    assert exact_sum(np.full(1000, -0.1)) == 1000 * Fraction(-0.1)


@given(st.lists(st.one_of(SENSIBLE, st.just(math.nan), st.just(math.inf)), max_size=30), st.randoms())
@MORE
def test_summary_does_not_depend_on_order_or_partitions(values: list[float], random: object) -> None:
    whole = summary(values)
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    cuts = sorted(random.randrange(len(values) + 1) for _ in range(3))  # type: ignore[attr-defined]
    edges = [0, *cuts, len(values)]
    parts = [shuffled[start:stop] for start, stop in itertools.pairwise(edges)]
    assert summary(*parts) == whole
    assert summary(*parts[::-1]) == whole
    assert repr(summary(*parts).to_dict()) == repr(whole.to_dict())


@given(st.lists(st.one_of(SENSIBLE, st.just(math.nan)), max_size=30))
@MORE
def test_counted_and_summed_values_give_the_same_statistics(values: list[float]) -> None:
    """Summarise each value twice, so that counts matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary_module, "MAX_COUNTED", 10**9)
        counted = summary(values, values)
        patch.setattr(summary_module, "MAX_COUNTED", -1)
        summed = summary(values, values)
    assert counted.counted is not None
    assert summed.counted is None or not summed.present
    exact = ("rows", "missing", "infinite", "min", "max", "mean", "deviation")
    first, second = counted.to_dict(), summed.to_dict()
    assert [repr(first.get(key)) for key in exact] == [repr(second.get(key)) for key in exact]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):  # buckets have a width
        assert counted.quantile(share) == pytest.approx(summed.quantile(share), rel=2**-12)
    assert counted.buckets == summed.buckets


def _halved(values: np.ndarray) -> np.ndarray:
    """Map values; not injective, and with a result for missing values."""
    return np.where(np.isnan(values), -7.5, np.abs(values) / 2)


@given(st.lists(st.one_of(SENSIBLE, st.just(math.nan)), max_size=30))
@MORE
def test_mapped_summary_equals_the_summary_of_mapped_values(values: list[float]) -> None:
    mapped = summary(values).mapped(_halved)
    if mapped is not None:
        assert mapped == summary(_halved(np.array(values, dtype=np.float64)).tolist())


def test_too_many_values_cannot_be_mapped() -> None:
    many = np.random.default_rng(2).normal(size=summary_module.MAX_COUNTED + 1).tolist()
    assert summary(many).mapped(_halved) is None
    assert summary([1.0, 2.0]).mapped(_halved) == summary([0.5, 1.0])


@given(st.lists(SENSIBLE, min_size=1, max_size=50))
@MORE
def test_mean_and_deviation_equal_exact_arithmetic(values: list[float]) -> None:
    found = summary(values)
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction(0)) / len(exact)
    variance = sum(((value - mean) ** 2 for value in exact), Fraction(0)) / len(exact)
    assert found.mean == float(mean)
    # The squares of numbers with 53 bits are represented with about 106 bits.
    size = max(map(abs, values))
    assert found.deviation == pytest.approx(math.sqrt(variance), rel=1e-9, abs=size * 1e-15)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e9, 1e12])
def test_mean_and_deviation_match_numpy_far_from_zero(offset: float) -> None:
    values = np.random.default_rng(0).normal(offset, 3.0, 1000)
    found = summary(values.tolist())
    assert found.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-12)
    assert found.deviation == pytest.approx((values - values.mean()).std(), rel=1e-9)


@given(
    st.lists(st.one_of(SENSIBLE, st.integers(-5000, 5000).map(float)), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]),
)
@MORE
def test_quantile_is_a_value_of_its_rank_to_the_width_of_a_bucket(values: list[float], share: float) -> None:
    rank = min(math.floor(share * len(values)), len(values) - 1)
    wanted = sorted(values)[rank]
    found = summary(values).quantile(share)
    assert found == pytest.approx(wanted, rel=2**-12, abs=1e-300)
    assert min(values) <= found <= max(values)


def test_quantiles_are_close_to_numpy() -> None:
    values = np.random.default_rng(1).lognormal(0, 2, 10_001)
    found = summary(values.tolist())
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share, method="higher"), rel=1e-3)


@given(st.lists(st.integers(-4096, 4096), min_size=1, max_size=40))
@MORE
def test_median_of_small_integers_is_exact(values: list[int]) -> None:
    assert summary([float(value) for value in values]).quantile(0.5) == sorted(values)[len(values) // 2]


def test_minus_zero_is_zero() -> None:
    assert summary([-0.0]).buckets == summary([0.0]).buckets


def test_missing_and_infinite_values_are_only_counted() -> None:
    found = summary([1.0, math.nan, 3.0, math.inf, -math.inf, math.nan])
    assert (found.rows, found.missing, found.infinite, found.present) == (6, 2, 2, 2)
    assert (found.minimum, found.maximum, found.mean, found.deviation) == (1.0, 3.0, 2.0, 1.0)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]], ids=["no rows", "all missing"])
def test_column_without_values_has_only_counts(values: list[float]) -> None:
    found = summary(values)
    assert (found.mean, found.deviation, found.quantile(0.5)) == (0.0, 0.0, 0.0)
    assert found.to_dict() == {"rows": len(values), "missing": len(values)}


def test_constant_column_has_zero_deviation() -> None:
    assert summary([0.1] * 7).deviation == 0.0


@pytest.mark.parametrize("value", [1e160, -1e200, sys.float_info.max])
def test_values_with_an_infinite_square_count_as_infinite(value: float) -> None:
    found = summary([value, value, 1.0, 1e150, -1e150])
    assert (found.infinite, found.present) == (2, 3)
    assert math.isfinite(found.deviation)


def test_statistics_are_plain_numbers_in_order() -> None:
    assert summary([float(value) for value in range(1, 101)]).to_dict() == {
        "rows": 100,
        "missing": 0,
        "min": 1.0,
        "max": 100.0,
        "mean": 50.5,
        "deviation": pytest.approx(28.86607),
        "p01": 2.0,
        "p25": 26.0,
        "p50": 51.0,
        "p75": 76.0,
        "p99": 100.0,
        "histogram": {
            "edges": [1.5 + 4 * number for number in range(26)],
            "counts": [4] * 24 + [3],
            "below": 1,
            "above": 0,
        },
    }


NUMBERS = st.one_of(st.floats(-1e100, 1e100), st.integers(-5000, 5000).map(float))


@given(st.lists(NUMBERS, min_size=1, max_size=60))
@hypothesis_settings(max_examples=80, deadline=None)
def test_every_value_is_counted_once_in_ascending_bins(values: list[float]) -> None:
    summary = Summary()
    summary.add(np.array(values))
    found = summary.to_dict()["histogram"]
    assert sum(found["counts"]) + found["below"] + found["above"] == len(values)
    assert 1 <= len(found["counts"]) == len(found["edges"]) - 1 <= NUM_BINS
    assert (np.diff(found["edges"]) > 0).all()


def test_bins_match_numpy() -> None:
    values = np.random.default_rng(0).normal(0, 3, 5000)
    values = np.sort(values)
    lower, upper = float(values[50]), float(values[4950])
    found = histogram(values, np.ones(5000, dtype=np.int64), lower, upper)
    counts, edges = np.histogram(values, NUM_BINS, (lower, upper))
    assert found["counts"] == counts.tolist()
    assert found["edges"] == pytest.approx(edges)
    assert (found["below"], found["above"]) == (50, 49)


def test_integers_are_in_the_middle_of_their_bins() -> None:
    found = histogram(np.arange(1.0, 8.0), np.full(7, 5), 1.0, 7.0)
    assert found["edges"] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert found["counts"] == [5] * 7


def test_bins_of_many_integers_have_equal_widths() -> None:
    found = histogram(np.arange(366.0), np.ones(366, dtype=np.int64), 0.0, 365.0)
    assert set(found["counts"][:-1]) == {13}


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 2.0**60, -1e100])
def test_constant_has_one_bin(value: float) -> None:
    found = histogram(np.array([value]), np.array([9]), value, value)
    assert found["counts"] == [9]
    assert found["edges"][0] < value < found["edges"][1]


def test_values_outside_the_bins_are_counted_separately() -> None:
    found = histogram(np.array([-9.5, 0.25, 1.0, 4.5]), np.array([1, 2, 3, 4]), 0.25, 1.0)
    assert (found["below"], found["above"], sum(found["counts"])) == (1, 4, 5)
