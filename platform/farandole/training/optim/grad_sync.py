"""One update of the weights: sum the gradients over all ranks, then let torch's optimizer move the weights."""

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
    """What the trainer needs. In each step: `enable_sync` before the last backward, `wait`, perhaps `scale`, `step`, `forget`.

    Gradients are sums, not means: each rank divides its loss by the rows of the global batch, so ranks with different
    numbers of rows weigh exactly as much as their rows.
    """

    def enable_sync(self) -> None:
        """The next backward is the last one of its step."""

    def wait(self) -> None:
        """Return when the gradients are sums over all ranks."""

    def squares(self) -> float:
        """The sum of squares of the summed gradient; not finite where it is not."""

    def scale(self, factor: float) -> None:
        """Multiply the summed gradient."""

    def step(self, rate: float) -> None:
        """Move the weights."""

    def forget(self) -> None:
        """Drop the gradients."""

    def nonfinite_params(self) -> list[str]:
        """The parameters whose summed gradients are not finite, as far as this rank has them."""

    def state_dict(self) -> dict[str, Any]:
        """The state, as torch's optimizer gives it, whole. All ranks have to call it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what any number of ranks saved, sharded or not."""


class ReplicatedGradientSync:
    """Every rank keeps the optimizer's whole state, and moves all weights in the same way.

    Args:
        spec: How to train.
        model: The network, on its device.
        gang: Which rank this is.
    """

    def __init__(self, spec: Train, model: nn.Module, gang: World) -> None:
        self._optimizer = build_optimizer(spec.optimizer, parameter_groups(spec.optimizer, model))
        self._parameters = trainable_parameters(model)
        horovod = spec.horovod
        self._filling: BucketFiller | None = None
        self._buckets = []
        if gang.size > 1:
            self._buckets = make_buckets("gradient", self._parameters, horovod, half=spec.compression == "fp16")
            self._filling = BucketFiller(
                self._buckets,
                lambda flat, name: world.start_all_reduce(
                    flat, name, predivide=horovod.predivide_factor, adasum=horovod.adasum
                ),
            )

    def enable_sync(self) -> None:
        """See `Update`."""
        if self._filling is not None:
            self._filling.enable_sync()

    def wait(self) -> None:
        """See `Update`."""
        if self._filling is not None:
            self._filling.wait()
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

    def squares(self) -> float:
        """See `Update`."""
        return squared_norm([gradient.reshape(-1) for gradient in self._tensors()])

    def scale(self, factor: float) -> None:
        """See `Update`."""
        torch._foreach_mul_(self._tensors(), factor)

    def step(self, rate: float) -> None:
        """See `Update`."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()

    def forget(self) -> None:
        """See `Update`."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def nonfinite_params(self) -> list[str]:
        """See `Update`."""
        return [
            name
            for name, parameter in self._parameters.items()
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
        ]

    def state_dict(self) -> dict[str, Any]:
        """See `Update`."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Update`."""
        self._optimizer.load_state_dict(state)

    def _tensors(self) -> list[torch.Tensor]:
        """The gradients, in as few tensors as there are."""
        if all(bucket.flat.dtype == next(iter(bucket.parameters.values())).dtype for bucket in self._buckets):
            flats = [bucket.flat for bucket in self._buckets]
            if flats:
                return flats
        return [cast(torch.Tensor, parameter.grad) for parameter in self._parameters.values()]


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name; one that is used in two places once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def squared_norm(tensors: list[torch.Tensor]) -> float:
    """Over flat tensors; not finite only where one of their elements is not."""
    squares = sum(torch.dot(tensor, tensor).item() for tensor in tensors)
    if math.isfinite(squares) or not all(bool(tensor.isfinite().all()) for tensor in tensors):
        return squares
    return float(sum(torch.linalg.vector_norm(tensor, dtype=torch.float64).item() ** 2 for tensor in tensors))
