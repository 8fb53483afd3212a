from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from farandole.errors import DataError
from farandole.preprocess.tensor import TensorTransform
from farandole.shards import Group
from farandole.spec import Tensor


def tensor(*shape: int, **spec: Any) -> TensorTransform:
    """Return a transform of this shape."""
    return TensorTransform("x", "raw", Tensor.model_validate({"kind": "tensor", "shape": shape, **spec}))


def applied(transform: TensorTransform, values: pa.Array) -> np.ndarray:
    """Return the tensor of raw values."""
    return transform.arrays(values)["x"]


def test_group_is_separate() -> None:
    assert tensor(2, 3, dtype="int16").groups == (
        Group(name="x", kind="tensor", features=("x",), shape=(2, 3), value_type="int16"),
    )
    assert tensor(2).fitted


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], pa.list_(pa.int32())),
        pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], pa.list_(pa.list_(pa.float64()))),
        pa.array([np.arange(1, 5, dtype="<f4").tobytes(), np.arange(5, 9, dtype="<f4").tobytes()]),
        pa.array([[0], [1, 2, 3, 4], [5, 6, 7, 8]], pa.list_(pa.float32())).slice(1),
        pa.array([b"xyz", *(np.arange(n, n + 4, dtype="<f4").tobytes() for n in (1, 5))]).slice(1),
    ],
    ids=["flat", "nested", "bytes", "sliced lists", "sliced bytes"],
)
def test_lists_and_bytes_become_the_same_tensor(values: pa.Array) -> None:
    result = applied(tensor(2, 2), values)
    assert result.dtype == np.float32
    assert result.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_empty_batch_becomes_an_empty_tensor() -> None:
    for values in (pa.array([], pa.binary()), pa.array([], pa.list_(pa.float32()))):
        assert applied(tensor(2, 3), values).shape == (0, 2, 3)


@given(
    hnp.arrays(
        st.sampled_from(["float32", "float64", "int8", "int16", "int32", "int64", "uint8"]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=4),
        elements=st.integers(0, 100),
    )
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_every_type_and_shape_is_preserved(array: np.ndarray) -> None:
    transform = tensor(*array.shape[1:], dtype=str(array.dtype))
    lists = applied(transform, pa.array(array.tolist()))
    raw = applied(transform, pa.array([row.tobytes() for row in array]))
    for result in (lists, raw):
        assert (result.dtype, result.shape, result.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert TensorTransform.from_dict(transform.to_dict()) == transform


def test_minus_zero_becomes_zero() -> None:
    values = np.array([-0.0, 1.0], np.float32)
    for raw in (pa.array([values.tolist()]), pa.array([values.tobytes()])):
        assert not np.signbit(applied(tensor(2), raw)).any()


@pytest.mark.parametrize(
    ("transform", "values", "problem"),
    [
        (tensor(3), pa.array([[1.0, 2.0, 3.0], [1.0, 2.0]]), r"1 of 2 have 2 values .* float32\[3\] needs 3"),
        (tensor(2, 2), pa.array([[[1, 2]], [[1, 2]]]), "2 of 2 have 1 values"),
        (tensor(2, 2), pa.array([[[1, 2], [3]]]), "1 of 2 have 1 values"),
        (tensor(2), pa.array([b"12345678", b"1"]), "1 of 2 have 1 bytes .* needs 8"),
        (tensor(2), pa.array([[1.0, 2.0], None]), "1 of a batch of 2 rows have no array.*WHERE raw IS NOT NULL"),
        (tensor(2), pa.array([[1.0, None]]), "1 values inside the arrays of a batch are missing"),
        (tensor(2), pa.array([[1.0, math.nan]]), "1 values of a batch are not finite as float32"),
        (tensor(2), pa.array([[1.0, 1e300]]), "1 values of a batch are not finite as float32"),
        (tensor(2), pa.array([np.array([1, np.inf], "<f4").tobytes()]), "not finite"),
        (tensor(2, dtype="uint8"), pa.array([[1, 256]]), "int64 does not fit into uint8"),
        (tensor(2, dtype="uint8"), pa.array([[1, -1]]), "does not fit into uint8"),
        (tensor(2, dtype="int32"), pa.array([[1.0, 1.5]]), "double does not fit into int32"),
        (tensor(1), pa.array([[2**53 + 1]]), "int64 does not fit into float32"),
        (tensor(1), pa.array([["a"]]), "string does not fit into float32"),
        (tensor(1), pa.array([1.0]), r"double is not an array of shape \[1\]"),
        (tensor(4), pa.array([[[1, 2], [3, 4]]]), "1 of 1 have 2 values"),
    ],
)
def test_values_that_do_not_fit_are_rejected(transform: TensorTransform, values: pa.Array, problem: str) -> None:
    with pytest.raises(DataError, match=rf"^features\.x: column raw: .*{problem}"):
        transform.arrays(values)


@pytest.mark.parametrize("kind", [pa.binary(), pa.list_(pa.int32()), pa.list_(pa.list_(pa.float64()))], ids=str)
def test_typical_value_fits(kind: pa.DataType) -> None:
    transform = tensor(2, 3)
    assert applied(transform, pa.array([transform.typical(kind)], kind)).tolist() == [[[0.0] * 3] * 2]
