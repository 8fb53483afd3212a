from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from farandole.errors import DataError
from farandole.preprocess.values import as_numbers, as_text, as_time


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (pa.array([True, False, None]), [1.0, 0.0, np.nan]),
        (pa.array([1, 2**53, None]), [1.0, 2.0**53, np.nan]),
        (pa.array([2**63 - 1]), [2.0**63]),
        (pa.array([0.5, float("nan"), None]), [0.5, np.nan, np.nan]),
        (pa.array([0.5, None], pa.float32()), [0.5, np.nan]),
        (pa.array([decimal.Decimal("1.25"), None], pa.decimal128(9, 2)), [1.25, np.nan]),
        (pa.array([None, None]), [np.nan, np.nan]),
        (pa.array([], pa.int64()), []),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_numbers_are_float64_with_nan_for_missing(values: pa.Array, numbers: list[float]) -> None:
    result = as_numbers("x", values)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, numbers)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([1, None]), ["1", None]),
        (pa.array([1.5, 2.0, float("nan"), None]), ["1.5", "2", None, None]),
        (pa.array([True, None]), ["true", None]),
        (pa.array([datetime.date(2013, 1, 31)]), ["2013-01-31"]),
        (pa.array(["a", None], pa.large_string()), ["a", None]),
        (pa.array([None, None]), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_text_is_the_same_on_every_machine(values: pa.Array, text: list[Any]) -> None:
    result = as_text("x", values)
    assert result.type == pa.string()
    assert result.to_pylist() == text


@pytest.mark.parametrize("values", [pa.array(["1", "NaN"]), pa.array([[1]]), pa.array([datetime.date(2013, 1, 1)])])
def test_column_that_is_not_numeric_is_rejected_by_name(values: pa.Array) -> None:
    with pytest.raises(DataError, match=r"column x: .* is not a number"):
        as_numbers("x", values)


def test_texts_are_numbers_if_each_of_them_is_a_plain_number() -> None:
    texts = pa.array(["1.10", " 2", None, "+3", "1E2", "007"])
    np.testing.assert_array_equal(as_numbers("x", texts), [1.1, 2, np.nan, 3, 100, 7])
    for text in ("inf", "nan", "1D", "0x1F", "1,5", "", "1_0"):
        with pytest.raises(DataError, match=f"column x: {text!r} is not a number"):
            as_numbers("x", pa.array(["1", text]))


def test_times_lose_their_zone_and_keep_their_instant() -> None:
    instant = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)
    times = as_time("x", pa.array([instant], pa.timestamp("us", tz="Asia/Tokyo")))
    assert times.type == pa.timestamp("us")
    assert times.to_pylist() == [instant.replace(tzinfo=None)]
