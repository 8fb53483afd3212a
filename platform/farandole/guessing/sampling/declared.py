"""Rows of a source that a job file declares, with the types that the preparation gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from farandole.guessing.columns import Column
from farandole.guessing.sampling.json_sample import json_schema
from farandole.guessing.sampling.parquet_sample import sample_parquet
from farandole.guessing.sampling.rows import SampledRows, read_rows
from farandole.guessing.sampling.sample import unnamed_columns
from farandole.guessing.sampling.typed_texts import lossless_type
from farandole.ingest.readers.binary_reader import BinaryReader
from farandole.ingest.readers.byte_ranges import needs_whole_file
from farandole.ingest.readers.csv_headers import read_headers
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.directory_columns import find_directory_columns, without_directory_columns
from farandole.ingest.readers.json_reader import JsonReader
from farandole.ingest.readers.json_types import arrow_json_type, inferred_reader
from farandole.ingest.sources.files import SourceFiles
from farandole.preprocess.text_types import convert_text
from farandole.spec import CsvSource, JsonSource, ParquetSource, RecordSource, Source


@dataclass(frozen=True)
class DeclaredColumns:
    """Columns of a source that a job file declares.

    Args:
        columns: The columns.
        unreadable: The columns that the preparation cannot read, each with the reason and the remedy.
    """

    columns: list[Column]
    unreadable: Mapping[str, str] = field(default_factory=dict)


def sample_source(name: str, source: Source, files: SourceFiles) -> DeclaredColumns:
    """Read rows of a source that a job file declares, with the types that the preparation gives them.

    Args:
        name: The source's name.
        source: The source, not of images.
        files: Its files.

    Raises:
        DataError: They cannot be read as declared.
    """
    if isinstance(source, ParquetSource):
        sample = sample_parquet(source, files)  # with columns of directories
        wanted = [column for column in sample.columns if source.columns is None or column.name in source.columns]
        return DeclaredColumns(wanted, sample.unreadable if source.columns is None else {})
    if isinstance(source, RecordSource):
        return DeclaredColumns(_columns(read_rows(BinaryReader(source), files.paths, None, splittable=False), None))
    if isinstance(source, JsonSource):
        return DeclaredColumns(_json_columns(name, source, files))
    assert isinstance(source, CsvSource), "images have no table"
    return _csv_columns(name, source, files)


def _json_columns(name: str, source: JsonSource, files: SourceFiles) -> list[Column]:
    directories = find_directory_columns(name, source, files, {})
    source = without_directory_columns(name, source, directories.types)
    if source.columns:
        arrow_types = {member: arrow_json_type(kind) for member, kind in source.columns.items()}
        reader = JsonReader(source, source.columns, arrow_types)
    else:
        reader = inferred_reader(source, json_schema(files))
    read = read_rows(reader, files.paths, directories, splittable=True)
    return _columns(read, None if source.columns else {})


def _csv_columns(name: str, source: CsvSource, files: SourceFiles) -> DeclaredColumns:
    headers = read_headers(name, source, files)
    splittable = not source.multiline and not needs_whole_file(source.encoding)
    types = source.columns or dict.fromkeys(headers.columns, "string")
    directories = find_directory_columns(name, source, files, {})
    types = {column: kind for column, kind in types.items() if column not in directories.types}
    rows = CsvReader(source, headers.first, types, headers.others)
    read = read_rows(rows, files.paths, directories, splittable=splittable)
    patterns = {"timestamp": source.timestamp_format, "date": source.date_format}
    unnamed = {} if source.columns else unnamed_columns(headers.first)
    return DeclaredColumns(_columns(read, None if source.columns else patterns), unnamed)


def _columns(read: SampledRows, patterns: Mapping[str, str | None] | None) -> list[Column]:
    """Return columns of what was read.

    Args:
        read: The rows.
        patterns: The declared patterns of times, where columns of text get the type that they fit; None: all types are
            declared.
    """
    columns = []
    for name in pa.Table.from_batches(read.batches).column_names:
        values = read.column(name)
        if patterns is not None and pa.types.is_string(values.type):
            kind = lossless_type(values, patterns)
            values = convert_text(values, kind, patterns.get(kind))[0]
        columns.append(Column.from_values(name, values))
    return columns
