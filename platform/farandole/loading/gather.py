"""Gathers the rows of one rank into batches, for one epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

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
        buffers: Memory for the batches.
    """

    def __init__(
        self,
        blocks: BlockRows,
        columns: tuple[Column, ...],
        order: EpochOrder,
        rank: int,
        size: int,
        buffers: BatchBuffers,
    ) -> None:
        self._blocks, self._columns, self._order = blocks, columns, order
        self._rank, self._size, self._buffers = rank, size, buffers
        self._shares = _lane_shares(order, *slice_of(rank, size, order.global_batch_size))

    def steps(self, first_step: int) -> Iterator[tuple[BatchMemory, int]]:
        """The memory of each step from `first_step` on, and the number of its rows."""
        order = self._order
        lanes = [LaneReader(self._blocks, order, lane) for lane, _, _ in self._shares]
        if first_step < order.full_steps:
            yield from self._plain(lanes, first_step) if order.window_steps == 1 else self._mixed(lanes, first_step)
        for lane in lanes:
            lane.close()
        if first_step < order.steps and order.steps > order.full_steps:
            start, stop = slice_of(self._rank, self._size, order.batch_rows(order.full_steps))
            memory = self._buffers.take()
            gather_places(self._blocks, order.places(order.full_steps, start, stop), memory.targets)
            yield memory, stop - start

    def _plain(self, lanes: list[LaneReader], first_step: int) -> Iterator[tuple[BatchMemory, int]]:
        """Wide rows go straight into the batch."""
        shares = [
            (lane, _width(self._order, number), start, stop)
            for lane, (number, start, stop) in zip(lanes, self._shares, strict=True)
        ]
        rows = sum(stop - start for _, _, start, stop in shares)
        for step in range(first_step, self._order.full_steps):
            memory, at = self._buffers.take(), 0
            for lane, width, start, stop in shares:
                lane.copy(step * width + start, step * width + stop, memory.targets, at)
                at += stop - start
            yield memory, rows
            del memory  # or it could not be used for the next batch

    def _mixed(self, lanes: list[LaneReader], first_step: int) -> Iterator[tuple[BatchMemory, int]]:
        """Narrow rows are copied for a whole window, run by run, and then gathered step by step."""
        order = self._order
        room = sum(order.window_steps * _width(order, lane) for lane, _, _ in self._shares)
        pool = [large_array(room, column) for column in self._columns]
        rows = sum(stop - start for _, start, stop in self._shares)
        step = first_step
        while step < order.full_steps:
            window = step // order.window_steps
            first, steps = order.window_bounds(window)
            chosen = self._fill(pool, lanes, window)
            for rows_of_step in chosen[step - first :]:
                memory = self._buffers.take()
                for source, target in zip(pool, memory.targets, strict=True):
                    source.take(rows_of_step, 0, target[:rows], "clip")
                yield memory, rows
                del memory, target
            step = first + steps

    def _fill(self, pool: list[np.ndarray], lanes: list[LaneReader], window: int) -> np.ndarray:
        """Copy what the lanes give to a window; returns which of these rows each step takes, `[steps, rows]`."""
        order = self._order
        first, steps = order.window_bounds(window)
        rows = sum(stop - start for _, start, stop in self._shares)
        chosen, base, at = np.empty((steps, rows), np.int64), 0, 0
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
