from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from farandole.errors import DataError
from farandole.preprocess.label import ClassLabel, NumberLabel, label_from_dict, label_from_spec
from farandole.spec import Label


def label(kind: str, **spec: Any) -> Any:
    """Return the declared label."""
    return label_from_spec(Label.model_validate({"column": "y", "kind": kind, **spec}))


def learned(kind: str, counts: dict[str, int], **spec: Any) -> ClassLabel:
    """Return the label with its classes."""
    transform: ClassLabel = label(kind, **spec).learn(Counter(counts))
    return transform


def test_classes_are_sorted_and_the_last_one_of_two_is_positive() -> None:
    transform = learned("binary", {"true": 1, "false": 9})
    assert transform.classes == ("false", "true")
    assert transform.apply(pa.array([True, False, True])).tolist() == [1, 0, 1]
    assert transform.apply(pa.array(["true"])).dtype == np.int32


@pytest.mark.parametrize(
    ("found", "classes"),
    [
        (["10", "9", "2"], ("2", "9", "10")),
        (["-1", "1", "0"], ("-1", "0", "1")),
        (["b", "10", "a", "9"], ("9", "10", "a", "b")),
        (["1.5", "1", "10"], ("1", "10", "1.5")),
        (["--5", "-", "3"], ("3", "-", "--5")),
        (["²", "3"], ("3", "²")),
    ],
)
def test_integers_sort_as_numbers_and_before_text(found: list[str], classes: tuple[str, ...]) -> None:
    assert learned("multiclass", dict.fromkeys(found, 1)).classes == classes
    assert learned("multiclass", dict.fromkeys(found[::-1], 7)).classes == classes


@pytest.mark.parametrize(
    ("positive", "counts", "classes"),
    [
        ("no", {"yes": 1, "no": 1}, ("yes", "no")),
        ("yes", {"yes": 1, "no": 1}, ("no", "yes")),
        (False, {"true": 1, "false": 1}, ("true", "false")),
        (0, {"0": 1, "1": 1}, ("1", "0")),
    ],
)
def test_declared_positive_class_is_the_last_one(
    positive: Any, counts: dict[str, int], classes: tuple[str, ...]
) -> None:
    assert learned("binary", counts, positive=positive).classes == classes


def test_positive_class_that_does_not_occur_is_rejected() -> None:
    with pytest.raises(DataError, match="positive 'maybe' does not occur; the values are no, yes"):
        learned("binary", {"yes": 1, "no": 1}, positive="maybe")


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_single_class_is_rejected(kind: str) -> None:
    with pytest.raises(DataError, match=f"column y: all 5 training rows are 'a'; a {kind} label needs two classes"):
        learned(kind, {"a": 5})


def test_training_split_without_rows_is_rejected() -> None:
    with pytest.raises(DataError, match="no training rows"):
        learned("binary", {})


def test_third_class_is_rejected_for_a_binary_label() -> None:
    with pytest.raises(DataError, match=r"column y: 3 values \(a, b, c\); a binary label has two"):
        learned("binary", {"a": 1, "b": 1, "c": 1})


def test_long_list_of_classes_is_shortened() -> None:
    with pytest.raises(DataError) as caught:
        learned("binary", {f"class{number:04d}": 1 for number in range(1000)})
    assert "1000 values" in str(caught.value)
    assert ", …" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("values", [pa.array(["a", None, "b"]), pa.array([1.0, math.nan, 2.0])], ids=["null", "nan"])
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_missing_class_is_rejected(kind: str, values: pa.Array) -> None:
    problem = "column y: 1 of a batch of 3 rows have no label; .* WHERE y IS NOT NULL"
    with pytest.raises(DataError, match=problem):
        label(kind).observe(values)
    with pytest.raises(DataError, match=problem):
        learned(kind, {"a": 1, "b": 1}).apply(values)


def test_class_that_does_not_occur_in_training_is_rejected() -> None:
    with pytest.raises(DataError, match="the class 'c' occurs, but not in any training row"):
        learned("multiclass", {"a": 1, "b": 1}).apply(pa.array(["a", "c"]))


def test_number_to_predict_is_unchanged() -> None:
    transform = label("regression")
    assert transform.fitted
    result = transform.apply(pa.array([1, -2, 3], pa.int32()))
    assert result.dtype == np.float32
    assert result.tolist() == [1.0, -2.0, 3.0]


@pytest.mark.parametrize("values", [[1.0, None], [1.0, math.nan]])
def test_missing_number_is_rejected(values: list[float | None]) -> None:
    with pytest.raises(DataError, match="1 of a batch of 2 rows have no label"):
        label("regression").apply(pa.array(values, pa.float64()))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39])
def test_number_beyond_float32_is_rejected(value: float) -> None:
    with pytest.raises(DataError, match="is not a finite float32; filter it out in the query"):
        label("regression").apply(pa.array([1.0, value]))


def test_text_as_a_number_to_predict_is_rejected() -> None:
    with pytest.raises(DataError, match="column y: 'x' is not a number"):
        label("regression").apply(pa.array(["1", "x"]))


@pytest.mark.parametrize(
    ("transform", "outputs"),
    [
        (learned("binary", {"a": 1, "b": 1}, positive="a"), 1),
        (learned("multiclass", {"a": 1, "b": 1, "c": 1}), 3),
        (label("regression"), 1),
    ],
)
def test_label_survives_a_round_trip_and_has_its_column(transform: ClassLabel | NumberLabel, outputs: int) -> None:
    assert label_from_dict(transform.to_dict()) == transform
    assert transform.schema.column == "y"
    assert transform.schema.num_outputs == outputs
