"""Batches in pinned memory, copied to a GPU while the next ones are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch

from farandole.loading import TrainingLoader
from farandole.loading.buffers import BatchBuffers, batch_columns
from farandole.shards import Dataset
from tests.support.made_data import BATCH_ROWS, Made

ROWS = 4096
_CYCLES = 500_000_000
"""Cycles for which the GPU is busy before it copies: a few tenths of a second."""


@pytest.mark.parametrize("whole", [True, False], ids=["a window", "a batch"])
def test_memory_is_not_reused_while_a_copy_reads_it(made: Callable[..., Made], whole: bool) -> None:
    columns = batch_columns(made().manifest.columns)
    buffers = BatchBuffers(columns, ROWS, pin=True)
    memory = buffers.acquire()
    for target in memory.targets:
        target[...] = 1
    batch = memory.batches(2, ROWS // 2)[1] if whole else memory.tensors(ROWS)
    assert all(tensor.is_pinned() for tensor in batch.values())
    torch.cuda._sleep(_CYCLES)
    copies = {name: tensor.to("cuda", non_blocking=True) for name, tensor in batch.items()}
    known = {memory.targets[0].ctypes.data}
    del batch, memory, target
    later = [buffers.acquire() for _ in range(3)]
    for each in later:
        known.add(each.targets[0].ctypes.data)
        for target in each.targets:
            target[...] = 0
    assert not torch.cuda.current_stream().query(), "the copies ended too early to be disturbed; sleep for longer"
    torch.cuda.synchronize()
    assert {name: bool((copy == 1).all()) for name, copy in copies.items()} == dict.fromkeys(copies, True)
    del later, each, target
    assert buffers.acquire().targets[0].ctypes.data in known, "memory that no copy reads must be reused"


@pytest.mark.parametrize("tail", ["pad", "drop"])
def test_batches_on_the_gpu_equal_those_in_memory(made: Callable[..., Made], tail: Literal["pad", "drop"]) -> None:
    dataset = Dataset(made().path)
    plain, pinned = (
        TrainingLoader(dataset, global_batch_size=BATCH_ROWS, rank=0, size=1, seed=5, tail=tail, pin=pin)
        for pin in (False, True)
    )
    copied = []
    for batch in pinned:
        assert batch.label.is_pinned()
        copied.append(batch.to(torch.device("cuda")))
        del batch
    expected = list(plain)
    assert len(copied) == len(expected) > 10
    for here, there in zip(expected, copied, strict=True):
        assert there.label.is_cuda
        assert torch.equal(here.label, there.label.cpu())
        for name, tensor in here.features.items():
            np.testing.assert_array_equal(there.features[name].cpu().numpy(), tensor.numpy())
