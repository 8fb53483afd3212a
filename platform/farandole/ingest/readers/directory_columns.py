"""Columns whose values are in the names of directories: `data/year=2013/month=01/part.csv`.

Names and values are text, percent-decoded as UTF-8; types are guessed by the same rule as in CSV files, over all
directories of a source together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import unquote

import pyarrow as pa

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.lossless_types import choose_type, find_spellings
from farandole.ingest.readers.row_batch import RowBatch, RowReader
from farandole.ingest.sources.files import SourceFiles
from farandole.preprocess.text_types import convert_text
from farandole.preprocess.values import arrow_type
from farandole.spec import CsvSource, JsonSource, ParquetSource

_Source = TypeVar("_Source", bound=CsvSource | JsonSource)

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The value that Hive and Spark write for a missing one."""


@dataclass(frozen=True)
class DirectoryColumns:
    """The columns of the directories of one source that are read.

    Args:
        base: The directory that the source names; the names of those below it count.
        types: Column to SQL type.
        patterns: SQL type to the pattern that its texts are written in.
    """

    base: Path | None
    types: Mapping[str, str]
    patterns: Mapping[str, str | None]

    def values(self, path: Path) -> dict[str, pa.Array]:
        """Return the value of each column for a file, as an array of one value.

        Raises:
            DataError: A value does not fit its type.
        """
        texts = directory_texts(self.base, path)
        return {column: self._convert(path, column, texts[column]) for column in self.types}

    def _convert(self, path: Path, column: str, text: str | None) -> pa.Array:
        kind = self.types[column]
        values, wrong = convert_text(pa.array([text], pa.string()), kind, self.patterns.get(kind))
        if wrong is not None:
            raise DataError(
                f"{path.parent}: column {column} of the directories: {text!r} is not {kind}; rename the directory, or"
                " declare another type or use for the column"
            )
        return values.cast(arrow_type(kind))


@dataclass(frozen=True)
class DirectoryReader:
    """Reader of files that adds the columns of their directories.

    Args:
        reader: The reader of the files.
        directories: The columns of the directories.
    """

    reader: RowReader
    directories: DirectoryColumns

    @property
    def types(self) -> dict[str, str]:
        """Column to SQL type."""
        return {**self.reader.types, **self.directories.types}

    def read(self, byte_range: ByteRange) -> Iterator[RowBatch]:
        """Read the rows of a byte range."""
        values = self.directories.values(byte_range.path)
        for rows in self.reader.read(byte_range):
            batch = rows.batch
            for column, value in values.items():
                batch = batch.append_column(column, pa.repeat(value[0], batch.num_rows))
            yield RowBatch(batch, rows.malformed)


def find_directory_columns(
    name: str, source: CsvSource | JsonSource | ParquetSource, files: SourceFiles, wanted: Mapping[str, str]
) -> DirectoryColumns:
    """Find the columns in the names of a source's directories.

    Args:
        name: The source's name.
        source: The source; if it declares columns, only those are read.
        files: Its files.
        wanted: Column to the SQL type that it becomes if only text would keep its values.

    Raises:
        DataError: Files are in directories of different columns, or a name is not UTF-8.
    """
    texts = _texts_of_columns(name, files)
    formats = () if isinstance(source, ParquetSource) else ("timestamp", "date")
    patterns: dict[str, str | None] = {kind: getattr(source, f"{kind}_format") for kind in formats}
    types: dict[str, str] = {}
    for column, values in texts.items():
        if source.columns is None or (isinstance(source, ParquetSource) and column in source.columns):
            types[column] = choose_type(find_spellings(pa.array(values, pa.string()), patterns), wanted.get(column))
        elif not isinstance(source, ParquetSource) and column in source.columns:
            types[column] = source.columns[column]
    return DirectoryColumns(files.base, types, patterns)


def without_directory_columns(name: str, source: _Source, columns: Collection[str]) -> _Source:
    """Return a source without the declared columns that its directories have, which no file has.

    Args:
        name: The source's name.
        source: The source.
        columns: The columns of its directories.

    Raises:
        DataError: No declared column is left.
    """
    if source.columns is None or not any(column in columns for column in source.columns):
        return source
    declared = {column: kind for column, kind in source.columns.items() if column not in columns}
    if not declared:
        raise DataError(f"data.sources.{name}.columns: declares only columns of directories; add one of the files")
    return cast(_Source, source.model_copy(update={"columns": declared}))


def directory_texts(base: Path | None, path: Path) -> dict[str, str | None]:
    """Return the columns that the directories between a base and a file name, and their values as text.

    Raises:
        DataError: A name is not UTF-8, or names a column twice.
    """
    if base is None or not path.is_relative_to(base):
        return {}
    found: dict[str, str | None] = {}
    for part in path.relative_to(base).parts[:-1]:
        key, equals, value = part.partition("=")
        if not key or not equals:
            continue
        column, text = _decode(path, key), _decode(path, value)
        if column in found:
            raise DataError(f"{path}: two of its directories name the column {column}; rename one of them")
        found[column] = None if text in ("", HIVE_NULL) else text
    return found


def check_no_collision(path: Path, columns: Iterable[str], directories: DirectoryColumns) -> None:
    """Check that a file has no column that its directories have too.

    Args:
        path: The file.
        columns: Its columns.
        directories: The columns of its directories that are read.

    Raises:
        DataError: It has; which of the two values is right cannot be known.
    """
    for column in columns:
        if column in directories.types:
            raise DataError(
                f"{path}: has a column {column}, and its directory {_directory_of(path, column)} gives one of the same"
                " name; rename one of them"
            )


def _directory_of(path: Path, column: str) -> str:
    return next(part for part in reversed(path.parts) if unquote(part.partition("=")[0]) == column and "=" in part)


def _texts_of_columns(name: str, files: SourceFiles) -> dict[str, Sequence[str | None]]:
    """Return the distinct values of each column, in no order."""
    found: dict[str, set[str | None]] = {}
    seen: set[Path] = set()
    expected: list[str] | None = None
    for path in files.paths:
        if path.parent in seen:
            continue
        seen.add(path.parent)
        texts = directory_texts(files.base, path)
        if expected is not None and list(texts) != expected:
            raise DataError(
                f"data.sources.{name}.path: {path} is in {_describe(texts)}, {files.paths[0]} in {_describe(expected)};"
                " all files of a source need the same directory columns in the same order"
            )
        expected = list(texts)
        for column, text in texts.items():
            found.setdefault(column, set()).add(text)
    return {column: list(values) for column, values in found.items()}


def _describe(columns: Iterable[str]) -> str:
    names = [f"{column}=…" for column in columns]
    return f"directories {'/'.join(names)}" if names else "no directory that names a column"


def _decode(path: Path, text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError as error:
        shown = str(path).encode(errors="replace").decode()
        raise DataError(f"{shown}: the name of a directory is not UTF-8 in percent-encoding; rename it") from error
    return decoded
