"""Copies the rows of a lane, in their order, out of the mapped blocks."""

from __future__ import annotations

from collections.abc import Sequence

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


class LaneReader:
    """Reads one lane of an epoch, mostly forward; it keeps one block open."""

    def __init__(self, blocks: BlockRows, order: EpochOrder, lane: int) -> None:
        self._blocks, self._order, self._lane = blocks, order, lane
        self._open: _OpenPiece | None = None

    def copy(self, begin: int, end: int, targets: Sequence[np.ndarray], at: int) -> None:
        """Copy the lane's rows [begin, end), counted from the start of the epoch.

        Args:
            begin: The first row.
            end: The row after the last.
            targets: For each column a contiguous array `[rows, size]`.
            at: The row of the targets that gets the first row.
        """
        while begin < end:
            piece = self._at(begin)
            upto = min(end, piece.stop)
            piece.copy(begin, upto, targets, at)
            at += upto - begin
            begin = upto

    def close(self) -> None:
        """Free the memory of the open block."""
        if self._open is not None:
            self._blocks.close(self._open.block)
            self._open = None

    def _at(self, position: int) -> _OpenPiece:
        if self._open is None or not self._open.start <= position < self._open.stop:
            self.close()
            piece = self._order.piece_at(self._lane, position)
            self._open = _OpenPiece(piece, self._blocks.open(piece.block))
        return self._open


class _OpenPiece:
    """A piece with the views of its block; whole runs are gathered as if each were one long row."""

    def __init__(self, piece: Piece, views: list[np.ndarray]) -> None:
        self.block, self.start, self.stop = piece.block, piece.start, piece.start + piece.rows
        self._piece = piece
        self._views = views
        self._run_rows, self._num_runs = piece.run_rows, len(piece.run_order)
        self._first_run = piece.start + piece.head
        first = piece.first + piece.head
        runs = slice(first, first + self._num_runs * piece.run_rows)
        self._runs = [view[runs].reshape(self._num_runs, piece.run_rows * view.shape[1]) for view in views]

    def copy(self, begin: int, end: int, targets: Sequence[np.ndarray], at: int) -> None:
        run_rows = self._run_rows
        first = max(0, -((self._first_run - begin) // run_rows))
        last = min(self._num_runs, (end - self._first_run) // run_rows)
        if first >= last:
            self._copy_rows(begin, end, targets, at)
            return
        runs_begin, runs_end = self._first_run + first * run_rows, self._first_run + last * run_rows
        order = self._piece.run_order[first:last]
        start, stop = at + runs_begin - begin, at + runs_end - begin
        for runs, target in zip(self._runs, targets, strict=True):
            into = target[start:stop].reshape(last - first, runs.shape[1])
            runs.take(order, 0, into, "clip")  # any other mode copies a second time
        if begin < runs_begin:
            self._copy_rows(begin, runs_begin, targets, at)
        if runs_end < end:
            self._copy_rows(runs_end, end, targets, stop)

    def _copy_rows(self, begin: int, end: int, targets: Sequence[np.ndarray], at: int) -> None:
        rows = self._piece.rows_of_block(np.arange(begin - self.start, end - self.start))
        for view, target in zip(self._views, targets, strict=True):
            view.take(rows, 0, target[at : at + end - begin], "clip")
