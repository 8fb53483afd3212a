"""Checks that the files of one source have the same columns, and the declared ones: CSV headers and Parquet footers."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from farandole.errors import DataError, closest_match
from farandole.ingest.readers.byte_ranges import DAMAGE, MARK_DAMAGE, mismatched_bom, open_decompressed
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import CsvSource, ParquetSource

_HEADER_BYTES = 1 << 20
csv.field_size_limit(1 << 30)  # for column names; Python's default is 128 KiB


def check_header(name: str, source: CsvSource, files: SourceFiles) -> list[str]:
    """Return the columns of CSV files, from their first lines.

    Fields are read by position: a file with other columns, or in another order, would silently give wrong values.

    Args:
        name: The source's name.
        source: The source.
        files: Its files.

    Raises:
        DataError: A file is empty or not in its encoding; its header differs from the first file's, or lacks a declared
            column.
    """
    if not source.header:
        if source.columns is None:
            raise DataError(f"data.sources.{name}: without a header, `columns` must name the columns in file order")
        return list(source.columns)
    expected: list[str] = []
    for path in files.paths:
        header = _read_header(name, path, source)
        if expected and header != expected:
            raise DataError(
                f"{path}: the header is {_join(header)}, that of {files.paths[0].name} is {_join(expected)};"
                " all files of a source need the same columns in the same order"
            )
        expected, names = header, set(header)
        for column in source.columns or {}:
            if column not in names:
                close = closest_match(column, header)
                hint = f"did you mean {close}?" if close else f"the header has {_join(header)}"
                raise DataError(f"{path}: the header has no column {column}, declared in data.sources.{name}; {hint}")
    return expected


def check_parquet(name: str, source: ParquetSource, files: SourceFiles) -> None:
    """Compare the columns of Parquet files, from their footers.

    Spark takes the columns of one file for those of all: columns that another file lacks would silently be null.

    Args:
        name: The source's name.
        source: The source.
        files: Its files.

    Raises:
        DataError: A file cannot be read, its columns differ from the first file's, or a declared column is missing.
    """
    expected: dict[str, str] = {}
    for path in files.paths:
        try:
            found = _parquet_types(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: is not a whole Parquet file ({error}); write it again") from error
        first = files.paths[0].name
        if expected and found.keys() != expected.keys():
            raise DataError(
                f"{path}: the columns are {_join(list(found))}, those of {first} are {_join(list(expected))};"
                " all files of a source need the same columns"
            )
        for column in source.columns or found:
            if expected.get(column, found.get(column)) != found.get(column):
                raise DataError(
                    f"{path}: column {column} is {found[column]}, in {first} it is {expected[column]}; all files of a"
                    " source need the same types: write the file again"
                )
        expected = expected or found


def _read_header(name: str, path: Path, source: CsvSource) -> list[str]:
    header = _first_row(name, path, source)
    if header is None:
        raise DataError(f"{path}: is empty; data.sources.{name} needs a first line with the column names")
    if any(char in column for column in header for char in (DAMAGE, "\0")):
        shown = _join(header).replace(DAMAGE, "\ufffd")
        raise DataError(
            f"{path}: the header is not {source.encoding.upper()} text ({shown}); save the file as UTF-8,"
            f" or set `encoding` of data.sources.{name}"
        )
    if not source.multiline and any(char in column for column in header for char in "\r\n"):
        raise DataError(
            f"{path}: the header has a line break in a quoted name, or a quote that is not closed; fix the first"
            f" line, or set `multiline: true` in data.sources.{name}"
        )
    repeated = sorted(column for column, count in Counter(header).items() if count > 1 and column.strip())
    if repeated or not all(column.strip() for column in header):
        problem = f"names {', '.join(repeated)} twice" if repeated else "has a column without a name"
        raise DataError(f"{path}: the header {problem}; fix the first line")
    return header


def _first_row(name: str, path: Path, source: CsvSource) -> list[str] | None:
    """Return the fields of the first line that is not empty, None if there is no such line."""
    try:
        mark = mismatched_bom(path, source.encoding)
        if mark:
            raise DataError(
                f"{path}: begins with the byte order mark of {mark}, yet is read as {source.encoding}; set"
                f" `encoding: {mark}` in data.sources.{name}"
            )
        with open_decompressed(path) as stream:
            text = _read_first_line(stream, source.encoding)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=source.separator, quotechar=source.quote)
        return next((row for row in rows if row), None)
    except (OSError, EOFError, pa.ArrowException, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _read_first_line(stream: Any, encoding: str) -> str:
    """Read at least up to the first line end that follows text; a byte order mark is removed."""
    decoder, text = codecs.getincrementaldecoder(encoding)(MARK_DAMAGE), ""
    while not re.search(r"[^\r\n\ufeff][\r\n]", text) and (data := stream.read(_HEADER_BYTES)):
        text += decoder.decode(data)
    return text.removeprefix("\ufeff")


def _parquet_types(path: Path) -> dict[str, str]:
    """Return column to Parquet type, without nullability, in which writers differ without effect."""
    schema = pq.ParquetFile(path).schema
    types: dict[str, str] = {}
    for column in (schema.column(index) for index in range(len(schema))):
        top, _, rest = column.path.partition(".")
        parquet_type = f"{column.physical_type} {column.logical_type}".removesuffix(" None")
        types[top] = f"{types[top]}, {rest} {parquet_type}" if top in types else f"{rest} {parquet_type}".strip()
    return types


def _join(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
