"""A split in its written order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from farandole.loading.batch import Batch
from farandole.loading.buffers import BatchBuffers, columns_of
from farandole.loading.lanes import BlockRows
from farandole.loading.prefetch import DEFAULT_READ_AHEAD, prefetch
from farandole.loading.slicing import slice_bounds
from farandole.shards import LABEL, Dataset

_BATCH_ROWS = 8192


class EvaluationLoader:
    """A split in its written order, each row once, dealt evenly to the ranks.

    Args:
        dataset: The dataset.
        split: `train`, `validation` or `test`.
        rank: This rank.
        size: The number of ranks.
        batch_rows: Rows of one batch of this rank.
        read_ahead: Batches that a thread makes while the caller computes; 0: no thread.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        rank: int = 0,
        size: int = 1,
        batch_rows: int = _BATCH_ROWS,
        read_ahead: int = DEFAULT_READ_AHEAD,
    ) -> None:
        self._reader = dataset.split(split)
        self._start, self._stop = slice_bounds(rank, size, self._reader.rows)
        self._batch_rows, self._depth = batch_rows, read_ahead
        self._columns = columns_of(self._reader.schema)

    def __iter__(self) -> Iterator[Batch]:
        return prefetch(self._batches(), self._depth)

    def _batches(self) -> Iterator[Batch]:
        blocks = BlockRows(self._reader, self._columns)
        buffers = BatchBuffers(self._columns, min(self._batch_rows, max(1, self._stop - self._start)))
        ends = np.cumsum(self._reader.block_rows, dtype=np.int64)
        number = int(np.searchsorted(ends, self._start, side="right"))
        numbers = range(number, int(np.searchsorted(ends, self._stop, side="left")) + 1)
        if self._start < self._stop:
            self._reader.announce(numbers)
        opened, views = -1, [np.empty(0)]
        for start in range(self._start, self._stop, self._batch_rows):
            stop = min(start + self._batch_rows, self._stop)
            memory, row = buffers.take(), start
            targets = memory.targets
            while row < stop:
                if row >= ends[number]:
                    number += 1
                    continue
                if number != opened:
                    if opened >= 0:
                        blocks.close(opened)
                    opened, views = number, blocks.open(number)
                first = int(ends[number]) - self._reader.block_rows[number]
                upto = min(stop, int(ends[number]))
                for view, target in zip(views, targets, strict=True):
                    target[row - start : upto - start] = view[row - first : upto - first]
                row = upto
            tensors = memory.tensors(stop - start)
            del memory, targets
            label = tensors.pop(LABEL) if LABEL in tensors else torch.empty(0)
            yield Batch(tensors, label, stop - start, stop - start)
            del tensors, label
        if opened >= 0:
            blocks.close(opened)
