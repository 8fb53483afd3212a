from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from farandole.errors import DatasetError
from farandole.serving.compression.measure import read_rows, relative_drop
from farandole.shards import Dataset
from tests.support.made_data import Made


@pytest.mark.parametrize(
    ("metric", "before", "after", "drop"),
    [("roc_auc", 0.8, 0.6, 0.25), ("rmse", 2.0, 3.0, 0.5), ("rmse", 2.0, 1.0, -0.5), ("accuracy", 0.0, 0.5, -0.5)],
)
def test_drop_is_a_share_in_the_direction_that_is_worse(metric: str, before: float, after: float, drop: float) -> None:
    assert relative_drop(metric, before, after) == pytest.approx(drop)


def test_rows_keep_their_order_and_labels(made: Callable[..., Made]) -> None:
    dataset = Dataset(made("binary").path)
    batches = read_rows(dataset, "test")
    labels = np.concatenate([label for _, label in batches])
    split = dataset.split("test")
    expected = np.concatenate([split.block(number)["label"] for number in range(len(split.block_rows))])
    np.testing.assert_array_equal(labels, expected)
    assert {len(values) for features, _ in batches for values in features.values()} == {150}
    assert sum(len(label) for _, label in read_rows(dataset, "train", 10)) == 962  # whole batches


def test_split_without_rows_is_refused(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farandole.serving.compression.measure.EvaluationLoader", lambda *_, **__: [])
    dataset = Dataset(made("binary").path)
    with pytest.raises(DatasetError, match=r"the split test has no rows; prepare the dataset with some in data\.split"):
        read_rows(dataset, "test")
