"""Gathers the rows of one rank into batches, for one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
import torch

from farandole.loading import rows
from farandole.loading.buffers import BatchBuffers, BatchMemory, Column
from farandole.loading.lanes import BlockRows, LaneReader, Part
from farandole.loading.order import EpochOrder, RowAddresses
from farandole.loading.slicing import slice_bounds

Tensors = dict[str, torch.Tensor]

_TOGETHER_BYTES = 4 * 1024 * 1024
"""Batches that are made together. Fewer would stay in a nearer cache, and more cost less for each tensor."""


class Workspace:
    """Memory that a rank gathers with, one epoch after the other: touching new memory costs as much as copying to it.

    Args:
        columns: What is gathered.
        order: The order of rows of any epoch.
        rank: This rank.
        size: The number of ranks.
        pin: Use pinned memory for batches.
    """

    def __init__(self, columns: tuple[Column, ...], order: EpochOrder, rank: int, size: int, *, pin: bool) -> None:
        start, stop = slice_bounds(rank, size, order.global_batch_size)
        self.batch_rows = stop - start
        self.shares = _lane_shares(order, start, stop)
        shapes = groupby(share[1:] for share in self.shares)
        self.alike = [(shape, len(list(lanes))) for shape, lanes in shapes]
        """Neighbouring lanes with the same width and the same part of it, counted."""
        self.row_bytes = [column.size * column.dtype.itemsize for column in columns]
        most = _TOGETHER_BYTES // max(1, self.batch_rows * sum(self.row_bytes))
        self.batches = max(1, min(most, order.window_steps))
        """So many batches lie in one piece of memory: tensors of all of them are made at once."""
        self.buffers = BatchBuffers(columns, self.batches * self.batch_rows, pin)
        window_rows = sum(order.window_steps * width for _, width, _, _ in self.shares)
        self.chosen = np.empty((order.window_steps, self.batch_rows), np.int32)
        # Narrow rows are copied run by run for a whole window, and one by one from there, which the processor caches.
        self.pool = None if order.window_steps == 1 else BatchMemory(columns, window_rows, pin=False).targets


class RankGather:
    """The rows of one rank in each step of an epoch.

    Args:
        blocks: The blocks of the split.
        columns: What is gathered.
        order: The order of rows.
        rank: This rank.
        size: The number of ranks.
        workspace: Memory of the same columns, rank and size; nobody else uses it meanwhile.
        pin: Use pinned memory.
        pad: Fill the last batch up with padding.
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
        """The tensors of each step from `first_step` on, and the number of rows that are no padding."""
        order, batch_rows = self._order, self._space.batch_rows
        step = first_step
        while step < order.full_steps:
            window = step // order.window_steps
            for tensors in self._window(window, step):
                yield tensors, batch_rows
                del tensors  # or its memory could not be used again
            step = sum(order.window_bounds(window))
        for lane in self._lanes:
            lane.close()
        if first_step < order.steps and order.steps > order.full_steps:
            yield self._tail()

    def _window(self, window: int, step: int) -> Iterator[Tensors]:
        """The batches of a window, from a step of it on."""
        first, steps = self._order.window_bounds(window)
        space = self._space
        if space.pool is None:
            memory = space.buffers.take()
            self._copy(self._parts(first, 1, whole=False), memory.targets)
            yield from memory.batches(1, space.batch_rows)
            return
        self._copy(self._parts(first, steps, whole=True), space.pool)
        chosen = self._chosen(window)[step - first :]
        for begin in range(0, len(chosen), space.batches):
            wanted = chosen[begin : begin + space.batches]
            memory = space.buffers.take()
            for pool, size, target in zip(space.pool, space.row_bytes, memory.targets, strict=True):
                rows.choose(pool, wanted, size, target)
            yield from memory.batches(len(wanted), space.batch_rows)

    def _parts(self, first_step: int, steps: int, *, whole: bool) -> list[Part]:
        """Where the rows lie that the lanes give to some steps: all of them, or only this rank's (of one step)."""
        parts: list[Part] = []
        for lane, (_, width, start, stop) in zip(self._lanes, self._space.shares, strict=True):
            begin, end = (0, steps * width) if whole else (start, stop)
            parts += lane.parts(first_step * width + begin, first_step * width + end)
        return parts

    def _copy(self, parts: list[Part], targets: list[np.ndarray]) -> None:
        """Copy rows as they come, and free the blocks that are done."""
        rows.copy(parts, self._space.row_bytes, targets)
        for lane in self._lanes:
            lane.free()

    def _chosen(self, window: int) -> np.ndarray:
        """Which of a window's rows each batch takes: int32 `[steps, rows]`."""
        order = self._order
        _, steps = order.window_bounds(window)
        chosen, base, at = self._space.chosen[:steps], 0, 0
        for (width, start, stop), lanes in self._space.alike:
            mixed = order.window_permutation(window, steps * width).astype(np.int32).reshape(steps, 1, width)
            bases = np.arange(base, base + lanes * steps * width, steps * width, dtype=np.int32)[:, None]
            part = chosen[:, at : at + lanes * (stop - start)].reshape(steps, lanes, stop - start)
            np.add(mixed[:, :, start:stop], bases, out=part)
            base += lanes * steps * width
            at += lanes * (stop - start)
        return chosen

    def _tail(self) -> tuple[Tensors, int]:
        order, batch_rows = self._order, self._space.batch_rows
        start, stop = slice_bounds(self._rank, self._size, order.batch_rows(order.full_steps))
        count = stop - start
        memory = BatchMemory(self._columns, batch_rows, self._pin)
        gather_places(self._blocks, order.places(order.full_steps, start, stop), memory.targets)
        if not self._pad:
            return memory.tensors(count), count
        memory.blank(count, batch_rows)
        return memory.tensors(batch_rows), count


def gather_places(blocks: BlockRows, places: RowAddresses, targets: list[np.ndarray]) -> None:
    """Gather any rows, block by block, into the first rows of arrays `[rows, size]`."""
    for block in np.unique(places.block).tolist():
        chosen = np.flatnonzero(places.block == block)
        for view, target in zip(blocks.open(block), targets, strict=True):
            target[chosen] = view[places.row[chosen]]
        blocks.close(block)


def _lane_shares(order: EpochOrder, start: int, stop: int) -> list[tuple[int, int, int, int]]:
    """Which lanes fill the positions [start, stop) of a full batch: the lane, how many rows it gives to a batch, and
    which part of these [start, stop) is this rank's."""
    shares = []
    for lane in range(order.num_lanes):
        lane_start, lane_stop = order.lane_slice(lane)
        begin, end = max(start, lane_start) - lane_start, min(stop, lane_stop) - lane_start
        if begin < end:
            shares.append((lane, lane_stop - lane_start, begin, end))
    return shares
