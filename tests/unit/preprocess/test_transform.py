from __future__ import annotations

import numpy as np
import pytest

from farandole.preprocess.numeric import NumericTransform
from farandole.preprocess.tensor import TensorTransform
from farandole.preprocess.transform import onehot
from farandole.spec import Numeric, Tensor


def test_onehot_has_a_column_for_each_value_and_one_for_missing() -> None:
    columns = onehot(np.array([3, 2, 0, 1], np.int32), first=2, missing=1, num_values=2)
    assert columns.dtype == np.float32
    assert columns.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert onehot(np.array([], np.int32), first=2, missing=1, num_values=2).shape == (0, 3)


def test_errors_start_with_the_feature_and_its_column() -> None:
    assert NumericTransform("x", "raw", Numeric(kind="numeric")).origin == "features.x: column raw"


def test_transform_without_learned_values_has_nothing_to_observe() -> None:
    transform = TensorTransform("x", "raw", Tensor(kind="tensor", shape=(2,)))
    assert transform.fitted
    with pytest.raises(AssertionError, match="x has nothing to learn"):
        transform.learn({})
