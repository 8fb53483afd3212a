from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from farandole.errors import ModelError
from farandole.models.rnn import build
from farandole.shards import Group, LabelColumn, Schema

SERIES = Group(name="past", kind="tensor", features=("past",), shape=(12, 3), value_type="float32")
NUMBER = LabelColumn(kind="regression", column="y")
SCHEMA = Schema(groups=(SERIES,), label=NUMBER)


@pytest.mark.parametrize(("cell", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_series_is_encoded_and_every_parameter_gets_a_gradient(cell: str, kind: type, layers: int) -> None:
    model: Any = build(SCHEMA, cell=cell, size=8, layers=layers, hidden=(4,), dropout=0.1)
    assert isinstance(model.encoder.cells, kind)
    out = model(past=torch.randn(6, 12, 3))
    assert out.shape == (6, 1)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_output_depends_on_the_order_of_steps() -> None:
    torch.manual_seed(0)
    model = build(SCHEMA, size=8).eval()
    past = torch.randn(2, 12, 3)
    assert not torch.allclose(model(past=past), model(past=past.flip(1)))


def test_the_scale_of_the_inputs_is_learned() -> None:
    torch.manual_seed(0)
    model: Any = build(SCHEMA, size=8)
    past = torch.randn(500, 12, 3) * torch.tensor([1.0, 100.0, 0.1]) + torch.tensor([0.0, 1000.0, 5.0])
    for _ in range(80):  # the running mean is then exact to 2e-4
        model(past=past)
    scaled = model.eval().encoder.scale(past.transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(scaled.mean((0, 1)), torch.zeros(3), atol=0.05)
    assert torch.allclose(scaled.std((0, 1)), torch.ones(3), atol=0.05)


def test_an_unknown_cell_and_a_tensor_of_another_shape_are_rejected() -> None:
    with pytest.raises(ModelError, match=r"cell: 'rnn' is unknown; use one of lstm, gru"):
        build(SCHEMA, cell="rnn")
    cube = SERIES.model_copy(update={"shape": (2, 3, 4)})
    with pytest.raises(ModelError, match=r"the rows of past have shape \[2, 3, 4\], but a series has shape"):
        build(Schema(groups=(cube,), label=NUMBER))
