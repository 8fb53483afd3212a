"""The gang as one rank sees it, and its collective operations. The only importer of `horovod.torch`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import horovod
import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError
from horovod.torch import mpi_lib_v2
from torch import nn

from farandole.errors import UnavailableError
from farandole.process.heap import keep_freed_memory
from farandole.process.messages import WORKERS_VARIABLE
from farandole.spec import IDLE_CYCLE_VARIABLE, Horovod

_POLL_S = 50e-6
_BARRIER_POLL_S = 0.01
_PATCHED_BUILD = "+farandole"
_CYCLES = {"HOROVOD_CYCLE_TIME": "0.2", IDLE_CYCLE_VARIABLE: "20"}
"""Milliseconds between two cycles of Horovod's background thread: while operations are pending, and while it is idle.
Other builds know only the first, and would negotiate about nothing five thousand times a second."""
_GPU_SYMBOL = "horovod_torch_allreduce_async_torch_cuda_FloatTensor"
"""A function that only builds with CUDA have."""

PeerLostError = HorovodInternalError
"""Raised by collective operations in the surviving ranks when another rank has died."""


@dataclass(frozen=True)
class World:
    """Position of this rank in the gang.

    Args:
        rank: Number in the gang, from 0.
        size: Number of ranks.
        local_rank: Number on its host, from 0.
        local_size: Number of ranks on its host.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int

    @property
    def is_rank_zero(self) -> bool:
        """True for the rank that reports, records and saves on behalf of the gang."""
        return self.rank == 0


@contextmanager
def init() -> Iterator[World]:
    """Join the gang, and set this process up for training (allocator, Horovod's background thread).

    Raises:
        UnavailableError: The gang does not have the size that the launcher requested: without the launcher's
            variables, Horovod would silently create N gangs of one.
    """
    keep_freed_memory()
    if _PATCHED_BUILD in horovod.__version__ and "HOROVOD_AUTOTUNE" not in os.environ:
        for name, value in _CYCLES.items():
            os.environ.setdefault(name, value)
    hvd.init()
    try:
        expected = int(os.environ.get(WORKERS_VARIABLE, "1"))
        if hvd.size() != expected:
            raise UnavailableError(
                f"resources.workers: the job requests {expected} workers, but this worker is in a gang of {hvd.size()};"
                " start workers with `farandole train`, which uses Horovod's launcher"
            )
        yield World(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size())
    finally:
        hvd.shutdown()


@dataclass(frozen=True)
class Pending:
    """Handle of a collective operation in progress.

    Args:
        handle: Horovod's handle.
        dtype: Type of the result, if it was sent as bytes.
        as_complex: Whether the result consists of complex numbers, which were sent as pairs.
    """

    handle: int
    dtype: torch.dtype | None = None
    as_complex: bool = False

    def wait(self) -> Any:
        """Wait for the result and return it.

        Polls and sleeps: Horovod's own wait spins, which takes a core from its background thread and from ranks that
        are still computing.
        """
        while not hvd.poll(self.handle):
            time.sleep(_POLL_S)
        result = hvd.synchronize(self.handle)
        if self.as_complex:
            return torch.view_as_complex(result.reshape(_as_pairs(result.shape)))
        return result if self.dtype is None else result.view(self.dtype)


def _as_pairs(shape: torch.Size) -> tuple[int, ...]:
    """Return the shape of pairs of numbers: flat ones become pairs first."""
    return tuple(shape) if shape and shape[-1] == 2 and len(shape) > 1 else (-1, 2)


def barrier(name: str) -> None:
    """Wait until all ranks have called this, without a time limit."""
    handle = hvd.allreduce_async(torch.zeros(1), op=hvd.Sum, name=f"barrier.{name}")
    while not hvd.poll(handle):
        time.sleep(_BARRIER_POLL_S)
    hvd.synchronize(handle)


def broadcast_weights(model: nn.Module) -> None:
    """Copy rank zero's parameters and buffers to all ranks."""
    _broadcast(model.state_dict())


def broadcast_buffers(model: nn.Module) -> None:
    """Copy rank zero's buffers to all ranks, for example the running means of batch normalization."""
    _broadcast(dict(model.named_buffers()))


def _broadcast(tensors: dict[str, torch.Tensor]) -> None:
    """Copy rank zero's tensors to all ranks, as bytes: Horovod knows neither complex numbers nor all small types.

    It requires contiguous tensors, which channels-last weights are not.
    """
    # A state dict may also hold states of modules that are not tensors.
    filled = {name: each.detach() for name, each in tensors.items() if isinstance(each, torch.Tensor) and each.numel()}
    contiguous = {name: tensor.resolve_conj().resolve_neg().contiguous() for name, tensor in filled.items()}
    if contiguous:
        sent = {name: tensor.reshape(-1).view(torch.uint8) for name, tensor in contiguous.items()}
        hvd.broadcast_parameters(sent, root_rank=0)
    for name, tensor in filled.items():
        if contiguous[name].data_ptr() != tensor.data_ptr() or tensor.is_conj() or tensor.is_neg():
            tensor.copy_(contiguous[name])


def broadcast_object(value: Any, name: str) -> Any:
    """Return rank zero's value on every rank."""
    return hvd.broadcast_object(value, root_rank=0, name=name)


def broadcast_tensor(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Return rank zero's tensor on every rank. The other ranks pass one of the same shape and type."""
    sent = tensor.contiguous()
    if sent.numel():  # sent as bytes, because Horovod does not know all types
        hvd.broadcast_(sent.reshape(-1).view(torch.uint8), root_rank=0, name=name)
    return sent


def all_gather_objects(value: Any, name: str) -> list[Any]:
    """Return the values of all ranks, in rank order, on every rank."""
    return cast(list[Any], hvd.allgather_object(value, name=name))


def all_gather_rows(rows: torch.Tensor, name: str) -> torch.Tensor:
    """Concatenate the rows of all ranks, in rank order, on every rank. Ranks may have different numbers of rows."""
    return cast(torch.Tensor, start_all_gather(rows.contiguous(), name).wait())


def all_reduce_sum(values: list[float], name: str) -> list[float]:
    """Sum a few float64 numbers over all ranks."""
    total = start_all_reduce(torch.tensor(values, dtype=torch.float64), name).wait()
    return cast(list[float], total.tolist())


def start_all_reduce(tensor: torch.Tensor, name: str, *, predivide: float = 1.0, adasum: bool = False) -> Pending:
    """Start to replace a contiguous tensor by its sum over all ranks, in place.

    Args:
        tensor: The same shape on all ranks; float16, float32 or float64, because Horovod has no bfloat16.
        name: The same on all ranks, which may start their operations in different orders.
        predivide: Divisor before the sum, and factor after it.
        adasum: Whether to combine by Adasum instead of a sum.
    """
    assert tensor.is_contiguous(), f"{name} is not contiguous"
    assert tensor.dtype != torch.bfloat16, f"{name} is bfloat16"
    if tensor.is_complex():
        return replace(
            start_all_reduce(torch.view_as_real(tensor), name, predivide=predivide, adasum=adasum), as_complex=True
        )
    operation = hvd.Adasum if adasum else hvd.Sum
    return Pending(
        hvd.allreduce_async_(tensor, name=name, op=operation, prescale_factor=1 / predivide, postscale_factor=predivide)
    )


def start_reduce_scatter(tensor: torch.Tensor, name: str) -> Pending:
    """Start to sum a tensor `[N * S]` over all N ranks, each of which receives its part `[S]` of the sum."""
    assert tensor.is_contiguous(), f"{name} is not contiguous"
    if tensor.is_complex():
        return replace(start_reduce_scatter(torch.view_as_real(tensor).reshape(-1), name), as_complex=True)
    return Pending(hvd.reducescatter_async(tensor, name=name, op=hvd.Sum))


def start_all_gather(tensor: torch.Tensor, name: str) -> Pending:
    """Start to concatenate the rows of all ranks, in rank order."""
    if tensor.is_complex():
        return replace(start_all_gather(torch.view_as_real(tensor), name), as_complex=True)
    if tensor.dtype in (torch.bool, torch.bfloat16):
        return Pending(hvd.allgather_async(tensor.view(torch.uint8), name=name), tensor.dtype)
    return Pending(hvd.allgather_async(tensor, name=name))


def check_horovod_build(spec: Horovod, device: torch.device) -> None:
    """Check that this build of Horovod supports what the job requests.

    Raises:
        UnavailableError: The build lacks CUDA, MPI or NCCL.
    """
    if device.type == "cuda" and not hasattr(mpi_lib_v2, _GPU_SYMBOL):
        raise UnavailableError(
            "resources.gpus: this build of Horovod supports CPUs only and cannot reduce tensors on a GPU; build it with"
            " NCCL (`FARANDOLE_HOROVOD_GPU=1 make setup`), or set resources.gpus to 0"
        )
    mpi, nccl = bool(hvd.mpi_built()), bool(hvd.nccl_built())
    supported = {
        "adasum": mpi or nccl,
        "hierarchical_allreduce": mpi and nccl,
        "hierarchical_allgather": mpi,
    }
    for name, is_supported in supported.items():
        if getattr(spec, name) and not is_supported:
            raise UnavailableError(
                f"train.horovod.{name}: this build of Horovod has {'MPI' if mpi else 'no MPI'} and"
                f" {'NCCL' if nccl else 'no NCCL'}, which does not support it; remove the setting, or build Horovod"
                " with what it needs"
            )


def start_timeline(path: Path) -> None:
    """Start Horovod's timeline of negotiations and operations. Call it on rank zero only."""
    hvd.start_timeline(str(path), mark_cycles=False)


def stop_timeline() -> None:
    """Stop the timeline."""
    hvd.stop_timeline()
