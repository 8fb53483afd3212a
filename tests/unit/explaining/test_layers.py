from __future__ import annotations

import pytest
import torch
from torch import nn

from farandole.explaining import Explainer
from farandole.explaining.layers import attribute_layers, summarise_activations
from farandole.shards import Schema
from tests.support.explained import BUILDERS, builder_model, features_of, made_model

NUMBERS = {"size": {"kind": "numeric"}, "price": {"kind": "numeric"}}


def half_dead(schema: Schema) -> nn.Module:
    """Build a network whose hidden layer has two units that never fire and two that always do."""

    class HalfDead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.relu, self.out = nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)

        def forward(self, dense: torch.Tensor) -> torch.Tensor:
            hidden = self.hidden(dense) + torch.tensor([-1e6, -1e6, 1e3, 1e3])
            outputs: torch.Tensor = self.out(self.relu(hidden))
            return outputs

    return HalfDead()


def test_units_that_never_change_are_dead() -> None:
    model = made_model(half_dead, NUMBERS, "regression")
    layers = {layer["layer"]: layer for layer in summarise_activations(model, features_of(model))}
    assert list(layers) == ["hidden", "relu", "out"]
    assert layers["relu"]["dead"] == layers["relu"]["zeros"] == 0.5
    assert layers["hidden"]["dead"] == 0
    assert layers["relu"]["units"] == 4
    assert layers["relu"]["p01"] == 0
    assert layers["relu"]["p99"] > 990


@pytest.mark.parametrize("builder", BUILDERS)
def test_every_builder_has_layers_and_they_pass_the_difference_on(builder: str) -> None:
    model = builder_model(builder)
    features = features_of(model, 40)
    activations = summarise_activations(model, features)
    assert all(layer["units"] > 0 and 0 <= layer["dead"] <= 1 for layer in activations)
    assert all(layer["p01"] <= layer["p50"] <= layer["p99"] for layer in activations)
    layers = attribute_layers(model, features, Explainer(model).baseline.features)
    assert all(layer["share"] >= 0 and layer["top"] for layer in layers)
    if builder != "tabular":  # whose last layer has members, and no rows first
        assert layers[-1]["share"] == pytest.approx(1, abs=0.01)


def test_units_of_pictures_are_channels_and_those_of_members_are_all_numbers() -> None:
    model = builder_model("cnn")
    convolution = summarise_activations(model, features_of(model, 10))[0]
    assert (convolution["kind"], convolution["units"]) == ("Conv2d", 4)
    model = builder_model("tabular")
    hidden = [layer for layer in summarise_activations(model, features_of(model, 10)) if layer["kind"] == "ReLU"]
    assert [layer["units"] for layer in hidden] == [32, 32]  # 2 members of 16 units
