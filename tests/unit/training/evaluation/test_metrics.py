"""Metrics of a whole split, compared with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from farandole.errors import ModelError
from farandole.spec import METRICS, Job
from farandole.training.evaluation.metrics import class_figures, compute_metrics, measure, predictions
from farandole.training.model_builder import import_user_function
from tests.support.labels import BINARY, MULTICLASS, REGRESSION, sample


def test_log_loss_is_measured_where_a_ranking_is_not_defined(make_job: Callable[..., Job]) -> None:
    job, outputs = make_job(train__metrics=["roc_auc", "accuracy"]), torch.tensor([[-1.0], [-2.0]])
    assert set(measure(job, outputs, torch.tensor([0, 1]), BINARY)) == {"roc_auc", "accuracy"}
    assert set(measure(job, outputs, torch.tensor([0, 0]), BINARY)) == {"accuracy", "log_loss"}
    assert measure(job, outputs[:0], torch.tensor([]), BINARY) == {}


def test_binary_metrics_equal_those_of_scikit_learn() -> None:
    outputs, label = sample(BINARY)
    scores, truth = 1 / (1 + np.exp(-outputs[:, 0].double().numpy())), label.numpy()
    expected = {
        "roc_auc": sk.roc_auc_score(truth, scores),
        "average_precision": sk.average_precision_score(truth, scores),
        "accuracy": sk.accuracy_score(truth, scores > 0.5),
        "log_loss": sk.log_loss(truth, scores),
    }
    assert compute_metrics(METRICS["binary"], outputs, label, BINARY) == pytest.approx(expected, rel=1e-5)


def test_tied_scores_are_ranked_like_in_scikit_learn() -> None:
    outputs, label = sample(BINARY)
    outputs = outputs.round()
    found = compute_metrics(("roc_auc", "average_precision"), outputs, label, BINARY)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(label.numpy(), outputs[:, 0].numpy()), rel=1e-5)
    assert found["average_precision"] == pytest.approx(
        sk.average_precision_score(label.numpy(), outputs[:, 0].numpy()), rel=1e-5
    )


def test_multiclass_metrics_equal_those_of_scikit_learn() -> None:
    outputs, label = sample(MULTICLASS)
    chances = outputs.double().softmax(1).numpy()
    expected = {
        "accuracy": sk.accuracy_score(label.numpy(), chances.argmax(1)),
        "log_loss": sk.log_loss(label.numpy(), chances, labels=[0, 1, 2, 3]),
        "macro_f1": sk.f1_score(label.numpy(), chances.argmax(1), average="macro"),
    }
    assert compute_metrics(METRICS["multiclass"], outputs, label, MULTICLASS) == pytest.approx(expected, rel=1e-5)


def test_regression_metrics_equal_those_of_scikit_learn() -> None:
    outputs, label = sample(REGRESSION)
    values, truth = outputs[:, 0].numpy(), label.numpy()
    expected = {
        "rmse": sk.root_mean_squared_error(truth, values),
        "mae": sk.mean_absolute_error(truth, values),
        "r2": sk.r2_score(truth, values),
    }
    assert compute_metrics(METRICS["regression"], outputs, label, REGRESSION) == pytest.approx(expected, rel=1e-5)


def test_only_requested_metrics_are_computed_in_order() -> None:
    outputs, label = sample(BINARY)
    assert list(compute_metrics(("log_loss", "roc_auc"), outputs, label, BINARY)) == ["log_loss", "roc_auc"]


@pytest.mark.parametrize("value", [0, 1])
def test_metric_undefined_for_one_class_is_left_out(value: int) -> None:
    outputs = torch.zeros(4, 1)
    label = torch.full((4,), value, dtype=torch.int32)
    assert set(compute_metrics(METRICS["binary"], outputs, label, BINARY)) == {"accuracy", "log_loss"}


def test_r2_of_one_row_is_left_out() -> None:
    found = compute_metrics(METRICS["regression"], torch.ones(1, 1), torch.zeros(1), REGRESSION)
    assert found == {"rmse": 1.0, "mae": 1.0}


def test_order_of_saturated_scores_is_kept() -> None:
    """Logits beyond 17 are all 1.0 as float32 probabilities, yet one is greater than the other."""
    outputs = torch.tensor([[20.0], [25.0], [30.0], [40.0]])
    label = torch.tensor([0, 0, 1, 1], dtype=torch.int32)
    found = compute_metrics(("roc_auc", "average_precision"), outputs, label, BINARY)
    assert found == {"roc_auc": 1.0, "average_precision": 1.0}


def test_half_precision_outputs_are_supported() -> None:
    outputs, label = sample(BINARY)
    half = outputs.bfloat16()
    assert compute_metrics(METRICS["binary"], half, label, BINARY) == compute_metrics(
        METRICS["binary"], half.float(), label, BINARY
    )


def test_predictions_are_probabilities_or_values() -> None:
    assert predictions(torch.tensor([[0.0], [100.0]]), BINARY).tolist() == [0.5, 1.0]
    chances = predictions(torch.zeros(2, 4), MULTICLASS)
    assert chances.tolist() == [[0.25] * 4] * 2
    assert predictions(torch.tensor([[1.5], [-2.0]]), REGRESSION).tolist() == [1.5, -2.0]


def test_user_metric_sees_the_whole_split(user_functions: str) -> None:
    outputs, label = sample(REGRESSION)
    metric = import_user_function("user_functions:furthest", user_functions, "train.metrics")
    found = compute_metrics(
        ("user_functions:furthest", "rmse"), outputs, label, REGRESSION, {"user_functions:furthest": metric}
    )
    assert list(found) == ["user_functions.furthest", "rmse"]
    assert found["user_functions.furthest"] == pytest.approx((outputs[:, 0] - label).abs().max().item())
    text = import_user_function("user_functions:text", user_functions, "train.metrics")
    with pytest.raises(ModelError, match=r"train\.metrics: user_functions:text: raised ValueError"):
        compute_metrics(("user_functions:text",), outputs, label, REGRESSION, {"user_functions:text": text})


def test_errors_of_labels_that_float32_cannot_hold_are_exact() -> None:
    """Times in seconds since 1970, three seconds off, which neither float32 nor sums of squares distinguish."""
    label = torch.arange(1_700_000_000, 1_700_000_200, dtype=torch.float64)
    found = compute_metrics(METRICS["regression"], (label + 3).unsqueeze(1), label, REGRESSION)
    assert found == pytest.approx({"rmse": 3.0, "mae": 3.0, "r2": 1 - 9 / label.numpy().var()}, rel=1e-12)


@pytest.mark.parametrize(("predicted", "r2"), [(2.0, 1.0), (3.0, 0.0)])
def test_r2_of_equal_labels_is_1_if_they_are_predicted_and_0_otherwise(predicted: float, r2: float) -> None:
    outputs, label = torch.full((3, 1), predicted), torch.full((3,), 2.0)
    assert compute_metrics(("r2",), outputs, label, REGRESSION) == {"r2": r2}


def test_figures_by_class_equal_those_of_scikit_learn() -> None:
    for column in (BINARY, MULTICLASS):
        outputs, label = sample(column)
        predicted = (outputs[:, 0] > 0).int() if column.kind == "binary" else outputs.argmax(1)
        expected = sk.precision_recall_fscore_support(label.numpy(), predicted.numpy())
        figures = class_figures(outputs, label, column)
        assert list(figures) == list(column.classes)
        for number, figure in enumerate(figures.values()):
            found = (figure["precision"], figure["recall"], figure["f1"], figure["rows"])
            assert found == pytest.approx(tuple(part[number] for part in expected))


def test_class_that_neither_occurs_nor_is_predicted_does_not_lower_the_macro_f1() -> None:
    outputs, label = torch.eye(4)[[0, 1, 1]] * 9, torch.tensor([0, 1, 0], dtype=torch.int32)
    found = compute_metrics(("macro_f1",), outputs, label, MULTICLASS)
    assert found["macro_f1"] == pytest.approx(sk.f1_score([0, 1, 0], [0, 1, 1], average="macro"))
