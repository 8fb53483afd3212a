from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from farandole.errors import ModelError, SpecError
from farandole.shards import Dataset, LabelColumn
from farandole.spec import METRICS, Job
from farandole.training import world
from farandole.training.losses import (
    check_outputs,
    class_weights,
    compute_metrics,
    count_labels,
    loss_function,
    predictions,
)
from farandole.training.model_builder import import_user_function
from tests.support.made_data import Made

ALONE = world.World(0, 1, 0, 1)

BINARY = LabelColumn(kind="binary", column="y", classes=("no", "yes"))
MULTICLASS = LabelColumn(kind="multiclass", column="y", classes=("a", "b", "c", "d"))
REGRESSION = LabelColumn(kind="regression", column="y")


def sample(kind: LabelColumn, rows: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs that know something of the label, and the label."""
    random = np.random.default_rng(seed)
    if kind.kind == "regression":
        label = random.normal(3, 2, rows)
        outputs = (label + random.normal(0, 1, rows))[:, None]
        return torch.tensor(outputs, dtype=torch.float32), torch.tensor(label, dtype=torch.float32)
    classes = random.integers(0, len(kind.classes), rows)
    outputs = random.normal(0, 1, (rows, kind.num_outputs))
    if kind.kind == "binary":
        outputs[:, 0] += classes * 1.5 - 0.7
    else:
        outputs[np.arange(rows), classes] += 1
    return torch.tensor(outputs, dtype=torch.float32), torch.tensor(classes, dtype=torch.int32)


def test_binary_metrics_are_scikit_learns() -> None:
    outputs, label = sample(BINARY)
    scores, truth = 1 / (1 + np.exp(-outputs[:, 0].double().numpy())), label.numpy()
    expected = {
        "roc_auc": sk.roc_auc_score(truth, scores),
        "average_precision": sk.average_precision_score(truth, scores),
        "accuracy": sk.accuracy_score(truth, scores > 0.5),
        "log_loss": sk.log_loss(truth, scores),
    }
    assert compute_metrics(METRICS["binary"], outputs, label, BINARY) == pytest.approx(expected, rel=1e-5)


def test_equal_scores_count_as_scikit_learn_counts_them() -> None:
    outputs, label = sample(BINARY)
    outputs = outputs.round()
    found = compute_metrics(("roc_auc", "average_precision"), outputs, label, BINARY)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(label.numpy(), outputs[:, 0].numpy()), rel=1e-5)
    assert found["average_precision"] == pytest.approx(
        sk.average_precision_score(label.numpy(), outputs[:, 0].numpy()), rel=1e-5
    )


def test_multiclass_metrics_are_scikit_learns() -> None:
    outputs, label = sample(MULTICLASS)
    chances = outputs.double().softmax(1).numpy()
    expected = {
        "accuracy": sk.accuracy_score(label.numpy(), chances.argmax(1)),
        "log_loss": sk.log_loss(label.numpy(), chances, labels=[0, 1, 2, 3]),
    }
    assert compute_metrics(METRICS["multiclass"], outputs, label, MULTICLASS) == pytest.approx(expected, rel=1e-5)


def test_regression_metrics_are_scikit_learns() -> None:
    outputs, label = sample(REGRESSION)
    values, truth = outputs[:, 0].numpy(), label.numpy()
    expected = {
        "rmse": sk.root_mean_squared_error(truth, values),
        "mae": sk.mean_absolute_error(truth, values),
        "r2": sk.r2_score(truth, values),
    }
    assert compute_metrics(METRICS["regression"], outputs, label, REGRESSION) == pytest.approx(expected, rel=1e-5)


def test_only_the_wanted_metrics_are_measured_in_their_order() -> None:
    outputs, label = sample(BINARY)
    assert list(compute_metrics(("log_loss", "roc_auc"), outputs, label, BINARY)) == ["log_loss", "roc_auc"]


@pytest.mark.parametrize("value", [0, 1])
def test_a_metric_that_one_class_does_not_define_is_left_out(value: int) -> None:
    outputs = torch.zeros(4, 1)
    label = torch.full((4,), value, dtype=torch.int32)
    assert set(compute_metrics(METRICS["binary"], outputs, label, BINARY)) == {"accuracy", "log_loss"}


def test_one_row_has_no_r2() -> None:
    found = compute_metrics(METRICS["regression"], torch.ones(1, 1), torch.zeros(1), REGRESSION)
    assert found == {"rmse": 1.0, "mae": 1.0}


def test_the_order_of_very_sure_scores_counts() -> None:
    """Logits beyond 17 are all 1.0 as float32 probabilities, yet one is greater than the other."""
    outputs = torch.tensor([[20.0], [25.0], [30.0], [40.0]])
    label = torch.tensor([0, 0, 1, 1], dtype=torch.int32)
    found = compute_metrics(("roc_auc", "average_precision"), outputs, label, BINARY)
    assert found == {"roc_auc": 1.0, "average_precision": 1.0}


def test_outputs_of_half_precision_are_measured_too() -> None:
    outputs, label = sample(BINARY)
    half = outputs.bfloat16()
    assert compute_metrics(METRICS["binary"], half, label, BINARY) == compute_metrics(
        METRICS["binary"], half.float(), label, BINARY
    )


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("auto", BINARY, torch.nn.BCEWithLogitsLoss(reduction="sum")),
        ("binary_cross_entropy", BINARY, torch.nn.BCEWithLogitsLoss(reduction="sum")),
        ("auto", MULTICLASS, torch.nn.CrossEntropyLoss(reduction="sum")),
        ("cross_entropy", MULTICLASS, torch.nn.CrossEntropyLoss(reduction="sum")),
        ("auto", REGRESSION, torch.nn.MSELoss(reduction="sum")),
        ("mse", REGRESSION, torch.nn.MSELoss(reduction="sum")),
        ("mae", REGRESSION, torch.nn.L1Loss(reduction="sum")),
        ("huber", REGRESSION, torch.nn.HuberLoss(reduction="sum")),
    ],
)
def test_a_loss_is_torchs_summed_over_rows(name: str, kind: LabelColumn, expected: Any) -> None:
    outputs, label = sample(kind, rows=16)
    wanted = expected(outputs, label.long()) if kind is MULTICLASS else expected(outputs[:, 0], label.float())
    loss = loss_function(name, kind)
    assert loss(outputs, label).shape == (16,)
    assert loss(outputs, label).sum().item() == pytest.approx(wanted.item(), rel=1e-6)
    halves = loss(outputs[:9], label[:9]).sum() + loss(outputs[9:], label[9:]).sum()
    assert halves.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("kind", [BINARY, MULTICLASS, REGRESSION], ids=lambda kind: kind.kind)
def test_the_loss_of_no_rows_is_0_and_has_a_gradient(kind: LabelColumn) -> None:
    outputs, label = sample(kind, rows=3)
    outputs.requires_grad_()
    loss = loss_function("auto", kind)(outputs[:0], label[:0]).sum()
    loss.backward()
    assert loss.item() == 0.0
    assert outputs.grad is not None
    assert outputs.grad.abs().sum() == 0.0


def test_predictions_are_probabilities_or_values() -> None:
    assert predictions(torch.tensor([[0.0], [100.0]]), BINARY).tolist() == [0.5, 1.0]
    chances = predictions(torch.zeros(2, 4), MULTICLASS)
    assert chances.tolist() == [[0.25] * 4] * 2
    assert predictions(torch.tensor([[1.5], [-2.0]]), REGRESSION).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(("kind", "shape"), [(BINARY, (3, 1)), (MULTICLASS, (3, 4)), (REGRESSION, (3, 1))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_outputs_of_the_right_shape_pass(kind: LabelColumn, shape: tuple[int, int], dtype: torch.dtype) -> None:
    assert check_outputs(torch.zeros(shape, dtype=dtype), 3, kind) is None  # it raises where it is wrong


@pytest.mark.parametrize(
    ("outputs", "kind", "problem"),
    [
        (None, BINARY, "forward returned NoneType; return a float tensor of shape [3, 1]"),
        ((torch.zeros(3, 1),), BINARY, "forward returned tuple"),
        (torch.zeros(3), BINARY, "forward returned torch.float32 [3]"),
        (torch.zeros(3, 2), BINARY, "forward returned torch.float32 [3, 2]"),
        (torch.zeros(2, 1), BINARY, "forward returned torch.float32 [2, 1]"),
        (torch.zeros(3, 1), MULTICLASS, "return a float tensor of shape [3, 4]: one row of 4 for each row"),
        (torch.zeros(3, 1, dtype=torch.int64), BINARY, "forward returned torch.int64 [3, 1]"),
        (torch.zeros(1, 3, 1), REGRESSION, "forward returned torch.float32 [1, 3, 1]"),
    ],
)
def test_outputs_that_cannot_be_scored_are_errors(outputs: object, kind: LabelColumn, problem: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_outputs(outputs, 3, kind)
    assert str(caught.value).startswith("model.builder: ")
    assert problem in str(caught.value)


# Class weights, smoothing, and functions of the user's ----------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_and_smoothing_are_torchs(smoothing: float) -> None:
    outputs, label = sample(MULTICLASS, rows=16)
    loss = loss_function("auto", MULTICLASS, smoothing=smoothing)
    torch.testing.assert_close(
        loss(outputs, label),
        torch.nn.functional.cross_entropy(outputs, label.long(), reduction="none", label_smoothing=smoothing),
    )
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    weighted = loss_function("auto", MULTICLASS, smoothing=smoothing, weights=weights)(outputs, label)
    torch.testing.assert_close(weighted, loss(outputs, label) * weights[label.long()])


def test_a_smoothed_binary_label_is_that_of_two_classes() -> None:
    outputs, label = sample(BINARY, rows=16)
    smoothed = loss_function("auto", BINARY, smoothing=0.1)(outputs, label)
    two = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    torch.testing.assert_close(
        smoothed, torch.nn.functional.cross_entropy(two, label.long(), reduction="none", label_smoothing=0.1)
    )


OWN = """
def half(outputs, label):
    return (outputs[:, 0] - label).abs() / 2

def summed(outputs, label):
    return half(outputs, label).sum()

def numbers(outputs, label):
    return half(outputs, label).tolist()

def detached(outputs, label):
    return half(outputs, label).detach()

def failing(outputs, label):
    return outputs[:, 7]

def furthest(outputs, label):
    return (outputs[:, 0] - label).abs().max()

def text(outputs, label):
    return "good"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with functions of the user's, in the module `own_objective`."""
    (tmp_path / "own_objective.py").write_text(OWN)
    monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
    monkeypatch.delitem(__import__("sys").modules, "own_objective", raising=False)
    return str(tmp_path)


def test_a_loss_of_the_users_own_gives_the_loss_of_each_row(own: str) -> None:
    outputs, label = sample(REGRESSION, rows=8)
    outputs.requires_grad_()
    losses = loss_function("own_objective:half", REGRESSION, folder=own)(outputs, label)
    torch.testing.assert_close(losses, (outputs[:, 0] - label).abs() / 2)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("summed", r"returned torch\.float32 \[\]; return the loss of each row: a float tensor of shape \[8\]"),
        ("numbers", r"returned list; return the loss of each row"),
        ("detached", r"returned losses without a gradient; compute them from the outputs"),
        ("failing", r"raised IndexError: .* in .*own_objective\.py, line 15"),
        ("missing", r"cannot be imported: AttributeError"),
    ],
)
def test_a_loss_of_a_wrong_shape_is_the_users_error(own: str, function: str, problem: str) -> None:
    outputs, label = sample(REGRESSION, rows=8)
    outputs.requires_grad_()
    with pytest.raises(ModelError, match=rf"train\.loss: own_objective:{function}: {problem}"):
        loss_function(f"own_objective:{function}", REGRESSION, folder=own)(outputs, label)


def test_a_metric_of_the_users_own_sees_the_whole_split(own: str) -> None:
    outputs, label = sample(REGRESSION)
    metric = import_user_function("own_objective:furthest", own, "train.metrics")
    found = compute_metrics(
        ("own_objective:furthest", "rmse"), outputs, label, REGRESSION, {"own_objective:furthest": metric}
    )
    assert list(found) == ["own_objective.furthest", "rmse"]
    assert found["own_objective.furthest"] == pytest.approx((outputs[:, 0] - label).abs().max().item())
    text = import_user_function("own_objective:text", own, "train.metrics")
    with pytest.raises(ModelError, match=r"train\.metrics: own_objective:text: raised ValueError"):
        compute_metrics(("own_objective:text",), outputs, label, REGRESSION, {"own_objective:text": text})


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"midle": 2.0}, r"train\.class_weights\.midle: the label label has no such class; did you mean middle\?"),
        ((1.0, 2.0), r"train\.class_weights: 2 weights for the 3 classes high, low, middle; give one for each"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(
    make_job: Callable[..., Job], made: Callable[..., Made], asked: Any, problem: str
) -> None:
    job = make_job("multiclass", train__class_weights=asked)
    with pytest.raises(SpecError, match=problem):
        class_weights(job, Dataset(made("multiclass").path), ALONE)


def test_balanced_weights_make_all_classes_count_the_same(
    make_job: Callable[..., Job], made: Callable[..., Made]
) -> None:
    job, dataset = make_job("multiclass", train__class_weights="balanced"), Dataset(made("multiclass").path)
    with world.init():
        counts = count_labels(dataset, ALONE)
        weights = class_weights(job, dataset, ALONE)
    raw = made("multiclass").raw["train"]["label"]
    assert counts == [(raw == name).sum() for name in dataset.manifest.columns.target.classes]
    assert weights is not None
    shares = weights * torch.tensor(counts)
    torch.testing.assert_close(shares, torch.full((3,), len(raw) / 3))


def test_named_weights_leave_the_others_at_one(make_job: Callable[..., Job], made: Callable[..., Made]) -> None:
    job, dataset = make_job("multiclass", train__class_weights={"low": 3}), Dataset(made("multiclass").path)
    classes = dataset.manifest.columns.target.classes
    weights = class_weights(job, dataset, ALONE)
    assert weights is not None
    assert dict(zip(classes, weights.tolist(), strict=True)) == {"high": 1.0, "low": 3.0, "middle": 1.0}
