from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from farandole.errors import ModelError, SpecError
from farandole.shards import Dataset, LabelColumn
from farandole.spec import Job
from farandole.training import world
from farandole.training.evaluation.baselines import trivial_outputs
from farandole.training.losses import (
    check_outputs,
    class_weights,
    constant_loss,
    count_labels,
    loss_function,
    output_bias,
    row_losses,
)
from tests.support.labels import BINARY, MULTICLASS, REGRESSION, sample
from tests.support.made_data import Made

ALONE = world.World(0, 1, 0, 1)


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
def test_sum_of_row_losses_equals_torchs_loss(name: str, kind: LabelColumn, expected: Any) -> None:
    outputs, label = sample(kind, rows=16)
    wanted = expected(outputs, label.long()) if kind is MULTICLASS else expected(outputs[:, 0], label.float())
    loss = loss_function(name, kind)
    assert loss(outputs, label).shape == (16,)
    assert loss(outputs, label).sum().item() == pytest.approx(wanted.item(), rel=1e-6)
    halves = loss(outputs[:9], label[:9]).sum() + loss(outputs[9:], label[9:]).sum()
    assert halves.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("kind", [BINARY, MULTICLASS, REGRESSION], ids=lambda kind: kind.kind)
def test_loss_of_an_empty_batch_is_zero_with_a_gradient(kind: LabelColumn) -> None:
    outputs, label = sample(kind, rows=3)
    outputs.requires_grad_()
    loss = loss_function("auto", kind)(outputs[:0], label[:0]).sum()
    torch.autograd.backward(loss)
    assert loss.item() == 0.0
    assert outputs.grad is not None
    assert outputs.grad.abs().sum() == 0.0


@pytest.mark.parametrize(("kind", "shape"), [(BINARY, (3, 1)), (MULTICLASS, (3, 4)), (REGRESSION, (3, 1))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_outputs_of_the_expected_shape_pass(kind: LabelColumn, shape: tuple[int, int], dtype: torch.dtype) -> None:
    outputs = torch.zeros(shape, dtype=dtype)
    check_outputs(outputs, 3, kind)
    assert row_losses(loss_function("auto", kind), outputs.float(), torch.zeros(3)).shape == (3,)


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
def test_outputs_of_another_shape_or_type_are_rejected(outputs: object, kind: LabelColumn, problem: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_outputs(outputs, 3, kind)
    assert str(caught.value).startswith("model.builder: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("kind", [BINARY, MULTICLASS, REGRESSION])
def test_loss_of_an_ensemble_is_the_mean_of_its_members(kind: LabelColumn) -> None:
    outputs, label = sample(kind, rows=5)
    members = torch.stack([outputs, outputs * 2, -outputs], dim=1)
    loss = loss_function("auto", kind)
    expected = (loss(outputs, label) + loss(outputs * 2, label) + loss(-outputs, label)) / 3
    torch.testing.assert_close(row_losses(loss, members, label), expected)
    torch.testing.assert_close(row_losses(loss, outputs, label), loss(outputs, label))


def test_axis_of_members_is_for_ensembles_that_declare_it() -> None:
    check_outputs(torch.zeros(3, 8, 1), 3, BINARY, members=8)
    for outputs, members in ((torch.zeros(3, 8, 1), None), (torch.zeros(3, 0, 1), 0), (torch.zeros(3, 8, 1), 4)):
        with pytest.raises(ModelError, match="forward returned"):
            check_outputs(outputs, 3, BINARY, members=members)


# Class weights, smoothing, and user losses ----------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_and_smoothing_equal_those_of_torch(smoothing: float) -> None:
    outputs, label = sample(MULTICLASS, rows=16)
    loss = loss_function("auto", MULTICLASS, smoothing=smoothing)
    torch.testing.assert_close(
        loss(outputs, label),
        torch.nn.functional.cross_entropy(outputs, label.long(), reduction="none", label_smoothing=smoothing),
    )
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    weighted = loss_function("auto", MULTICLASS, smoothing=smoothing, weights=weights)(outputs, label)
    torch.testing.assert_close(weighted, loss(outputs, label) * weights[label.long()])


def test_binary_smoothing_equals_that_of_two_classes() -> None:
    outputs, label = sample(BINARY, rows=16)
    smoothed = loss_function("auto", BINARY, smoothing=0.1)(outputs, label)
    two = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    torch.testing.assert_close(
        smoothed, torch.nn.functional.cross_entropy(two, label.long(), reduction="none", label_smoothing=0.1)
    )


def test_user_loss_returns_the_loss_of_each_row(user_functions: str) -> None:
    outputs, label = sample(REGRESSION, rows=8)
    outputs.requires_grad_()
    losses = loss_function("user_functions:half", REGRESSION, folder=user_functions)(outputs, label)
    torch.testing.assert_close(losses, (outputs[:, 0] - label).abs() / 2)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("summed", r"returned torch\.float32 \[\]; return the loss of each row: a float tensor of shape \[8\]"),
        ("numbers", r"returned list; return the loss of each row"),
        ("detached", r"returned losses without a gradient; compute them from the outputs"),
        ("failing", r"raised IndexError: .* in .*user_functions\.py, line 15"),
        ("missing", r"cannot be imported: AttributeError"),
    ],
)
def test_invalid_user_loss_is_reported_with_a_remedy(user_functions: str, function: str, problem: str) -> None:
    outputs, label = sample(REGRESSION, rows=8)
    outputs.requires_grad_()
    with pytest.raises(ModelError, match=rf"train\.loss: user_functions:{function}: {problem}"):
        loss_function(f"user_functions:{function}", REGRESSION, folder=user_functions)(outputs, label)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"midle": 2.0}, r"train\.class_weights\.midle: the label label has no such class; did you mean middle\?"),
        ((1.0, 2.0), r"train\.class_weights: 2 weights for the 3 classes high, low, middle; give one for each"),
    ],
)
def test_class_weights_that_do_not_match_the_classes_are_rejected(
    make_job: Callable[..., Job], made: Callable[..., Made], asked: Any, problem: str
) -> None:
    job = make_job("multiclass", train__class_weights=asked)
    with pytest.raises(SpecError, match=problem):
        class_weights(job, Dataset(made("multiclass").path), ALONE)


def test_balanced_weights_weight_all_classes_equally(make_job: Callable[..., Job], made: Callable[..., Made]) -> None:
    job, dataset = make_job("multiclass", train__class_weights="balanced"), Dataset(made("multiclass").path)
    with world.init():
        counts = count_labels(dataset, ALONE)
        weights = class_weights(job, dataset, ALONE)
    raw = made("multiclass").raw["train"]["label"]
    assert counts == [(raw == name).sum() for name in dataset.manifest.columns.target.classes]
    assert weights is not None
    shares = weights * torch.tensor(counts)
    torch.testing.assert_close(shares, torch.full((3,), len(raw) / 3))


def test_unnamed_classes_keep_weight_one(make_job: Callable[..., Job], made: Callable[..., Made]) -> None:
    job, dataset = make_job("multiclass", train__class_weights={"low": 3}), Dataset(made("multiclass").path)
    classes = dataset.manifest.columns.target.classes
    weights = class_weights(job, dataset, ALONE)
    assert weights is not None
    assert dict(zip(classes, weights.tolist(), strict=True)) == {"high": 1.0, "low": 3.0, "middle": 1.0}


def test_output_bias_is_the_frequency_of_the_classes(make_job: Callable[..., Job], made: Callable[..., Made]) -> None:
    with world.init():
        for kind in ("binary", "multiclass"):
            dataset, raw = Dataset(made(kind).path), made(kind).raw["train"]["label"].astype(str).str.lower()
            shares = torch.tensor([(raw == name).mean() for name in dataset.manifest.columns.target.classes])
            bias = output_bias(make_job(kind), dataset, ALONE)
            found = bias.sigmoid() if kind == "binary" else bias.softmax(0)
            torch.testing.assert_close(found, shares[-len(found) :].float())
        bias = output_bias(make_job("regression"), Dataset(made("regression").path), ALONE)
        assert bias.tolist() == [0.0]


def test_output_bias_counts_weighted_rows(make_job: Callable[..., Job], made: Callable[..., Made]) -> None:
    job = make_job("multiclass", train__class_weights="balanced")
    with world.init():
        bias = output_bias(job, Dataset(made("multiclass").path), ALONE)
    torch.testing.assert_close(bias.softmax(0), torch.full((3,), 1 / 3))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_loss_of_the_trivial_baseline_is_that_of_its_outputs(
    make_job: Callable[..., Job], made: Callable[..., Made], kind: str, smoothing: float
) -> None:
    train = {} if kind == "regression" else {"label_smoothing": smoothing}
    dataset, job = Dataset(made(kind).path), make_job(kind, train=train)
    column, reader = dataset.manifest.columns.target, dataset.split("train")
    label = torch.cat([torch.tensor(reader.block(number)["label"]) for number in range(len(reader.block_rows))])
    outputs = trivial_outputs(dataset, len(label)) if kind != "regression" else torch.zeros(len(label), 1)
    expected = loss_function("auto", column, smoothing=job.train.smoothing)(outputs.float(), label).mean()
    found = constant_loss(job, column, trivial_outputs(dataset, 1)[0].numpy(), {})
    assert found == pytest.approx(expected.item(), rel=1e-4)


def test_loss_of_the_trivial_baseline_is_unknown_for_other_losses(make_job: Callable[..., Job]) -> None:
    output = np.zeros(1)
    assert constant_loss(make_job("regression", train__loss="mae"), REGRESSION, output, {"deviation": 3.0}) is None
    assert constant_loss(make_job(train__class_weights="balanced"), BINARY, output, {}) is None
    assert constant_loss(make_job("regression"), REGRESSION, output, {"deviation": 3.0}) == 9.0
