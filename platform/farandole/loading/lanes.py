"""Lookup of a lane's rows, in their order, in the memory-mapped blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farandole.loading.buffers import ROW_IDS, Column
from farandole.loading.order import EpochOrder, Piece
from farandole.shards import SplitReader


class BlockRows:
    """The blocks of a split as one array `[rows, size]` per column, optionally with a column of row numbers."""

    def __init__(self, reader: SplitReader, columns: tuple[Column, ...]) -> None:
        self._reader = reader
        self._columns = columns
        self._first_rows = np.cumsum([0, *reader.block_rows])

    def open(self, block: int) -> list[np.ndarray]:
        """Return read-only views of a block whose checksum has been verified."""
        views = self._reader.block(block)
        rows = self._reader.block_rows[block]
        return [
            np.arange(self._first_rows[block], self._first_rows[block] + rows).reshape(rows, 1)
            if column.name == ROW_IDS
            else views[column.name].reshape(rows, column.size)
            for column in self._columns
        ]

    def close(self, block: int) -> None:
        """Free the memory of a block."""
        self._reader.release(block)


class RowSpans(NamedTuple):
    """Spans of consecutive rows of one block, all of the same length.

    Attributes:
        views: One array `[rows, size]` of the block per column.
        first_rows: First row of each span, int64.
        rows: Number of rows in each span.
    """

    views: list[np.ndarray]
    first_rows: np.ndarray
    rows: int


class LaneReader:
    """A reader of one lane of an epoch that keeps one block open; access is mostly sequential."""

    def __init__(self, blocks: BlockRows, order: EpochOrder, lane: int) -> None:
        self._blocks, self._order, self._lane = blocks, order, lane
        self._open: _OpenPiece | None = None
        self._finished: list[int] = []

    def spans(self, begin: int, end: int) -> list[RowSpans]:
        """Locate the lane's rows [begin, end), counted from the start of the epoch."""
        found: list[RowSpans] = []
        while begin < end:
            piece = self._piece_at(begin)
            stop = min(end, piece.stop)
            found += piece.spans(begin, stop)
            begin = stop
        return found

    def free(self) -> None:
        """Free the blocks that have been read; call this after their rows have been copied."""
        for block in self._finished:
            self._blocks.close(block)
        self._finished = []

    def close(self) -> None:
        """Free all blocks."""
        self._finish_piece()
        self.free()

    def _finish_piece(self) -> None:
        if self._open is not None:
            self._finished.append(self._open.block)
            self._open = None

    def _piece_at(self, position: int) -> _OpenPiece:
        if self._open is None or not self._open.start <= position < self._open.stop:
            self._finish_piece()
            piece = self._order.piece_at(self._lane, position)
            self._open = _OpenPiece(piece, self._blocks.open(piece.block))
        return self._open


class _OpenPiece:
    """A piece and the views of its block."""

    def __init__(self, piece: Piece, views: list[np.ndarray]) -> None:
        self.block, self.start, self.stop = piece.block, piece.start, piece.start + piece.rows
        self._piece, self._views = piece, views
        self._first_run = piece.start + piece.head
        self._run_firsts = piece.first + piece.head + piece.run_order * piece.run_rows

    def spans(self, begin: int, end: int) -> list[RowSpans]:
        """Locate the lane's rows [begin, end): whole runs, and the rows before and after them."""
        run_rows = self._piece.run_rows
        first = max(0, -((self._first_run - begin) // run_rows))
        last = min(len(self._run_firsts), (end - self._first_run) // run_rows)
        if first > last:  # within one run, or entirely before the first run or after the last one
            return [self._span(begin, end)]
        runs_begin, runs_end = self._first_run + first * run_rows, self._first_run + last * run_rows
        found = [self._span(begin, runs_begin)] if begin < runs_begin else []
        if first < last:
            found.append(RowSpans(self._views, self._run_firsts[first:last], run_rows))
        if runs_end < end:
            found.append(self._span(runs_end, end))
        return found

    def _span(self, begin: int, end: int) -> RowSpans:
        return RowSpans(self._views, np.array([self._piece.block_row(begin - self.start)], np.int64), end - begin)
