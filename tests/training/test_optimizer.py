from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from farandole.errors import SpecError
from farandole.spec import Optimizer, Schedule
from farandole.training.optimizer import build_optimizer, rate_factor

NAMES = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
SCHEDULES = st.one_of(
    st.builds(Schedule, warmup=st.floats(0, 0.99)),
    st.builds(
        Schedule, name=st.sampled_from(["linear", "cosine"]), warmup=st.floats(0, 0.99), final=st.floats(0.001, 1)
    ),
)
FEW = hypothesis_settings(max_examples=60, deadline=None)


def network() -> nn.Module:
    """Matrices, an embedding, biases, a norm, and a layer that does not learn."""
    frozen = nn.Linear(2, 2)
    frozen.requires_grad_(False)
    return nn.ModuleDict(
        {"in": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "table": nn.Embedding(5, 2), "frozen": frozen}
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_torchs_optimizer_with_the_given_rate(name: str) -> None:
    optimizer = build_optimizer(Optimizer.model_validate({"name": name, "learning_rate": 0.25}), network())
    assert type(optimizer) is NAMES[name]
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_weight_decay_falls_on_matrices_and_not_on_vectors() -> None:
    model = network()
    decayed, spared = build_optimizer(Optimizer(weight_decay=0.1), model).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(parameter)] for parameter in decayed["params"]] == ["in.weight", "table.weight"]
    assert [names[id(parameter)] for parameter in spared["params"]] == ["in.bias", "norm.weight", "norm.bias"]


@pytest.mark.parametrize(("dims", "groups"), [((2, 2), 1), ((2,), 1)], ids=["matrices", "vectors"])
def test_a_kind_of_parameter_that_is_not_there_makes_no_group(dims: tuple[int, ...], groups: int) -> None:
    model = nn.ParameterList([nn.Parameter(torch.zeros(dims))])
    assert len(build_optimizer(Optimizer(weight_decay=0.5), model).param_groups) == groups


def test_options_reach_torch() -> None:
    optimizer = build_optimizer(Optimizer(options={"betas": [0.8, 0.9], "eps": 1e-6}), network())
    assert all(tuple(group["betas"]) == (0.8, 0.9) and group["eps"] == 1e-6 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("name", "options"),
    [("adamw", {"momentum": 0.9}), ("sgd", {"betas": [0.9, 0.9]}), ("adam", {"betas": [2, 0.9]})],
)
def test_options_that_torch_refuses_are_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=rf"train\.optimizer\.options: .*; see torch's {name}"):
        build_optimizer(Optimizer.model_validate({"name": name, "options": options}), network())


@given(SCHEDULES, st.integers(1, 500))
@FEW
def test_a_rate_is_a_share_above_0(schedule: Schedule, total: int) -> None:
    factors = [rate_factor(schedule, step, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)


@given(SCHEDULES, st.integers(2, 500))
@FEW
def test_a_rate_rises_in_the_warm_up_and_never_after_it(schedule: Schedule, total: int) -> None:
    warmup = round(schedule.warmup * total)
    factors = [rate_factor(schedule, step, total) for step in range(total)]
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    if warmup:
        assert factors[0] == pytest.approx(1 / warmup)
        assert factors[warmup - 1] == 1.0


@given(SCHEDULES, st.integers(1, 500))
@FEW
def test_after_the_last_step_the_final_share_is_left(schedule: Schedule, total: int) -> None:
    final = 1.0 if schedule.name == "constant" else schedule.final
    if round(schedule.warmup * total) < total:
        assert rate_factor(schedule, total, total) == pytest.approx(final, abs=1e-12)


def test_rates_of_a_short_training_are_as_written_down() -> None:
    def factors(**fields: Any) -> list[float]:
        schedule = Schedule.model_validate(fields)
        return [rate_factor(schedule, step, 8) for step in range(8)]

    assert factors() == [1.0] * 8
    assert factors(warmup=0.5) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert factors(name="linear") == pytest.approx([1 - step / 8 for step in range(8)])
    assert factors(name="linear", warmup=0.5, final=0.2) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.8, 0.6, 0.4])
    assert factors(name="cosine") == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])


def test_a_training_of_one_step_has_a_rate() -> None:
    for name in ("constant", "linear", "cosine"):
        for warmup in (0, 0.4, 0.9):
            assert rate_factor(Schedule.model_validate({"name": name, "warmup": warmup}), 0, 1) == 1.0
