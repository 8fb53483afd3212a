"""Torch's optimizer as the job file configures it."""

from __future__ import annotations

import inspect
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
"""Optimizers of which torch has a fused implementation on CPU and GPU, which reads the memory once."""
_IMPLEMENTATION_OPTIONS = ("fused", "foreach", "differentiable", "capturable", "maximize")
"""Options that select torch's implementation; if one is given, the choice is the user's."""

_WRAPPED_METHODS = ("step", "zero_grad", "add_param_group", "state_dict", "load_state_dict")


def parameter_groups(spec: Optimizer, model: nn.Module) -> list[dict[str, Any]]:
    """Group the trainable parameters: first those with weight decay (matrices), then biases and norms without it."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trainable if parameter.ndim >= 2],
            "weight_decay": spec.decay,
        },
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(spec: Optimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Create the optimizer of some parameter groups.

    Raises:
        SpecError: `options` names something that torch's class does not accept.
    """
    options = dict(spec.options)
    dtypes = {parameter.dtype for group in groups for parameter in group["params"]}
    if spec.name == "adafactor" and any(dtype.is_complex for dtype in dtypes):
        raise SpecError("train.optimizer.name: torch's adafactor has no complex parameters; use adamw")
    is_users_choice = any(option in options for option in _IMPLEMENTATION_OPTIONS)
    if spec.name in _FUSED and not is_users_choice and dtypes == {torch.float32}:
        options["fused"] = True
    chosen = _CLASSES[spec.name]
    optimizer_class = chosen if options.get("differentiable") else _without_compiler(chosen)
    try:
        return optimizer_class(groups, lr=spec.rate, **options)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise SpecError(f"train.optimizer.options: {spec.options}: {error}; see torch's {spec.name}") from error


def _without_compiler(base: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return a subclass whose methods do not import torch's compiler.

    Torch wraps them to exclude them from compiled code, and the wrappers import the compiler at their first call: 800
    modules, almost two seconds of processor time in each worker. Steps here are never part of compiled code.
    """
    methods = {name: inspect.unwrap(getattr(base, name)) for name in _WRAPPED_METHODS}
    methods["step"] = torch.no_grad()(methods["step"])
    return type(base.__name__, (base,), methods)
