from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from farandole.spec import Job
from farandole.training.evaluation.judgement import (
    Evidence,
    explain_failure,
    find_label_problem,
    find_overfitting,
    gate_metric,
)

GOOD = Evidence(steps=1000, train_loss=0.5, trivial_loss=1.0)


def explain(model: float, evidence: Evidence = GOOD, **boosting: float) -> str | None:
    baselines = {"mean": {"rmse": 2.0}} | ({"hist_gradient_boosting": boosting} if boosting else {})
    return explain_failure("rmse", "mean", {"rmse": model}, baselines, evidence)


@pytest.mark.parametrize("rmse", [1.99, 0.0])
def test_model_that_beats_the_mean_has_not_failed(rmse: float) -> None:
    assert explain(rmse) is None


@pytest.mark.parametrize("rmse", [2.0, 5580.4, math.nan, math.inf])
def test_model_that_does_not_beat_the_mean_has_failed(rmse: float) -> None:
    text = explain(rmse)
    assert text is not None
    assert text.startswith("on the test rows its rmse is ")
    assert "and predicting the mean has 2" in text


def test_higher_is_better_for_most_metrics() -> None:
    baselines = {"prior": {"roc_auc": 0.5}}
    assert explain_failure("roc_auc", "prior", {"roc_auc": 0.51}, baselines, GOOD) is None
    text = explain_failure("roc_auc", "prior", {"roc_auc": 0.5}, baselines, GOOD)
    assert text is not None
    assert "predicting the frequencies of the classes has 0.5" in text


def test_metric_that_is_not_defined_decides_nothing() -> None:
    assert explain_failure("roc_auc", "prior", {}, {"prior": {}}, GOOD) is None
    assert explain_failure("rmse", "mean", {"rmse": 9.0}, {}, GOOD) is None


@pytest.mark.parametrize(
    ("evidence", "boosting", "cause"),
    [
        (GOOD, {"rmse": 2.1}, "the features say little about the label, since HistGradientBoosting is not better"),
        (GOOD, {"rmse": 1.0}, "has learned its training rows (training loss 0.5, that of the baseline 1), but nothing"),
        (GOOD, {}, "it over-fits, or the test rows differ from the training rows"),
        (Evidence(12, 0.5, 1.0, "every label is 3"), {"rmse": 2.1}, "the likely cause: every label is 3"),
        (Evidence(12, 0.99, 1.0), {"rmse": 1.0}, "12 steps were too few to learn anything"),
        (Evidence(5000, 0.99, 1.0), {}, "the network did not learn its training rows"),
        (Evidence(12, 40.0, 1.0), {}, "the learning rate is too high (training loss 40, that of the baseline 1)"),
        (Evidence(12, math.inf, 1.0), {}, "the learning rate is too high"),
        (Evidence(12, None, 1.0), {}, "too few steps, a learning rate that does not suit the loss, or over-fitting"),
        (Evidence(12, 0.5, None), {}, "too few steps, a learning rate that does not suit the loss, or over-fitting"),
    ],
)
def test_likely_cause_is_named(evidence: Evidence, boosting: dict[str, float], cause: str) -> None:
    text = explain(2.5, evidence, **boosting)
    assert text is not None
    assert cause in text


@pytest.mark.parametrize(
    ("kind", "train", "metric"),
    [
        ("binary", {}, "roc_auc"),
        ("multiclass", {}, "accuracy"),
        ("multiclass", {"class_weights": "balanced"}, "macro_f1"),
        ("regression", {}, "rmse"),
        ("regression", {"metrics": ["network:first_output", "mae"]}, "mae"),
        ("regression", {"metrics": ["network:first_output"]}, "rmse"),
    ],
)
def test_first_built_in_metric_decides(
    make_job: Callable[..., Job], kind: str, train: dict[str, Any], metric: str
) -> None:
    assert gate_metric(make_job(kind, train=train)) == metric


def test_labels_that_are_all_the_same_or_extreme_are_the_cause() -> None:
    labels = np.random.default_rng(0).normal(50, 5, 1000)
    assert find_label_problem(labels) is None
    assert find_label_problem(np.r_[labels, 95]) is None  # one that is far, but has little weight
    assert find_label_problem(np.random.default_rng(0).exponential(3, 1000)) is None
    assert find_label_problem(np.r_[np.zeros(900), np.arange(100)]) is None  # most labels are 0, as of counts
    assert find_label_problem(np.full(9, 3.5)) == "every label is 3.5; correct the query or the label"
    labels[:10] *= 1e5
    text = find_label_problem(labels)
    assert text is not None
    assert text.startswith("10 of 1000 labels are extreme, as far from the others as ")
    assert "set train.loss: huber or mae" in text


def losses(*values: float) -> list[dict[str, float]]:
    return [{"roc_auc": 0.5, "log_loss": value} for value in values]


def test_overfitting_is_pointed_out_with_epochs_and_values() -> None:
    text = find_overfitting(losses(0.47, *[0.5] * 18, 0.65), 1, keeps_best=True)
    assert text is not None
    assert text.startswith(
        "over-fitting: log_loss on validation rose from 0.47 after epoch 1 to 0.65 after epoch 20; the weights of epoch"
        " 1 are kept;"
    )
    last = find_overfitting(losses(0.47, 0.65), 1, keeps_best=False)
    assert last is not None
    assert "the weights of the last epoch are kept (train.keep)" in last


def test_overfitting_is_measured_from_the_lowest_error_whatever_chose_the_epoch() -> None:
    text = find_overfitting(losses(0.9, 0.53, 1.424, 2.785), 3, keeps_best=True)
    assert text is not None
    assert "rose from 0.53 after epoch 2 to 2.785 after epoch 4; the weights of epoch 3 are kept" in text
    assert find_overfitting(losses(0.9, 0.53, 1.424), 3, keeps_best=True) is not None


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        (losses(0.5, 0.4), 2),
        (losses(0.5, 0.52), 1),
        (losses(0.5, math.nan), 1),
        ([], None),
        ([{"accuracy": 0.5}] * 3, 1),
    ],
)
def test_small_changes_are_not_overfitting(epochs: list[dict[str, float]], best: int | None) -> None:
    assert find_overfitting(epochs, best, keeps_best=True) is None
