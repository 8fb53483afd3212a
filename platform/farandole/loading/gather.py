"""Gathering of one rank's rows into batches during one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
import torch

from farandole.loading import rows
from farandole.loading.buffers import BatchBuffers, BatchMemory, Column
from farandole.loading.lanes import BlockRows, LaneReader, RowSpans
from farandole.loading.order import EpochOrder, RowAddresses
from farandole.loading.slicing import slice_bounds

Tensors = dict[str, torch.Tensor]

_GATHERED_BYTES = 4 * 1024 * 1024
"""Size of the batches that are gathered together. Fewer fit a smaller cache; more reduce the overhead per tensor."""


class Workspace:
    """Scratch memory that a rank reuses in every epoch; touching new memory costs as much as copying into it.

    Args:
        columns: The columns to gather.
        order: The order of rows of any epoch.
        rank: This rank.
        size: The number of ranks.
        pin: Whether batches use pinned memory.
    """

    def __init__(self, columns: tuple[Column, ...], order: EpochOrder, rank: int, size: int, *, pin: bool) -> None:
        start, stop = slice_bounds(rank, size, order.global_batch_size)
        self.batch_rows = stop - start
        self.shares = _lane_shares(order, start, stop)
        shapes = groupby(share[1:] for share in self.shares)
        self.lanes_by_shape = [(shape, len(list(lanes))) for shape, lanes in shapes]
        """Neighbouring lanes that have the same width and the same slice of it, with their number."""
        self.row_bytes = [column.size * column.dtype.itemsize for column in columns]
        limit = _GATHERED_BYTES // max(1, self.batch_rows * sum(self.row_bytes))
        self.batches = max(1, min(limit, order.window_steps))
        """Number of batches in one buffer; their tensors are created together."""
        self.buffers = BatchBuffers(columns, self.batches * self.batch_rows, pin)
        window_rows = sum(order.window_steps * width for _, width, _, _ in self.shares)
        self.selection = np.empty((order.window_steps, self.batch_rows), np.int32)
        # Narrow rows are copied twice: run by run for a whole window, then row by row out of this cached pool.
        self.pool = None if order.window_steps == 1 else BatchMemory(columns, window_rows, pin=False).targets


class RankGather:
    """The rows of one rank in each step of an epoch.

    Args:
        blocks: The blocks of the split.
        columns: The columns to gather.
        order: The order of rows.
        rank: This rank.
        size: The number of ranks.
        workspace: Memory for the same columns, rank and size, in exclusive use.
        pin: Whether batches use pinned memory.
        pad: Whether to pad the last batch to its full size.
    """

    def __init__(
        self,
        blocks: BlockRows,
        columns: tuple[Column, ...],
        order: EpochOrder,
        rank: int,
        size: int,
        workspace: Workspace,
        *,
        pin: bool = False,
        pad: bool = False,
    ) -> None:
        self._blocks, self._columns, self._order, self._space = blocks, columns, order, workspace
        self._rank, self._size, self._pin, self._pad = rank, size, pin, pad
        self._lanes = [LaneReader(blocks, order, lane) for lane, _, _, _ in workspace.shares]

    def steps(self, first_step: int) -> Iterator[tuple[Tensors, int]]:
        """Yield the tensors of each step from `first_step` on, and the number of rows that are not padding."""
        order, batch_rows = self._order, self._space.batch_rows
        step = first_step
        while step < order.full_steps:
            window = step // order.window_steps
            for tensors in self._window(window, step):
                yield tensors, batch_rows
                del tensors  # frees their memory for reuse
            step = sum(order.window_bounds(window))
        for lane in self._lanes:
            lane.close()
        if first_step < order.steps and order.steps > order.full_steps:
            yield self._tail()

    def _window(self, window: int, step: int) -> Iterator[Tensors]:
        """Yield the batches of a window from `step` on."""
        first, steps = self._order.window_bounds(window)
        space = self._space
        if space.pool is None:
            memory = space.buffers.acquire()
            self._copy(self._spans(first, 1, all_ranks=False), memory.targets)
            yield from memory.batches(1, space.batch_rows)
            return
        self._copy(self._spans(first, steps, all_ranks=True), space.pool)
        selection = self._select(window)[step - first :]
        for begin in range(0, len(selection), space.batches):
            selected = selection[begin : begin + space.batches]
            memory = space.buffers.acquire()
            for pool, size, target in zip(space.pool, space.row_bytes, memory.targets, strict=True):
                rows.choose(pool, selected, size, target)
            yield from memory.batches(len(selected), space.batch_rows)

    def _spans(self, first_step: int, steps: int, *, all_ranks: bool) -> list[RowSpans]:
        """Locate the rows of the lanes in some steps: those of all ranks, or of this rank (in a single step)."""
        spans: list[RowSpans] = []
        for lane, (_, width, start, stop) in zip(self._lanes, self._space.shares, strict=True):
            begin, end = (0, steps * width) if all_ranks else (start, stop)
            spans += lane.spans(first_step * width + begin, first_step * width + end)
        return spans

    def _copy(self, spans: list[RowSpans], targets: list[np.ndarray]) -> None:
        """Copy rows in the order of the spans, and free the blocks that have been read."""
        rows.copy(spans, self._space.row_bytes, targets)
        for lane in self._lanes:
            lane.free()

    def _select(self, window: int) -> np.ndarray:
        """Return the window's rows that each batch takes: int32 `[steps, rows]`."""
        order = self._order
        _, steps = order.window_bounds(window)
        selection, base, column = self._space.selection[:steps], 0, 0
        for (width, start, stop), lanes in self._space.lanes_by_shape:
            mixed = order.window_permutation(window, steps * width).astype(np.int32).reshape(steps, 1, width)
            bases = np.arange(base, base + lanes * steps * width, steps * width, dtype=np.int32)[:, None]
            out = selection[:, column : column + lanes * (stop - start)].reshape(steps, lanes, stop - start)
            np.add(mixed[:, :, start:stop], bases, out=out)
            base += lanes * steps * width
            column += lanes * (stop - start)
        return selection

    def _tail(self) -> tuple[Tensors, int]:
        order, batch_rows = self._order, self._space.batch_rows
        start, stop = slice_bounds(self._rank, self._size, order.batch_rows(order.full_steps))
        count = stop - start
        memory = BatchMemory(self._columns, batch_rows, self._pin)
        gather_rows(self._blocks, order.row_addresses(order.full_steps, start, stop), memory.targets)
        if not self._pad:
            return memory.tensors(count), count
        memory.fill_padding(count, batch_rows)
        return memory.tensors(batch_rows), count


def gather_rows(blocks: BlockRows, addresses: RowAddresses, targets: list[np.ndarray]) -> None:
    """Gather rows at any addresses, block by block, into the first rows of arrays `[rows, size]`."""
    for block in np.unique(addresses.block).tolist():
        selected = np.flatnonzero(addresses.block == block)
        for view, target in zip(blocks.open(block), targets, strict=True):
            target[selected] = view[addresses.row[selected]]
        blocks.close(block)


def _lane_shares(order: EpochOrder, start: int, stop: int) -> list[tuple[int, int, int, int]]:
    """Return the lanes that fill the positions [start, stop) of a full batch.

    Returns:
        For each lane its number, the number of rows that it contributes to a batch, and the slice [start, stop) of
        these rows that belongs to this rank.
    """
    shares = []
    for lane in range(order.num_lanes):
        lane_start, lane_stop = order.lane_slice(lane)
        begin, end = max(start, lane_start) - lane_start, min(stop, lane_stop) - lane_start
        if begin < end:
            shares.append((lane, lane_stop - lane_start, begin, end))
    return shares
