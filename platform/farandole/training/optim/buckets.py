"""Gradients in flat buckets, which are summed over all ranks while the rest of them is still being computed.

Horovod's `DistributedOptimizer` sums each parameter by itself, or copies those that are ready together into a
buffer and out of it again. Here the gradients of a bucket lie side by side from the start: one sum for all of
them, no copies but the one into the bucket, and norms, scaling and tests for NaN in one pass over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from farandole.spec import Horovod
from farandole.training.world import Pending

_MIB = 2**20
_WIRE = {torch.float16: torch.float16, torch.bfloat16: torch.float32}
"""What gradients of a type are summed in, where it is not float32 or their own: Horovod has no bfloat16."""

StartReduce = Callable[[torch.Tensor, str], Pending]
"""Begins to sum a flat bucket over all ranks."""


class Bucket:
    """The gradients of some parameters, one after the other.

    Args:
        name: The same on all ranks.
        parameters: By name, all of one type, on one device.
        multiple: The length of the bucket is rounded up to a multiple of it, with zeros.
        half: Whether they travel as float16.
    """

    def __init__(
        self, name: str, parameters: dict[str, nn.Parameter], *, multiple: int = 1, half: bool = False
    ) -> None:
        self.name, self.parameters = name, parameters
        first = next(iter(parameters.values()))
        length = sum(parameter.numel() for parameter in parameters.values())
        padded = -(-length // multiple) * multiple
        self.flat = torch.zeros(padded, dtype=_WIRE.get(first.dtype, first.dtype), device=first.device)
        self.views = dict(zip(parameters, parameter_views(self.flat, parameters.values()), strict=True))
        self._half = torch.empty(padded, dtype=torch.float16, device=first.device) if half else None
        self._missing = set(parameters)
        self._pending: Pending | None = None

    def take(self, name: str, start: StartReduce) -> None:
        """Take in the whole gradient of a parameter; the last one starts the sum."""
        assert name in self._missing, f"the gradient of {name} was computed twice in one step"
        parameter, view = self.parameters[name], self.views[name]
        gradient = parameter.grad
        if gradient is None:  # nothing of this rank's depends on it: it may be otherwise on another rank
            view.zero_()
        else:
            view.copy_(gradient.to_dense() if gradient.is_sparse else gradient)
        if view.dtype == parameter.dtype:
            parameter.grad = view
        self._missing.remove(name)
        if not self._missing:
            if self._half is not None:
                self._half.copy_(self.flat)
            self._pending = start(self.flat if self._half is None else self._half, self.name)

    def take_rest(self, start: StartReduce) -> None:
        """Take in what no gradient was computed for."""
        for name in [name for name in self.parameters if name in self._missing]:
            self.take(name, start)

    def wait(self) -> torch.Tensor:
        """What the sum gives this rank, in the bucket's own type."""
        assert self._pending is not None, f"{self.name} was not started"
        summed: torch.Tensor = self._pending.wait()
        self._pending, self._missing = None, set(self.parameters)
        if self._half is None:
            return summed
        return self.flat.copy_(summed) if summed is self._half else summed.to(self.flat.dtype)

    def nonfinite_params(self) -> list[str]:
        """The parameters whose gradients are not finite."""
        return [name for name, view in self.views.items() if not bool(view.isfinite().all())]


def parameter_views(flat: torch.Tensor, parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Views of a flat tensor, one for each parameter in turn, of its shape and its order in memory."""
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
    """Deal parameters to buckets, the last ones first: theirs are the first gradients that are computed.

    Args:
        prefix: Of the buckets' names.
        parameters: By name.
        spec: Says how many or how large.
        multiple: The length of a bucket is rounded up to a multiple of it.
        half: Whether they travel as float16.
    """
    total = sum(parameter.numel() * parameter.element_size() for parameter in parameters.values())
    limit = spec.bucket_mib * _MIB if spec.num_groups is None else -(-total // spec.num_groups)
    dealt: list[dict[str, nn.Parameter]] = []
    kind, room = None, 0.0
    for name, parameter in reversed(parameters.items()):
        if room <= 0 or kind != (parameter.dtype, parameter.device):
            dealt.append({})
            kind, room = (parameter.dtype, parameter.device), limit
        dealt[-1][name] = parameter
        room -= parameter.numel() * parameter.element_size()
    return [Bucket(f"{prefix}.{number}", members, multiple=multiple, half=half) for number, members in enumerate(dealt)]


class BucketFiller:
    """Takes gradients into buckets as backward computes them.

    Args:
        buckets: The buckets.
        start: Begins to sum one.
    """

    def __init__(self, buckets: list[Bucket], start: StartReduce) -> None:
        self._buckets, self._start = buckets, start
        self._armed = False
        for bucket in buckets:
            for name, parameter in bucket.parameters.items():
                parameter.register_post_accumulate_grad_hook(self._hook(bucket, name))  # type: ignore[no-untyped-call]

    def enable_sync(self) -> None:
        """The next backward is the last one of its step: its gradients are whole."""
        self._armed = True

    def wait(self) -> list[torch.Tensor]:
        """What the sums give this rank, bucket by bucket; parameters that took no part count as zeros."""
        self._armed = False
        for bucket in self._buckets:
            bucket.take_rest(self._start)
        return [bucket.wait() for bucket in self._buckets]

    def _hook(self, bucket: Bucket, name: str) -> Callable[[torch.Tensor], None]:
        def take(_: torch.Tensor) -> None:
            if self._armed:
                bucket.take(name, self._start)

        return take


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements fill a piece of memory, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
