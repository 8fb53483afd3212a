"""The order of rows: a pure function of (content digest, seed, epoch), the same for every number of workers.

The blocks of the split are permuted and laid end to end, in a ring that each epoch enters at another row. This sequence
is cut into *lanes* of (nearly) equal length, and every global batch takes the next few rows of each lane. A lane is a
chain of *pieces*, each a block or a part of one. The rows of a piece come in *runs* of neighbours, at most 32 KiB long,
and the runs of a piece are permuted. Rows of less than 1 KiB are permuted once more, each by itself, among all that
their lane gives to a *window* of steps; of longer rows, a run goes to one batch as it is.

Memory decides this: one row of 128 bytes at a random place costs as much time as eight in sequence, and runs of 16 KiB
cost nearly nothing more than a sequence. What neighbours on disk have in common is nothing: preparation places every
row by a hash of its content.

After CorgiPile (Xu et al., SIGMOD 2022, arXiv 2206.05830, section 4), with lanes in place of its per-worker buffers,
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
"""Part of the key: a changed algorithm is a new version, and gives openly another order."""
NUM_LANES = 8
"""So many blocks are read at the same time: more would mix more, and take longer to check before the first batch."""
RUN_BYTES = 32 * 1024
"""A run has at most so many bytes, and a power of two as its number of rows."""
WIDE_ROW_BYTES = 1024
"""Rows of so many bytes or more are not permuted again in a window."""
WINDOW_BYTES = 5 * 1024 * 1024
"""The rows of a window should fit into a share of the processor's last cache."""
_LEAST_WINDOW_STEPS, _MOST_WINDOW_STEPS = 4, 64

Tail = Literal["weight", "drop", "pad"]

_BLOCK_STREAM, _SHIFT_STREAM, _TAIL_STREAM, _WINDOW_STREAMS, _PIECE_STREAMS = 0, 1, 2, 1 << 62, 1 << 63


@dataclass(frozen=True)
class RowAddresses:
    """Rows by where they lie: the block's number in the split, and the row's number in the block, int64 `[rows]`."""

    block: np.ndarray
    row: np.ndarray


@dataclass(frozen=True)
class Piece:
    """Rows of a lane that lie in one block, one after the other.

    The runs begin where the lane's own count of rows is a multiple of a run, so that they fit into batches. The rows
    before the first such place and after the last whole run keep their places.

    Args:
        start: The lane's rows before it.
        rows: Its rows.
        block: The number of the block.
        first: The row of the block where it begins.
        head: Rows before its first run.
        run_order: Which run comes when, int64 `[runs]`.
        run_rows: Rows of a run.
    """

    start: int
    rows: int
    block: int
    first: int
    head: int
    run_order: np.ndarray
    run_rows: int

    def rows_of_block(self, offsets: np.ndarray) -> np.ndarray:
        """The rows of the block that come at these offsets in the piece."""
        rows = offsets + self.first
        run, place = np.divmod(offsets - self.head, self.run_rows)
        in_runs = (run >= 0) & (run < len(self.run_order))
        rows[in_runs] = self.first + self.head + self.run_order[run[in_runs]] * self.run_rows + place[in_runs]
        return rows

    def row_of_block(self, offset: int) -> int:
        """The same for one row."""
        run, place = divmod(offset - self.head, self.run_rows)
        if not 0 <= run < len(self.run_order):
            return self.first + offset
        return self.first + self.head + int(self.run_order[run]) * self.run_rows + place


@dataclass(frozen=True)
class EpochOrder:
    """The global batches of one epoch.

    Args:
        block_rows: Rows of each block of the split.
        row_bytes: The size of a row.
        global_batch_size: Rows of one optimizer step over all workers.
        tail: What becomes of the rows that do not fill a batch: `weight` makes a smaller one, `pad` too (the loader
            fills it up), `drop` leaves them out.
        digest: The dataset's content digest.
        seed: The job's seed.
        epoch: The epoch's number, from 0.
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
        """The rows of the split."""
        return sum(self.block_rows)

    @cached_property
    def full_steps(self) -> int:
        """Steps with a full global batch."""
        return self.rows // self.global_batch_size

    @cached_property
    def steps(self) -> int:
        """All steps of the epoch."""
        has_tail = self.tail != "drop" and self.rows % self.global_batch_size > 0
        return self.full_steps + has_tail

    @cached_property
    def num_lanes(self) -> int:
        """Lanes that give rows to every batch."""
        return min(NUM_LANES, self.global_batch_size)

    @cached_property
    def run_rows(self) -> int:
        """Rows of a run."""
        return _power_of_two(RUN_BYTES // self.row_bytes)

    @cached_property
    def window_steps(self) -> int:
        """Steps of a window, in which the rows of each lane are permuted; 1: they are not permuted."""
        if self.row_bytes >= WIDE_ROW_BYTES:
            return 1
        steps = _power_of_two(WINDOW_BYTES // (self.global_batch_size * self.row_bytes))
        return min(max(steps, _LEAST_WINDOW_STEPS), _MOST_WINDOW_STEPS)

    def batch_rows(self, step: int) -> int:
        """Rows of the global batch of a step."""
        return self.global_batch_size if step < self.full_steps else self.rows % self.global_batch_size

    def lane_slice(self, lane: int) -> tuple[int, int]:
        """The positions [start, stop) of each full batch that a lane fills."""
        return slice_bounds(lane, self.num_lanes, self.global_batch_size)

    def window_permutation(self, window: int, rows: int) -> np.ndarray:
        """How the rows that a lane gives to a window are permuted. Lanes with the same number of rows share it: their
        rows have nothing to do with each other."""
        remembered = self._windows.get(rows)
        if remembered is None or remembered[0] != window:
            drawn = self._streams.permutation(rows, _WINDOW_STREAMS | window)
            remembered = self._windows[rows] = (window, drawn)
        return remembered[1]

    def piece_at(self, lane: int, position: int) -> Piece:
        """The piece that holds a lane's row, by the number of the lane's rows before it."""
        first, stop = self._lane_bounds(lane)
        slot = int(np.searchsorted(self._slots.ends, first + position, side="right"))
        found = self._pieces.get((lane, slot))
        if found is None:
            if len(self._pieces) > 4 * NUM_LANES:  # of those that lie behind, none comes again
                self._pieces.clear()
            found = self._pieces[lane, slot] = self._make_piece(lane, slot, first, stop)
        return found

    def blocks_in_order(self, step: int = 0) -> list[int]:
        """The blocks that are read from a step on, in the order in which they are needed first."""
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
        in_tail = self._tail_places(0, self.rows - self.full_steps * self.global_batch_size).block
        ordered = [block for _, block in sorted(needed, key=lambda entry: entry[0])]
        return list(dict.fromkeys([*ordered, *(in_tail.tolist() if self.steps > self.full_steps else [])]))

    def places(self, step: int, start: int, stop: int) -> RowAddresses:
        """The rows at the positions [start, stop) of a step's global batch.

        Costs the same for any step: at most one window of each lane is permuted.
        """
        assert 0 <= step < self.steps, f"step {step} of {self.steps}"
        if step >= self.full_steps:
            return self._tail_places(start, stop)
        parts = []
        for lane in range(self.num_lanes):
            lane_start, lane_stop = self.lane_slice(lane)
            begin, end = max(start, lane_start) - lane_start, min(stop, lane_stop) - lane_start
            if begin < end:
                parts.append(self._lane_places(lane, self._positions(step, lane_stop - lane_start, begin, end)))
        if not parts:
            return RowAddresses(np.empty(0, np.int64), np.empty(0, np.int64))
        return RowAddresses(
            np.concatenate([part.block for part in parts]), np.concatenate([part.row for part in parts])
        )

    def _positions(self, step: int, width: int, begin: int, end: int) -> np.ndarray:
        """Which rows a lane gives to the places [begin, end) of its share of a step, as numbers of rows before them."""
        if self.window_steps == 1:
            return np.arange(step * width + begin, step * width + end)
        window = step // self.window_steps
        first, steps = self.window_bounds(window)
        mixed = self.window_permutation(window, steps * width)
        place = (step - first) * width
        return first * width + mixed[place + begin : place + end]

    def window_bounds(self, window: int) -> tuple[int, int]:
        """The first step of a window, and the number of its steps."""
        first = window * self.window_steps
        return first, min(self.window_steps, self.full_steps - first)

    def _lane_places(self, lane: int, positions: np.ndarray) -> RowAddresses:
        block, row = np.empty_like(positions), np.empty_like(positions)
        left = np.ones(len(positions), dtype=bool)
        while left.any():
            piece = self.piece_at(lane, int(positions[left].min()))
            inside = left & (positions < piece.start + piece.rows)
            block[inside] = piece.block
            row[inside] = piece.rows_of_block(positions[inside] - piece.start)
            left &= ~inside
        return RowAddresses(block, row)

    def _tail_places(self, start: int, stop: int) -> RowAddresses:
        first = self.full_steps * self.global_batch_size
        sequence = first + self._streams.permutation(self.rows - first, _TAIL_STREAM)[start:stop]
        slot = np.searchsorted(self._slots.ends, sequence, side="right")
        offset = sequence - (self._slots.ends - self._slots.rows)[slot]
        return RowAddresses(self._slots.block[slot], self._slots.first[slot] + offset)

    def _lane_bounds(self, lane: int) -> tuple[int, int]:
        """The rows of the sequence that a lane holds."""
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
        """The permuted blocks, from the row on where this epoch enters their ring: so the tail is made of other rows
        in every epoch. The block that is entered in its middle comes first and, with its other part, last."""
        block = self._streams.permutation(len(self.block_rows), _BLOCK_STREAM)
        rows = np.asarray(self.block_rows, dtype=np.int64)[block]
        if not self.rows:
            return _Slots(block, rows, rows, rows)
        shift = int(self._streams.words(1, _SHIFT_STREAM)[0] % np.uint64(self.rows))
        entered = int(np.searchsorted(np.cumsum(rows), shift, side="right"))
        into = shift - int(rows[:entered].sum())
        block = np.concatenate([block[entered:], block[: entered + 1]])
        rows = np.concatenate([rows[entered:], rows[: entered + 1]])
        first = np.zeros_like(rows)
        first[0] = into
        rows[0] -= into
        rows[-1] = into
        kept = rows > 0
        return _Slots(block[kept], first[kept], rows[kept], np.cumsum(rows[kept]))


@dataclass(frozen=True)
class _Slots:
    """Blocks, or parts of them, in the order of an epoch: number, first row, rows, and the sum of rows so far."""

    block: np.ndarray
    first: np.ndarray
    rows: np.ndarray
    ends: np.ndarray

    @property
    def count(self) -> int:
        return len(self.block)


def _power_of_two(limit: int) -> int:
    """The largest power of two up to a limit, at least 1."""
    return 1 << max(0, limit.bit_length() - 1)
