from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from farandole.errors import DataError
from farandole.preprocess.label import ClassLabel, NumberLabel, label_from_dict, label_from_spec
from farandole.preprocess.summary import Summary
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


def fitted(values: list[float], **spec: Any) -> NumberLabel:
    """Return the label of a regression, fitted on these values."""
    transform: NumberLabel = label("regression", **spec)
    summaries = {}
    for measure, observed in transform.observe(pa.array(values)).items():
        summaries[measure] = Summary()
        summaries[measure].add(observed)
    return transform.learn(summaries)


def test_number_to_predict_is_unchanged_without_a_scale() -> None:
    transform = fitted([5.0, 6.0], scale="none")
    result = transform.apply(pa.array([1, -2, 3], pa.int32()))
    assert result.dtype == np.float32
    assert result.tolist() == [1.0, -2.0, 3.0]
    assert transform.schema.in_units(result).tolist() == [1.0, -2.0, 3.0]


def test_number_to_predict_has_mean_0_and_deviation_1_in_training() -> None:
    transform = fitted([2.0, 4.0, 6.0])
    assert transform.fitted
    result = transform.apply(pa.array([2.0, 4.0, 6.0]))
    assert result.dtype == np.float32
    assert result.tolist() == pytest.approx([-math.sqrt(1.5), 0, math.sqrt(1.5)])
    assert transform.schema.in_units(result).tolist() == pytest.approx([2.0, 4.0, 6.0], rel=1e-7)


def test_numbers_that_float32_cannot_distinguish_are_kept() -> None:
    values = [1_700_000_000.0 + number for number in range(200)]
    transform = fitted(values)
    result = transform.apply(pa.array(values))
    assert len(set(result.tolist())) == 200
    assert np.abs(transform.schema.in_units(result) - values).max() < 1e-4


def test_label_of_a_single_training_row_becomes_zero() -> None:
    assert fitted([0.1]).apply(pa.array([0.1, 1.1])).tolist() == pytest.approx([0, 1])


@given(
    st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=2, max_size=50),
    st.sampled_from(["standard", "none"]),
    st.sampled_from(["log", "none"]),
)
def test_label_in_units_is_the_raw_label(values: list[float], scale: str, transform: str) -> None:
    """The error is a rounding error of float32, relative to the spread of what is learned."""
    raw = np.abs(values) if transform == "log" else np.array(values)
    assume(np.ptp(np.log1p(raw) if transform == "log" else raw) > 0)
    fit = fitted(raw.tolist(), scale=scale, transform=transform)
    found = fit.schema.in_units(fit.apply(pa.array(raw)))
    learned = np.log1p(raw) if transform == "log" else raw
    spread = np.abs(learned).max() if scale == "none" else np.ptp(learned) + 1e-9 * np.abs(learned).max()
    back = np.log1p(found) if transform == "log" else found
    assert np.abs(back - learned).max() <= 1e-6 * spread + 1e-12
    assert label_from_dict(fit.to_dict()) == fit


def test_logarithm_of_prices_is_learned_and_inverted() -> None:
    prices = [0.0, 3.5, 120.0, 18_000.0]
    transform = fitted(prices, transform="log")
    logs = np.log1p(prices)
    assert transform.apply(pa.array(prices)) == pytest.approx((logs - logs.mean()) / logs.std(), rel=1e-6)
    assert transform.schema.in_units(transform.apply(pa.array(prices))) == pytest.approx(prices, rel=1e-6, abs=1e-6)


def test_prediction_far_beyond_the_labels_stays_finite() -> None:
    column = fitted([1.0, 2.0], transform="log").schema
    assert np.isfinite(column.in_units(np.array([1e9, -1e9], np.float32))).all()
    assert column.in_units(np.array([-1e9]))[0] == 0


def test_negative_label_without_a_logarithm_is_rejected() -> None:
    transform = label("regression", transform="log")
    problem = (
        r"column y: 2 of a batch of 3 rows are negative, such as -3, and `transform: log` needs labels of 0 or more"
    )
    with pytest.raises(DataError, match=problem):
        transform.observe(pa.array([1.0, -3.0, -1.0]))
    with pytest.raises(DataError, match="are negative, such as -3"):
        fitted([1.0, 2.0], transform="log").apply(pa.array([-3.0]))


def test_infinite_training_label_is_rejected() -> None:
    with pytest.raises(DataError, match="column y: 1 of 2 training rows hold an infinite number"):
        fitted([1.0, math.inf])


def test_training_split_without_rows_has_no_label_to_scale() -> None:
    with pytest.raises(DataError, match="column y: no training rows; fix the query or the split"):
        label("regression").learn({})


@pytest.mark.parametrize("spec", [{}, {"scale": "none"}, {"transform": "log"}])
def test_number_that_is_the_same_in_all_training_rows_is_rejected(spec: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"column y: all 3 training rows are 3\.5, so there is nothing to predict; fix"):
        fitted([3.5] * 3, **spec)


def test_label_of_an_older_dataset_is_not_scaled() -> None:
    transform = label_from_dict({"spec": {"column": "y", "kind": "regression"}, "classes": []})
    assert transform.fitted
    assert transform.apply(pa.array([7.0])).tolist() == [7.0]


@pytest.mark.parametrize("values", [[1.0, None], [1.0, math.nan]])
def test_missing_number_is_rejected(values: list[float | None]) -> None:
    with pytest.raises(DataError, match="1 of a batch of 2 rows have no label"):
        fitted([1.0, 2.0]).apply(pa.array(values, pa.float64()))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39])
def test_number_beyond_float32_is_rejected(value: float) -> None:
    with pytest.raises(DataError, match="is not a finite float32; filter it out in the query"):
        fitted([1.0, 2.0]).apply(pa.array([1.0, value]))


def test_text_as_a_number_to_predict_is_rejected() -> None:
    with pytest.raises(DataError, match="column y: 'x' is not a number"):
        label("regression").observe(pa.array(["1", "x"]))


@pytest.mark.parametrize(
    ("transform", "outputs"),
    [
        (learned("binary", {"a": 1, "b": 1}, positive="a"), 1),
        (learned("multiclass", {"a": 1, "b": 1, "c": 1}), 3),
        (fitted([1.0, 3.0]), 1),
    ],
)
def test_label_survives_a_round_trip_and_has_its_column(transform: ClassLabel | NumberLabel, outputs: int) -> None:
    assert label_from_dict(transform.to_dict()) == transform
    assert transform.schema.column == "y"
    assert transform.schema.num_outputs == outputs


def label_loss(values: list[float], **spec: Any) -> str | None:
    """Return what is said about distinct labels that are lost."""
    summary = Summary()
    summary.add(np.array(values))
    return fitted(values, **spec).find_loss(summary)


def test_distinct_labels_that_float32_loses_are_counted() -> None:
    seconds = [1_700_000_000.0 + number for number in range(200)]
    assert label_loss(seconds) is None
    text = label_loss(seconds, scale="none")
    assert text is not None
    assert "column y: 200 distinct labels of the training rows become 3 as float32; remove `scale: none`" in text
    text = label_loss([*map(float, range(1, 101)), 1e15])
    assert text is not None
    assert "become 2 as float32; set `transform: log`, or filter out extremes" in text
    assert label_loss([*map(float, range(1, 101)), 1e15], transform="log") is None
