"""Files of rows to score, in blocks of constant size, and files of predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from farandole.errors import DataError, closest_match
from farandole.process.atomic import atomic_file
from farandole.serving.csv_rows import CsvFormat, read_header, read_texts, separator_hint

BLOCK_ROWS = 65_536
"""Rows of a block. Twice as many need 150 MB more, and no less processor time that could be measured."""
PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
CSV_DEFAULT = CsvFormat()


@dataclass(frozen=True)
class FilePart:
    """A file of rows, or some row groups of a Parquet file.

    Args:
        path: The file.
        row_groups: The row groups; None: all rows.
        first_row: The position of its first row in the file, from 0.
    """

    path: Path
    row_groups: tuple[int, ...] | None = None
    first_row: int = 0


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of a file.

    Args:
        path: The file.
        first_row: The position of the first one in its file, from 0.
        rows: The rows: columns of text, if the file is text.
    """

    path: Path
    first_row: int
    rows: pa.RecordBatch


def check_files(
    paths: Sequence[Path],
    columns: Sequence[str],
    optional: frozenset[str] = frozenset(),
    *,
    csv: CsvFormat = CSV_DEFAULT,
) -> None:
    """Check that files of rows can be read and have the columns that are needed.

    Args:
        paths: The files.
        columns: The columns.
        optional: Those of them that a file may lack.
        csv: How CSV files are read.

    Raises:
        DataError: A file is missing, is of another format, or lacks a column.
    """
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file; name CSV and Parquet files")
        found = columns_of(path, csv)
        missing = [column for column in columns if column not in found and column not in optional]
        if missing:
            close = closest_match(missing[0], found)
            separator = None if is_parquet(path) else separator_hint(found)
            hint = separator or (f"did you mean {close}?" if close else f"it has {', '.join(found[:12])}")
            raise DataError(f"{path}: has no column {missing[0]}, which the model needs; {hint}")


def columns_of(path: Path, csv: CsvFormat = CSV_DEFAULT) -> list[str]:
    """Return the columns of a file.

    Args:
        path: The file.
        csv: How it is read if it is a CSV file.

    Raises:
        DataError: It cannot be read.
    """
    if is_parquet(path):
        try:
            return list(pq.read_schema(path).names)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: is not a whole Parquet file ({error}); write it again") from error
    return [name for name in read_header(path, csv) if name]


def count_rows(parts: Sequence[FilePart]) -> int:
    """Return the number of rows of Parquet files, or parts of them; 0 if it is unknown, as for text."""
    if not all(is_parquet(part.path) for part in parts):
        return 0
    total = 0
    for part in parts:
        metadata = pq.read_metadata(part.path)
        groups = range(metadata.num_row_groups) if part.row_groups is None else part.row_groups
        total += sum(metadata.row_group(group).num_rows for group in groups)
    return total


def divide(paths: Sequence[Path], rows: int) -> list[FilePart]:
    """Divide files into parts of about equally many rows, in their order; a text file is one part.

    Args:
        paths: The files.
        rows: The wanted number of rows.
    """
    parts: list[FilePart] = []
    for path in paths:
        if not is_parquet(path):
            parts.append(FilePart(path))
            continue
        metadata = pq.read_metadata(path)
        groups: list[int] = []
        begin = row = 0
        for group in range(metadata.num_row_groups):
            groups.append(group)
            row += metadata.row_group(group).num_rows
            if row - begin >= rows or group + 1 == metadata.num_row_groups:
                parts.append(FilePart(path, tuple(groups), begin))
                groups, begin = [], row
    return parts


def read_blocks(
    parts: Sequence[FilePart], columns: Sequence[str], block_rows: int = BLOCK_ROWS, *, csv: CsvFormat = CSV_DEFAULT
) -> Iterator[RowBlock]:
    """Read rows in the order of the files.

    Args:
        parts: The files, or parts of them.
        columns: The columns to read; a file may lack some.
        block_rows: The largest number of rows of a block.
        csv: How CSV files are read.

    Raises:
        DataError: A file is damaged, or a record of a CSV file has too many or too few fields.
    """
    for part in parts:
        is_text = not is_parquet(part.path)
        batches = read_texts(part.path, csv, columns) if is_text else _parquet_batches(part, columns, block_rows)
        first_row = part.first_row
        for batch in batches:
            for start in range(0, len(batch), block_rows):
                rows = batch.slice(start, block_rows)
                yield RowBlock(part.path, first_row, rows)
                first_row += len(rows)


def is_parquet(path: Path) -> bool:
    """Return whether a file is Parquet by its name, or else CSV.

    Raises:
        DataError: It is neither.
    """
    if path.name.lower().endswith(PARQUET):
        return True
    if path.name.lower().endswith(CSV):
        return False
    raise DataError(f"{path}: is neither CSV nor Parquet by its name; names end in {', '.join((*PARQUET, *CSV))}")


def _parquet_batches(part: FilePart, columns: Sequence[str], block_rows: int) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(part.path) as file:
            wanted = [column for column in columns if column in file.schema_arrow.names]
            groups = None if part.row_groups is None else list(part.row_groups)
            yield from file.iter_batches(block_rows, row_groups=groups, columns=wanted, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{part.path}: is not a whole Parquet file ({error}); write it again") from error


class RowWriter(Protocol):
    """Writer of a file of predictions."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows."""


@contextmanager
def row_writer(output: Path, schema: pa.Schema) -> Iterator[RowWriter]:
    """Write a Parquet or CSV file, which appears under its name when the block ends without an error.

    Raises:
        DataError: The name says neither, or the directory does not exist.
    """
    if not output.parent.is_dir():
        raise DataError(f"{output.parent}: there is no such directory; create it, or choose another output")
    as_parquet = is_parquet(output)
    if not as_parquet and output.suffix not in (".csv", ".tsv"):
        raise DataError(f"{output}: predictions are written as .parquet, .csv or .tsv; choose one of these names")
    with atomic_file(output) as draft:
        if as_parquet:
            with pq.ParquetWriter(draft, schema, compression="snappy") as writer:
                yield writer
        else:
            options = pacsv.WriteOptions(delimiter="\t" if output.suffix == ".tsv" else ",")
            with pacsv.CSVWriter(draft, schema, write_options=options) as writer:
                yield writer
