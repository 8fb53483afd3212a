from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pytest

from farandole.explaining.dependence import POINTS, partial_dependence, prediction_curves
from farandole.explaining.importance import Sample
from tests.support import labels
from tests.support.explained import TABLE, builder_model, features_of, linear, made_model


def sample_of(model_features: dict[str, np.ndarray]) -> Sample:
    return Sample(model_features, None, "made rows")


def test_the_mean_prediction_of_a_linear_model_grows_with_its_column() -> None:
    features = {"size": {"kind": "numeric"}, "price": {"kind": "numeric"}}
    model = made_model(linear, features, "regression", weights=[[2.0, 1.0]])
    rows = features_of(model)
    found = partial_dependence(model, sample_of(rows), "size")
    transform = model.preprocessing.transforms[0]
    others = model.label.in_units(rows["dense"][:, 1].astype(float))
    for point in found["points"]:
        value = transform.factor * (point["value"] - transform.offset)  # type: ignore[attr-defined]
        expected = others.mean() + 2 * value * model.label.scale.deviation
        assert point["label"]["mean"] == pytest.approx(expected, rel=1e-4)
        assert point["label"]["p10"] < point["label"]["mean"] < point["label"]["p90"]
    assert found["kind"] == "number"
    assert 2 < len(found["points"]) <= POINTS


def test_categories_and_times_have_their_own_values() -> None:
    model = builder_model("tabular")
    sample = sample_of(features_of(model, 30))
    colours = partial_dependence(model, sample, "colour")
    assert colours["kind"] == "category"
    assert {point["value"] for point in colours["points"]} <= {f"c{number}" for number in range(12)}
    times = partial_dependence(model, sample, "at")
    first, last = (datetime.datetime.fromisoformat(times["points"][index]["value"]) for index in (0, -1))
    assert first < last
    assert times["kind"] == "time"


@pytest.mark.parametrize("column", ["town", "vector", "picture"])
def test_columns_without_known_values_have_no_dependence(column: str) -> None:
    model = builder_model("tabular")  # the values of hashed categories are not in the statistics
    assert partial_dependence(model, sample_of(features_of(model, 10)), column) is None


def test_without_statistics_there_is_no_dependence() -> None:
    model = dataclasses.replace(builder_model("tabular"), statistics={})
    sample = sample_of(features_of(model, 10))
    assert all(partial_dependence(model, sample, column) is None for column in model.preprocessing.columns)
    assert {feature.get("column", name) for name, feature in TABLE.items()} <= set(model.preprocessing.columns)


def test_curves_are_probabilities_of_classes_or_values() -> None:
    outputs = np.array([[0.0], [2.0]], np.float32)
    assert prediction_curves(outputs, labels.BINARY)["yes"] == pytest.approx([0.5, 0.880797], abs=1e-6)
    assert prediction_curves(outputs, labels.REGRESSION)["y"].tolist() == [0, 2]
    several = prediction_curves(np.array([[0, 0, 0, 0], [9, 0, 0, 0]], np.float32), labels.MULTICLASS)
    assert sum(several.values()) == pytest.approx([1, 1])
    assert several["a"][1] > 0.99
