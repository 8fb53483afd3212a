"""Rows of text files with separated fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from farandole.errors import DataError
from farandole.guessing.columns import Column
from farandole.guessing.sampling.dialect import Dialect, find_dialect
from farandole.guessing.sampling.rows import SampledRows, describe_malformed, read_rows
from farandole.guessing.sampling.sample import SOURCE, Sample, unnamed_columns
from farandole.guessing.sampling.typed_texts import type_texts
from farandole.ingest.readers.byte_ranges import needs_whole_file
from farandole.ingest.readers.csv_headers import read_headers
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.directory_columns import DirectoryColumns, find_directory_columns
from farandole.ingest.sources.files import SourceFiles
from farandole.spec import CsvSource

_DEFAULTS = {"encoding": "utf-8", "separator": ",", "header": True, "multiline": False}


def sample_csv(path: str, files: SourceFiles) -> Sample:
    """Read rows of text files with separated fields.

    Args:
        path: The path as the user wrote it.
        files: The files.

    Raises:
        DataError: They are empty, are not text, have bad headers, or hold too many rows that cannot be read.
    """
    dialect = find_dialect(files.paths[0])
    raw, read, directories = _read_best(path, files, dialect)
    notes = []
    if read.malformed:
        raw["malformed"] = "drop"
        read, _ = _read(raw, files)
        notes += [describe_malformed(read)]
    if not read.count:
        raise DataError(f"{files.paths[0]}: holds no rows below its header; give a file with rows")
    header = read_headers(SOURCE, CsvSource.model_validate(raw), files).first
    names = [name for name in header if name and name not in dialect.repeated]
    typed = type_texts({name: read.column(name) for name in names}, separator=dialect.separator)
    columns = typed.columns + [Column.from_values(name, read.column(name)) for name in directories.types]
    del raw["path"]
    raw.pop("columns", None)
    return Sample(
        raw | typed.options,
        tuple(columns),
        {**typed.types, **directories.types},
        read.is_whole,
        read.estimate,
        (*notes, *typed.notes),
        typed.conversions,
        needs_types=typed.needs_types or bool(dialect.repeated) or not dialect.header,
        unreadable=_repeated_columns(dialect) | unnamed_columns(header),
    )


def _repeated_columns(dialect: Dialect) -> dict[str, str]:
    return {name: f"the header names {name} twice; change the first line to use it" for name in dialect.repeated}


def _read_best(path: str, files: SourceFiles, dialect: Dialect) -> tuple[dict[str, Any], SampledRows, DirectoryColumns]:
    """Read rows, with line breaks in quoted fields where more rows can be read with them.

    Returns:
        The source as a job file declares it, the rows, and the columns of directories.
    """
    raw = _declaration(path, dialect)
    read, directories = _read(raw, files)
    if read.malformed and not dialect.multiline:
        with_breaks = _declaration(path, replace(dialect, multiline=True))
        again, _ = _read(with_breaks, files)
        if len(again.malformed) < len(read.malformed):
            raw, read = with_breaks, again
    return raw, read, directories


def _declaration(path: str, dialect: Dialect) -> dict[str, Any]:
    raw: dict[str, Any] = {"format": "csv", "path": path}
    raw |= {name: getattr(dialect, name) for name, usual in _DEFAULTS.items() if getattr(dialect, name) != usual}
    if not dialect.header:
        raw["columns"] = {f"column_{number}": "string" for number in range(1, len(dialect.first_line) + 1)}
    elif dialect.repeated:
        names = [name for name in dialect.first_line if name and name not in dialect.repeated]
        raw |= {"columns": dict.fromkeys(names, "string")} if names else {}
    return raw


def _read(raw: dict[str, Any], files: SourceFiles) -> tuple[SampledRows, DirectoryColumns]:
    source = CsvSource.model_validate(raw)
    headers = read_headers(SOURCE, source, files)
    directories = find_directory_columns(SOURCE, source, files, {})
    types = source.columns or dict.fromkeys(headers.columns, "string")
    reader = CsvReader(source, headers.first, types, headers.others)
    splittable = not source.multiline and not needs_whole_file(source.encoding)
    return read_rows(reader, files.paths, directories, splittable=splittable), directories
