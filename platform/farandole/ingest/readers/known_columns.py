"""Columns that a job uses and its files lack, found in seconds: from headers and footers, without Spark."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from farandole.errors import DataError, closest_match
from farandole.ingest.readers.csv_headers import read_headers
from farandole.ingest.readers.directory_columns import directory_texts
from farandole.ingest.readers.parquet_footers import check_parquet
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import CsvSource, Data, ImageSource, ParquetSource, RecordSource, Source

_MAX_SHOWN = 12
_GENERATED = re.compile(r"col\d*|key|value|pos|_\d+", re.IGNORECASE)
"""Names that Spark gives to columns of its own accord: of VALUES, explode, stack and the like."""


def known_columns(source: Source, files: SourceFiles, header: list[str] | None) -> list[str] | None:
    """Return the columns that a source gives; None if only reading it shows them.

    Args:
        source: The source.
        files: Its files.
        header: The header of its files, if it has one.
    """
    if isinstance(source, ImageSource):
        columns: list[str] | None = ["path", "label", "image"]
    elif isinstance(source, ParquetSource):
        columns = _parquet_columns(source, files)
    elif source.columns:
        columns = [*source.columns, *(("file", "record") if isinstance(source, RecordSource) else ())]
    else:
        columns = header
    if columns is None or getattr(source, "columns", None):
        return columns  # declared columns of directories are among them, and the others are not read
    return [*columns, *(directory_texts(files.base, files.paths[0]) if files.paths else ())]


def _parquet_columns(source: ParquetSource, files: SourceFiles) -> list[str] | None:
    """Return the columns of Parquet files; None where whoever reads them has more to say."""
    try:
        schema = pq.read_schema(files.paths[0])
    except (OSError, pa.ArrowException):
        return None
    if any(pa.types.is_nested(field.type) for field in schema):
        return None  # a query can make columns of their fields
    columns = list(source.columns or schema.names)
    return columns if set(columns) <= set(schema.names) else None


def check_columns(data: Data, files: Mapping[str, SourceFiles]) -> None:
    """Check that the columns that the dataset is made of can exist.

    Args:
        data: The data of the job.
        files: The files of all sources.

    Raises:
        DataError: Some cannot, or the header of a file does not fit the source.
    """
    columns: list[str] = []
    unreadable: dict[str, str] = {}
    for name, source in data.sources.items():
        paths = files[name].paths  # files in an object store are not here before they are fetched
        header = None
        if isinstance(source, CsvSource) and paths:
            headers = read_headers(name, source, files[name])
            header, unreadable = headers.columns, unreadable | headers.unreadable
        elif isinstance(source, ParquetSource) and paths:
            unreadable |= check_parquet(name, source, files[name]).unreadable
        found = known_columns(source, files[name], header) if paths else None
        if found is None:
            return
        columns += found
    problems = _unreadable_columns(data, unreadable) or missing_columns(data, columns)
    if problems:
        raise DataError("\n".join(problems))


def _unreadable_columns(data: Data, unreadable: Mapping[str, str]) -> list[str]:
    """Return a problem for each column that the dataset is made of and that nothing can read.

    Args:
        data: The data of the job.
        unreadable: Column to file, reason and remedy.
    """
    if data.transform is not None or data.query is not None or data.is_guessed:
        return []
    return [f"{field}: {unreadable[column]}" for column, field in data.used_columns.items() if column in unreadable]


def missing_columns(data: Data, columns: list[str]) -> list[str]:
    """Return a problem for each column that the dataset is made of and that cannot exist.

    Args:
        data: The data of the job.
        columns: The columns of all sources.
    """
    if data.transform is not None or data.is_guessed:
        return []
    problems = []
    for column, field in data.used_columns.items():
        if column in columns or (data.query is not None and _may_be_in_query(column, data.query)):
            continue
        close = closest_match(column, columns)
        hint = f"did you mean {close}?" if close else f"they have {_join(columns)}"
        where = "the files of the source" if len(data.sources) == 1 else "the files of the sources"
        query = ", and the query does not make one" if data.query is not None else ""
        problems.append(f"{field}: {where} have no column {column}{query}; {hint}")
    return problems


def _may_be_in_query(column: str, query: str) -> bool:
    """Return whether a query might make a column: by an alias, or by a name that Spark gives it."""
    return not re.fullmatch(r"\w+", column) or bool(_GENERATED.fullmatch(column)) or column.lower() in query.lower()


def _join(names: list[str]) -> str:
    return ", ".join(names[:_MAX_SHOWN]) + (", …" if len(names) > _MAX_SHOWN else "")
