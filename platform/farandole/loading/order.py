"""The order of rows: a pure function of (content digest, seed, epoch), the same for every number of workers.

The blocks of the split are permuted and concatenated into a ring that each epoch enters at a different row. This
sequence is cut into *lanes* of (nearly) equal length, and every global batch takes the next few rows of each lane. A
lane is a chain of *pieces*, each a block or a part of one. The rows of a piece form *runs* of consecutive rows, at most
32 KiB long, and the runs of a piece are permuted. Rows of less than 1 KiB are permuted again, individually, among all
rows that their lane contributes to a *window* of steps; a run of longer rows goes to one batch unchanged.

Memory access determines this design: reading one row of 128 bytes at a random address takes as long as reading eight in
sequence, whereas runs of 16 KiB are hardly slower than a sequential read. Neighbours on disk have nothing in common:
preparation places every row by a hash of its content.

After CorgiPile (Xu et al., SIGMOD 2022, arXiv 2206.05830, section 4), with lanes instead of its per-worker buffers,
so that the order does not depend on the number of workers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from farandole.loading.philox import Streams
from farandole.loading.slicing import slice_bounds

ALGORITHM_VERSION = 2
"""Part of the random key; a changed algorithm gets a new version, and with it a different order."""
NUM_LANES = 8
"""Number of blocks read at the same time: more would mix better, but take longer to verify before the first batch."""
RUN_BYTES = 32 * 1024
"""Maximum size of a run; its number of rows is a power of two."""
WIDE_ROW_BYTES = 1024
"""Rows of this size or more are not permuted within a window."""
WINDOW_BYTES = 5 * 1024 * 1024
"""Target size of a window: a share of the CPU's last-level cache."""
_MIN_WINDOW_STEPS, _MAX_WINDOW_STEPS = 4, 64

Tail = Literal["weight", "drop", "pad"]

_BLOCK_STREAM, _SHIFT_STREAM, _TAIL_STREAM, _WINDOW_STREAMS, _PIECE_STREAMS = 0, 1, 2, 1 << 62, 1 << 63


@dataclass(frozen=True)
class RowAddresses:
    """The addresses of rows: block number within the split and row number within the block, both int64 `[rows]`."""

    block: np.ndarray
    row: np.ndarray


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a lane that lie in one block.

    Runs begin where the lane's row count is a multiple of the run length, so that they fit into batches. The rows
    before the first such boundary and after the last whole run are not permuted.

    Args:
        start: Number of the lane's rows before the piece.
        rows: Number of rows.
        block: Number of the block.
        first: Row of the block where the piece begins.
        head: Number of rows before the first run.
        run_order: The run at each position, int64 `[runs]`.
        run_rows: Number of rows of a run.
    """

    start: int
    rows: int
    block: int
    first: int
    head: int
    run_order: np.ndarray
    run_rows: int

    def block_rows(self, offsets: np.ndarray) -> np.ndarray:
        """Return the rows of the block at these offsets into the piece."""
        rows = offsets + self.first
        run, offset_in_run = np.divmod(offsets - self.head, self.run_rows)
        in_runs = (run >= 0) & (run < len(self.run_order))
        starts = self.run_order[run[in_runs]] * self.run_rows
        rows[in_runs] = self.first + self.head + starts + offset_in_run[in_runs]
        return rows

    def block_row(self, offset: int) -> int:
        """Return the row of the block at one offset into the piece."""
        run, offset_in_run = divmod(offset - self.head, self.run_rows)
        if not 0 <= run < len(self.run_order):
            return self.first + offset
        return self.first + self.head + int(self.run_order[run]) * self.run_rows + offset_in_run


@dataclass(frozen=True)
class EpochOrder:
    """The global batches of one epoch.

    Args:
        block_rows: Number of rows of each block of the split.
        row_bytes: Size of a row.
        global_batch_size: Rows of one optimizer step over all workers.
        tail: Treatment of the rows that do not fill a batch: `weight` and `pad` make a smaller batch (which the loader
            pads), `drop` leaves them out.
        digest: Content digest of the dataset.
        seed: Seed of the job.
        epoch: Number of the epoch, from 0.
    """

    block_rows: tuple[int, ...]
    row_bytes: int
    global_batch_size: int
    tail: Tail
    digest: str
    seed: int
    epoch: int
    _pieces: dict[tuple[int, int], Piece] = field(default_factory=dict, init=False, repr=False, compare=False)
    _windows: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def rows(self) -> int:
        """Number of rows of the split."""
        return sum(self.block_rows)

    @cached_property
    def full_steps(self) -> int:
        """Number of steps with a full global batch."""
        return self.rows // self.global_batch_size

    @cached_property
    def steps(self) -> int:
        """Number of steps of the epoch."""
        has_tail = self.tail != "drop" and self.rows % self.global_batch_size > 0
        return self.full_steps + has_tail

    @cached_property
    def num_lanes(self) -> int:
        """Number of lanes that contribute to every batch."""
        return min(NUM_LANES, self.global_batch_size)

    @cached_property
    def run_rows(self) -> int:
        """Number of rows of a run."""
        return _power_of_two_up_to(RUN_BYTES // self.row_bytes)

    @cached_property
    def window_steps(self) -> int:
        """Number of steps of a window, within which each lane's rows are permuted; 1 if they are not."""
        if self.row_bytes >= WIDE_ROW_BYTES:
            return 1
        steps = _power_of_two_up_to(WINDOW_BYTES // (self.global_batch_size * self.row_bytes))
        return min(max(steps, _MIN_WINDOW_STEPS), _MAX_WINDOW_STEPS)

    def batch_rows(self, step: int) -> int:
        """Return the number of rows of a step's global batch."""
        return self.global_batch_size if step < self.full_steps else self.rows % self.global_batch_size

    def lane_slice(self, lane: int) -> tuple[int, int]:
        """Return the positions [start, stop) of each full batch that a lane fills."""
        return slice_bounds(lane, self.num_lanes, self.global_batch_size)

    def window_permutation(self, window: int, rows: int) -> np.ndarray:
        """Return the permutation of the `rows` rows that a lane contributes to a window.

        Lanes with the same number of rows share it, since their rows are unrelated.
        """
        cached = self._windows.get(rows)
        if cached is None or cached[0] != window:
            permutation = self._streams.permutation(rows, _WINDOW_STREAMS | window)
            cached = self._windows[rows] = (window, permutation)
        return cached[1]

    def piece_at(self, lane: int, position: int) -> Piece:
        """Return the piece that holds a lane's row, given the number of the lane's rows before it."""
        first, stop = self._lane_bounds(lane)
        slot = int(np.searchsorted(self._slots.ends, first + position, side="right"))
        piece = self._pieces.get((lane, slot))
        if piece is None:
            if len(self._pieces) > 4 * NUM_LANES:  # pieces that have been read are not needed again
                self._pieces.clear()
            piece = self._pieces[lane, slot] = self._make_piece(lane, slot, first, stop)
        return piece

    def blocks_in_order(self, step: int = 0) -> list[int]:
        """Return the blocks that are read from a step on, in the order of their first use."""
        needed: list[tuple[int, int]] = []
        for lane in range(self.num_lanes):
            first, stop = self._lane_bounds(lane)
            start, end = self.lane_slice(lane)
            position = min(step, self.full_steps) * (end - start)
            for slot in range(
                int(np.searchsorted(self._slots.ends, first + position, side="right")), self._slots.count
            ):
                begin = max(int(self._slots.ends[slot] - self._slots.rows[slot]), first)
                if begin >= stop:
                    break
                needed.append((max(0, begin - first) // (end - start), int(self._slots.block[slot])))
        in_tail = self._tail_addresses(0, self.rows - self.full_steps * self.global_batch_size).block
        ordered = [block for _, block in sorted(needed, key=lambda entry: entry[0])]
        return list(dict.fromkeys([*ordered, *(in_tail.tolist() if self.steps > self.full_steps else [])]))

    def row_addresses(self, step: int, start: int, stop: int) -> RowAddresses:
        """Return the rows at the positions [start, stop) of a step's global batch.

        The cost is the same for any step: at most one window of each lane is permuted.
        """
        assert 0 <= step < self.steps, f"step {step} of {self.steps}"
        if step >= self.full_steps:
            return self._tail_addresses(start, stop)
        parts = []
        for lane in range(self.num_lanes):
            lane_start, lane_stop = self.lane_slice(lane)
            begin, end = max(start, lane_start) - lane_start, min(stop, lane_stop) - lane_start
            if begin < end:
                positions = self._lane_positions(step, lane_stop - lane_start, begin, end)
                parts.append(self._lane_addresses(lane, positions))
        if not parts:
            return RowAddresses(np.empty(0, np.int64), np.empty(0, np.int64))
        return RowAddresses(
            np.concatenate([part.block for part in parts]), np.concatenate([part.row for part in parts])
        )

    def _lane_positions(self, step: int, width: int, begin: int, end: int) -> np.ndarray:
        """Return the lane's row numbers at the positions [begin, end) of its share of a step."""
        if self.window_steps == 1:
            return np.arange(step * width + begin, step * width + end)
        window = step // self.window_steps
        first, steps = self.window_bounds(window)
        mixed = self.window_permutation(window, steps * width)
        offset = (step - first) * width
        return first * width + mixed[offset + begin : offset + end]

    def window_bounds(self, window: int) -> tuple[int, int]:
        """Return the first step of a window, and its number of steps."""
        first = window * self.window_steps
        return first, min(self.window_steps, self.full_steps - first)

    def _lane_addresses(self, lane: int, positions: np.ndarray) -> RowAddresses:
        block, row = np.empty_like(positions), np.empty_like(positions)
        pending = np.ones(len(positions), dtype=bool)
        while pending.any():
            piece = self.piece_at(lane, int(positions[pending].min()))
            inside = pending & (positions < piece.start + piece.rows)
            block[inside] = piece.block
            row[inside] = piece.block_rows(positions[inside] - piece.start)
            pending &= ~inside
        return RowAddresses(block, row)

    def _tail_addresses(self, start: int, stop: int) -> RowAddresses:
        first = self.full_steps * self.global_batch_size
        sequence = first + self._streams.permutation(self.rows - first, _TAIL_STREAM)[start:stop]
        slot = np.searchsorted(self._slots.ends, sequence, side="right")
        offset = sequence - (self._slots.ends - self._slots.rows)[slot]
        return RowAddresses(self._slots.block[slot], self._slots.first[slot] + offset)

    def _lane_bounds(self, lane: int) -> tuple[int, int]:
        """Return the rows [start, stop) of the sequence that a lane holds."""
        start, stop = self.lane_slice(lane)
        return self.full_steps * start, self.full_steps * stop

    def _make_piece(self, lane: int, slot: int, first: int, stop: int) -> Piece:
        slots = self._slots
        slot_end = int(slots.ends[slot])
        slot_start = slot_end - int(slots.rows[slot])
        begin, end = max(slot_start, first), min(slot_end, stop)
        start, rows = begin - first, end - begin
        head = min(-start % self.run_rows, rows)
        runs = (rows - head) // self.run_rows
        order = self._streams.permutation(runs, _PIECE_STREAMS | lane << 48 | slot)
        return Piece(
            start, rows, int(slots.block[slot]), int(slots.first[slot]) + begin - slot_start, head, order, self.run_rows
        )

    @cached_property
    def _streams(self) -> Streams:
        text = f"{ALGORITHM_VERSION}/{self.digest}/{self.seed}/{self.epoch}"
        return Streams(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))

    @cached_property
    def _slots(self) -> _Slots:
        """The permuted blocks, from the row where this epoch enters their ring.

        The tail therefore consists of different rows in every epoch. The block that is entered in its middle comes
        first and, with its remaining part, last.
        """
        block = self._streams.permutation(len(self.block_rows), _BLOCK_STREAM)
        rows = np.asarray(self.block_rows, dtype=np.int64)[block]
        if not self.rows:
            return _Slots(block, rows, rows, rows)
        shift = int(self._streams.words(1, _SHIFT_STREAM)[0] % np.uint64(self.rows))
        entry = int(np.searchsorted(np.cumsum(rows), shift, side="right"))
        offset = shift - int(rows[:entry].sum())
        block = np.concatenate([block[entry:], block[: entry + 1]])
        rows = np.concatenate([rows[entry:], rows[: entry + 1]])
        first = np.zeros_like(rows)
        first[0] = offset
        rows[0] -= offset
        rows[-1] = offset
        kept = rows > 0
        return _Slots(block[kept], first[kept], rows[kept], np.cumsum(rows[kept]))


@dataclass(frozen=True)
class _Slots:
    """The blocks (or parts) of an epoch in order: block number, first row, number of rows, and cumulative rows."""

    block: np.ndarray
    first: np.ndarray
    rows: np.ndarray
    ends: np.ndarray

    @property
    def count(self) -> int:
        return len(self.block)


def _power_of_two_up_to(limit: int) -> int:
    """Return the largest power of two up to `limit`, at least 1."""
    return 1 << max(0, limit.bit_length() - 1)
