from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from farandole.bundle import open_bundle, write_bundle
from farandole.shards import Group, LabelColumn, LabelScale, Schema
from farandole.training.distillation import Distillation, Teacher
from tests.support.bundles import BINARY, DIGITS, ROWS, contents, fitted, small_network, write_small_bundle

REGRESSION = LabelColumn(kind="regression", column="y", scale=LabelScale(mean=1.0, deviation=2.0))


class _Fixed(nn.Module):
    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        return self.outputs


def _distillation(outputs: torch.Tensor, label: LabelColumn, weight: float, temperature: float = 2.0) -> Distillation:
    return Distillation(_Fixed(outputs), label, weight, temperature)  # type: ignore[arg-type]


def test_classes_are_compared_by_the_divergence_at_the_temperature() -> None:
    torch.manual_seed(0)
    outputs, taught = torch.randn(6, 10), torch.randn(6, 10)
    soft = _distillation(taught, DIGITS, 1.0, 4.0).mix(torch.zeros(6), outputs, {})
    p, q = F.softmax(taught / 4, 1), F.softmax(outputs / 4, 1)
    torch.testing.assert_close(soft, 16 * (p * (p / q).log()).sum(1))


def test_single_output_is_compared_as_two_classes() -> None:
    outputs, taught = torch.tensor([[0.3], [-4.0]]), torch.tensor([[2.0], [0.1]])
    soft = _distillation(taught, BINARY, 1.0).mix(torch.zeros(2), outputs, {})
    zero = torch.zeros(2, 1)
    expected = _distillation(torch.cat([zero, taught], 1), DIGITS, 1.0).mix(
        torch.zeros(2), torch.cat([zero, outputs], 1), {}
    )
    torch.testing.assert_close(soft, expected)


def test_regression_is_compared_by_the_squared_difference() -> None:
    outputs, taught = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    mixed = _distillation(taught, REGRESSION, 0.25).mix(torch.tensor([8.0, 0.0]), outputs, {})
    torch.testing.assert_close(mixed, torch.tensor([0.75 * 8 + 0.25, 0.25 * 4]))


def test_every_member_of_an_ensemble_learns_from_the_teacher() -> None:
    torch.manual_seed(0)
    taught, members = torch.randn(5, 10), torch.randn(5, 3, 10)
    mixed = _distillation(taught, DIGITS, 1.0).mix(torch.zeros(5), members, {})
    each = [_distillation(taught, DIGITS, 1.0).mix(torch.zeros(5), members[:, k], {}) for k in range(3)]
    torch.testing.assert_close(mixed, torch.stack(each).mean(0))


def test_equal_outputs_have_no_loss_and_extreme_ones_a_finite_gradient() -> None:
    outputs = torch.tensor([[500.0], [-500.0]], requires_grad=True)
    soft = _distillation(torch.tensor([[500.0], [500.0]]), BINARY, 1.0).mix(torch.zeros(2), outputs, {})
    assert soft[0].item() == pytest.approx(0)
    soft.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_teacher_repeats_the_outputs_of_its_bundle_and_draws_no_random_number(tmp_path: Path) -> None:
    bundle = open_bundle(write_small_bundle(tmp_path / "bundle"))
    features = bundle.preprocessing.features(bundle.preprocessing.raw_batch(ROWS))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    teacher = Teacher(bundle, bundle.schema, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    outputs = teacher.train()(**{name: torch.from_numpy(values) for name, values in features.items()})
    assert not outputs.requires_grad
    np.testing.assert_allclose(outputs.numpy(), bundle.predictor().outputs(features), atol=1e-6)


def test_teacher_without_its_builder_is_a_program(tmp_path: Path) -> None:
    preprocessing = fitted()
    builder = contents(preprocessing, builder="network:build")
    assert write_bundle(tmp_path / "bundle", small_network(preprocessing), builder) is None
    bundle = open_bundle(tmp_path / "bundle")
    features = bundle.preprocessing.features(bundle.preprocessing.raw_batch(ROWS))
    teacher = Teacher(bundle, bundle.schema, torch.device("cpu")).eval()
    outputs = teacher(**{name: torch.from_numpy(values) for name, values in features.items()})
    np.testing.assert_allclose(outputs.numpy(), bundle.predictor().outputs(features), atol=1e-6)


def test_teacher_picks_its_features_by_name_from_a_larger_dataset(tmp_path: Path) -> None:
    bundle = open_bundle(write_small_bundle(tmp_path / "bundle"))
    features = bundle.preprocessing.features(bundle.preprocessing.raw_batch(ROWS))
    groups = []
    given = {}
    for group in bundle.schema.groups:
        more = ("other", *group.features[::-1])
        counts = (7, *group.cardinalities[::-1]) if group.cardinalities else ()
        groups.append(Group(name=group.name, kind=group.kind, features=more, cardinalities=counts))
        values = torch.from_numpy(features[group.name])
        given[group.name] = torch.cat([torch.ones_like(values[:, :1]), values.flip(1)], 1)
    schema = Schema(groups=tuple(groups), label=bundle.label)
    outputs = Teacher(bundle, schema, torch.device("cpu"))(**given)
    np.testing.assert_allclose(outputs.numpy(), bundle.predictor().outputs(features), atol=1e-6)


def test_teacher_of_a_regression_answers_in_the_scale_of_the_dataset(tmp_path: Path) -> None:
    bundle = open_bundle(write_small_bundle(tmp_path / "bundle", "regression"))
    features = bundle.preprocessing.features(bundle.preprocessing.raw_batch(ROWS))
    label = bundle.label.model_copy(update={"scale": LabelScale(mean=-3.0, deviation=0.5)})
    schema = Schema(groups=bundle.schema.groups, label=label)
    teacher = Teacher(bundle, schema, torch.device("cpu"))
    outputs = teacher(**{name: torch.from_numpy(values) for name, values in features.items()})
    expected = bundle.label.in_units(bundle.predictor().outputs(features))
    np.testing.assert_allclose(label.in_units(outputs.numpy()), expected, rtol=1e-4)
