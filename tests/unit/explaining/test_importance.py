from __future__ import annotations

import numpy as np
import pytest
import torch

from farandole.explaining import ExplainedModel, Explainer
from farandole.explaining.importance import Metric, Sample, mean_attributions, measure, named_metric, permute_column
from farandole.shards import LabelColumn
from farandole.training.evaluation.metrics import compute_metrics
from tests.support import labels
from tests.support.explained import features_of, linear, made_model

NUMBERS = {"copy": {"kind": "numeric"}, "price": {"kind": "numeric"}}
COLUMNS = {"binary": labels.BINARY, "multiclass": labels.MULTICLASS, "regression": labels.REGRESSION}


def copying_model() -> tuple[ExplainedModel, Sample]:
    """Return a model that returns one column and ignores the other, and rows whose label is that column."""
    model = made_model(linear, NUMBERS, "regression", weights=[[1.0, 0.0]])
    features = features_of(model)
    return model, Sample(features, features["dense"][:, 0].copy(), "made rows")


def test_a_column_that_is_the_label_has_the_whole_metric() -> None:
    model, sample = copying_model()
    metric = named_metric("r2", model.label)
    assert sample.label is not None
    base = measure(model, sample.features, sample.label, metric)
    assert base == pytest.approx(1)
    found = permute_column(model, sample, "copy", metric, base, repeats=8, seed=0)
    # A shuffled copy is as wrong as another row's label: R2 is -1 where all of it was explained.
    assert found["mean"] == pytest.approx(2, abs=0.25)
    assert found["deviation"] == pytest.approx(float(np.std(found["values"])))
    assert len(found["values"]) == 8


def test_an_ignored_column_has_exactly_no_importance() -> None:
    model, sample = copying_model()
    metric = named_metric("rmse", model.label)
    base = measure(model, sample.features, sample.label, metric)
    found = permute_column(model, sample, "price", metric, base, repeats=3, seed=0)
    assert found == {"mean": 0, "deviation": 0, "values": [0, 0, 0]}
    means = mean_attributions(Explainer(model).attribute(sample.features))
    assert means["price"] == {"mean_size": 0, "mean": 0, "share": 0}
    assert means["copy"]["share"] == 1


def test_an_error_that_grows_is_a_positive_importance() -> None:
    model, sample = copying_model()
    metric = named_metric("rmse", model.label)
    base = measure(model, sample.features, sample.label, metric)
    assert metric.lower_is_better
    assert permute_column(model, sample, "copy", metric, base, repeats=1, seed=0)["mean"] > 0


def test_the_seed_decides_the_permutations_and_features_stay_as_they_are() -> None:
    model, sample = copying_model()
    metric = named_metric("r2", model.label)
    before = {name: values.copy() for name, values in sample.features.items()}
    first, again, other = (
        permute_column(model, sample, "copy", metric, 1.0, repeats=2, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert all(np.array_equal(values, before[name]) for name, values in sample.features.items())


def test_all_values_of_a_column_move_together() -> None:
    features = {
        "size": {"kind": "numeric", "indicator": True},
        "size_level": {"kind": "bucket", "column": "size", "quantiles": 3, "encoding": "onehot"},
    }
    model = made_model(linear, features, "regression", weights=[[1.0] * 6])
    rows = features_of(model)
    seen = []

    def record(outputs: np.ndarray, label: np.ndarray) -> float:
        seen.append(np.sort(outputs[:, 0]))
        return 0.0

    metric = Metric("recorded", record, lower_is_better=False)
    sample = Sample(rows, np.zeros(len(rows["dense"]), np.float32), "made rows")
    permute_column(model, sample, "size", metric, 0.0, repeats=1, seed=0)
    measure(model, rows, sample.label, metric)
    assert seen[0] == pytest.approx(seen[1], rel=1e-6)


@pytest.mark.parametrize("kind", COLUMNS)
def test_metrics_are_those_of_the_training(kind: str) -> None:
    column: LabelColumn = COLUMNS[kind]
    outputs, label = labels.sample(column)
    names = {
        "binary": ("roc_auc", "average_precision", "accuracy", "log_loss"),
        "multiclass": ("accuracy", "log_loss", "macro_f1"),
        "regression": ("rmse", "mae", "r2"),
    }[kind]
    expected = compute_metrics(names, outputs, label, column)
    for name in names:
        found = named_metric(name, column).compute(outputs.numpy(), label.numpy())
        assert found == pytest.approx(expected[name], rel=1e-4), name


def test_the_metric_of_a_user_is_replaced_by_the_first_one_of_the_label() -> None:
    assert named_metric("network:first_output", labels.BINARY).name == "roc_auc"
    assert named_metric(None, labels.REGRESSION).name == "rmse"


def test_one_class_has_no_roc() -> None:
    metric = named_metric("roc_auc", labels.BINARY)
    assert metric.compute(torch.zeros(3, 1).numpy(), np.zeros(3, np.int32)) is None
