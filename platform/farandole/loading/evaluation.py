"""A loader that reads a split in its stored order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from farandole.loading.batch import Batch
from farandole.loading.buffers import BatchBuffers, batch_columns
from farandole.loading.lanes import BlockRows
from farandole.loading.prefetch import DEFAULT_READ_AHEAD, prefetch
from farandole.loading.slicing import slice_bounds
from farandole.shards import LABEL, Dataset

_BATCH_ROWS = 8192


class EvaluationLoader:
    """The rows of a split in their stored order, each exactly once, divided evenly among the ranks.

    Args:
        dataset: The dataset.
        split: `train`, `validation` or `test`.
        rank: This rank.
        size: The number of ranks.
        batch_rows: Rows of one batch on this rank.
        read_ahead: Number of batches that a background thread prepares; 0 starts no thread.
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
        self._columns = batch_columns(self._reader.schema)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches of this rank."""
        return prefetch(self._batches(), self._depth)

    def _batches(self) -> Iterator[Batch]:
        blocks = BlockRows(self._reader, self._columns)
        buffers = BatchBuffers(self._columns, min(self._batch_rows, max(1, self._stop - self._start)))
        ends = np.cumsum(self._reader.block_rows, dtype=np.int64)
        block = int(np.searchsorted(ends, self._start, side="right"))
        needed = range(block, int(np.searchsorted(ends, self._stop, side="left")) + 1)
        if self._start < self._stop:
            self._reader.announce(needed)
        opened, views = -1, [np.empty(0)]
        for start in range(self._start, self._stop, self._batch_rows):
            stop = min(start + self._batch_rows, self._stop)
            memory, row = buffers.acquire(), start
            targets = memory.targets
            while row < stop:
                if row >= ends[block]:
                    block += 1
                    continue
                if block != opened:
                    if opened >= 0:
                        blocks.close(opened)
                    opened, views = block, blocks.open(block)
                first = int(ends[block]) - self._reader.block_rows[block]
                end = min(stop, int(ends[block]))
                for view, target in zip(views, targets, strict=True):
                    target[row - start : end - start] = view[row - first : end - first]
                row = end
            tensors = memory.tensors(stop - start)
            del memory, targets
            label = tensors.pop(LABEL) if LABEL in tensors else torch.empty(0)
            yield Batch(tensors, label, stop - start, stop - start)
            del tensors, label
        if opened >= 0:
            blocks.close(opened)
