"""The gang as one rank sees it, and the collective operations on it. The only import of `horovod.torch`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError
from torch import nn

from farandole.errors import EnvironmentLacking
from farandole.training.messages import WORKERS_VARIABLE

_POLL_S = 0.01

PeerLost = HorovodInternalError
"""What a collective operation raises in the ranks that live when another one has died."""


@dataclass(frozen=True)
class World:
    """Which rank this is.

    Args:
        rank: Its number in the gang, from 0.
        size: The number of ranks.
        local_rank: Its number on its host, from 0.
        local_size: The number of ranks on its host.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int

    @property
    def is_chief(self) -> bool:
        """Whether it is the rank that reports, records and saves."""
        return self.rank == 0


@contextmanager
def join() -> Iterator[World]:
    """Meet the other ranks.

    Raises:
        EnvironmentLacking: The gang has another size than the launcher started: without its variables Horovod
            would silently make N gangs of one.
    """
    hvd.init()
    try:
        expected = int(os.environ.get(WORKERS_VARIABLE, "1"))
        if hvd.size() != expected:
            raise EnvironmentLacking(
                f"resources.workers: {expected} workers were asked for and this one is in a gang of {hvd.size()};"
                " start workers by `farandole train`, which uses Horovod's launcher"
            )
        yield World(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size())
    finally:
        hvd.shutdown()


def meet(name: str) -> None:
    """Return when all ranks have come here. Horovod's own waiting spins, which takes a core from a rank that works."""
    handle = hvd.allreduce_async(torch.zeros(1), op=hvd.Sum, name=f"meet.{name}")
    while not hvd.poll(handle):
        time.sleep(_POLL_S)
    hvd.synchronize(handle)


def broadcast_weights(model: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers."""
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)


def broadcast_buffers(model: nn.Module) -> None:
    """Give every rank rank 0's buffers, for example the running means of a batch normalization."""
    buffers = dict(model.named_buffers())
    if buffers:
        hvd.broadcast_parameters(buffers, root_rank=0)


def broadcast_object(value: Any, name: str) -> Any:
    """Rank 0's value, on every rank."""
    return hvd.broadcast_object(value, root_rank=0, name=name)


def broadcast_tensor(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Rank 0's tensor, of any type, on every rank. The others give one of the same shape and type."""
    sent = tensor.contiguous()
    if sent.numel():  # as bytes: Horovod does not know all types
        hvd.broadcast_(sent.reshape(-1).view(torch.uint8), root_rank=0, name=name)
    return sent


def gather_objects(value: Any, name: str) -> list[Any]:
    """The values of all ranks, in the order of ranks, on every rank."""
    return cast(list[Any], hvd.allgather_object(value, name=name))


def start_sum(values: torch.Tensor, name: str) -> int:
    """Begin to sum over all ranks, in place; `finish_sum` takes what this returns."""
    return cast(int, hvd.allreduce_async_(values, op=hvd.Sum, name=name))


def finish_sum(handle: int) -> None:
    """Return when the sum is there."""
    hvd.synchronize(handle)


def gather_rows(rows: torch.Tensor, name: str) -> torch.Tensor:
    """The rows of all ranks, in the order of ranks, on every rank; they may have different numbers of rows."""
    return cast(torch.Tensor, hvd.allgather(rows.contiguous(), name=name))


def sum_over_ranks(values: list[float], name: str) -> list[float]:
    """The sums of a few float64 over all ranks."""
    total = hvd.allreduce(torch.tensor(values, dtype=torch.float64), op=hvd.Sum, name=name)
    return cast(list[float], total.tolist())


def sum_gradients(optimizer: torch.optim.Optimizer, model: nn.Module) -> ReducingOptimizer:
    """The optimizer, with gradients summed over all ranks while they are computed.

    Sums, not means: each rank divides its loss by the rows of the global batch, so ranks with different numbers of
    rows weigh exactly as much as their rows.
    """
    return ReducingOptimizer(
        hvd.DistributedOptimizer(optimizer, named_parameters=list(model.named_parameters()), op=hvd.Sum)
    )


class ReducingOptimizer:
    """Horovod's optimizer with the two halves of a step apart: wait for the gradients, then move the weights."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of torch's optimizer."""
        return cast(list[dict[str, Any]], self._wrapped.param_groups)

    def wait(self) -> None:
        """Return when every gradient is the sum over all ranks."""
        self._wrapped.synchronize()

    def step(self) -> None:
        """Move the weights by the gradients as they are now."""
        with cast(AbstractContextManager[None], self._wrapped.skip_synchronize()):
            self._wrapped.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._wrapped.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The state of torch's optimizer."""
        return cast(dict[str, Any], self._wrapped.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state. After wrapping: Horovod's wrapper drops what was loaded before."""
        self._wrapped.load_state_dict(state)
