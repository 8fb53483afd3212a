"""Rows of text files that are read whole, or in pieces that are spread over them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from farandole.errors import DataError
from farandole.events import format_count
from farandole.ingest.readers.byte_ranges import COMPRESSED_SUFFIXES, ByteRange
from farandole.ingest.readers.directory_columns import DirectoryColumns, DirectoryReader
from farandole.ingest.readers.row_batch import MalformedRecord, RowReader

MAX_BYTES = 128 << 20
"""Files up to this size are read whole; of larger ones, pieces that are spread over them."""
MAX_ROW_BYTES = 4 * MAX_BYTES
"""Maximum size of the rows in memory."""
_PIECE_BYTES = 4 << 20
_MAX_MALFORMED = 0.05
_COMPRESSION = 6
"""Approximate factor by which compressed text grows."""


@dataclass
class SampledRows:
    """Batches of rows, and the records that could not be read.

    Args:
        batches: The rows.
        malformed: The records that could not be read.
        is_whole: Whether these are all rows.
        share: Which share of the files was read.
    """

    batches: list[pa.RecordBatch] = field(default_factory=list)
    malformed: list[MalformedRecord] = field(default_factory=list)
    is_whole: bool = True
    share: float = 1.0

    @cached_property
    def _table(self) -> pa.Table:
        return pa.Table.from_batches(self.batches)

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(len(batch) for batch in self.batches)

    @property
    def estimate(self) -> int:
        """The number of rows in all files, estimated if not all were read."""
        return round(self.count / self.share)

    def column(self, name: str) -> pa.Array:
        """Return all values of a column, after the last batch was read."""
        column = self._table.column(name).combine_chunks()
        return column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)


def read_rows(
    reader: RowReader, paths: tuple[Path, ...], directories: DirectoryColumns | None, *, splittable: bool
) -> SampledRows:
    """Read rows of files.

    Args:
        reader: The reader of their format.
        paths: The files.
        directories: The columns in the names of their directories; None: there are none.
        splittable: Whether reading may begin in the middle of a file.
    """
    if directories is not None and directories.types:
        reader = DirectoryReader(reader, directories)
    ranges, is_whole, share = choose_ranges(paths, splittable=splittable)
    read = SampledRows(is_whole=is_whole, share=share)
    budget = MAX_ROW_BYTES
    for batch in _batches(reader, ranges, read):
        read.batches.append(batch)
        budget -= batch.nbytes
        if budget < 0:
            read.is_whole = False
            break
    return read


def _batches(reader: RowReader, ranges: list[ByteRange], read: SampledRows) -> Iterator[pa.RecordBatch]:
    for byte_range in ranges:
        for rows in reader.read(byte_range):
            read.malformed += rows.malformed
            yield rows.batch


def choose_ranges(paths: tuple[Path, ...], *, splittable: bool) -> tuple[list[ByteRange], bool, float]:
    """Return what to read, whether that is everything, and which share of everything it is."""
    sizes = [path.stat().st_size * (_COMPRESSION if path.suffix in COMPRESSED_SUFFIXES else 1) for path in paths]
    if sum(sizes) <= MAX_BYTES:
        return [ByteRange(path) for path in paths], True, 1.0
    if not splittable or any(path.suffix in COMPRESSED_SUFFIXES for path in paths):
        ends = list(accumulate(sizes))
        some = [path for path, end in zip(paths, ends, strict=True) if end <= MAX_BYTES] or [paths[0]]
        return [ByteRange(path) for path in some], False, ends[len(some) - 1] / ends[-1]
    pieces = [
        ByteRange(path, start, min(start + _PIECE_BYTES, size))
        for path, size in zip(paths, sizes, strict=True)
        for start in range(0, size, _PIECE_BYTES)
    ]
    every = -(-len(pieces) * _PIECE_BYTES // MAX_BYTES)
    chosen = pieces[::every]
    return chosen, False, len(chosen) / len(pieces)


def describe_malformed(read: SampledRows) -> str:
    """Return the note about rows that cannot be read.

    Raises:
        DataError: They are too many.
    """
    rows, first = read.count, read.malformed[0]
    if len(read.malformed) > _MAX_MALFORMED * (rows + len(read.malformed)):
        details = f" ({first.found})" if first.found else ""
        raise DataError(
            f"{first.position}: {first.reason}{details}; {len(read.malformed):,} of {rows + len(read.malformed):,} rows"
            " cannot be read: fix the file"
        )
    name = re.sub(r".*/", "", first.position)
    count = format_count(len(read.malformed), "row")
    return f"{count} cannot be read, to be left out ({name}: {first.reason})"
