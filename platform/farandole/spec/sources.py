"""Sources of raw rows: one class per file format, chosen by `format` or by the file's name."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from farandole.spec.base import PathText, Spec, non_default_fields
from farandole.spec.features import IDENTIFIERS_ONLY, Identifier
from farandole.spec.time_pattern import TimePattern

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
"""The SQL type that text is parsed as. A number consists of decimal digits and is finite, a date exists (ISO 8601), a
boolean is true/false, t/f, yes/no, y/n or 1/0; surrounding spaces are ignored, and a timestamp is truncated to
microseconds."""


def _nested_type(name: str) -> str:
    """Normalize a column type of JSON: a simple one, `array<…>` or `struct<name:…,…>`."""
    text = re.sub(r"\s*([<>:,()])\s*", r"\1", name.strip())
    inner = re.fullmatch(r"array<(.*)>", text, re.IGNORECASE)
    if inner:
        return f"array<{_inner_type(inner[1])}>"
    inner = re.fullmatch(r"struct<(.*)>", text, re.IGNORECASE)
    if inner:
        fields = [field.partition(":") for field in split_struct_fields(inner[1])]
        if not all(field.isidentifier() for field, _, _ in fields):
            raise ValueError("not a column type; write `struct<name:type,…>` with plain names")
        return "struct<" + ",".join(f"{field}:{_inner_type(field_type)}" for field, _, field_type in fields) + ">"
    return _column_type(text)


def _inner_type(name: str) -> str:
    inner = _nested_type(name)
    if inner in ("date", "timestamp"):
        raise ValueError(f"{inner} inside an array or a struct cannot be read; declare it as string and cast it")
    return inner


def split_struct_fields(text: str) -> list[str]:
    """Split the fields of a struct type at the commas that are not inside brackets."""
    fields, depth = [""], 0
    for character in text:
        depth += (character in "<(") - (character in ">)")
        if character == "," and not depth:
            fields.append("")
        else:
            fields[-1] += character
    return fields


JsonColumnType = Annotated[str, AfterValidator(_nested_type)]
"""As for CSV, or `array<type>`, or `struct<name:type,…>`, whose fields the query reads as `column.name`."""


class RowSource(Spec):
    """Base of the sources that are read row by row: how rows that cannot be read are handled."""

    malformed: Literal["fail", "drop", "quarantine"] = "fail"
    """How rows that do not match the declared types are handled. `fail`: stop, and report file, line, column and value.
    `drop`: skip them and count them in the manifest. `quarantine`: skip them, count them, and store them in a Parquet
    file beside the dataset."""
    max_malformed: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The largest fraction of a source's rows that may be dropped or quarantined; more are an error."""

    @model_validator(mode="after")
    def _check_malformed(self) -> Self:
        if self.malformed == "fail" and non_default_fields(self, "max_malformed"):
            raise ValueError("max_malformed has no effect where `malformed` is fail; set that to drop or quarantine")
        return self


def _encoding(name: str) -> str:
    try:
        known = codecs.lookup(name).name
    except LookupError:
        known = ""
    if not known or not getattr(codecs.lookup(name), "_is_text_encoding", False):
        raise ValueError("not a text encoding; use utf-8, utf-16, latin-1, cp1252 or another that Python knows")
    return known.removesuffix("-sig")  # a byte order mark is always skipped


Encoding = Annotated[str, AfterValidator(_encoding)]
"""The name of a text encoding, in Python's spelling."""


OneCharacter = Annotated[str, Field(min_length=1, max_length=1, pattern=r"^[\t -~]$")]
"""One ASCII character."""


class CsvSource(RowSource):
    """Text files with separated fields (RFC 4180).

    Every row must have as many fields as the header; blank lines are skipped.
    """

    format: Literal["csv"] = "csv"
    """The file format; optional if the path ends in `.csv`, `.tsv`, `.csv.gz` or `.csv.zip`."""
    path: PathText
    """A file, a directory or a glob, on this machine or in an object store (`s3://bucket/…`), or `package://NAME/FILE`
    for data that is part of an installed Python package."""
    columns: dict[str, ColumnType] | None = None
    """Column name to type, of the files and of directories such as `year=2013`. Only these columns are read. Default:
    all columns, each with the narrowest type that keeps all of its values as they are written (`00501` and `1.10` stay
    text), or else the type that its features and the label need; this reads the files twice."""
    encoding: Encoding = "utf-8"
    """The encoding of the text, for example `latin-1`, `cp1252` or `utf-16`."""
    null_values: tuple[str, ...] = ()
    """Texts that represent a missing value, for example `[NA]`. An empty field is always missing."""
    separator: OneCharacter = ","
    """The character between two fields."""
    quote: OneCharacter = '"'
    """The character around a field that contains separators; doubled inside such a field (RFC 4180). In a field
    that does not start with it, it is an ordinary character; but where malformed rows are skipped, it makes the row
    malformed."""
    header: bool = True
    """Whether the first line of every file names the columns. Otherwise `columns` names them, in file order."""
    multiline: bool = False
    """Whether a quoted field may contain line breaks; such files cannot be split between tasks."""
    timestamp_format: TimePattern | None = None
    """Spark's pattern for timestamp columns, for example `yyyy-MM-dd HH:mm:ss`. Default: ISO 8601."""
    date_format: TimePattern | None = None
    """Spark's pattern for date columns. Default: ISO 8601."""


class JsonSource(RowSource):
    """JSON in UTF-8: one object on each line, or files that are one array of objects.

    A member that a line does not have is missing in that row; a declared member that no line has is an error.
    """

    format: Literal["json"] = "json"
    """The file format; optional if the path ends in `.jsonl`, `.ndjson` or `.json`, or these and `.gz`."""
    path: PathText
    """A file, a directory or a glob, on this machine or in an object store (`s3://bucket/…`), or `package://NAME/FILE`
    for data that is part of an installed Python package."""
    columns: dict[str, JsonColumnType] | None = None
    """Member name to type, also of directories such as `year=2013`; other members are not read. Default: all members,
    with types that keep all values (integers beyond bigint become text); this reads the files twice."""
    timestamp_format: TimePattern | None = None
    """Spark's pattern for timestamp columns, for example `yyyy-MM-dd HH:mm:ss`. Default: ISO 8601."""
    date_format: TimePattern | None = None
    """Spark's pattern for date columns. Default: ISO 8601."""


class ImageSource(RowSource):
    """A folder of images, one row each.

    The columns are `path` (relative to the folder), `label` (the name of the file's folder) and `image` (the file's
    bytes). Files without the suffix of an image are skipped.
    """

    format: Literal["images"] = "images"
    """The file format; always required."""
    path: PathText
    """A folder, or a glob of image files, on this machine or in an object store (`s3://bucket/…`)."""


class ParquetSource(Spec):
    """Parquet files; their own schema is used."""

    format: Literal["parquet"] = "parquet"
    """The file format; optional if the path ends in `.parquet`."""
    path: PathText
    """A file, a directory or a glob, on this machine or in an object store (`s3://bucket/…`), or `package://NAME/FILE`
    for data that is part of an installed Python package."""
    columns: tuple[str, ...] | None = None
    """The columns to read. Default: all."""


_RECORD_TYPE = re.compile(r"^(uint8|int8|int16|int32|int64|float32|float64|bytes\[\s*[1-9]\d{0,8}\s*\])$")


def _record_type(name: str) -> str:
    if _RECORD_TYPE.match(name.strip()):
        return re.sub(r"\s", "", name)
    raise ValueError(
        "not a type of a field in a record; use one of uint8, int8, int16, int32, int64, float32, float64, or bytes[N]"
    )


RecordType = Annotated[str, AfterValidator(_record_type)]
"""A number of a fixed size, or `bytes[N]`: N raw bytes, for `kind: tensor` or `kind: image`."""


class RecordSource(RowSource):
    """Binary files of records that all have the same fields and the same length.

    Examples are the IDX files of MNIST and the batches of CIFAR-10. In addition to the declared columns there are
    `file`, the file's name, and `record`, the number of the record in it, starting at 0.
    """

    format: Literal["records"] = "records"
    """The file format; always required."""
    path: PathText
    """A file, a directory or a glob, on this machine or in an object store (`s3://bucket/…`), or `package://NAME/FILE`
    for data that is part of an installed Python package. Files that end in `.gz` are decompressed."""
    header_bytes: Annotated[int, Field(ge=0)] = 0
    """The number of bytes before the first record of each file."""
    columns: Annotated[dict[Identifier, RecordType], Field(min_length=1, json_schema_extra=IDENTIFIERS_ONLY)]
    """Field to type, in their order in a record."""
    byte_order: Literal["little", "big"] = "little"
    """Which byte of a number comes first: the least (`little`) or the most significant one (`big`)."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in ("file", "record"):
            if name in self.columns:
                raise ValueError(f"columns.{name}: every record already has a column of this name; choose another")
        return self


_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}


def _format_of(value: Any) -> str | None:
    """Return the tag of the source: its `format`, or the format that its path's suffix (before compression) implies."""
    if isinstance(value, CsvSource | ParquetSource | JsonSource | ImageSource | RecordSource):
        return value.format
    if not isinstance(value, dict):
        return None
    if "format" in value:
        return str(value["format"])
    path = re.sub(r"\.(gz|bz2|zip|zst)$", "", str(value.get("path", "")).rstrip("/*"))
    return next((tag for suffix, tag in _SUFFIXES.items() if path.endswith(suffix)), None)


Source = Annotated[
    Annotated[CsvSource, Tag("csv")]
    | Annotated[ParquetSource, Tag("parquet")]
    | Annotated[JsonSource, Tag("json")]
    | Annotated[ImageSource, Tag("images")]
    | Annotated[RecordSource, Tag("records")],
    # Without `format` the path decides; a JSON Schema cannot look at the path, so it accepts several formats.
    Field(json_schema_extra=lambda schema: schema.update(anyOf=schema.pop("oneOf"))),
    Discriminator(
        _format_of,
        custom_error_type="source_format",
        custom_error_message=(
            "the file format is not known; write `format:` with one of csv, parquet, json, images, records"
        ),
    ),
]
"""One named input of the preparation."""
