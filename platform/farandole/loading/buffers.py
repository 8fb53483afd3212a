"""Memory for batches, used again as soon as nobody holds it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
import torch

from farandole.shards import LABEL, Schema

ROW_IDS = "\0row_ids"
"""The column of row numbers; no group of a schema has such a name."""

_HUGE_PAGE_BYTES = 2 * 1024 * 1024
_MOST_SETS = 8
_ALIGNMENT = 64


@dataclass(frozen=True)
class Column:
    """One column of a batch.

    Args:
        name: A group, `LABEL` or `ROW_IDS`.
        dtype: The type of a value in a shard.
        shape: The shape of a row's values.
        batch_dtype: The type of a value in a batch, of the same size.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    batch_dtype: np.dtype

    @property
    def size(self) -> int:
        """Values of a row."""
        return math.prod(self.shape)


def columns_of(schema: Schema, *, row_ids: bool = False) -> tuple[Column, ...]:
    """The columns of a schema's batches."""
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
    """The memory of one or several batches: where rows are gathered to, and the tensors over it.

    Args:
        columns: The columns.
        rows: Room for so many rows.
        pin: Use pinned memory.
    """

    def __init__(self, columns: tuple[Column, ...], rows: int, pin: bool) -> None:
        sizes = [rows * column.size * column.dtype.itemsize for column in columns]
        starts = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]).tolist()
        # One array under all columns: the references to it count everybody who holds any part of the batch.
        self._pinned = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=True) if pin else None
        if self._pinned is None:
            self._memory = np.empty(starts[-1] + (_HUGE_PAGE_BYTES if starts[-1] >= _HUGE_PAGE_BYTES else 0), np.uint8)
        else:
            self._memory = self._pinned.numpy()
        # Rows are written and read in random order here, and with pages of 4 KiB the address of each would have to be
        # looked up first. NumPy asks for huge pages where an array takes 4 MiB or more; they begin at their multiples.
        begin = -self._memory.ctypes.data % _HUGE_PAGE_BYTES if len(self._memory) > starts[-1] else 0
        parts = [self._memory[begin + start :][:size] for start, size in zip(starts, sizes, strict=False)]
        self.targets = [
            part.view(column.dtype).reshape(rows, column.size) for part, column in zip(parts, columns, strict=True)
        ]
        """For each column `[rows, size]`, in the type of the shards. A view of one must not be kept."""
        self._arrays = [
            (column.name, part.view(column.batch_dtype).reshape(rows, *column.shape))
            for part, column in zip(parts, columns, strict=True)
        ]
        del parts
        self._holders = sys.getrefcount(self._memory)

    @property
    def is_idle(self) -> bool:
        """Whether nobody else holds any of the memory: every tensor over it, and every view of one, counts."""
        return sys.getrefcount(self._memory) == self._holders

    def blank(self, start: int, stop: int) -> None:
        """Make padding of rows: zeros, and -1 for their numbers."""
        for (name, _), target in zip(self._arrays, self.targets, strict=True):
            target[start:stop] = -1 if name == ROW_IDS else 0

    def tensors(self, rows: int) -> dict[str, torch.Tensor]:
        """For each column the first rows, `[rows, *shape]`."""
        # Always a new view: the tensor over it holds the view, and the view counts as a holder of the memory.
        return {name: self._tensor(array[:rows]) for name, array in self._arrays}

    def batches(self, number: int, rows: int) -> list[dict[str, torch.Tensor]]:
        """The first `number * rows` rows as so many batches: for each column `[rows, *shape]`, without a copy."""
        # One call of torch for all batches of a column: made one by one, they would cost as much as their gathering.
        # `unsafe` means that autograd does not hear of what they share; none of it takes part in a graph yet.
        sizes = [rows] * number
        batches: list[dict[str, torch.Tensor]] = [{} for _ in sizes]
        for name, array in self._arrays:
            parts = torch.unsafe_split_with_sizes(self._tensor(array[: number * rows]), sizes)
            for batch, tensor in zip(batches, parts, strict=True):
                batch[name] = tensor
        return batches

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """A tensor over a part of the memory."""
        tensor = torch.from_numpy(array)
        if self._pinned is None:
            return tensor
        # In torch's own storage: a copy to a GPU is noted there, and the memory not given out again before it is done.
        # One that reads through NumPy's memory is noted nowhere, and could send the next batch's rows instead.
        start = (array.ctypes.data - self._pinned.data_ptr()) // array.itemsize
        own = torch.empty(0, dtype=tensor.dtype)
        return own.set_(self._pinned.untyped_storage(), start, tensor.shape, tensor.stride())


class BatchBuffers:
    """Gives out memory for so many rows, the latest used first, for it may still lie in the processor's cache.

    Pinned memory is new each time: torch keeps it for itself, and knows which copies to a GPU still read it.
    """

    def __init__(self, columns: tuple[Column, ...], rows: int, pin: bool = False) -> None:
        self._columns, self._rows, self._pin = columns, rows, pin
        self._sets: list[BatchMemory] = []

    def take(self) -> BatchMemory:
        """Memory that nobody holds, with the room that was asked for."""
        if self._pin:
            return BatchMemory(self._columns, self._rows, pin=True)
        for place, memory in enumerate(self._sets):
            if memory.is_idle:
                if place:
                    self._sets.insert(0, self._sets.pop(place))
                return memory
        memory = BatchMemory(self._columns, self._rows, pin=False)
        # Those beyond are forgotten, not freed: whoever holds their tensors goes on holding them.
        self._sets = [memory, *self._sets[: _MOST_SETS - 1]]
        return memory
