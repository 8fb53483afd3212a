"""Torch's optimizer as the job file names it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from farandole.errors import SpecError
from farandole.spec import Optimizer, OptimizerName

_CLASSES: dict[OptimizerName, type[torch.optim.Optimizer]] = {
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
_FUSED = ("adamw", "adam", "sgd", "adagrad")
"""Those of which torch has a form that goes once over the memory, on CPU and GPU."""
_WAYS = ("fused", "foreach", "differentiable", "capturable", "maximize")
"""Options that say how torch computes; where one is given, the user has chosen."""


def parameter_groups(spec: Optimizer, model: nn.Module) -> list[dict[str, Any]]:
    """All parameters that learn, those of weight decay first: it falls on matrices, not on biases and norms."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in learning if parameter.ndim >= 2],
            "weight_decay": spec.weight_decay,
        },
        {"params": [parameter for parameter in learning if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(spec: Optimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimizer over groups of parameters.

    Raises:
        SpecError: `options` names something that torch's class does not take.
    """
    options = dict(spec.options)
    types = {parameter.dtype for group in groups for parameter in group["params"]}
    if spec.name in _FUSED and not any(way in options for way in _WAYS) and types == {torch.float32}:
        options["fused"] = True
    try:
        return _CLASSES[spec.name](groups, lr=spec.learning_rate, **options)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise SpecError(f"train.optimizer.options: {spec.options}: {error}; see torch's {spec.name}") from error
