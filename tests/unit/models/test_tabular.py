from __future__ import annotations

from typing import Any

import pytest
import torch

from farandole.errors import ModelError
from farandole.models.tabular import MemberLinear, Numbers, SharedLinear, build
from farandole.shards import Group, LabelColumn, Schema

DENSE = Group(name="dense", kind="numbers", features=("a", "b", "c"))
IDS = Group(name="items", kind="ids", features=("d", "e"), cardinalities=(5, 12))
BINARY = LabelColumn(kind="binary", column="y", classes=("no", "yes"))
MULTICLASS = LabelColumn(kind="multiclass", column="y", classes=("a", "b", "c"))
REGRESSION = LabelColumn(kind="regression", column="y")
BATCH = {"dense": torch.randn(7, 3), "items": torch.tensor([[4, 11]] * 7, dtype=torch.int32)}


def network(groups: tuple[Group, ...] = (DENSE, IDS), label: LabelColumn = BINARY, **options: Any) -> Any:
    torch.manual_seed(0)
    return build(Schema(groups=groups, label=label), **{"width": 8, "members": 4, **options})


@pytest.mark.parametrize("groups", [(DENSE,), (IDS,), (DENSE, IDS), (IDS, DENSE)])
@pytest.mark.parametrize(("label", "outputs"), [(BINARY, 1), (MULTICLASS, 3), (REGRESSION, 1)])
def test_training_returns_the_members_and_every_parameter_gets_a_gradient(
    groups: tuple[Group, ...], label: LabelColumn, outputs: int
) -> None:
    model, batch = network(groups, label), {group.name: BATCH[group.name] for group in groups}
    torch.nn.init.ones_(model.head.weight)
    out = model(**batch)
    assert out.shape == (7, 4, outputs)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.eval()(**batch).shape == (7, outputs)


@pytest.mark.parametrize("label", [BINARY, MULTICLASS, REGRESSION])
def test_prediction_is_the_mean_of_the_members(label: LabelColumn) -> None:
    model = network(label=label, dropout=0.0)
    torch.nn.init.normal_(model.head.weight)
    members = model(**BATCH).double()
    assert members.shape[1] == model.members
    mean = model.eval()(**BATCH).double()
    if label.kind == "regression":
        torch.testing.assert_close(mean, members.mean(1), rtol=1e-5, atol=1e-6)
    elif label.kind == "binary":
        torch.testing.assert_close(mean.sigmoid(), members.sigmoid().mean(1), rtol=1e-5, atol=1e-6)
    else:
        torch.testing.assert_close(mean.softmax(1), members.softmax(2).mean(1), rtol=1e-5, atol=1e-6)


def test_mean_of_confident_members_is_finite() -> None:
    model = network().eval()
    model.initialize_output(torch.tensor([500.0]))
    assert model(**BATCH).isfinite().all()


def test_outputs_start_at_the_given_bias() -> None:
    model = network(label=MULTICLASS).eval()
    bias = torch.tensor([-0.5, -1.5, -2.0])
    model.initialize_output(bias)
    torch.testing.assert_close(model(**BATCH).softmax(1), bias.softmax(0).expand(7, -1))


@pytest.mark.parametrize("shares_inputs", [True, False])
def test_members_share_a_matrix_and_differ_by_vectors(shares_inputs: bool) -> None:
    layer, x = SharedLinear(3, 5, 4, shares_inputs=shares_inputs), torch.randn(6, 5)
    for vectors in (layer.input_scale, layer.output_scale, layer.bias):
        if vectors is not None:
            torch.nn.init.normal_(vectors)
    out = layer(x if shares_inputs else x.expand(3, 6, 5))
    for member in range(3):
        scale = 1.0 if layer.input_scale is None else layer.input_scale.view(3, 5)[member]
        expected = layer.output_scale.view(3, 4)[member] * ((x * scale) @ layer.weight) / 5**0.5
        torch.testing.assert_close(out[member], expected + layer.bias.view(3, 4)[member])


def test_network_without_hidden_layers_is_linear() -> None:
    assert network(depth=0).eval()(**BATCH).shape == (7, 1)


def test_own_matrices_of_members_begin_at_zero() -> None:
    assert not MemberLinear(3, 5, 2)(torch.randn(3, 6, 5)).any()


def test_only_matrices_have_more_than_one_axis_so_vectors_get_no_weight_decay() -> None:
    decayed = {name for name, parameter in network().named_parameters() if parameter.ndim > 1}
    assert decayed == {"encoders.group_items.tables.1.weight", "layers.0.weight", "layers.1.weight", "head.weight"}


def test_encoding_grows_through_intervals_of_equally_many_rows() -> None:
    numbers = Numbers(1, 4)
    numbers.initialize(torch.arange(101.0)[torch.randperm(101)].unsqueeze(1) ** 2)
    encoded = numbers(torch.tensor([[-5.0], [25.0**2], [75.0**2], [1e6]]))
    expected = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    torch.testing.assert_close(encoded[:, :4], expected, rtol=0, atol=1e-4)
    assert encoded[:, 4].tolist() == [-5.0, 625.0, 5625.0, 1e6]


def test_feature_of_few_values_has_an_interval_between_each_two() -> None:
    numbers = Numbers(2, 8)
    numbers.initialize(torch.tensor([[0.0, 7.0], [1.0, 7.0], [1.0, 7.0], [4.0, 7.0]]))
    encoded = numbers(torch.tensor([[2.5, 9.0]]))
    assert encoded[0, :3].tolist() == [1.0, 0.5, 0.0]
    assert not encoded[0, 3:16].any()  # unused intervals, and a constant feature


def test_frequent_value_leaves_intervals_for_the_others() -> None:
    numbers = Numbers(1, 4)
    numbers.initialize(torch.cat([torch.zeros(900), torch.arange(1.0, 101.0)]).unsqueeze(1))
    used = numbers.slopes[0].count_nonzero()
    assert used > 1  # the quartiles of all rows are 0, but for the highest
    encoded = numbers(torch.tensor([[0.0], [50.0], [100.0]]))[:, :used].sum(1)
    assert encoded[0] == 0
    assert 0 < encoded[1] < used
    assert encoded[2] == used


def test_many_numbers_are_read_without_an_encoding() -> None:
    wide = Group(name="dense", kind="numbers", features=tuple(f"f{i}" for i in range(5000)))
    assert network((wide,)).scale.shape == (5000,)


def test_sample_of_rows_fits_the_encodings() -> None:
    model = network()
    model.initialize_inputs(**BATCH)
    assert model.encoders["group_dense"].slopes.any(dim=1).all()


@pytest.mark.parametrize(("kind", "value_type"), [("image", "uint8"), ("tensor", "float64")])
def test_images_and_tensors_are_flattened(kind: str, value_type: str) -> None:
    group = Group(name="box", kind=kind, features=("box",), shape=(4, 3, 2), value_type=value_type)
    box = torch.ones(7, 4, 3, 2, dtype=getattr(torch, value_type))
    assert network((DENSE, group)).eval()(dense=BATCH["dense"], box=box).shape == (7, 1)


@pytest.mark.parametrize("kind", ["tokens", "mask"])
def test_groups_of_other_kinds_are_rejected(kind: str) -> None:
    other = Group(name="other", kind=kind, features=("o",), shape=(2, 2, 3))
    with pytest.raises(ModelError, match=f"reads numbers, ids, images and tensors, but other holds {kind}; use"):
        network((DENSE, other))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"activation": "sin"}, "activation: 'sin' is unknown; use one of relu"),
        ({"members": 0}, "members: 0; use at least 1"),
        ({"dropout": 1.0}, "dropout: 1.0 is not a share"),
    ],
)
def test_wrong_option_is_rejected(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelError, match=f"model.options.{problem}"):
        network(**options)


class OneMapping(torch.nn.Module):
    """The form in which models are logged."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, groups: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs: torch.Tensor = self.network(**groups)
        return outputs


def test_network_can_be_exported_for_any_number_of_rows() -> None:
    model = OneMapping(network()).eval()
    shapes = ({name: {0: torch.export.Dim("rows")} for name in BATCH},)
    program = torch.export.export(model, (BATCH,), dynamic_shapes=shapes, strict=False)
    more = {name: torch.cat([values, values]) for name, values in BATCH.items()}
    torch.testing.assert_close(program.module()(more), model(more))
