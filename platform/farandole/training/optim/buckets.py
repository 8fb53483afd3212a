"""Gradients in flat buckets, which are summed over all ranks while the rest is still being computed.

Horovod's `DistributedOptimizer` sums each parameter separately, or copies those that are ready at the same time into a
fusion buffer and out of it again. Here the gradients of a bucket are contiguous from the start: one sum for all of
them, no copy but the one into the bucket, and norms, scaling and checks for NaN in one pass over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from farandole.spec import Horovod
from farandole.training.world import Pending

_MIB = 2**20
_WIRE_DTYPES = {torch.float16: torch.float16, torch.bfloat16: torch.float32}
"""Types in which gradients are summed, where it is neither float32 nor their own: Horovod has no bfloat16."""

StartReduce = Callable[[torch.Tensor, str], Pending]
"""Function that starts to sum a flat bucket over all ranks."""


class Bucket:
    """Contiguous gradients of some parameters.

    Args:
        name: The same on all ranks.
        parameters: Parameters by name, all of one type, on one device.
        multiple: The length of the bucket is padded with zeros to a multiple of it.
        half: Whether the gradients are sent as float16; complex ones never are.
    """

    def __init__(
        self, name: str, parameters: dict[str, nn.Parameter], *, multiple: int = 1, half: bool = False
    ) -> None:
        self.name, self.parameters = name, parameters
        first = next(iter(parameters.values()))
        length = sum(parameter.numel() for parameter in parameters.values())
        padded = -(-length // multiple) * multiple
        self.flat = torch.zeros(padded, dtype=_WIRE_DTYPES.get(first.dtype, first.dtype), device=first.device)
        self.views = dict(zip(parameters, parameter_views(self.flat, parameters.values()), strict=True))
        half = half and not first.is_complex()
        self._half = torch.empty(padded, dtype=torch.float16, device=first.device) if half else None
        self._missing = set(parameters)
        self._pending: Pending | None = None

    def add(self, name: str, start_reduce: StartReduce) -> None:
        """Copy the complete gradient of a parameter into the bucket; the last one starts the sum."""
        assert name in self._missing, f"the gradient of {name} was computed twice in one step"
        parameter, view = self.parameters[name], self.views[name]
        gradient = parameter.grad
        if gradient is None:  # the loss of this rank does not depend on it; that of another rank may
            view.zero_()
        else:
            view.copy_(gradient.to_dense() if gradient.is_sparse else gradient)
        if view.dtype == parameter.dtype:
            parameter.grad = view
        self._missing.remove(name)
        if not self._missing:
            if self._half is not None:
                self._half.copy_(self.flat)
            self._pending = start_reduce(self.flat if self._half is None else self._half, self.name)

    def add_missing(self, start_reduce: StartReduce) -> None:
        """Add the parameters for which no gradient was computed, as zeros."""
        for name in [name for name in self.parameters if name in self._missing]:
            self.add(name, start_reduce)

    def wait(self) -> torch.Tensor:
        """Wait for the sum; returns this rank's result in the bucket's own type."""
        assert self._pending is not None, f"{self.name} was not started"
        summed: torch.Tensor = self._pending.wait()
        self._pending, self._missing = None, set(self.parameters)
        if self._half is None:
            return summed
        return self.flat.copy_(summed) if summed is self._half else summed.to(self.flat.dtype)


def parameter_views(flat: torch.Tensor, parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return consecutive views of a flat tensor with the shape and memory layout of each parameter."""
    views, start = [], 0
    for parameter in parameters:
        part = flat[start : start + parameter.numel()]
        strides = parameter.stride() if _is_dense(parameter) else torch.empty(parameter.shape, device="meta").stride()
        views.append(part.as_strided(parameter.shape, strides, part.storage_offset()))
        start += parameter.numel()
    return views


def make_buckets(
    prefix: str,
    parameters: dict[str, nn.Parameter],
    spec: Horovod,
    *,
    multiple: int = 1,
    half: bool = False,
) -> list[Bucket]:
    """Distribute parameters over buckets, the last ones first, because their gradients are computed first.

    Args:
        prefix: Prefix of the buckets' names.
        parameters: Parameters by name.
        spec: Number or size of the buckets.
        multiple: The length of a bucket is padded to a multiple of it.
        half: Whether gradients are sent as float16.
    """
    total = sum(parameter.numel() * parameter.element_size() for parameter in parameters.values())
    limit = spec.bucket_mib * _MIB if spec.num_groups is None else -(-total // spec.num_groups)
    members: list[dict[str, nn.Parameter]] = []
    current, room = None, 0.0
    for name, parameter in reversed(parameters.items()):
        if room <= 0 or current != (parameter.dtype, parameter.device):
            members.append({})
            current, room = (parameter.dtype, parameter.device), limit
        members[-1][name] = parameter
        room -= parameter.numel() * parameter.element_size()
    return [Bucket(f"{prefix}.{number}", each, multiple=multiple, half=half) for number, each in enumerate(members)]


class BucketFiller:
    """Moves gradients into buckets as backward computes them.

    Args:
        buckets: The buckets.
        start_reduce: Starts to sum one of them.
    """

    def __init__(self, buckets: list[Bucket], start_reduce: StartReduce) -> None:
        self._buckets, self._start_reduce = buckets, start_reduce
        self._is_enabled = False
        for bucket in buckets:
            for name, parameter in bucket.parameters.items():
                parameter.register_post_accumulate_grad_hook(self._hook(bucket, name))  # type: ignore[no-untyped-call]

    def enable(self) -> None:
        """Start sums during the next backward, which is the last one of its step."""
        self._is_enabled = True

    def wait(self) -> list[torch.Tensor]:
        """Wait for all sums; returns this rank's results by bucket. Parameters without a gradient count as zeros."""
        self._is_enabled = False
        for bucket in self._buckets:
            bucket.add_missing(self._start_reduce)
        return [bucket.wait() for bucket in self._buckets]

    def _hook(self, bucket: Bucket, name: str) -> Callable[[torch.Tensor], None]:
        def add(_: torch.Tensor) -> None:
            if self._is_enabled:
                bucket.add(name, self._start_reduce)

        return add


def _is_dense(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's elements fill a contiguous piece of memory, in any order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
