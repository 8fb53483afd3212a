"""Gathers the rows of one rank into batches, for one epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from farandole.loading.assign import slice_of
from farandole.loading.buffers import BatchBuffers, BatchMemory, Column, large_array
from farandole.loading.lanes import BlockRows, LaneReader
from farandole.loading.order import EpochOrder, Places


class RankGather:
    """The rows of one rank in each step of an epoch.

    Args:
        blocks: The blocks of the split.
        columns: What is gathered.
        order: The order of rows.
        rank: This rank.
        size: The number of ranks.
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
        *,
        pin: bool = False,
        pad: bool = False,
    ) -> None:
        self._blocks, self._columns, self._order = blocks, columns, order
        self._rank, self._size, self._pin, self._pad = rank, size, pin, pad
        start, stop = slice_of(rank, size, order.global_batch_size)
        self._rows = stop - start
        self._shares = _lane_shares(order, start, stop)

    def steps(self, first_step: int) -> Iterator[tuple[dict[str, torch.Tensor], int]]:
        """The tensors of each step from `first_step` on, and the number of rows that are no padding."""
        order = self._order
        lanes = [LaneReader(self._blocks, order, lane) for lane, _, _ in self._shares]
        if first_step < order.full_steps:
            yield from self._plain(lanes, first_step) if order.window_steps == 1 else self._mixed(lanes, first_step)
        for lane in lanes:
            lane.close()
        if first_step < order.steps and order.steps > order.full_steps:
            yield self._tail()

    def _tail(self) -> tuple[dict[str, torch.Tensor], int]:
        order = self._order
        start, stop = slice_of(self._rank, self._size, order.batch_rows(order.full_steps))
        rows = stop - start
        memory = BatchMemory(self._columns, self._rows, self._pin)
        gather_places(self._blocks, order.places(order.full_steps, start, stop), memory.targets)
        if not self._pad:
            return memory.tensors(rows), rows
        memory.blank(rows, self._rows)
        return memory.tensors(self._rows), rows

    def _plain(self, lanes: list[LaneReader], first_step: int) -> Iterator[tuple[dict[str, torch.Tensor], int]]:
        """Wide rows go straight into the batch."""
        shares = [
            (lane, _width(self._order, number), start, stop)
            for lane, (number, start, stop) in zip(lanes, self._shares, strict=True)
        ]
        buffers = BatchBuffers(self._columns, self._rows, self._pin)
        for step in range(first_step, self._order.full_steps):
            memory, at = buffers.take(), 0
            for lane, width, start, stop in shares:
                lane.copy(step * width + start, step * width + stop, memory.targets, at)
                at += stop - start
            yield memory.tensors(self._rows), self._rows

    def _mixed(self, lanes: list[LaneReader], first_step: int) -> Iterator[tuple[dict[str, torch.Tensor], int]]:
        """Narrow rows are copied run by run for a whole window, and then gathered for all its steps."""
        order = self._order
        room = sum(order.window_steps * _width(order, lane) for lane, _, _ in self._shares)
        pool = [large_array(room, column) for column in self._columns]
        buffers = BatchBuffers(self._columns, order.window_steps * self._rows, self._pin)
        step = first_step
        while step < order.full_steps:
            window = step // order.window_steps
            first, steps = order.window_bounds(window)
            chosen = self._fill(pool, lanes, window)[step - first :].reshape(-1)
            memory = buffers.take()
            for source, target in zip(pool, memory.targets, strict=True):
                source.take(chosen, 0, target[: len(chosen)], "clip")
            del target  # a view that is kept would make the memory look used
            for tensors in memory.batches(first + steps - step, self._rows):
                yield tensors, self._rows
            step = first + steps

    def _fill(self, pool: list[np.ndarray], lanes: list[LaneReader], window: int) -> np.ndarray:
        """Copy what the lanes give to a window; returns which of these rows each step takes, `[steps, rows]`."""
        order = self._order
        first, steps = order.window_bounds(window)
        chosen, base, at = np.empty((steps, self._rows), np.int64), 0, 0
        for lane, (number, start, stop) in zip(lanes, self._shares, strict=True):
            width = _width(order, number)
            count = steps * width
            lane.copy(first * width, first * width + count, pool, base)
            mixed = order.window_permutation(window, count).reshape(steps, width)
            np.add(mixed[:, start:stop], base, out=chosen[:, at : at + stop - start])
            base += count
            at += stop - start
        return chosen


def gather_places(blocks: BlockRows, places: Places, targets: list[np.ndarray]) -> None:
    """Gather any rows, block by block, into the first rows of arrays `[rows, size]`."""
    for block in np.unique(places.block).tolist():
        chosen = np.flatnonzero(places.block == block)
        for view, target in zip(blocks.open(block), targets, strict=True):
            target[chosen] = view[places.row[chosen]]
        blocks.close(block)


def _width(order: EpochOrder, lane: int) -> int:
    start, stop = order.lane_slice(lane)
    return stop - start


def _lane_shares(order: EpochOrder, start: int, stop: int) -> list[tuple[int, int, int]]:
    """Which lanes fill the positions [start, stop) of a full batch, with which part of their share."""
    shares = []
    for lane in range(order.num_lanes):
        lane_start, lane_stop = order.lane_slice(lane)
        begin, end = max(start, lane_start) - lane_start, min(stop, lane_stop) - lane_start
        if begin < end:
            shares.append((lane, begin, end))
    return shares
