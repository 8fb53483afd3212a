"""Rows of Parquet files: all of them, or the beginnings of row groups that are spread over the files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from farandole.errors import DataError
from farandole.guessing.columns import Column
from farandole.guessing.queries import FINITE, quote_name
from farandole.guessing.sampling.rows import MAX_BYTES, MAX_ROW_BYTES
from farandole.guessing.sampling.sample import SOURCE, Sample
from farandole.ingest.readers.directory_columns import DirectoryColumns, find_directory_columns
from farandole.ingest.readers.parquet_footers import check_parquet
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import ParquetSource

_BATCH_BYTES = 8 << 20
_MAX_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class _RowGroup:
    path: Path
    index: int
    rows: int
    size: int


def sample_parquet(source: ParquetSource, files: SourceFiles) -> Sample:
    """Read rows of Parquet files.

    Raises:
        DataError: They are damaged, differ in their columns, or hold no rows.
    """
    footers = check_parquet(SOURCE, source, files)
    directories = find_directory_columns(SOURCE, source, files, {})
    groups = [group for path in files.paths for group in _row_groups(path) if group.rows]
    if not groups:
        raise DataError(f"{files.paths[0]}: holds no rows; give a file with rows")
    total = sum(group.rows for group in groups)
    tables = list(_read(groups, directories))
    table = pa.concat_tables(tables, promote_options="permissive")
    names = [name for name in table.column_names if name not in footers.unreadable]
    columns = tuple(Column.from_values(name, table.column(name)) for name in names)
    infinite = [column for column in columns if pa.types.is_floating(column.values.type) and _is_infinite(column).any()]
    conversions = {column.name: FINITE.format(quote_name(column.name)) for column in infinite}
    columns = tuple(_without_infinite(column) if column.name in conversions else column for column in columns)
    notes = tuple(f"{name}: its infinite numbers are read as missing" for name in conversions)
    unreadable = {name: f"holds {kind.unreadable}" for name, kind in footers.first.items() if kind.unreadable}
    return Sample(
        {"format": "parquet"},
        columns,
        None,
        len(table) == total,
        total,
        notes,
        conversions,
        unreadable=unreadable,
    )


def _row_groups(path: Path) -> list[_RowGroup]:
    with _opened(path) as file:
        found = (file.metadata.row_group(index) for index in range(file.num_row_groups))
        return [_RowGroup(path, index, group.num_rows, group.total_byte_size) for index, group in enumerate(found)]


def _read(groups: list[_RowGroup], directories: DirectoryColumns) -> Iterator[pa.Table]:
    """Yield rows of groups: all, if these are small; else of every n-th group, as many as the limit allows."""
    every = max(1, -(-sum(group.size for group in groups) // MAX_BYTES))
    chosen = groups[::every]
    share = min(1.0, MAX_BYTES / max(1, sum(group.size for group in chosen)))
    for group in chosen:
        for batch in _batches(group, int(np.ceil(share * group.rows)), MAX_ROW_BYTES // len(chosen)):
            table = pa.Table.from_batches([batch])
            for column, value in directories.values(group.path).items():
                table = table.append_column(column, pa.repeat(value[0], len(table)))
            yield table


def _batches(group: _RowGroup, rows: int, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """Yield the first rows of a group, up to a number of bytes in memory."""
    batch_rows = max(1, min(_MAX_BATCH_ROWS, rows, group.rows * _BATCH_BYTES // max(1, group.size)))
    with _opened(group.path) as file:
        for batch in file.iter_batches(batch_rows, row_groups=[group.index]):
            yield batch.slice(0, rows)
            rows, max_bytes = rows - len(batch), max_bytes - batch.nbytes
            if rows <= 0 or max_bytes < 0:
                return


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for a block.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); write the file again") from error


def _is_infinite(column: Column) -> np.ndarray:
    return np.asarray(np.isinf(column.numbers))


def _without_infinite(column: Column) -> Column:
    values = pa.array(np.where(_is_infinite(column), np.nan, column.numbers))
    return Column.from_values(column.name, values)
