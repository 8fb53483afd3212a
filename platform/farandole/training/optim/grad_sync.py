"""Gradient synchronization: sum the gradients over all ranks, then let torch's optimizer update the weights."""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

import torch
from torch import nn

from farandole.spec import Train
from farandole.training import world
from farandole.training.optim.buckets import BucketFiller, make_buckets
from farandole.training.optim.optimizer import build_optimizer, parameter_groups
from farandole.training.world import World


class GradientSync(Protocol):
    """Gradients and optimizer of one rank.

    Each step calls `enable_sync` before the last backward, then `synchronize`, perhaps `scale`, `step`, `zero_grad`.
    Gradients are sums, not means: each rank divides its loss by the rows of the global batch, so ranks with different
    numbers of rows are weighted exactly by their rows.
    """

    def enable_sync(self) -> None:
        """Start to sum gradients during the next backward, which is the last one of its step."""

    def synchronize(self) -> None:
        """Wait until the gradients are sums over all ranks."""

    def squared_norm(self) -> float:
        """Return the squared norm of the summed gradient; not finite if the gradient is not."""

    def scale(self, factor: float) -> None:
        """Multiply the summed gradient."""

    def step(self, learning_rate: float) -> None:
        """Update the weights."""

    def zero_grad(self) -> None:
        """Drop the gradients."""

    def reset(self) -> None:
        """Forget the optimizer's state, as before the first step."""

    def nonfinite_params(self) -> list[str]:
        """Return the parameters whose summed gradients are not finite, as far as this rank holds them."""

    def state_dict(self) -> dict[str, Any]:
        """Return the complete state in the form of torch's optimizer. All ranks have to call it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state saved by any number of ranks, sharded or not."""


class ReplicatedGradientSync:
    """Every rank keeps the complete state of the optimizer and updates all weights in the same way.

    Args:
        spec: How to train.
        model: The network, on its device.
        gang: Position of this rank.
    """

    def __init__(self, spec: Train, model: nn.Module, gang: World) -> None:
        self._optimizer = build_optimizer(spec.optimizer, parameter_groups(spec.optimizer, model))
        self._parameters = trainable_parameters(model)
        horovod = spec.horovod
        self._filler: BucketFiller | None = None
        self._buckets = []
        if gang.size > 1:
            self._buckets = make_buckets("gradient", self._parameters, horovod, half=spec.compression == "fp16")
            self._filler = BucketFiller(
                self._buckets,
                lambda flat, name: world.start_all_reduce(
                    flat, name, predivide=horovod.predivide_factor, adasum=horovod.adasum
                ),
            )

    def enable_sync(self) -> None:
        """See `GradientSync`."""
        if self._filler is not None:
            self._filler.enable()

    def synchronize(self) -> None:
        """See `GradientSync`."""
        if self._filler is not None:
            self._filler.wait()
            for bucket in self._buckets:
                for name, view in bucket.views.items():
                    parameter = bucket.parameters[name]
                    parameter.grad = view if view.dtype == parameter.dtype else view.to(parameter.dtype)
            return
        for parameter in self._parameters.values():
            if parameter.grad is None:  # as with several ranks: the result does not depend on their number
                parameter.grad = torch.zeros_like(parameter)
            elif parameter.grad.is_sparse:
                parameter.grad = parameter.grad.to_dense()

    def squared_norm(self) -> float:
        """See `GradientSync`."""
        return squared_norm([gradient.reshape(-1) for gradient in self._gradients()])

    def scale(self, factor: float) -> None:
        """See `GradientSync`."""
        torch._foreach_mul_(self._gradients(), factor)

    def step(self, learning_rate: float) -> None:
        """See `GradientSync`."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()

    def zero_grad(self) -> None:
        """See `GradientSync`."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def reset(self) -> None:
        """See `GradientSync`."""
        self._optimizer.state.clear()

    def nonfinite_params(self) -> list[str]:
        """See `GradientSync`."""
        return [
            name
            for name, parameter in self._parameters.items()
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
        ]

    def state_dict(self) -> dict[str, Any]:
        """See `GradientSync`."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `GradientSync`."""
        self._optimizer.load_state_dict(state)

    def _gradients(self) -> list[torch.Tensor]:
        """Return the gradients in as few tensors as possible."""
        if all(bucket.flat.dtype == next(iter(bucket.parameters.values())).dtype for bucket in self._buckets):
            flats = [bucket.flat for bucket in self._buckets]
            if flats:
                return flats
        return [cast(torch.Tensor, parameter.grad) for parameter in self._parameters.values()]


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by name; a shared one occurs once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def squared_norm(tensors: list[torch.Tensor]) -> float:
    """Return the squared norm of flat tensors; not finite only if one of their elements is not."""
    tensors = [torch.view_as_real(tensor).reshape(-1) if tensor.is_complex() else tensor for tensor in tensors]
    squares = sum(torch.dot(tensor, tensor).item() for tensor in tensors)
    if math.isfinite(squares) or not all(bool(tensor.isfinite().all()) for tensor in tensors):
        return squares
    return float(sum(torch.linalg.vector_norm(tensor, dtype=torch.float64).item() ** 2 for tensor in tensors))
