from __future__ import annotations

import dataclasses
import datetime
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from farandole.errors import DataError
from farandole.preprocess import LABEL_KEY, Observations, Preprocessing, find_losses, learn, merge, statistics, summary
from farandole.preprocess.label import label_from_spec
from farandole.spec import Label

Declare = Callable[..., Preprocessing]
FEATURES: dict[str, Any] = {
    "x": {"kind": "numeric"},
    "plain": {"kind": "numeric", "scale": "none", "column": "x"},
    "c": {"kind": "categorical"},
    "h": {"kind": "categorical", "encoding": "hash", "buckets": 4, "column": "c"},
}
TYPES = {"x": "double", "c": "string"}


def batch(x: list[float | None], c: list[str | None], y: list[str | None]) -> pa.RecordBatch:
    """Return raw rows."""
    columns = {"x": pa.array(x, pa.float64()), "c": pa.array(c, pa.string()), "y": pa.array(y, pa.string())}
    return pa.record_batch(columns)


ROWS = batch([1.0, None, 3.0], ["a", "a", None], ["n", "p", "n"])


def observed(preprocessing: Preprocessing, *batches: pa.RecordBatch) -> Observations:
    """Return the observations of one task."""
    observations = Observations()
    for rows in batches:
        observations.add(preprocessing, rows)
    return observations


def test_pass_observes_only_what_is_not_yet_learned(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MAX_COUNTED", 1)
    first = declare(FEATURES, TYPES)
    observations = observed(first, ROWS)
    assert set(observations.summaries) == {"x", "plain"}
    assert observations.counts == {"c": Counter(a=2), LABEL_KEY: Counter(n=2, p=1)}
    assert (observations.summaries["x"].rows, observations.summaries["x"].missing) == (3, 1)
    second = learn(first, observations)
    assert not second.fitted
    observations = observed(second, ROWS)
    assert set(observations.summaries) == {"x"}
    assert observations.counts == {}
    assert learn(second, observations).fitted


def test_one_pass_is_enough_for_few_distinct_values(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    first = declare(FEATURES, TYPES)
    once = learn(first, observed(first, ROWS))
    assert once.fitted
    monkeypatch.setattr(summary, "MAX_COUNTED", 1)
    second = learn(first, observed(first, ROWS))
    assert learn(second, observed(second, ROWS)).to_dict() == once.to_dict()


def test_merged_parts_equal_all_rows(declare: Declare) -> None:
    preprocessing = declare(FEATURES, TYPES)
    others = batch([7.0], ["b"], ["p"])
    whole = observed(preprocessing, ROWS, others)
    parts = [observed(preprocessing, ROWS), observed(preprocessing, others), Observations()]
    assert merge(parts) == whole
    assert merge(parts[::-1]) == whole


def test_observations_can_be_pickled(declare: Declare) -> None:
    observations = observed(declare(FEATURES, TYPES), ROWS)
    assert pickle.loads(pickle.dumps(observations)) == observations


def test_learning_does_not_modify_the_old_preprocessing(declare: Declare) -> None:
    preprocessing = declare(FEATURES, TYPES)
    learn(preprocessing, observed(preprocessing, ROWS))
    assert preprocessing == declare(FEATURES, TYPES)


def test_row_without_a_label_is_rejected(declare: Declare) -> None:
    with pytest.raises(DataError, match="1 of a batch of 2 rows have no label"):
        observed(declare(FEATURES, TYPES), batch([1.0, 2.0], ["a", "b"], ["n", None]))


def test_training_split_without_rows_is_rejected(declare: Declare) -> None:
    with pytest.raises(DataError):
        learn(declare(FEATURES, TYPES), merge([]))


def test_features_that_lose_distinct_values_are_listed(declare: Declare) -> None:
    preprocessing = declare(FEATURES, TYPES)
    rows = batch([1.7e9, 1.7e9 + 1, None], ["a", "b", None], ["n", "p", "n"])
    observations = observed(preprocessing, rows)
    (text,) = find_losses(learn(preprocessing, observations), observations)
    assert text.startswith("features.plain: column x: 2 distinct values of the training rows become 1 as float32")


def test_statistics_count_missing_categories_and_give_the_range_of_dates(declare: Declare) -> None:
    features = {
        "c": {"kind": "categorical"},
        "h": {"kind": "categorical", "encoding": "hash", "buckets": 4},
        "t": {"kind": "time", "parts": ["month"]},
    }
    preprocessing = declare(features, {"c": "string", "h": "string", "t": "timestamp"})
    days = [datetime.datetime(2024, 5, 2, 13), None, datetime.datetime(2023, 1, 9)]
    rows = pa.record_batch(
        {
            "c": pa.array(["a", None, "a"]),
            "h": pa.array([None, None, "x"]),
            "t": pa.array(days, pa.timestamp("us")),
            "y": pa.array(["n", "p", "n"]),
        }
    )
    parts = merge([observed(preprocessing, rows.slice(0, 1)), observed(preprocessing, rows.slice(1))])
    found = statistics(preprocessing, parts)
    assert found["c"] == {"rows": 2, "distinct": 1, "most_frequent": [["a", 2]], "missing": 1}
    assert found["h"] == {"rows": 3, "missing": 2}
    assert found["t"] == {
        "rows": 3,
        "missing": 1,
        "earliest": "2023-01-09T00:00:00",
        "latest": "2024-05-02T13:00:00",
    }


def test_statistics_of_the_label_list_all_classes(declare: Declare) -> None:
    classes = [f"class {number:02d}" for number in range(30)]
    preprocessing = declare(FEATURES, TYPES)
    label = Label.model_validate({"column": "y", "kind": "multiclass"})
    preprocessing = dataclasses.replace(preprocessing, label=label_from_spec(label))
    found = statistics(preprocessing, observed(preprocessing, batch([1.0] * 60, classes * 2, classes * 2)))
    assert len(found["c"]["most_frequent"]) == 10
    assert found["y"]["most_frequent"] == [[name, 2] for name in classes]


def test_integers_beyond_float64_are_counted(declare: Declare) -> None:
    preprocessing = declare({"x": {"kind": "numeric"}}, {"x": "bigint"})
    rows = pa.record_batch({"x": [2**60, 2**60 + 1, None, 2**53 + 1, 7], "y": ["n", "p", "n", "p", "n"]})
    observations = observed(preprocessing, rows)
    (text,) = find_losses(learn(preprocessing, observations), observations)
    assert text.startswith("features.x: column x: 2 integers of the training rows are beyond 2^53 and were rounded")
    assert set(statistics(preprocessing, observations)) == {"x", "y"}


def test_integers_that_float64_holds_are_not_reported(declare: Declare) -> None:
    preprocessing = declare({"x": {"kind": "numeric"}}, {"x": "bigint"})
    rows = pa.record_batch({"x": [2**53, -(2**53), 2**60], "y": ["n", "p", "n"]})
    observations = observed(preprocessing, rows)
    assert set(observations.summaries) == {"x"}
