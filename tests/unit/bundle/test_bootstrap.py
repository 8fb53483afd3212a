from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from farandole.bundle import bootstrap
from farandole.bundle.bootstrap import intervals, weighted_metrics
from farandole.shards import LabelColumn
from farandole.spec import METRICS
from farandole.training.evaluation.metrics import compute_metrics
from tests.support.labels import BINARY, MULTICLASS, REGRESSION, sample

COLUMNS = (BINARY, MULTICLASS, REGRESSION)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.kind)
@pytest.mark.parametrize("decimals", [6, 0], ids=["distinct", "ties"])
def test_rows_that_count_once_give_the_metric(column: LabelColumn, decimals: int) -> None:
    outputs, label = sample(column)
    outputs = outputs.double().round(decimals=decimals)
    expected = compute_metrics(METRICS[column.kind], outputs, label, column)
    metrics = weighted_metrics(METRICS[column.kind], outputs.numpy(), label.numpy(), column)
    found = {name: metric(np.ones((1, len(label))))[0] for name, metric in metrics.items()}
    assert found == pytest.approx(expected, rel=1e-5)


def test_weights_count_like_repeated_rows() -> None:
    for column in COLUMNS:
        outputs, label = sample(column, rows=60)
        weights = np.random.default_rng(1).integers(0, 4, (3, 60))
        metrics = weighted_metrics(METRICS[column.kind], outputs.double().numpy(), label.numpy(), column)
        for name, metric in metrics.items():
            for row, found in zip(weights, metric(weights.astype(float)), strict=True):
                repeated = np.repeat(np.arange(60), row)
                expected = compute_metrics((name,), outputs.double()[repeated], label[repeated], column)
                assert found == pytest.approx(expected[name], rel=1e-5)


def test_interval_of_an_accuracy_is_that_of_a_share() -> None:
    random = np.random.default_rng(3)
    label = random.integers(0, 2, 5000)
    wrong = random.random(5000) < 0.2
    outputs = np.where(label ^ wrong, 1.0, -1.0)[:, None]
    low, high = intervals(("accuracy",), outputs, label, BINARY)["accuracy"]
    share = 1 - wrong.mean()
    expected = 1.96 * np.sqrt(share * (1 - share) / 5000)
    assert (low, high) == pytest.approx((share - expected, share + expected), abs=0.15 * expected)


def test_large_split_has_the_narrow_interval_of_all_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    label = random.normal(size=40_000)
    outputs = (label + random.normal(size=40_000))[:, None]
    low, high = intervals(("mae",), outputs, label, REGRESSION)["mae"]
    monkeypatch.setattr(bootstrap, "MAX_ROWS", 40_000)
    whole = intervals(("mae",), outputs, label, REGRESSION)["mae"]
    assert high - low == pytest.approx(whole[1] - whole[0], rel=0.2)


def test_intervals_are_reproducible_and_ordered() -> None:
    for column in COLUMNS:
        outputs, label = (tensor.numpy() for tensor in sample(column))
        found = intervals(METRICS[column.kind], outputs, label, column)
        assert found == intervals(METRICS[column.kind], outputs, label, column)
        assert set(found) == set(METRICS[column.kind])
        assert all(low < high for low, high in found.values())


def test_undefined_metrics_have_no_interval() -> None:
    outputs, label = np.zeros((30, 1)), np.zeros(30, dtype=np.int32)
    assert set(intervals(METRICS["binary"], outputs, label, BINARY)) == {"accuracy", "log_loss"}
    assert intervals(METRICS["binary"], outputs[:1], label[:1], BINARY) == {}
    assert intervals(("mine:cost",), outputs, label, BINARY) == {}


@pytest.mark.parametrize(("rare_rows", "has_interval"), [(1, False), (2, False), (4, True)])
def test_macro_f1_has_an_interval_only_if_each_class_is_drawn(rare_rows: int, has_interval: bool) -> None:
    random = np.random.default_rng(0)
    label = np.r_[np.zeros(rare_rows, dtype=np.int64), random.integers(1, 4, 300)]
    predicted = np.where(random.random(len(label)) < 0.8, label, 1 + random.integers(0, 3, len(label)))
    outputs = 4.0 * np.eye(4)[predicted]
    found = intervals(METRICS["multiclass"], outputs, label, MULTICLASS)
    assert set(found) == {"accuracy", "log_loss"} | ({"macro_f1"} if has_interval else set())


def test_macro_f1_of_a_sample_without_a_class_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "MAX_ROWS", 50)
    label = np.r_[0, np.tile([1, 2, 3], 1000)]
    assert "macro_f1" not in intervals(("macro_f1",), 4.0 * np.eye(4)[label], label, MULTICLASS)
    assert "macro_f1" in intervals(("macro_f1",), 4.0 * np.eye(4)[label[1:]], label[1:], MULTICLASS)


def test_labels_that_float32_cannot_hold_have_correct_intervals() -> None:
    label = np.arange(1_700_000_000, 1_700_000_200, dtype=np.float64)
    random = np.random.default_rng(0)
    outputs = (label + random.normal(0, 3, 200))[:, None]
    low, high = intervals(("r2",), outputs, label, REGRESSION)["r2"]
    assert low < sk.r2_score(label - 1.7e9, outputs[:, 0] - 1.7e9) < high


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.kind)
def test_interval_of_many_rows_lies_around_their_metric(column: LabelColumn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "MAX_ROWS", 50)
    outputs, label = sample(column, rows=2000)
    whole = compute_metrics(METRICS[column.kind], outputs.double(), label, column)
    for name, (low, high) in intervals(METRICS[column.kind], outputs.numpy(), label.numpy(), column).items():
        assert low <= whole[name] <= high
