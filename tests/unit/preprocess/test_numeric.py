from __future__ import annotations

import decimal
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.preprocess import Summary
from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.transform import VALUES
from farandole.spec import Numeric

THOUSANDTHS = st.integers(-(10**9), 10**9).map(lambda value: value / 1000)


def fitted(values: Any, **spec: Any) -> NumericTransform:
    """Return a transform that is fitted on these values."""
    transform = NumericTransform("x", "raw", Numeric.model_validate({"kind": "numeric", **spec}))
    while not transform.fitted:
        summary = Summary()
        summary.add(transform.observe(as_array(values))[VALUES])
        transform = transform.learn({VALUES: summary})
    return transform


def as_array(values: Any) -> pa.Array:
    """Convert lists to float64 arrays."""
    return values if isinstance(values, pa.Array) else pa.array(values, pa.float64())


def applied(transform: NumericTransform, values: Any) -> list[float]:
    """Return the first column of the result."""
    result = transform.apply(as_array(values))
    assert result.dtype == np.float32
    assert result.shape == (len(values), len(transform.features))
    return [float(number) for number in result[:, 0]]


def test_standard_scaling_gives_mean_0_and_deviation_1() -> None:
    values = np.random.default_rng(0).normal(1000, 5, 500).tolist()
    result = np.array(applied(fitted(values), values))
    assert result.mean() == pytest.approx(0, abs=1e-5)
    assert result.std() == pytest.approx(1, abs=1e-5)


def test_minmax_scaling_gives_0_to_1_on_the_training_split_and_more_beyond() -> None:
    transform = fitted([2.0, 4.0, 6.0], scale="minmax")
    assert applied(transform, [2.0, 3.0, 6.0, 8.0]) == [0.0, 0.25, 1.0, 1.5]


def test_unscaled_values_stay_and_need_one_pass() -> None:
    transform = NumericTransform("x", "raw", Numeric(kind="numeric", scale="none"))
    summary = Summary()
    summary.add(transform.observe(as_array([1.0, 2.0]))[VALUES])
    assert transform.learn({VALUES: summary}).fitted
    assert applied(fitted([1.0, 2.0], scale="none"), [1.5, -7.0]) == [1.5, -7.0]


@pytest.mark.parametrize("scale", ["standard", "minmax"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_constant_column_becomes_0(scale: str, value: float) -> None:
    transform = fitted([value] * 7, scale=scale)
    assert applied(transform, [value, value + 5]) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("impute", "filled"),
    [("median", 2.0), ("mean", 4.0), (-1, -1.0), (0.5, 0.5)],
    ids=["median", "mean", "int", "float"],
)
def test_missing_value_is_imputed(impute: Any, filled: float) -> None:
    transform = fitted([1.0, 2.0, 9.0, None], impute=impute, scale="none")
    assert applied(transform, [None, math.nan, 7.0]) == [filled, filled, 7.0]


def test_imputed_values_count_towards_the_scale() -> None:
    transform = fitted([0.0, 4.0, None, None], impute=4.0)
    assert transform.offset == 3.0
    assert applied(transform, [None]) == applied(transform, [4.0])


def test_indicator_marks_missing_values() -> None:
    transform = fitted([1.0, 3.0, None], indicator=True, scale="none", impute=0)
    assert transform.features == ("x", "x_missing")
    assert transform.apply(as_array([None, 5.0, math.nan])).tolist() == [[0.0, 1.0], [5.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ({"lower": 0.0, "upper": 10.0}, [0.0, 5.0, 10.0]),
        ({"lower": 0.0}, [0.0, 5.0, 99.0]),
        ({"upper": 10.0}, [-99.0, 5.0, 10.0]),
    ],
)
def test_clipping_moves_values_to_their_bounds(clip: dict[str, float], expected: list[float]) -> None:
    transform = fitted([1.0, 2.0], clip=clip, scale="none")
    assert applied(transform, [-99.0, 5.0, 99.0]) == expected


def test_bounds_can_be_quantiles_of_the_training_split() -> None:
    values = [float(value) for value in range(100)]
    transform = fitted(values, clip={"by": "quantile", "lower": 0.1, "upper": 0.9}, scale="none")
    assert (transform.lower, transform.upper) == (10.0, 90.0)
    assert applied(transform, [0.0, 50.0, 1000.0]) == [10.0, 50.0, 90.0]


def test_scale_is_measured_on_clipped_values() -> None:
    transform = fitted([0.0, 1.0, 2.0, 1e9], clip={"upper": 2.0}, scale="minmax")
    assert applied(transform, [2.0, 1e9]) == [1.0, 1.0]


def test_log_keeps_the_sign_and_comes_after_clip_and_before_scale() -> None:
    transform = fitted([0.0, 1.0], log=True, scale="none", clip={"lower": -3.0}, impute=math.e - 1)
    expected = [0.0, math.log(2), -math.log(3), -math.log(4), 1.0]
    assert applied(transform, [0.0, 1.0, -2.0, -99.0, None]) == pytest.approx(expected, rel=1e-6)
    scaled = fitted([0.0, math.e - 1], log=True, scale="minmax")
    assert applied(scaled, [0.0, math.e - 1]) == pytest.approx([0.0, 1.0])


@given(st.lists(THOUSANDTHS, min_size=2, max_size=20), THOUSANDTHS, THOUSANDTHS)
@hypothesis_settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("spec", [{}, {"scale": "minmax"}, {"log": True}, {"clip": {"lower": -10, "upper": 10}}])
def test_transform_keeps_the_order_of_values(
    spec: dict[str, Any], values: list[float], first: float, second: float
) -> None:
    low, high = applied(fitted(values, **spec), sorted([first, second]))
    assert low <= high


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, None, False]),
        pa.array([1, None, 0], pa.int8()),
        pa.array([1, None, 0], pa.int64()),
        pa.array([1, None, 0], pa.float32()),
        pa.array([decimal.Decimal("1.00"), None, decimal.Decimal("0.00")], pa.decimal128(10, 2)),
    ],
    ids=lambda values: str(values.type),
)
def test_all_numeric_types_are_accepted(values: pa.Array) -> None:
    assert applied(fitted(values, impute=0.5, scale="none"), values) == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_training_value_is_rejected(value: float) -> None:
    with pytest.raises(DataError, match=r"features\.x: column raw: 1 of 3 training rows hold an infinite number"):
        fitted([1.0, value, 2.0])


def test_infinite_value_elsewhere_is_rejected() -> None:
    with pytest.raises(DataError, match=r"features\.x: column raw: 1 values such as inf cannot become a finite number"):
        fitted([1.0, 2.0]).apply(as_array([1.0, math.inf]))


@pytest.mark.filterwarnings("ignore:overflow")
def test_value_beyond_float32_is_rejected() -> None:
    with pytest.raises(DataError, match=r"values such as 1e\+39 cannot become a finite number"):
        fitted([1.0, 2.0], scale="none").apply(as_array([1e39]))


def test_missing_value_is_rejected_where_impute_is_null() -> None:
    with pytest.raises(DataError, match=r"column raw: 1 of 2 training rows have no value and `impute` is null"):
        fitted([1.0, None], impute=None)
    transform = fitted([1.0, 2.0], impute=None)
    with pytest.raises(DataError, match="1 values such as nan"):
        transform.apply(as_array([1.0, None]))


def test_column_without_any_value_is_rejected() -> None:
    with pytest.raises(DataError, match="no training row has a value; remove the feature, or fix the query"):
        fitted([None, None])


def test_column_of_text_is_rejected() -> None:
    with pytest.raises(DataError, match="column raw: 'NA' is not a number, yet its feature or label is"):
        fitted(pa.array(["1", "NA", "2"]))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"scale": "minmax", "log": True},
        {"scale": "none"},
        {"clip": {"by": "quantile", "upper": 0.9}, "impute": "mean"},
    ],
)
def test_learned_values_survive_a_round_trip(spec: dict[str, Any]) -> None:
    transform = fitted([0.1, 0.2, 0.7, None], **spec)
    again = NumericTransform.from_dict(transform.to_dict())
    assert again == transform
    assert again.fitted


def test_no_rows_give_no_rows() -> None:
    assert fitted([1.0, 2.0], indicator=True).apply(as_array([])).shape == (0, 2)


def test_robust_scaling_puts_the_median_at_0_and_the_quartiles_1_apart() -> None:
    values = [*map(float, range(101)), 1e9]
    transform = fitted(values, scale="robust")
    assert applied(transform, [51.0, 25.5, 76.5, 1e9]) == pytest.approx([0.0, -0.5, 0.5, (1e9 - 51) / 51], rel=1e-6)
    assert NumericTransform.from_dict(transform.to_dict()) == transform


def test_robust_scaling_of_a_mostly_constant_column_uses_its_deviation() -> None:
    values = [0.0] * 90 + [10.0] * 10
    assert applied(fitted(values, scale="robust"), [0.0, 10.0]) == pytest.approx([0.0, 10 / 3])
    assert applied(fitted([4.0] * 9, scale="robust"), [4.0, 5.0]) == [0.0, 0.0]
    # Quartiles that differ by less than float32 can divide by.
    nearly = [0.0] * 3 + [1e-114] * 7 + [1.0, 2.0]
    assert applied(fitted(nearly, scale="robust"), [0.0, 2.0]) == pytest.approx([0.0, 2 / np.std(nearly)])


SECONDS = [1_700_000_000.0 + number for number in range(200)]


@pytest.mark.parametrize("start", [1.7e9, 1.7e12, 1e15])
@pytest.mark.parametrize("scale", ["standard", "minmax", "robust", "robust_smooth"])
@pytest.mark.parametrize("count", [200, 40_000])
def test_large_numbers_close_to_each_other_are_kept_by_every_scale(scale: str, start: float, count: int) -> None:
    values = start + np.arange(count)
    transform = fitted(values, scale=scale)
    result = np.array(applied(transform, values))
    assert len(np.unique(result)) > 0.99 * count
    assert np.abs(result).max() < 3
    assert abs(np.median(result)) < 0.6
    summary = Summary()
    summary.add(values)
    assert transform.find_loss(summary) is None


def loss(values: Any, **spec: Any) -> str | None:
    """Return what is said about distinct values that are lost."""
    summary = Summary()
    summary.add(np.array(values, dtype=np.float64))
    return fitted(values, **spec).find_loss(summary)


def test_distinct_values_that_float32_loses_are_counted() -> None:
    text = loss(SECONDS, scale="none")
    assert text is not None
    assert text.startswith("features.x: column raw: 200 distinct values of the training rows become 3 as float32;")
    assert "remove `scale: none`" in text
    text = loss([*range(100), 1e12], scale="standard")
    assert text is not None
    assert "101 distinct values of the training rows become 2 as float32; use `scale: robust` or `log: true`" in text
    text = loss([*range(2**24, 2**24 + 2), 0.5], scale="none")
    assert text is not None
    assert "3 distinct values of the training rows become 2 as float32" in text


def test_the_rounding_of_a_calculation_does_not_count() -> None:
    degrees = np.radians(np.arange(0, 361, 10))
    for values in (np.sin(degrees), np.cos(degrees)):
        assert len(np.unique(values)) > len(np.unique(values.astype(np.float32)))
        assert loss(values, scale="standard") is None
        assert loss(values, scale="none") is None


def test_tiny_probabilities_and_large_whole_numbers_count() -> None:
    text = loss([1e-50, 1e-60, 1e-70, 0.5, 1.0], scale="none")
    assert text is not None
    assert "5 distinct values of the training rows become 3 as float32" in text
    text = loss([2.0**60, np.nextafter(2.0**60, np.inf), 0.25], scale="none")
    assert text is not None
    assert "3 distinct values of the training rows become 2 as float32" in text


def test_too_many_values_to_count_are_compared_with_the_float32_between_their_ends() -> None:
    text = loss(1.7e9 + np.arange(20_000), scale="none")
    assert text is not None
    assert "more than 16,384 distinct values of the training rows become at most 157 as float32" in text
    assert loss(np.arange(-20_000, 20_000), scale="none") is None


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 3.0], [7.0, 7.0], [math.nan, 1.0, 2.0], np.random.default_rng(0).normal(size=5000)]
)
@pytest.mark.parametrize("scale", ["standard", "robust_smooth"])
def test_ordinary_values_lose_nothing(values: Any, scale: str) -> None:
    assert loss(values, scale=scale) is None


@given(st.lists(st.integers(-(2**53), 2**53), min_size=2, max_size=40, unique=True))
def test_reported_counts_are_those_of_the_applied_values(numbers: list[int]) -> None:
    values = [float(number) for number in numbers]
    kept = len(np.unique(np.array(values).astype(np.float32)))
    text = loss(values, scale="none")
    assert (text is None) == (kept == len(set(values)))
    assert text is None or f"{len(set(values))} distinct values of the training rows become {kept} as" in text


def test_robust_smooth_scaling_bounds_outliers_and_keeps_their_order() -> None:
    values = [float(value) for value in range(101)]
    transform = fitted(values, scale="robust_smooth")
    low, middle, high, far, farther = applied(transform, [25.0, 50.0, 100.0, 1e6, 1e200])
    assert middle == 0.0
    assert low == pytest.approx(-0.5 / np.sqrt(1 + (0.5 / 3) ** 2), rel=1e-3)
    assert high == pytest.approx(1 / np.sqrt(1 + (1 / 3) ** 2), rel=1e-3)
    assert high < far <= farther <= 3.0


def test_robust_smooth_scaling_of_a_mostly_constant_column_uses_its_range() -> None:
    transform = fitted([0.0] * 9 + [10.0], scale="robust_smooth")
    assert applied(transform, [0.0, 10.0]) == pytest.approx([0.0, 2 / np.hypot(1, 2 / 3)])
    assert applied(fitted([4.0] * 9, scale="robust_smooth"), [4.0, 5.0]) == [0.0, 0.0]
