"""Memory for batches that is reused once no tensor refers to it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
import torch

from farandole.shards import LABEL, Schema

ROW_IDS = "\0row_ids"
"""Name of the column of row numbers; no group of a schema can have this name."""

_HUGE_PAGE_BYTES = 2 * 1024 * 1024
_MAX_BUFFERS = 8
_ALIGNMENT = 64


@dataclass(frozen=True)
class Column:
    """One column of a batch.

    Args:
        name: A group, `LABEL` or `ROW_IDS`.
        dtype: Dtype of a value in a shard.
        shape: Shape of a row's values.
        batch_dtype: Dtype of a value in a batch, of the same size as `dtype`.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    batch_dtype: np.dtype

    @property
    def size(self) -> int:
        """Number of values in a row."""
        return math.prod(self.shape)


def batch_columns(schema: Schema, *, row_ids: bool = False) -> tuple[Column, ...]:
    """Return the columns of a batch with this schema."""
    columns = [
        Column(group.name, group.dtype, group.shape, np.dtype(np.bool_) if group.kind == "mask" else group.dtype)
        for group in schema.groups
    ]
    if schema.label is not None:
        columns.append(Column(LABEL, schema.label.dtype, (), schema.label.dtype))
    if row_ids:
        columns.append(Column(ROW_IDS, np.dtype(np.int64), (), np.dtype(np.int64)))
    return tuple(columns)


class BatchMemory:
    """The memory of one or more batches: arrays to gather rows into, and tensors that view them.

    Args:
        columns: The columns.
        rows: Capacity in rows.
        pin: Whether to use pinned memory.
    """

    def __init__(self, columns: tuple[Column, ...], rows: int, pin: bool) -> None:
        sizes = [rows * column.size * column.dtype.itemsize for column in columns]
        starts = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]).tolist()
        # One array holds all columns: its reference count covers every view of any part of the batch.
        self._pinned = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=True) if pin else None
        if self._pinned is None:
            self._memory = np.empty(starts[-1] + (_HUGE_PAGE_BYTES if starts[-1] >= _HUGE_PAGE_BYTES else 0), np.uint8)
        else:
            self._memory = self._pinned.numpy()
        # Rows are accessed in random order, and with 4 KiB pages every access would miss the TLB. NumPy requests huge
        # pages for arrays of 4 MiB or more; they start at multiples of their size.
        begin = -self._memory.ctypes.data % _HUGE_PAGE_BYTES if len(self._memory) > starts[-1] else 0
        parts = [self._memory[begin + start :][:size] for start, size in zip(starts, sizes, strict=False)]
        self.targets = [
            part.view(column.dtype).reshape(rows, column.size) for part, column in zip(parts, columns, strict=True)
        ]
        """One array `[rows, size]` per column, with the shards' dtype. Do not keep views of them."""
        self._arrays = [
            (column.name, part.view(column.batch_dtype).reshape(rows, *column.shape))
            for part, column in zip(parts, columns, strict=True)
        ]
        del parts
        self._own_references = sys.getrefcount(self._memory)

    @property
    def is_idle(self) -> bool:
        """True if no tensor, and no view of one, refers to the memory."""
        return sys.getrefcount(self._memory) == self._own_references

    def fill_padding(self, start: int, stop: int) -> None:
        """Turn rows into padding: zeros, and -1 as their row numbers."""
        for (name, _), target in zip(self._arrays, self.targets, strict=True):
            target[start:stop] = -1 if name == ROW_IDS else 0

    def tensors(self, rows: int) -> dict[str, torch.Tensor]:
        """Return the first rows of each column, `[rows, *shape]`."""
        # Slicing makes a new view each time: the tensor refers to the view, and the view to the memory.
        return {name: self._tensor(array[:rows]) for name, array in self._arrays}

    def batches(self, count: int, rows: int) -> list[dict[str, torch.Tensor]]:
        """Return the first `count * rows` rows as `count` batches of columns `[rows, *shape]`, without a copy."""
        # One torch call per column for all batches: creating tensors one by one takes as long as gathering their rows.
        # "unsafe" means that autograd does not know that they share memory; none of them is part of a graph yet.
        sizes = [rows] * count
        batches: list[dict[str, torch.Tensor]] = [{} for _ in sizes]
        for name, array in self._arrays:
            parts = torch.unsafe_split_with_sizes(self._tensor(array[: count * rows]), sizes)
            for batch, tensor in zip(batches, parts, strict=True):
                batch[name] = tensor
        return batches

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """Return a tensor that views a part of the memory."""
        tensor = torch.from_numpy(array)
        if self._pinned is None:
            return tensor
        # A view of torch's own storage: torch records copies to a GPU there and does not reuse the memory before they
        # are done. It would not record copies from NumPy's view, and they could read the rows of the next batch.
        start = (array.ctypes.data - self._pinned.data_ptr()) // array.itemsize
        own = torch.empty(0, dtype=tensor.dtype)
        return own.set_(self._pinned.untyped_storage(), start, tensor.shape, tensor.stride())


class BatchBuffers:
    """A pool of batch memory that prefers the most recently used buffer, which may still be in the CPU cache.

    Pinned memory is allocated anew each time: torch pools it and tracks the copies to a GPU that still read it.
    """

    def __init__(self, columns: tuple[Column, ...], rows: int, pin: bool = False) -> None:
        self._columns, self._rows, self._pin = columns, rows, pin
        self._buffers: list[BatchMemory] = []

    def acquire(self) -> BatchMemory:
        """Return memory that nothing refers to."""
        if self._pin:
            return BatchMemory(self._columns, self._rows, pin=True)
        for index, memory in enumerate(self._buffers):
            if memory.is_idle:
                if index:
                    self._buffers.insert(0, self._buffers.pop(index))
                return memory
        memory = BatchMemory(self._columns, self._rows, pin=False)
        # Buffers beyond the limit leave the pool; they are freed when the last tensor that uses them is.
        self._buffers = [memory, *self._buffers[: _MAX_BUFFERS - 1]]
        return memory
