from __future__ import annotations

import torch
from torch import nn

from farandole.training.optim.ema import ExponentialMovingAverage


def test_average_follows_its_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average, expected = ExponentialMovingAverage(model, 0.5), 0.0
    average.reset()
    for step in range(20):
        nn.init.constant_(model.weight, float(step + 1))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    with average.applied():
        torch.testing.assert_close(model.weight.item(), expected)
    assert model.weight.item() == 20.0


def test_average_resumes_from_its_state() -> None:
    models = [nn.Linear(2, 2) for _ in range(2)]
    first, second = (ExponentialMovingAverage(model, 0.9) for model in models)
    first.update()
    second.load_state_dict(first.state_dict())
    models[1].load_state_dict(models[0].state_dict())
    first.update()
    second.update()
    first.swap()
    second.swap()
    for left, right in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(left, right)


def test_frozen_parameters_are_not_averaged() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert set(ExponentialMovingAverage(model, 0.9).state_dict()["averages"]) == {"weight"}
