"""Gathers the rows of one rank into batches, for one epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from farandole.loading import rows
from farandole.loading.assign import slice_of
from farandole.loading.buffers import BatchBuffers, BatchMemory, Column
from farandole.loading.lanes import BlockRows, LaneReader, Part
from farandole.loading.order import EpochOrder, Places

Tensors = dict[str, torch.Tensor]


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
        start, stop = slice_of(rank, size, order.global_batch_size)
        self.batch_rows = stop - start
        self.shares = _lane_shares(order, start, stop)
        self.buffers = BatchBuffers(columns, order.window_steps * self.batch_rows, pin)
        window_rows = sum(order.window_steps * width for _, width, _, _ in self.shares)
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
        memory = self._space.buffers.take()
        if self._space.pool is None:
            self._copy(self._parts(first, 1, whole=False), memory.targets)
        else:
            self._copy(self._parts(first, steps, whole=True), self._space.pool)
            chosen = self._chosen(window)[(step - first) * self._space.batch_rows :]
            for pool, target in zip(self._space.pool, memory.targets, strict=True):
                rows.choose(pool, chosen, _row_bytes(pool), target)
        return iter(memory.batches(first + steps - step, self._space.batch_rows))

    def _parts(self, first_step: int, steps: int, *, whole: bool) -> list[Part]:
        """Where the rows lie that the lanes give to some steps: all of them, or only this rank's (of one step)."""
        parts: list[Part] = []
        for lane, (_, width, start, stop) in zip(self._lanes, self._space.shares, strict=True):
            begin, end = (0, steps * width) if whole else (start, stop)
            parts += lane.parts(first_step * width + begin, first_step * width + end)
        return parts

    def _copy(self, parts: list[Part], targets: list[np.ndarray]) -> None:
        """Copy rows as they come, and free the blocks that are done."""
        at = 0
        for part in parts:
            end = at + len(part.firsts) * part.rows
            for view, target in zip(part.views, targets, strict=True):
                rows.copy(view, part.firsts, part.rows, _row_bytes(target), target[at:end])
            at = end
        for lane in self._lanes:
            lane.free()

    def _chosen(self, window: int) -> np.ndarray:
        """Which of a window's rows each batch takes, step by step: int32 `[steps * rows]`."""
        order = self._order
        _, steps = order.window_bounds(window)
        chosen, base, at = np.empty((steps, self._space.batch_rows), np.int32), 0, 0
        for _, width, start, stop in self._space.shares:
            mixed = order.window_permutation(window, steps * width).reshape(steps, width)
            np.add(mixed[:, start:stop], base, out=chosen[:, at : at + stop - start], casting="unsafe")
            base += steps * width
            at += stop - start
        return chosen.reshape(-1)

    def _tail(self) -> tuple[Tensors, int]:
        order, batch_rows = self._order, self._space.batch_rows
        start, stop = slice_of(self._rank, self._size, order.batch_rows(order.full_steps))
        count = stop - start
        memory = BatchMemory(self._columns, batch_rows, self._pin)
        gather_places(self._blocks, order.places(order.full_steps, start, stop), memory.targets)
        if not self._pad:
            return memory.tensors(count), count
        memory.blank(count, batch_rows)
        return memory.tensors(batch_rows), count


def gather_places(blocks: BlockRows, places: Places, targets: list[np.ndarray]) -> None:
    """Gather any rows, block by block, into the first rows of arrays `[rows, size]`."""
    for block in np.unique(places.block).tolist():
        chosen = np.flatnonzero(places.block == block)
        for view, target in zip(blocks.open(block), targets, strict=True):
            target[chosen] = view[places.row[chosen]]
        blocks.close(block)


def _row_bytes(array: np.ndarray) -> int:
    return int(array.shape[1]) * array.itemsize


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
