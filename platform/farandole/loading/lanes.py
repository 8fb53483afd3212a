"""Says where the rows of a lane lie, in their order, in the mapped blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farandole.loading.buffers import ROW_IDS, Column
from farandole.loading.order import EpochOrder, Piece
from farandole.shards import SplitReader


class BlockRows:
    """The blocks of a split as `[rows, size]` arrays, column by column, with the numbers of their rows among them."""

    def __init__(self, reader: SplitReader, columns: tuple[Column, ...]) -> None:
        self._reader = reader
        self._columns = columns
        self._first_rows = np.cumsum([0, *reader.block_rows])

    def open(self, block: int) -> list[np.ndarray]:
        """Read-only views of a block; its checksum has been compared."""
        views = self._reader.block(block)
        rows = self._reader.block_rows[block]
        return [
            np.arange(self._first_rows[block], self._first_rows[block] + rows).reshape(rows, 1)
            if column.name == ROW_IDS
            else views[column.name].reshape(rows, column.size)
            for column in self._columns
        ]

    def close(self, block: int) -> None:
        """Free the memory that a block takes."""
        self._reader.release(block)


class Part(NamedTuple):
    """Rows of one block: groups of neighbours, all of the same length, one after the other.

    Attributes:
        views: `[rows, size]` of the block, column by column.
        firsts: The first row of each group, int64.
        rows: Rows of a group.
    """

    views: list[np.ndarray]
    firsts: np.ndarray
    rows: int


class LaneReader:
    """Reads one lane of an epoch, mostly forward; it keeps one block open."""

    def __init__(self, blocks: BlockRows, order: EpochOrder, lane: int) -> None:
        self._blocks, self._order, self._lane = blocks, order, lane
        self._open: _OpenPiece | None = None
        self._done: list[int] = []

    def parts(self, begin: int, end: int) -> list[Part]:
        """Where the lane's rows [begin, end) lie, counted from the start of the epoch."""
        found: list[Part] = []
        while begin < end:
            piece = self._at(begin)
            upto = min(end, piece.stop)
            found += piece.parts(begin, upto)
            begin = upto
        return found

    def free(self) -> None:
        """Free the memory of the blocks that lie behind; call it when their rows have been copied."""
        for block in self._done:
            self._blocks.close(block)
        self._done = []

    def close(self) -> None:
        """Free the memory of all blocks."""
        self._leave()
        self.free()

    def _leave(self) -> None:
        if self._open is not None:
            self._done.append(self._open.block)
            self._open = None

    def _at(self, position: int) -> _OpenPiece:
        if self._open is None or not self._open.start <= position < self._open.stop:
            self._leave()
            piece = self._order.piece_at(self._lane, position)
            self._open = _OpenPiece(piece, self._blocks.open(piece.block))
        return self._open


class _OpenPiece:
    """A piece with the views of its block."""

    def __init__(self, piece: Piece, views: list[np.ndarray]) -> None:
        self.block, self.start, self.stop = piece.block, piece.start, piece.start + piece.rows
        self._piece, self._views = piece, views
        self._first_run = piece.start + piece.head
        self._run_firsts = piece.first + piece.head + piece.run_order * piece.run_rows

    def parts(self, begin: int, end: int) -> list[Part]:
        """Where the lane's rows [begin, end) lie: whole runs, and what is before and behind them."""
        run_rows = self._piece.run_rows
        first = max(0, -((self._first_run - begin) // run_rows))
        last = min(len(self._run_firsts), (end - self._first_run) // run_rows)
        if first > last:  # inside of one run, or before the first or behind the last
            return [self._neighbours(begin, end)]
        runs_begin, runs_end = self._first_run + first * run_rows, self._first_run + last * run_rows
        found = [self._neighbours(begin, runs_begin)] if begin < runs_begin else []
        if first < last:
            found.append(Part(self._views, self._run_firsts[first:last], run_rows))
        if runs_end < end:
            found.append(self._neighbours(runs_end, end))
        return found

    def _neighbours(self, begin: int, end: int) -> Part:
        return Part(self._views, np.array([self._piece.row_of_block(begin - self.start)], np.int64), end - begin)
