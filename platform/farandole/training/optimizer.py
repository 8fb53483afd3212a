"""Torch's optimizer as the job file names it, and the learning rate of each step."""

from __future__ import annotations

import math

import torch
from torch import nn

from farandole.errors import SpecError
from farandole.spec import Optimizer, Schedule

_CLASSES: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def build_optimizer(spec: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over all parameters that learn; weight decay on matrices only.

    Raises:
        SpecError: `options` names something that torch's class does not take.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in learning if parameter.ndim >= 2],
            "weight_decay": spec.weight_decay,
        },
        {"params": [parameter for parameter in learning if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    try:
        return _CLASSES[spec.name](
            [group for group in groups if group["params"]],
            lr=spec.learning_rate,  # type: ignore[call-arg]
            **spec.options,
        )
    except (TypeError, ValueError) as error:
        raise SpecError(f"train.optimizer.options: {spec.options}: {error}; see torch's {spec.name}") from error


def rate_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """The share of the learning rate at a step: a pure function, so a resumed training needs no state of it.

    Args:
        schedule: The schedule.
        step: Steps done so far, from 0.
        total_steps: Steps of the whole training.
    """
    warmup_steps = round(schedule.warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule.name == "constant":
        return 1.0
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    left = 1 - share if schedule.name == "linear" else 0.5 * (1 + math.cos(math.pi * share))
    return schedule.final + (1 - schedule.final) * left
