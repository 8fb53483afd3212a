"""Rows of files that nobody has described, with columns typed as the preparation types them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from farandole.errors import DataError
from farandole.events import format_count
from farandole.guessing.columns import Column
from farandole.guessing.dialect import find_dialect
from farandole.guessing.nulls import find_null_values, without_nulls
from farandole.guessing.times import TimePatterns, find_time_patterns, is_iso_time
from farandole.guessing.written_numbers import find_written_numbers, is_switch
from farandole.ingest.readers.binary_reader import BinaryReader
from farandole.ingest.readers.byte_ranges import COMPRESSED_SUFFIXES, ByteRange, needs_whole_file
from farandole.ingest.readers.csv_headers import check_header, read_headers
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.directory_columns import (
    DirectoryColumns,
    DirectoryReader,
    find_directory_columns,
)
from farandole.ingest.readers.json_reader import JsonReader
from farandole.ingest.readers.json_types import arrow_json_type, infer_types, inferred_reader, unify_schemas
from farandole.ingest.readers.lossless_types import NUMBER, choose_type, find_spellings
from farandole.ingest.readers.parquet_footers import check_parquet
from farandole.ingest.readers.row_batch import MalformedRecord, RowReader
from farandole.ingest.sources.files import SourceFiles
from farandole.preprocess.text_types import convert_text
from farandole.spec import CsvSource, JsonSource, ParquetSource, RecordSource, Source

SOURCE = "data"
"""The name of the source in the job file."""
_MAX_BYTES = 128 << 20
"""Files up to this size are read whole; of larger ones, pieces that are spread over them."""
_PIECE_BYTES = 4 << 20
_MAX_MALFORMED = 0.05
_NO_PATTERNS: Mapping[str, str | None] = {}
_FINITE = "IF(abs({0}) = DOUBLE('Infinity'), NULL, {0})"
"""SQL expression of a number that is not infinite."""
_COMPRESSION = 6
"""Approximate factor by which compressed text grows."""


@dataclass(frozen=True)
class Sample:
    """Rows of a source.

    Args:
        source: The source as a job file declares it, without its path.
        columns: The columns, in the order of the files.
        types: Column to SQL type, where the job file declares types.
        is_whole: Whether these are all rows.
        rows: The number of rows in all files, estimated if these are not all.
        notes: What a user should know about the files.
        conversions: Column of text to the SQL expression that makes the numbers of it that `columns` holds.
    """

    source: dict[str, Any]
    columns: tuple[Column, ...]
    types: dict[str, str] | None
    is_whole: bool
    rows: int
    notes: tuple[str, ...] = ()
    conversions: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


@dataclass
class _Texts:
    """Batches of rows, and the records that could not be read."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    malformed: list[MalformedRecord] = field(default_factory=list)
    is_whole: bool = True
    share: float = 1.0


def sample_parquet(source: ParquetSource, files: SourceFiles) -> Sample:
    """Read rows of Parquet files.

    Raises:
        DataError: They are damaged, or differ in their columns.
    """
    unreadable = check_parquet(SOURCE, source, files).unreadable
    directories = find_directory_columns(SOURCE, source, files, {})
    groups: list[tuple[Path, pq.ParquetFile, int, int]] = []
    total = 0
    for path in files.paths:
        file = pq.ParquetFile(path)
        total += file.metadata.num_rows
        sizes = (file.metadata.row_group(index).total_byte_size for index in range(file.num_row_groups))
        groups += [(path, file, index, size) for index, size in enumerate(sizes)]
    size = sum(group[3] for group in groups)
    every = max(1, -(-size // _MAX_BYTES))
    tables = [
        _with_directories(file.read_row_group(index), directories, path) for path, file, index, _ in groups[::every]
    ]
    if not tables or not total:
        raise DataError(f"{files.paths[0]}: holds no rows; give a file with rows")
    table = pa.concat_tables(tables, promote_options="permissive")
    names = (name for name in table.column_names if name not in unreadable)
    columns = tuple(Column.from_values(name, table.column(name)) for name in names)
    infinite = [column for column in columns if pa.types.is_floating(column.values.type) and _is_infinite(column).any()]
    conversions = {column.name: _FINITE.format(quote_name(column.name)) for column in infinite}
    columns = tuple(_without_infinite(column) if column.name in conversions else column for column in columns)
    notes = tuple(f"{name}: its infinite numbers are read as missing" for name in conversions)
    return Sample({"format": "parquet"}, columns, None, every == 1, total, notes, conversions)


def _is_infinite(column: Column) -> np.ndarray:
    return np.asarray(np.isinf(column.numbers))


def _without_infinite(column: Column) -> Column:
    values = pa.array(np.where(_is_infinite(column), np.nan, column.numbers))
    return Column.from_values(column.name, values)


def _with_directories(table: pa.Table, directories: DirectoryColumns, path: Path) -> pa.Table:
    for column, value in directories.values(path).items():
        table = table.append_column(column, pa.repeat(value[0], table.num_rows))
    return table


def sample_csv(path: str, files: SourceFiles) -> Sample:
    """Read rows of text files with separated fields.

    Args:
        path: The path as the user wrote it.
        files: The files.

    Raises:
        DataError: They are empty, are not text, have bad headers, or hold too many rows that cannot be read.
    """
    dialect = find_dialect(files.paths[0])
    raw: dict[str, Any] = {"format": "csv", "path": path}
    defaults = {"encoding": "utf-8", "separator": ",", "header": True, "multiline": False}
    raw |= {name: getattr(dialect, name) for name, usual in defaults.items() if getattr(dialect, name) != usual}
    if not dialect.header:
        raw["columns"] = {f"column_{number}": "string" for number in range(1, dialect.num_columns + 1)}
    source = CsvSource.model_validate(raw)
    header = check_header(SOURCE, source, files)
    named = dict.fromkeys(filter(None, header), "string")
    reader = CsvReader(source, tuple(header), named)
    splittable = not source.multiline and not needs_whole_file(source.encoding)
    directories = find_directory_columns(SOURCE, source, files, {})
    read = _read(reader, files, directories, splittable=splittable)
    notes = []
    if read.malformed:
        raw["malformed"] = "drop"
        lenient = CsvReader(CsvSource.model_validate(raw), tuple(header), named)
        read = _read(lenient, files, directories, splittable=splittable)
        notes += [_describe_malformed(read, raw)]
    table = pa.Table.from_batches(read.batches) if read.batches else None
    if table is None or not len(table):
        raise DataError(f"{files.paths[0]}: holds no rows below its header; give a file with rows")
    texts = {name: _one_array(table.column(name)) for name in named}
    nulls = find_null_values(texts)
    if nulls:
        raw["null_values"] = list(nulls)
        texts = {name: without_nulls(values, nulls) for name, values in texts.items()}
    types = {name: lossless_type(values) for name, values in texts.items()}
    types |= {name: "boolean" for name, kind in types.items() if kind == "string" and is_switch(texts[name])}
    typed, types = _with_times(texts, types, raw, notes)
    typed, conversions = _with_written_numbers(typed, comma_first=dialect.separator == ";")
    del raw["path"]
    raw.pop("columns", None)
    typed += tuple(Column.from_values(name, table.column(name)) for name in directories.types)
    types |= directories.types
    return Sample(raw, typed, types, read.is_whole, round(len(table) / read.share), tuple(notes), conversions)


def _with_written_numbers(
    columns: tuple[Column, ...], *, comma_first: bool
) -> tuple[tuple[Column, ...], dict[str, str]]:
    """Replace the columns of text that hold numbers such as `$1,234.50`; return the SQL of each as well."""
    converted: list[Column] = []
    conversions: dict[str, str] = {}
    for column in columns:
        found = find_written_numbers(column.values, comma_first=comma_first) if column.kind == "text" else None
        if found is not None and not _holds_codes(column.values):
            column = Column.from_values(column.name, found.values)
            conversions[column.name] = found.sql.format(quote_name(column.name))
        converted.append(column)
    return tuple(converted), conversions


def _holds_codes(values: pa.StringArray) -> bool:
    """Return whether texts are digits alone, which no type keeps: `00501`, or 20 digits."""
    return bool(pc.all(pc.match_substring_regex(values.drop_null(), r"^\s*[0-9]+\s*$")).as_py())


def quote_name(name: str) -> str:
    """Return the name of a column as SQL writes it."""
    return "`" + name.replace("`", "``") + "`"


def sample_json(path: str, files: SourceFiles) -> Sample:
    """Read rows of JSON files.

    Args:
        path: The path as the user wrote it.
        files: The files.

    Raises:
        DataError: They hold no objects, or members whose types differ.
    """
    raw: dict[str, Any] = {"format": "json", "path": path}
    source = JsonSource.model_validate(raw)
    schema = _json_schema(files)
    reader = inferred_reader(source, schema)
    types = {name: reader.types[name] for name in schema.names}
    directories = find_directory_columns(SOURCE, source, files, {})
    read = _read(reader, files, directories, splittable=True)
    notes = []
    if read.malformed:
        raw["malformed"] = "drop"
        notes += [_describe_malformed(read, raw)]
    table = pa.Table.from_batches(read.batches)
    texts = {name: _one_array(table.column(name)) for name, kind in types.items() if kind == "string"}
    for name, values in texts.items():
        kind = lossless_type(values)
        types[name] = kind if kind in ("date", "timestamp") else "string"
    others = [Column.from_values(name, table.column(name)) for name in types if name not in texts]
    typed, found = _with_times(texts, {name: types[name] for name in texts}, raw, notes)
    types |= found
    types |= directories.types
    others += [Column.from_values(name, table.column(name)) for name in directories.types]
    by_name = {column.name: column for column in (*others, *typed)}
    del raw["path"]
    columns = tuple(by_name[name] for name in types)
    return Sample(raw, columns, types, read.is_whole, round(len(table) / read.share), tuple(notes))


def sample_source(name: str, source: Source, files: SourceFiles) -> list[Column]:
    """Read rows of a source that a job file declares, with the types that the preparation gives them.

    Args:
        name: The source's name.
        source: The source, not of images.
        files: Its files.

    Raises:
        DataError: They cannot be read as declared.
    """
    if isinstance(source, ParquetSource):
        columns = sample_parquet(source, files).columns  # with those of directories
        return [column for column in columns if source.columns is None or column.name in source.columns]
    if isinstance(source, RecordSource):
        return _columns(_read(BinaryReader(source), files, None, splittable=False), None)
    if isinstance(source, JsonSource):
        if source.columns:
            arrow_types = {member: arrow_json_type(kind) for member, kind in source.columns.items()}
            reader = JsonReader(source, source.columns, arrow_types)
        else:
            reader = inferred_reader(source, _json_schema(files))
        directories = find_directory_columns(name, source, files, {})
        return _columns(_read(reader, files, directories, splittable=True), None if source.columns else {})
    assert isinstance(source, CsvSource), "images have no table"
    headers = read_headers(name, source, files)
    splittable = not source.multiline and not needs_whole_file(source.encoding)
    types = source.columns or dict.fromkeys(headers.columns, "string")
    directories = find_directory_columns(name, source, files, {})
    types = {column: kind for column, kind in types.items() if column not in directories.types}
    rows = CsvReader(source, headers.first, types, headers.others)
    read = _read(rows, files, directories, splittable=splittable)
    patterns = {"timestamp": source.timestamp_format, "date": source.date_format}
    return _columns(read, None if source.columns else patterns)


def _columns(read: _Texts, patterns: Mapping[str, str | None] | None) -> list[Column]:
    """Return columns of what was read.

    Args:
        read: The rows.
        patterns: The declared patterns of times, where columns of text get the type that they fit; None: all types are
            declared.
    """
    table = pa.Table.from_batches(read.batches)
    columns = []
    for name in table.column_names:
        values = _one_array(table.column(name))
        if patterns is not None and pa.types.is_string(values.type):
            kind = lossless_type(values, patterns)
            values = convert_text(values, kind, patterns.get(kind))[0]
        columns.append(Column.from_values(name, values))
    return columns


def _json_schema(files: SourceFiles) -> pa.Schema:
    ranges, _, _ = _ranges(files.paths, splittable=True)
    schema = unify_schemas(files.paths[0], [infer_types(byte_range) for byte_range in ranges])
    if not len(schema):
        raise DataError(
            f"{files.paths[0]}: no object holds a member; give a file with one JSON object on each line, or one array"
        )
    return schema


def _with_times(
    texts: dict[str, pa.StringArray], types: dict[str, str], raw: dict[str, Any], notes: list[str]
) -> tuple[tuple[Column, ...], dict[str, str]]:
    """Convert columns of text to their types; find the dates among those that stay text, and set their patterns."""
    iso = "timestamp" in types.values()
    found = find_time_patterns({name: texts[name] for name, kind in types.items() if kind == "string"})
    patterns = {kind: pattern for kind, pattern in found.patterns.items() if not (iso and kind == "timestamp")}
    times = {name: kind for name, kind in found.columns.items() if kind in patterns}
    raw |= {f"{kind}_format": pattern for kind, pattern in patterns.items()}
    notes += _describe_times(found, patterns)
    types = types | times
    columns = []
    for name, values in texts.items():
        pattern = patterns.get(types[name]) if name in times else None
        columns.append(Column.from_values(name, convert_text(values, types[name], pattern)[0]))
    return tuple(columns), types


def _describe_times(found: TimePatterns, patterns: dict[str, str]) -> list[str]:
    notes = [
        f"{name}: read as {patterns[kind]}; where the day comes first, change {kind}_format"
        for name, kind in found.columns.items()
        if name in found.ambiguous and kind in patterns
    ]
    return notes + [
        f"{name}: holds dates in another pattern than the file's first; stays text" for name in found.others
    ]


def lossless_type(values: pa.StringArray, patterns: Mapping[str, str | None] = _NO_PATTERNS) -> str:
    """Return the type that keeps all texts; for numbers and times in other spellings, the one that a feature needs.

    Args:
        values: The texts.
        patterns: `date` and `timestamp` to the pattern that the source declares for them.
    """
    spellings = find_spellings(values, patterns)
    if spellings is None:
        return "string"
    kind = choose_type(spellings, "double" if NUMBER in spellings else None)
    return "timestamp" if kind == "string" and not patterns.get("timestamp") and is_iso_time(values) else kind


def _read(reader: RowReader, files: SourceFiles, directories: DirectoryColumns | None, *, splittable: bool) -> _Texts:
    if directories is not None and directories.types:
        reader = DirectoryReader(reader, directories)
    ranges, is_whole, share = _ranges(files.paths, splittable=splittable)
    read = _Texts(is_whole=is_whole, share=share)
    budget = 4 * _MAX_BYTES
    for batch in _batches(reader, ranges, read):
        read.batches.append(batch)
        budget -= batch.nbytes
        if budget < 0:
            read.is_whole = False
            break
    return read


def _batches(reader: RowReader, ranges: list[ByteRange], read: _Texts) -> Iterator[pa.RecordBatch]:
    for byte_range in ranges:
        for rows in reader.read(byte_range):
            read.malformed += rows.malformed
            yield rows.batch


def _ranges(paths: tuple[Path, ...], *, splittable: bool) -> tuple[list[ByteRange], bool, float]:
    """Return what to read, whether that is everything, and which share of everything it is."""
    sizes = [path.stat().st_size * (_COMPRESSION if path.suffix in COMPRESSED_SUFFIXES else 1) for path in paths]
    if sum(sizes) <= _MAX_BYTES:
        return [ByteRange(path) for path in paths], True, 1.0
    if not splittable or any(path.suffix in COMPRESSED_SUFFIXES for path in paths):
        ends = list(accumulate(sizes))
        some = [path for path, end in zip(paths, ends, strict=True) if end <= _MAX_BYTES] or [paths[0]]
        return [ByteRange(path) for path in some], False, ends[len(some) - 1] / ends[-1]
    pieces = [
        ByteRange(path, start, min(start + _PIECE_BYTES, size))
        for path, size in zip(paths, sizes, strict=True)
        for start in range(0, size, _PIECE_BYTES)
    ]
    every = -(-len(pieces) * _PIECE_BYTES // _MAX_BYTES)
    chosen = pieces[::every]
    return chosen, False, len(chosen) / len(pieces)


def _describe_malformed(read: _Texts, raw: dict[str, Any]) -> str:
    """Return the note about rows that cannot be read.

    Raises:
        DataError: They are too many.
    """
    rows = sum(len(batch) for batch in read.batches)
    first = read.malformed[0]
    if len(read.malformed) > _MAX_MALFORMED * (rows + len(read.malformed)):
        details = f" ({first.found})" if first.found else ""
        raise DataError(
            f"{first.position}: {first.reason}{details}; {len(read.malformed):,} of {rows + len(read.malformed):,} rows"
            " cannot be read: fix the file"
        )
    name = re.sub(r".*/", "", first.position)
    count = format_count(len(read.malformed), "row")
    return f"{count} cannot be read, to be left out ({name}: {first.reason})"


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.concat_arrays(values.chunks)
