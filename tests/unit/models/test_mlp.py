from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.layers import Dropout
from farandole.models.mlp import build
from farandole.shards import Group, LabelColumn, Schema

DENSE = Group(name="dense", kind="numbers", features=("a", "b", "c"))
IDS = Group(name="ids", kind="ids", features=("d", "e"), cardinalities=(5, 9))
BINARY = LabelColumn(kind="binary", column="y", classes=("no", "yes"))
MULTICLASS = LabelColumn(kind="multiclass", column="y", classes=("a", "b", "c"))
BATCH = {"dense": torch.randn(7, 3), "ids": torch.tensor([[4, 8]] * 7, dtype=torch.int32)}


@pytest.mark.parametrize("groups", [(DENSE,), (IDS,), (DENSE, IDS), (IDS, DENSE)])
@pytest.mark.parametrize(("label", "outputs"), [(BINARY, 1), (MULTICLASS, 3)])
def test_all_groups_are_used_and_every_parameter_gets_a_gradient(
    groups: tuple[Group, ...], label: LabelColumn, outputs: int
) -> None:
    model = build(Schema(groups=groups, label=label), hidden=(8,))
    out = model(**{group.name: BATCH[group.name] for group in groups})
    assert out.shape == (7, outputs)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["tokens", "mask"])
def test_groups_of_other_kinds_are_rejected(kind: str) -> None:
    other = Group(name="other", kind=kind, features=("o",), shape=(2, 2, 3))
    with pytest.raises(ModelError, match=f"reads numbers, ids, images and tensors, but other holds {kind}; use"):
        build(Schema(groups=(DENSE, other), label=BINARY))


def test_options_determine_the_layers() -> None:
    model = build(Schema(groups=(DENSE,), label=BINARY), hidden=[16, 4], dropout=0.25)
    linear = [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert linear == [(3, 16), (16, 4), (4, 1)]
    dropped = [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)]
    assert dropped.count(0.25) == 2


@pytest.mark.parametrize(("kind", "value_type"), [("image", "uint8"), ("tensor", "float64")])
def test_images_and_tensors_are_flattened(kind: str, value_type: str) -> None:
    group = Group(name="box", kind=kind, features=("box",), shape=(4, 3, 2), value_type=value_type)
    model = build(Schema(groups=(DENSE, group), label=BINARY), hidden=(8,))
    assert next(layer for layer in model.modules() if isinstance(layer, nn.Linear)).in_features == 3 + 24
    assert model(dense=BATCH["dense"], box=torch.ones(7, 4, 3, 2, dtype=getattr(torch, value_type))).shape == (7, 1)


def test_activation_and_norm_are_options() -> None:
    model: Any = build(Schema(groups=(DENSE,), label=BINARY), hidden=(2,), activation="gelu", norm=False)
    kinds = [type(layer) for layer in model.layers]
    assert kinds == [nn.Linear, nn.GELU, Dropout, nn.Linear]
    with pytest.raises(ModelError, match=r"activation: 'sin' is unknown; use one of relu, gelu"):
        build(Schema(groups=(DENSE,), label=BINARY), activation="sin")


def test_without_hidden_layers_the_network_is_linear() -> None:
    model = build(Schema(groups=(DENSE,), label=BINARY), hidden=())
    assert sum(parameter.numel() for parameter in model.parameters()) == 3 + 1


def test_the_seed_determines_the_initial_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build(Schema(groups=(DENSE, IDS), label=BINARY), hidden=(4,)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
