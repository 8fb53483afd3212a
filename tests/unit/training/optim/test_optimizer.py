from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from farandole.errors import SpecError
from farandole.spec import Optimizer
from farandole.training.optim.optimizer import build_optimizer, parameter_groups

NAMES = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adadelta": torch.optim.Adadelta,
    "asgd": torch.optim.ASGD,
    "adafactor": torch.optim.Adafactor,
}


def built(spec: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    return build_optimizer(spec, parameter_groups(spec, model))


def network() -> nn.Module:
    """Matrices, an embedding, biases, a norm, and a layer that does not learn."""
    frozen = nn.Linear(2, 2)
    frozen.requires_grad_(False)
    return nn.ModuleDict(
        {"in": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "table": nn.Embedding(5, 2), "frozen": frozen}
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_name_creates_torchs_optimizer_with_its_learning_rate(name: str) -> None:
    optimizer = built(Optimizer.model_validate({"name": name, "learning_rate": 0.25}), network())
    assert type(optimizer).__mro__[1] is NAMES[name]
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_weight_decay_applies_to_matrices_only() -> None:
    model = network()
    decayed, spared = built(Optimizer(weight_decay=0.1), model).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(parameter)] for parameter in decayed["params"]] == ["in.weight", "table.weight"]
    assert [names[id(parameter)] for parameter in spared["params"]] == ["in.bias", "norm.weight", "norm.bias"]


@pytest.mark.parametrize(("dims", "groups"), [((2, 2), 1), ((2,), 1)], ids=["matrices", "vectors"])
def test_empty_parameter_group_is_left_out(dims: tuple[int, ...], groups: int) -> None:
    model = nn.ParameterList([nn.Parameter(torch.zeros(dims))])
    assert len(built(Optimizer(weight_decay=0.5), model).param_groups) == groups


def test_options_are_passed_to_torch() -> None:
    optimizer = built(Optimizer(options={"betas": [0.8, 0.9], "eps": 1e-6}), network())
    assert all(tuple(group["betas"]) == (0.8, 0.9) and group["eps"] == 1e-6 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("name", "options"),
    [("adamw", {"momentum": 0.9}), ("sgd", {"betas": [0.9, 0.9]}), ("adam", {"betas": [2, 0.9]})],
)
def test_options_that_torch_rejects_are_reported(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=rf"train\.optimizer\.options: .*; see torch's {name}"):
        built(Optimizer.model_validate({"name": name, "options": options}), network())


@pytest.mark.parametrize("name", NAMES)
def test_each_optimizer_updates_every_trainable_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = network()
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = built(Optimizer.model_validate({"name": name, "learning_rate": 0.1}), model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    assert moved == {key for key in before if not key.startswith("frozen")}


def test_fused_implementation_is_the_default_for_float32() -> None:
    assert built(Optimizer(), network()).param_groups[0]["fused"] is True
    assert not built(Optimizer(options={"foreach": True}), network()).param_groups[0]["fused"]
    assert not built(Optimizer(), network().double()).param_groups[0]["fused"]


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_of_torchs_optimizer(name: str) -> None:
    results = []
    for build in (lambda model: built(Optimizer.model_validate({"name": name}), model), None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        spec = Optimizer.model_validate({"name": name})
        groups = parameter_groups(spec, model)
        optimizer = build(model) if build else NAMES[name](groups, lr=spec.rate)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(5, 3)).square().sum().backward()
            optimizer.step()
        results.append([parameter.detach().clone() for parameter in model.parameters()])
    for own, theirs in zip(*results, strict=True):
        torch.testing.assert_close(own, theirs)


def test_steps_do_not_import_torchs_compiler() -> None:
    script = """
import sys, torch
from farandole.spec import Optimizer
from farandole.training.optim.optimizer import build_optimizer, parameter_groups
model, spec = torch.nn.Linear(3, 2), Optimizer()
optimizer = build_optimizer(spec, parameter_groups(spec, model))
model(torch.ones(5, 3)).sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
optimizer.zero_grad()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_optimizer_that_is_differentiated_remains_torchs_own() -> None:
    spec = Optimizer.model_validate({"name": "sgd", "options": {"differentiable": True}})
    assert type(built(spec, network())) is torch.optim.SGD
