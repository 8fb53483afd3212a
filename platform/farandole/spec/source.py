"""Where raw rows come from: one class per file format, told apart by `format` or by the file's name."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from farandole.spec.base import PathText, Spec

_SIMPLE_TYPES = {
    "boolean": "boolean",
    "int": "int",
    "integer": "int",
    "long": "bigint",
    "bigint": "bigint",
    "float": "float",
    "double": "double",
    "string": "string",
    "date": "date",
    "timestamp": "timestamp",
}
_DECIMAL = re.compile(r"^decimal\(\s*\d+\s*,\s*\d+\s*\)$")


def _column_type(name: str) -> str:
    lower = name.lower()
    if lower in _SIMPLE_TYPES:
        return _SIMPLE_TYPES[lower]
    if _DECIMAL.match(lower):
        return lower.replace(" ", "")
    raise ValueError(f"not a column type; use one of {', '.join(_SIMPLE_TYPES)}, decimal(p,s)")


ColumnType = Annotated[str, AfterValidator(_column_type)]
"""A Spark SQL type name that a text field can be cast to."""


class CsvSource(Spec):
    """Text files with separated fields. Every row must have as many fields as the header."""

    format: Literal["csv"] = "csv"
    """The file format; may be left out where the path ends in `.csv`, `.tsv`, `.csv.gz` or `.csv.zip`."""
    path: PathText
    """A file, a directory, a glob, or `package://NAME/FILE` for data that an installed Python package ships."""
    columns: dict[str, ColumnType] | None = None
    """Column name to type. Only these columns are read. Left out: all columns, their types inferred by Spark,
    which reads the files twice."""
    null_values: tuple[str, ...] = ()
    """Texts that stand for a missing value, for example `[NA]`. An empty field is always missing."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The character between two fields."""
    quote: Annotated[str, Field(min_length=1, max_length=1)] = '"'
    """The character around a field that contains separators; doubled inside such a field (RFC 4180)."""
    header: bool = True
    """Whether the first line of every file names the columns. Without it `columns` names them, in file order."""
    multiline: bool = False
    """Whether a quoted field may contain line breaks; such files cannot be split between tasks."""
    timestamp_format: str | None = None
    """Spark's pattern for timestamp columns, for example `yyyy-MM-dd HH:mm:ss`. Default: ISO 8601."""
    date_format: str | None = None
    """Spark's pattern for date columns. Default: ISO 8601."""


class ParquetSource(Spec):
    """Parquet files; their own schema is used."""

    format: Literal["parquet"] = "parquet"
    """The file format; may be left out where the path ends in `.parquet`."""
    path: PathText
    """A file, a directory, a glob, or `package://NAME/FILE` for data that an installed Python package ships."""
    columns: tuple[str, ...] | None = None
    """The columns to read. Left out: all."""


_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}


def _format_of(value: Any) -> str | None:
    """The tag of the source: its `format`, or what its path ends in (compression set aside)."""
    if isinstance(value, CsvSource | ParquetSource):
        return value.format
    if not isinstance(value, dict):
        return None
    if "format" in value:
        return str(value["format"])
    path = re.sub(r"\.(gz|bz2|zip|zst)$", "", str(value.get("path", "")).rstrip("/*"))
    return next((tag for suffix, tag in _SUFFIXES.items() if path.endswith(suffix)), None)


Source = Annotated[
    Annotated[CsvSource, Tag("csv")] | Annotated[ParquetSource, Tag("parquet")],
    # Without `format`, the path decides: for a schema, which cannot, both may fit.
    Field(json_schema_extra=lambda schema: schema.update(anyOf=schema.pop("oneOf"))),
    Discriminator(
        _format_of,
        custom_error_type="source_format",
        custom_error_message="the file format is not known; write `format: csv` or `format: parquet`",
    ),
]
"""One named input of the preparation."""
