"""Spark data frames of the sources that Farandole's own readers read: each task reads its byte ranges of the files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from farandole.errors import DataError
from farandole.ingest.readers.binary_reader import BinaryReader
from farandole.ingest.readers.byte_ranges import ByteRange, divide_into_tasks, needs_whole_file
from farandole.ingest.readers.csv_headers import CsvHeaders, read_headers
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.directory_columns import (
    DirectoryColumns,
    DirectoryReader,
    check_no_collision,
    find_directory_columns,
    without_directory_columns,
)
from farandole.ingest.readers.image_reader import SUFFIXES, ImageReader
from farandole.ingest.readers.json_reader import JsonReader, find_members
from farandole.ingest.readers.json_types import arrow_json_type, infer_types, inferred_reader, unify_schemas
from farandole.ingest.readers.lossless_types import choose_type, common_spellings, find_spellings
from farandole.ingest.readers.row_batch import MalformedRowError, RowReader
from farandole.ingest.sources.files import SourceFiles, ensure_local
from farandole.ingest.spark.column_names import BatchFunction, named_frame
from farandole.ingest.spark.error_transport import ErrorTransport
from farandole.spec import CsvSource, ImageSource, JsonSource, ParquetSource, RecordSource, RowSource, Source

MALFORMED = "file string, line bigint, record binary, reason string, column string, found string, rows bigint"
"""Spark schema of malformed records; in a row without a reason, `rows` counts the records that can be read."""
_MALFORMED_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("record", pa.binary()),
        ("reason", pa.string()),
        ("column", pa.string()),
        ("found", pa.string()),
        ("rows", pa.int64()),
    ]
)
_BATCH_ROWS = 50_000
_SAMPLE_LINES = 1000

_NOTHING_WANTED: Mapping[str, str] = {}

Tasks = list[list[ByteRange]]
"""The byte ranges that each Spark task reads."""


class SourceReaders:
    """Readers of the sources of a job, each made once: to infer types, a source is read to its end.

    Args:
        session: The Spark session.
        sources: The sources, by name.
        files: Their files.
        wanted: Column to the SQL type that it becomes if it is not declared and only text would keep its values.
    """

    def __init__(
        self,
        session: SparkSession,
        sources: Mapping[str, Source],
        files: Mapping[str, SourceFiles],
        wanted: Mapping[str, str] = _NOTHING_WANTED,
    ) -> None:
        self.files = files
        self.unreadable: dict[str, str] = {}
        """The columns that were left out because nothing can read them: column to file, reason and remedy."""
        self.rounded: dict[str, str] = {}
        """The columns whose times in nanoseconds are rounded to microseconds: column to its first file."""
        self.notes: list[str] = []
        """Further notes on the files for the user."""
        self._wanted = wanted
        self._session = session
        self._sources = sources
        self._readers: dict[str, tuple[RowReader, Tasks]] = {}

    def reader(self, name: str) -> tuple[RowReader, Tasks]:
        """Return the reader of a source that is not Parquet, and the byte ranges of each task.

        Raises:
            DataError: The files do not have the declared columns, or no types fit them.
        """
        if name not in self._readers:
            source, files = self._sources[name], self.files[name]
            assert isinstance(source, RowSource)
            self._readers[name] = make_reader(self._session, name, source, files, self._wanted)
            reader = self._readers[name][0]
            inner = reader.reader if isinstance(reader, DirectoryReader) else reader
            if isinstance(inner, CsvReader):
                self.unreadable |= CsvHeaders(inner.header, path=files.paths[0]).unreadable
        return self._readers[name]

    def why_missing(self, message: str) -> str | None:
        """Return why a column is missing that Spark's message names in backticks; None: there is no such reason."""
        named = (reason for column, reason in self.unreadable.items() if f"`{column}`" in message)
        return next(named, None)

    def directories(self, name: str) -> DirectoryColumns:
        """Return the columns of the directories of a Parquet source.

        Raises:
            DataError: Files are in directories of different columns, or a name is not UTF-8.
        """
        source = self._sources[name]
        assert isinstance(source, ParquetSource)
        return find_directory_columns(name, source, self.files[name], self._wanted)


def row_frame(session: SparkSession, source: RowSource, reader: RowReader, tasks: Tasks) -> DataFrame:
    """Return the rows that can be read; if the source allows no malformed record, the first one fails the Spark job."""
    read = row_function(reader, tasks, strict=source.malformed == "fail")
    return named_frame(_tasks_frame(session, tasks), read, list(reader.types.items()))


def malformed_frame(session: SparkSession, reader: RowReader, tasks: Tasks) -> DataFrame:
    """Return the records that cannot be read, and the count of those that can."""
    return _tasks_frame(session, tasks).mapInArrow(_malformed_function(reader, tasks), MALFORMED)


def make_reader(
    session: SparkSession | None,
    name: str,
    source: RowSource,
    files: SourceFiles,
    wanted: Mapping[str, str] = _NOTHING_WANTED,
) -> tuple[RowReader, Tasks]:
    """Return the reader of a source and the byte ranges of each task; types that are not declared are inferred.

    Args:
        session: The Spark session; None: this process does its work, as one task.
        name: The source's name.
        source: The source.
        files: Its files.
        wanted: Column to the SQL type that it becomes if only text would keep its values.

    Raises:
        DataError: The files do not have the declared columns, or no types fit them.
    """
    if isinstance(source, ImageSource):
        images = _images(name, files)
        images_reader = image_reader(files, check=source.malformed != "fail")
        return images_reader, _tasks(session, name, source, images, splittable=False)
    if isinstance(source, RecordSource):
        return BinaryReader(source), _tasks(session, name, source, files.paths, splittable=False)
    assert isinstance(source, CsvSource | JsonSource)
    directories = find_directory_columns(name, source, files, wanted)
    inner = without_directory_columns(name, source, directories.types)
    if isinstance(inner, JsonSource):
        reader, tasks = _json_reader(session, name, inner, files, directories, wanted)
    else:
        reader, tasks = _csv_reader(session, name, inner, files, directories, wanted)
    return DirectoryReader(reader, directories) if directories.types else reader, tasks


def _csv_reader(
    session: SparkSession | None,
    name: str,
    source: CsvSource,
    files: SourceFiles,
    directories: DirectoryColumns,
    wanted: Mapping[str, str],
) -> tuple[RowReader, Tasks]:
    headers = read_headers(name, source, files)
    check_no_collision(files.paths[0], headers.columns, directories)
    splittable = not source.multiline and not needs_whole_file(source.encoding)
    tasks = _tasks(session, name, source, files.paths, splittable=splittable)
    types = dict(source.columns) if source.columns else _infer_csv(session, source, headers, tasks, wanted)
    return CsvReader(source, headers.first, types, headers.others), tasks


def _json_reader(
    session: SparkSession | None,
    name: str,
    source: JsonSource,
    files: SourceFiles,
    directories: DirectoryColumns,
    wanted: Mapping[str, str],
) -> tuple[RowReader, Tasks]:
    tasks = _tasks(session, name, source, files.paths, splittable=True)
    if not source.columns:
        reader = inferred_reader(source, _infer_json(session, name, tasks), wanted)
        check_no_collision(files.paths[0], reader.types, directories)
        return reader, tasks
    if any(path.stat().st_size for path in files.paths):
        _check_members(session, name, source.columns, tasks)
    members = _members_of(session, tasks, frozenset(directories.types)) if directories.types else set()
    check_no_collision(files.paths[0], sorted(members), directories)
    types = dict(source.columns)
    return JsonReader(source, types, {member: arrow_json_type(kind) for member, kind in types.items()}), tasks


def _tasks(
    session: SparkSession | None, name: str, source: RowSource, paths: tuple[Path, ...], *, splittable: bool
) -> Tasks:
    """Divide files among tasks; a task on another machine fetches its files first."""
    if session is None:
        return divide_into_tasks(paths, 1, splittable=splittable)
    tasks = divide_into_tasks(paths, session.sparkContext.defaultParallelism, splittable=splittable)
    if str(session.sparkContext.master).startswith("local"):
        return tasks
    origin = (name, cast(Source, source))
    return [[replace(byte_range, origin=origin) for byte_range in ranges] for ranges in tasks]


def image_reader(files: SourceFiles, *, check: bool) -> ImageReader:
    """Return the reader of a source of images.

    Args:
        files: Its files.
        check: Decode each image, to find those that cannot be decoded.
    """
    base = files.base or Path(os.path.commonpath([path.parent for path in files.paths]))
    return ImageReader(base, check)


def _images(name: str, files: SourceFiles) -> tuple[Path, ...]:
    images = tuple(path for path in files.paths if path.suffix.lower() in SUFFIXES)
    if not images:
        raise DataError(
            f"data.sources.{name}.path: none of {len(files.paths)} files is an image; the names of images end in"
            f" {', '.join(SUFFIXES)}"
        )
    return images


def _infer_csv(
    session: SparkSession | None, source: CsvSource, headers: CsvHeaders, tasks: Tasks, wanted: Mapping[str, str]
) -> dict[str, str]:
    """Infer the narrowest type that keeps all values of each column as they are written."""
    header = headers.columns
    reader = CsvReader(source, headers.first, dict.fromkeys(header, "string"))
    patterns = {"timestamp": source.timestamp_format, "date": source.date_format}

    def find(byte_range: ByteRange) -> Iterator[str]:
        for table in reader.texts(byte_range):
            columns = (find_spellings(table.column(name).combine_chunks(), patterns) for name in header)
            yield json.dumps([None if spellings is None else sorted(spellings) for spellings in columns])

    found = [
        [None if names is None else frozenset(names) for names in json.loads(text)]
        for text in _collect(session, tasks, find)
    ]
    return {
        column: choose_type(common_spellings(part[index] for part in found), wanted.get(column))
        for index, column in enumerate(header)
    }


def _infer_json(session: SparkSession | None, name: str, tasks: Tasks) -> pa.Schema:
    def infer(byte_range: ByteRange) -> Iterator[str]:
        yield json.dumps([str(byte_range.path), infer_types(byte_range).serialize().to_pybytes().hex()])

    found = [json.loads(text) for text in _collect(session, tasks, infer)]
    schemas = [pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(schema))) for _, schema in sorted(found)]
    schema = unify_schemas(tasks[0][0].path, schemas)
    if not len(schema):
        raise DataError(f"data.sources.{name}: the files hold no object with a member; check them")
    return schema


def _check_members(session: SparkSession | None, name: str, columns: Mapping[str, str], tasks: Tasks) -> None:
    """Check that each declared member occurs: a misspelt one would be null in every row.

    The first lines of the first file have them all, as a rule; all files are searched only for those that they lack.

    Raises:
        DataError: A member does not occur.
    """
    wanted = frozenset(columns)
    missing = wanted - find_members(tasks[0][0], wanted, max_lines=_SAMPLE_LINES)
    if not missing:
        return
    absent = sorted(missing - _members_of(session, tasks, missing))
    if absent:
        raise DataError(
            f"data.sources.{name}.columns: no line of the files has the member {absent[0]}; fix its name, or remove it"
        )


def _members_of(session: SparkSession | None, tasks: Tasks, wanted: frozenset[str]) -> set[str]:
    """Return those of the wanted members that occur."""
    return set(_collect(session, tasks, lambda byte_range: iter(find_members(byte_range, wanted))))


def _collect(session: SparkSession | None, tasks: Tasks, read: Callable[[ByteRange], Iterator[str]]) -> list[str]:
    """Return the texts that `read` yields for all byte ranges, in no order."""
    if session is None:
        return [text for ranges in tasks for byte_range in ranges for text in read(byte_range)]

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for byte_range in _byte_ranges(tasks, batches):
                yield pa.record_batch({"found": pa.array(list(read(byte_range)), pa.string())})

    return [row["found"] for row in _tasks_frame(session, tasks).mapInArrow(work, "found string").collect()]


def _tasks_frame(session: SparkSession, tasks: Tasks) -> DataFrame:
    """Return a frame with one partition per task, which holds the task's number."""
    return session.range(0, len(tasks), 1, len(tasks))


def _byte_ranges(tasks: Tasks, batches: Iterable[pa.RecordBatch]) -> Iterator[ByteRange]:
    for batch in batches:
        for number in batch.column(0).to_pylist():
            for byte_range in tasks[number]:
                if byte_range.origin is not None:
                    name, source = byte_range.origin
                    ensure_local(name, source, byte_range.path)
                yield byte_range


def row_function(reader: RowReader, tasks: Tasks, *, strict: bool) -> BatchFunction:
    """Make the function for `mapInArrow` that reads the rows of the tasks whose numbers it receives.

    Args:
        reader: The reader.
        tasks: The byte ranges of each task.
        strict: Fail at the first malformed record; otherwise leave them out.
    """

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for byte_range in _byte_ranges(tasks, batches):
                for rows in reader.read(byte_range):
                    if rows.malformed and strict:
                        first = rows.malformed[0]
                        raise MalformedRowError(f"{first.position}: {first.reason}")
                    for start in range(0, len(rows.batch), _BATCH_ROWS):
                        yield rows.batch.slice(start, _BATCH_ROWS)

    return work


def _malformed_function(reader: RowReader, tasks: Tasks) -> BatchFunction:
    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for byte_range in _byte_ranges(tasks, batches):
                for rows in reader.read(byte_range):
                    yield _as_batch([asdict(found) | {"rows": 1} for found in rows.malformed])
                    yield _as_batch([{"rows": len(rows.batch)}])

    return work


def _as_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=_MALFORMED_SCHEMA)
