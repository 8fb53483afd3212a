"""The order of rows: a pure function of (content digest, seed, epoch), the same for every number of workers.

The blocks of the split are permuted and laid end to end, in a ring. This sequence is cut into lanes of (nearly) equal
length; every global batch takes the next few rows of each lane. Inside a lane the rows of a window of several blocks
are permuted. So a row may meet any other row, while whoever serves a lane needs few blocks at a time.

After CorgiPile (Xu et al., SIGMOD 2022, arXiv 2206.05830, section 4), with lanes in place of its per-worker buffers,
so that the order does not depend on the number of workers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from farandole.loading.assign import slice_of
from farandole.loading.philox import permutation, philox

ALGORITHM_VERSION = 1
"""Part of the key: a changed algorithm is a new version, and gives openly another order."""
NUM_LANES = 16
WINDOW_BLOCKS = 4
"""The rows of this many blocks are permuted together."""

_BLOCK_STREAM = 2**63
_TAIL_LANE = 2**31 - 1
_SHIFT_COUNTER = np.full((1, 4), 2**32 - 1, dtype=np.uint32)


@dataclass(frozen=True)
class Places:
    """Rows by where they lie: the block's number in the split, and the row's number in the block, int64 `[rows]`."""

    block: np.ndarray
    row: np.ndarray


@dataclass(frozen=True)
class EpochOrder:
    """The global batches of one epoch.

    Args:
        block_rows: Rows of each block of the split.
        global_batch_size: Rows of one optimizer step over all workers.
        tail: What becomes of the rows that do not fill a batch: `weight` makes a smaller one, `drop` leaves them out.
        digest: The dataset's content digest.
        seed: The job's seed.
        epoch: The epoch's number, from 0.
    """

    block_rows: tuple[int, ...]
    global_batch_size: int
    tail: Literal["weight", "drop"]
    digest: str
    seed: int
    epoch: int
    _windows: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = f"{ALGORITHM_VERSION}/{self.digest}/{self.seed}/{self.epoch}"
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        blocks = permutation(len(self.block_rows), key, _BLOCK_STREAM)
        ends = np.cumsum(np.asarray(self.block_rows, dtype=np.int64)[blocks])
        shift = philox(_SHIFT_COUNTER, key).view(np.uint64)[0, 0] % np.uint64(max(1, self.rows))
        for name, value in (("_key", key), ("_blocks", blocks), ("_ends", ends), ("_shift", int(shift))):
            object.__setattr__(self, name, value)

    _key: int = field(init=False, repr=False, compare=False)
    _blocks: np.ndarray = field(init=False, repr=False, compare=False)
    _ends: np.ndarray = field(init=False, repr=False, compare=False)
    _shift: int = field(init=False, repr=False, compare=False)

    @property
    def rows(self) -> int:
        """The rows of the split."""
        return sum(self.block_rows)

    @property
    def full_steps(self) -> int:
        """Steps with a full global batch."""
        return self.rows // self.global_batch_size

    @property
    def steps(self) -> int:
        """All steps of the epoch."""
        has_tail = self.tail == "weight" and self.rows % self.global_batch_size > 0
        return self.full_steps + has_tail

    def batch_rows(self, step: int) -> int:
        """Rows of the global batch of a step."""
        return self.global_batch_size if step < self.full_steps else self.rows % self.global_batch_size

    def places(self, step: int, start: int, stop: int) -> Places:
        """The rows at the positions [start, stop) of a step's global batch.

        Costs the same for any step: at most one window of each lane is permuted.
        """
        assert 0 <= step < self.steps, f"step {step} of {self.steps}"
        if step >= self.full_steps:
            first = self.full_steps * self.global_batch_size
            order = self._window(_TAIL_LANE, 0, self.rows - first)
            return self._locate(first + order[start:stop])
        return self._locate(np.concatenate([self._lane(lane, step, start, stop) for lane in range(self._num_lanes)]))

    @property
    def _num_lanes(self) -> int:
        return min(NUM_LANES, self.global_batch_size)

    def _lane(self, lane: int, step: int, start: int, stop: int) -> np.ndarray:
        """The rows of one lane that lie at [start, stop) of the batch, by their place in the sequence."""
        lane_start, lane_stop = slice_of(lane, self._num_lanes, self.global_batch_size)
        width = lane_stop - lane_start
        begin = step * width + max(start - lane_start, 0)
        end = step * width + min(stop - lane_start, width)
        if begin >= end:
            return np.empty(0, dtype=np.int64)
        first = self.full_steps * lane_start  # the rows of all lanes before this one
        length = self.full_steps * width
        window_rows = WINDOW_BLOCKS * max(self.block_rows)
        parts = []
        while begin < end:
            window = begin // window_rows
            window_start = window * window_rows
            order = self._window(lane, window, min(window_rows, length - window_start))
            upto = min(end, window_start + len(order))
            parts.append(first + window_start + order[begin - window_start : upto - window_start])
            begin = upto
        return np.concatenate(parts)

    def _window(self, lane: int, window: int, rows: int) -> np.ndarray:
        """The permutation of one window; each lane remembers its latest, which most steps share."""
        remembered = self._windows.get(lane)
        if remembered is None or remembered[0] != window:
            remembered = (window, permutation(rows, self._key, lane << 32 | window))
            self._windows[lane] = remembered
        return remembered[1]

    def _locate(self, sequence: np.ndarray) -> Places:
        """Places in the sequence of permuted blocks, as blocks and rows. The sequence is a ring that each epoch enters
        at another row, so that the tail is made of other rows too."""
        sequence = (sequence + self._shift) % self.rows
        slot = np.searchsorted(self._ends, sequence, side="right")
        block = self._blocks[slot]
        begins = self._ends[slot] - np.asarray(self.block_rows, dtype=np.int64)[block]
        return Places(block, sequence - begins)
