from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.preprocess import Summary
from farandole.preprocess.bucket import BucketTransform
from farandole.preprocess.transform import VALUES
from farandole.spec import Bucket


def fitted(values: Sequence[float | None], **spec: Any) -> BucketTransform:
    """Return a transform that is fitted on these values."""
    transform = BucketTransform("x", "raw", Bucket.model_validate({"kind": "bucket", **spec}))
    summary = Summary()
    summary.add(transform.observe(pa.array(values, pa.float64()))[VALUES])
    return transform.learn({VALUES: summary})


def ids(transform: BucketTransform, values: Sequence[float | None]) -> list[int]:
    """Return the ids of values."""
    result = transform.apply(pa.array(values, pa.float64()))
    assert result.dtype == np.int32
    assert result.shape == (len(values), 1)
    return [int(number) for number in result[:, 0]]


def test_boundary_belongs_to_the_interval_above_it() -> None:
    transform = fitted([], boundaries=[0, 2.5])
    assert transform.cardinalities == (4,)
    assert ids(transform, [-math.inf, -1, -0.0, 0, 2.4, 2.5, 1e300, math.inf]) == [1, 1, 2, 2, 2, 3, 3, 3]


def test_missing_is_0() -> None:
    assert ids(fitted([], boundaries=[0]), [None, math.nan, 5]) == [0, 0, 2]


def test_quantiles_have_about_equally_many_rows() -> None:
    values = np.random.default_rng(0).lognormal(0, 2, 10_000).tolist()
    transform = fitted(values, quantiles=8)
    counts = np.bincount(ids(transform, values))
    assert counts[0] == 0
    assert counts[1:].tolist() == pytest.approx([1250] * 8, abs=20)


def test_equal_quantiles_make_fewer_intervals() -> None:
    transform = fitted([0.0] * 90 + [1.0] * 10, quantiles=20)
    assert transform.boundaries == (1.0,)
    assert ids(transform, [0.0, 0.5, 1.0, 2.0]) == [1, 1, 2, 2]
    assert ids(fitted([0.0] * 99 + [7.0], quantiles=4), [-1.0, 0.0, 0.5, 7.0]) == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([7.0, 7.0, None], "all training rows hold 7"),
        ([None, None], "no training row has a value"),
        ([], "no training"),
    ],
)
def test_column_without_two_values_is_rejected(values: Sequence[float | None], problem: str) -> None:
    with pytest.raises(DataError, match=rf"features.x: column raw: {problem}.*set `boundaries`"):
        fitted(values)


def test_onehot_has_a_named_column_for_each_interval_and_for_missing_values() -> None:
    transform = fitted([], boundaries=[0, 2.5], encoding="onehot")
    assert transform.features == ("x<0", "0<=x<2.5", "x>=2.5", "x_missing")
    assert transform.cardinalities == ()
    result = transform.apply(pa.array([-1.0, 0.0, 9.0, None]))
    assert result.dtype == np.float32
    assert result.tolist() == np.eye(4).tolist()


@given(st.lists(st.one_of(st.none(), st.floats(-1e100, 1e100)), min_size=1, max_size=40), st.integers(2, 12))
@hypothesis_settings(max_examples=40, deadline=None)
def test_ids_ascend_with_numbers(values: Sequence[float | None], quantiles: int) -> None:
    present = [value for value in values if value is not None]
    if len(set(present)) < 2:
        return
    transform = fitted(values, quantiles=quantiles)
    assert len(set(ids(transform, present))) > 1
    rising = ids(transform, sorted(present))
    assert rising == sorted(rising)
    assert set(rising) <= set(range(1, transform.cardinalities[0]))
    assert BucketTransform.from_dict(transform.to_dict()) == transform
