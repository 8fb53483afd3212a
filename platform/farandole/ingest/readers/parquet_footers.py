"""Columns of the Parquet files of one source, from their footers, and checks that the files agree in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from farandole.errors import DataError, closest_match
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import ParquetSource

_MAX_DIGITS = 38
_UNREADABLE = {
    "TIME": "times of day (TIME), which Spark cannot read; write them as text or as numbers of seconds",
    "FLOAT16": "16-bit numbers (FLOAT16), which Spark cannot read; write them as float32",
    "UUID": "UUIDs, which Spark cannot read; write them as text",
    "INTERVAL": "intervals, which Spark cannot read; write them as numbers",
}
"""Logical types that Spark cannot read, and the remedy."""


@dataclass(frozen=True)
class ParquetColumn:
    """One column of a Parquet file.

    Args:
        types: The types of its values, without nullability, in which writers differ without effect.
        unreadable: Why Spark cannot read it, and the remedy; empty if it can.
        nanoseconds: Whether it holds timestamps in nanoseconds.
        in_utc: Whether these are in UTC, and not in a local time.
    """

    types: str
    unreadable: str = ""
    nanoseconds: bool = False
    in_utc: bool = False


@dataclass(frozen=True)
class ParquetColumns:
    """The columns of the Parquet files of one source.

    Args:
        first: The columns of the first file.
        names: The columns of all files.
        unreadable: The columns that Spark cannot read, each with its file, the reason and the remedy.
    """

    first: dict[str, ParquetColumn]
    names: frozenset[str]
    unreadable: dict[str, str]


def check_parquet(name: str, source: ParquetSource, files: SourceFiles) -> ParquetColumns:
    """Return the columns of Parquet files, from their footers.

    Spark takes the columns of one file for those of all: columns that another file lacks would silently be null. Where
    columns are declared, only those are compared.

    Args:
        name: The source's name.
        source: The source.
        files: Its files.

    Raises:
        DataError: A file cannot be read; a declared column is missing in some files, or cannot be read; columns differ
            from the first file's.
    """
    first: dict[str, ParquetColumn] | None = None
    names: set[str] = set()
    unreadable: dict[str, str] = {}
    for path in files.paths:
        found = _columns_of(path)
        for column, kind in found.items():
            if kind.unreadable:
                unreadable.setdefault(column, f"{path}: column {column} holds {kind.unreadable}")
        first = found if first is None else first
        names |= found.keys()
        _compare(name, path, source.columns, found, files.paths[0], first)
    for column in source.columns or ():
        if column in unreadable:
            raise DataError(f"{unreadable[column]}, or remove it from `columns` of data.sources.{name}")
    return ParquetColumns(first or {}, frozenset(names), unreadable)


def _compare(
    name: str,
    path: Path,
    declared: Sequence[str] | None,
    found: dict[str, ParquetColumn],
    first_path: Path,
    first: dict[str, ParquetColumn],
) -> None:
    """Compare the columns of a file with those of the first file."""
    if declared is None and found.keys() != first.keys():
        raise DataError(
            f"{path}: the columns are {_join(found)}, those of {first_path.name} are {_join(first)}; all files of a"
            f" source need the same columns, or declare in `columns` of data.sources.{name} those that you use"
        )
    for column in first if declared is None else declared:
        if (column in found) != (column in first):  # in none of the files: perhaps it comes from the folders' names
            without, names = (path, found) if column in first else (first_path, first)
            close = closest_match(column, list(names))
            hint = f"did you mean {close}?" if close else f"it has {_join(names)}"
            raise DataError(f"{without}: there is no column {column}, declared in data.sources.{name}; {hint}")
        if column in found and found[column] != first[column]:
            raise DataError(
                f"{path}: column {column} is {found[column].types}, in {first_path.name} it is {first[column].types};"
                " all files of a source need the same types: write the file again"
            )


def _columns_of(path: Path) -> dict[str, ParquetColumn]:
    """Return the columns of a file by their names."""
    try:
        schema = pq.ParquetFile(path).schema
        fields = schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: is not a whole Parquet file ({error}); write it again") from error
    leaves = (schema.column(index) for index in range(len(schema)))
    columns: dict[str, ParquetColumn] = {}
    for field in fields:
        own = [next(leaves) for _ in range(_num_leaves(field.type))]
        if field.name in columns:
            raise DataError(f"{path}: has two columns {field.name}; write it again with different names")
        columns[field.name] = _column(field.name, own)
    return columns


def _column(name: str, leaves: list[Any]) -> ParquetColumn:
    """Return the description of a column.

    Args:
        name: Its name.
        leaves: pyarrow's descriptions of its values: one, or several if it holds structs.
    """
    types = ", ".join(_leaf_types(name, leaves))
    nested = len(leaves) > 1 or leaves[0].path != name
    for leaf in leaves:
        kind = leaf.logical_type.type
        if kind in _UNREADABLE:
            return ParquetColumn(types, _UNREADABLE[kind])
        if kind == "DECIMAL" and leaf.precision > _MAX_DIGITS:
            reason = f"decimals of {leaf.precision} digits, and Spark reads at most {_MAX_DIGITS}; write it as text"
            return ParquetColumn(types, reason)
        if kind == "TIMESTAMP" and "nanoseconds" in str(leaf.logical_type):
            if nested:
                reason = "nanoseconds in lists or structs, which Spark cannot read; write them as microseconds"
                return ParquetColumn(types, reason)
            return ParquetColumn(types, nanoseconds=True, in_utc="isAdjustedToUTC=true" in str(leaf.logical_type))
    return ParquetColumn(types)


def _leaf_types(name: str, leaves: list[Any]) -> Iterator[str]:
    for leaf in leaves:
        path = leaf.path.removeprefix(name).removeprefix(".")
        yield f"{path} {_in_words(leaf.physical_type)} {leaf.logical_type}".removesuffix(" None").strip()


def _in_words(physical_type: str) -> str:
    """Return the name of a type of Parquet for people: `byte array` of `BYTE_ARRAY`."""
    return physical_type.lower().replace("_", " ")


def _num_leaves(kind: pa.DataType) -> int:
    """Return how many columns of a Parquet file hold the values of an Arrow type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _num_leaves(kind.storage_type)
    return sum(_num_leaves(kind.field(index).type) for index in range(kind.num_fields)) if kind.num_fields else 1


def _join(columns: dict[str, ParquetColumn]) -> str:
    return ", ".join([*columns][:12]) + (", …" if len(columns) > 12 else "")
