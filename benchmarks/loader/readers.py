"""Systems that are measured in this interpreter: memcpy, Farandole, and torch's usual DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader.process import System

_SEED = 7


class _Memcpy:
    """Copy of the mapped shards, in file order and block by block, into memory of the same size."""

    def __init__(self, directory: Path, batch_rows: int) -> None:
        from farandole.shards import Dataset

        self._reader = Dataset(directory / "dataset").split("train")
        first = self._reader.block(0)
        # Ones: all pages have been written once, so the copy causes no page faults.
        self._target = {name: np.ones((self._reader.rows, *view.shape[1:]), view.dtype) for name, view in first.items()}

    def epoch(self, epoch: int) -> Iterator[int]:
        start = 0
        for number, rows in enumerate(self._reader.block_rows):
            for name, view in self._reader.block(number).items():
                np.copyto(self._target[name][start : start + rows], view)
            start += rows
            yield rows

    def resumed(self, epoch: int) -> None:
        return None


class _MemcpyBatches:
    """Copy of the same bytes, batch by batch into one buffer.

    The buffer stays in the processor's cache and nothing is written to memory, so no loader can be faster.
    """

    def __init__(self, directory: Path, batch_rows: int) -> None:
        from farandole.shards import Dataset

        self._reader = Dataset(directory / "dataset").split("train")
        self._batch_rows = batch_rows
        first = self._reader.block(0)
        self._buffers = {name: np.empty((batch_rows, *view.shape[1:]), view.dtype) for name, view in first.items()}

    def epoch(self, epoch: int) -> Iterator[int]:
        for number, rows in enumerate(self._reader.block_rows):
            views = self._reader.block(number)
            for start in range(0, rows, self._batch_rows):
                count = min(self._batch_rows, rows - start)
                for name, view in views.items():
                    np.copyto(self._buffers[name][:count], view[start : start + count])
                yield count

    def resumed(self, epoch: int) -> None:
        return None


class _Farandole:
    def __init__(self, directory: Path, batch_rows: int) -> None:
        from farandole.loading import TrainingLoader
        from farandole.shards import Dataset

        dataset = Dataset(directory / "dataset")
        self._loader = TrainingLoader(dataset, global_batch_size=batch_rows, seed=_SEED, read_ahead=0)

    def epoch(self, epoch: int) -> Iterator[int]:
        for batch in self._loader.epoch(epoch):
            yield batch.rows

    def resumed(self, epoch: int) -> Iterator[int]:
        return (batch.rows for batch in self._loader.epoch(epoch, self._loader.steps // 2))


class _Torch:
    def __init__(self, directory: Path, batch_rows: int) -> None:
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        torch.manual_seed(_SEED)
        arrays = [torch.from_numpy(np.load(path)) for path in sorted((directory / "arrays").glob("*.npy"))]
        self._loader: Any = DataLoader(TensorDataset(*arrays), batch_size=batch_rows, shuffle=True)

    def epoch(self, epoch: int) -> Iterator[int]:
        for first, *_ in self._loader:
            yield len(first)

    def resumed(self, epoch: int) -> None:
        return None


SYSTEMS = {
    "memcpy": System(_Memcpy, "numpy", "numpy.copyto of the mapped shards, in file order, into memory of their size"),
    "memcpy_batches": System(_MemcpyBatches, "numpy", "the same, batch by batch into one buffer in the cache"),
    "farandole": System(_Farandole, "farandole", "TrainingLoader(read_ahead=0): no thread besides the caller's"),
    "torch": System(_Torch, "torch", "DataLoader(TensorDataset(…), shuffle=True)"),
}
"""By name."""
