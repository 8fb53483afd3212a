"""The gang as one rank sees it, and the collective operations on it. The only import of `horovod.torch`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import horovod
import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError
from horovod.torch import mpi_lib_v2
from torch import nn

from farandole.errors import UnavailableError
from farandole.process.messages import WORKERS_VARIABLE
from farandole.spec import IDLE_CYCLE_VARIABLE, Horovod
from farandole.training.allocator import keep_freed_memory

_POLL_S = 50e-6
_MEET_S = 0.01
_OUR_BUILD = "+farandole"
_CYCLES = {"HOROVOD_CYCLE_TIME": "0.2", IDLE_CYCLE_VARIABLE: "20"}
"""Milliseconds between the cycles of Horovod's threads: while there is something to sum, and while there is not. Other
builds know the first alone, and would agree five thousand times a second on nothing."""
_SUM_ON_GPU = "horovod_torch_allreduce_async_torch_cuda_FloatTensor"
"""What only a build with CUDA has."""

PeerLostError = HorovodInternalError
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
    def is_rank_zero(self) -> bool:
        """Whether it is the rank that reports, records and saves."""
        return self.rank == 0


@contextmanager
def init() -> Iterator[World]:
    """Meet the other ranks; from then on this process behaves as one that trains (its memory, Horovod's thread).

    Raises:
        EnvironmentLacking: The gang has another size than the launcher started: without its variables Horovod
            would silently make N gangs of one.
    """
    keep_freed_memory()
    if _OUR_BUILD in horovod.__version__ and "HOROVOD_AUTOTUNE" not in os.environ:
        for name, value in _CYCLES.items():
            os.environ.setdefault(name, value)
    hvd.init()
    try:
        expected = int(os.environ.get(WORKERS_VARIABLE, "1"))
        if hvd.size() != expected:
            raise UnavailableError(
                f"resources.workers: {expected} workers were asked for and this one is in a gang of {hvd.size()};"
                " start workers by `farandole train`, which uses Horovod's launcher"
            )
        yield World(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size())
    finally:
        hvd.shutdown()


@dataclass(frozen=True)
class Pending:
    """A collective operation under way."""

    handle: int
    dtype: torch.dtype | None = None
    """What the bytes of the result are, where Horovod does not know their type."""

    def wait(self) -> Any:
        """Its result, once it is there.

        Horovod's own waiting spins, which takes a core from Horovod's thread and from ranks that still compute.
        """
        while not hvd.poll(self.handle):
            time.sleep(_POLL_S)
        result = hvd.synchronize(self.handle)
        return result if self.dtype is None else result.view(self.dtype)


def barrier(name: str) -> None:
    """Return when all ranks have come here, however long it takes."""
    handle = hvd.allreduce_async(torch.zeros(1), op=hvd.Sum, name=f"meet.{name}")
    while not hvd.poll(handle):
        time.sleep(_MEET_S)
    hvd.synchronize(handle)


def broadcast_weights(model: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers."""
    _broadcast(model.state_dict())


def broadcast_buffers(model: nn.Module) -> None:
    """Give every rank rank 0's buffers, for example the running means of a batch normalization."""
    _broadcast(dict(model.named_buffers()))


def _broadcast(tensors: dict[str, torch.Tensor]) -> None:
    """Give every rank rank 0's tensors. Horovod takes contiguous ones only, which weights in channels-last are not."""
    laid_out = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if laid_out:
        hvd.broadcast_parameters(laid_out, root_rank=0)
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            tensor.copy_(laid_out[name])


def broadcast_object(value: Any, name: str) -> Any:
    """Rank 0's value, on every rank."""
    return hvd.broadcast_object(value, root_rank=0, name=name)


def broadcast_tensor(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Rank 0's tensor, of any type, on every rank. The others give one of the same shape and type."""
    sent = tensor.contiguous()
    if sent.numel():  # as bytes: Horovod does not know all types
        hvd.broadcast_(sent.reshape(-1).view(torch.uint8), root_rank=0, name=name)
    return sent


def all_gather_objects(value: Any, name: str) -> list[Any]:
    """The values of all ranks, in the order of ranks, on every rank."""
    return cast(list[Any], hvd.allgather_object(value, name=name))


def all_gather_rows(rows: torch.Tensor, name: str) -> torch.Tensor:
    """The rows of all ranks, in the order of ranks, on every rank; they may have different numbers of rows."""
    return cast(torch.Tensor, start_all_gather(rows.contiguous(), name).wait())


def all_reduce_sum(values: list[float], name: str) -> list[float]:
    """The sums of a few float64 over all ranks."""
    total = start_all_reduce(torch.tensor(values, dtype=torch.float64), name).wait()
    return cast(list[float], total.tolist())


def start_all_reduce(tensor: torch.Tensor, name: str, *, predivide: float = 1.0, adasum: bool = False) -> Pending:
    """Begin to replace a contiguous tensor by its sum over all ranks.

    Args:
        tensor: Of the same shape on all ranks, float16, float32 or float64: Horovod has no bfloat16.
        name: The same on all ranks; they may begin several sums in different orders.
        predivide: Divide by it before the sum and multiply after it.
        adasum: Combine by Adasum instead.
    """
    assert tensor.is_contiguous(), f"{name} is not contiguous"
    assert tensor.dtype != torch.bfloat16, f"{name} is bfloat16"
    operation = hvd.Adasum if adasum else hvd.Sum
    return Pending(
        hvd.allreduce_async_(tensor, name=name, op=operation, prescale_factor=1 / predivide, postscale_factor=predivide)
    )


def start_reduce_scatter(tensor: torch.Tensor, name: str) -> Pending:
    """Begin to sum a tensor `[N * S]` over all N ranks, each of which gets its part `[S]` of the sum."""
    assert tensor.is_contiguous(), f"{name} is not contiguous"
    return Pending(hvd.reducescatter_async(tensor, name=name, op=hvd.Sum))


def start_all_gather(tensor: torch.Tensor, name: str) -> Pending:
    """Begin to put the rows of all ranks together, in the order of ranks."""
    if tensor.dtype in (torch.bool, torch.bfloat16):
        return Pending(hvd.allgather_async(tensor.view(torch.uint8), name=name), tensor.dtype)
    return Pending(hvd.allgather_async(tensor, name=name))


def check_horovod_build(spec: Horovod, device: torch.device) -> None:
    """Whether this build of Horovod can do what the job asks for.

    Raises:
        EnvironmentLacking: It lacks CUDA, MPI or NCCL.
    """
    if device.type == "cuda" and not hasattr(mpi_lib_v2, _SUM_ON_GPU):
        raise UnavailableError(
            "resources.gpus: this build of Horovod is for processors only and cannot sum what lies on a GPU; build it"
            " for NCCL with `FARANDOLE_HOROVOD_GPU=1 make setup`, or set resources.gpus to 0"
        )
    mpi, nccl = bool(hvd.mpi_built()), bool(hvd.nccl_built())
    needs = {
        "adasum": mpi or nccl,
        "hierarchical_allreduce": mpi and nccl,
        "hierarchical_allgather": mpi,
    }
    for name, there in needs.items():
        if getattr(spec, name) and not there:
            raise UnavailableError(
                f"train.horovod.{name}: this build of Horovod has {'MPI' if mpi else 'no MPI'} and"
                f" {'NCCL' if nccl else 'no NCCL'}, and cannot do it; leave it out, or build Horovod with them"
            )


def start_timeline(path: Path) -> None:
    """Begin Horovod's timeline of what the ranks agree on and sum; only for the chief."""
    hvd.start_timeline(str(path), mark_cycles=False)


def stop_timeline() -> None:
    """End the timeline."""
    hvd.stop_timeline()
