"""Columns of the CSV files of one source, from their headers, and checks that the files agree in them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from farandole.errors import DataError, closest_match
from farandole.ingest.readers.byte_ranges import DAMAGE, MARK_DAMAGE, mismatched_bom, open_decompressed
from farandole.ingest.readers.directory_columns import directory_texts, without_directory_columns
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import CsvSource

_HEADER_BYTES = 1 << 20
csv.field_size_limit(1 << 30)  # for column names; Python's default is 128 KiB


@dataclass(frozen=True)
class CsvHeaders:
    """The columns of the CSV files of one source.

    Args:
        first: The header of the first file; a column without a name is empty text.
        others: The headers of the files whose header is another one.
        path: The first file.
    """

    first: tuple[str, ...]
    others: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    path: Path | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that have a name."""
        return [column for column in self.first if column]

    @property
    def unreadable(self) -> dict[str, str]:
        """The names that columns without a name may be given, and why they cannot be used."""
        reasons: dict[str, str] = {}
        for index, column in enumerate(self.first):
            if not column:
                reason = f"{self.path}: column {index + 1} has no name; write one into the first line"
                # pandas and readr call it so when they read the file.
                reasons |= dict.fromkeys(("", f"Unnamed: {index}", f"...{index + 1}"), reason)
        return {name: reason for name, reason in reasons.items() if name == "" or name not in self.first}


def check_header(name: str, source: CsvSource, files: SourceFiles) -> list[str]:
    """Return the columns of the first of several CSV files; see `read_headers`."""
    return list(read_headers(name, source, files).first)


def read_headers(name: str, source: CsvSource, files: SourceFiles) -> CsvHeaders:
    """Return the columns of CSV files, from their first lines.

    Fields are read by their positions in their file. Only declared columns are read, so where there are such, files may
    have others too. Otherwise all files must agree. Declared columns of directories such as `year=2013` are in no file.

    Args:
        name: The source's name.
        source: The source.
        files: Its files.

    Raises:
        DataError: A file is empty or not in its encoding; its header lacks a declared column, or differs from the first
            file's although no columns are declared.
    """
    if files.paths:
        source = without_directory_columns(name, source, directory_texts(files.base, files.paths[0]))
    if not source.header:
        if source.columns is None:
            raise DataError(f"data.sources.{name}: without a header, `columns` must name the columns in file order")
        return CsvHeaders(tuple(source.columns))
    first: tuple[str, ...] | None = None
    others = {}
    for path in files.paths:
        header = tuple(_read_header(name, path, source))
        _check_names(name, path, source, header)
        first = header if first is None else first
        if header != first and source.columns is None:
            raise DataError(
                f"{path}: the header is {_join(header)}, that of {files.paths[0].name} is {_join(first)}; all files of"
                f" a source need the same columns in the same order, or declare in `columns` of data.sources.{name}"
                " those that you use"
            )
        if header != first:
            others[path] = header
    return CsvHeaders(first or (), others, files.paths[0])


def _check_names(name: str, path: Path, source: CsvSource, header: tuple[str, ...]) -> None:
    """Check that a header has each declared column once; without declared columns, that it has none twice."""
    counts = Counter(header)
    for column in source.columns or {}:
        if not column:
            raise DataError(f"data.sources.{name}.columns: a column without a name cannot be read; name it in {path}")
        if not counts[column]:
            close = closest_match(column, list(header))
            hint = f"did you mean {close}?" if close else f"the header has {_join(header)}"
            raise DataError(f"{path}: the header has no column {column}, declared in data.sources.{name}; {hint}")
    repeated = sorted(
        column
        for column, count in counts.items()
        if count > 1 and column and (source.columns is None or column in source.columns)
    )
    if repeated:
        remedy = "fix the first line" + (
            "" if source.columns else f", or declare the other columns in `columns` of data.sources.{name}"
        )
        raise DataError(f"{path}: the header names {', '.join(repeated)} twice; {remedy}")


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


def _join(names: Sequence[str]) -> str:
    return ", ".join(name or "(no name)" for name in names[:12]) + (", …" if len(names) > 12 else "")
