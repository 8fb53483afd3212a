"""Sources that are read row by row, as Spark frames: Spark's tasks call our readers on their parts of the files."""

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
from farandole.ingest.readers.csv_reader import CsvReader
from farandole.ingest.readers.image_reader import SUFFIXES, ImageReader
from farandole.ingest.readers.json_reader import (
    JsonReader,
    arrow_json_type,
    find_members,
    infer_types,
    sql_type,
    unify_schemas,
)
from farandole.ingest.readers.row_batch import MalformedRowError, RowReader
from farandole.ingest.readers.text_types import INFERRED_TYPES, fits_type
from farandole.ingest.sources.files import SourceFiles, check_header, ensure_local
from farandole.ingest.spark.sql_quoting import quote_identifier
from farandole.ingest.spark.tasks import BatchFunction, ErrorTransport
from farandole.spec import CsvSource, ImageSource, JsonSource, RecordSource, RowSource, Source

MALFORMED = "file string, line bigint, record binary, reason string, column string, found string, rows bigint"
"""Spark's schema of malformed records; a row without a reason counts, in `rows`, those that can be read."""
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
_FIRST_LINES = 1000

Tasks = list[list[ByteRange]]


def row_frame(session: SparkSession, source: RowSource, reader: RowReader, tasks: Tasks) -> DataFrame:
    """The rows that can be read. Where none may be left out, the first malformed one ends the job."""
    schema = ", ".join(f"{quote_identifier(column)} {kind}" for column, kind in reader.types.items())
    return _tasks_frame(session, tasks).mapInArrow(_row_function(reader, tasks, source.malformed == "fail"), schema)


def malformed_frame(session: SparkSession, reader: RowReader, tasks: Tasks) -> DataFrame:
    """The records that cannot be read, and the count of those that can."""
    return _tasks_frame(session, tasks).mapInArrow(_malformed_function(reader, tasks), MALFORMED)


def make_reader(session: SparkSession, name: str, source: RowSource, files: SourceFiles) -> tuple[RowReader, Tasks]:
    """What reads a source, and what each task reads of it; undeclared types are inferred first.

    Raises:
        DataError: The files do not have the declared columns, or no types fit them.
    """
    if isinstance(source, ImageSource):
        images = _images(name, files)
        reader = image_reader(files, check=source.malformed != "fail")
        return reader, _tasks(session, name, source, images, splittable=False)
    if isinstance(source, RecordSource):
        return BinaryReader(source), _tasks(session, name, source, files.paths, splittable=False)
    if isinstance(source, JsonSource):
        tasks = _tasks(session, name, source, files.paths, splittable=True)
        types = dict(source.columns) if source.columns else _infer_json(session, name, tasks)
        if source.columns and any(path.stat().st_size for path in files.paths):
            _check_members(session, name, source.columns, tasks)
        return JsonReader(source, types, {column: arrow_json_type(kind) for column, kind in types.items()}), tasks
    assert isinstance(source, CsvSource)
    header = check_header(name, source, files)
    splittable = not source.multiline and not needs_whole_file(source.encoding)
    tasks = _tasks(session, name, source, files.paths, splittable=splittable)
    if source.columns is not None:
        return CsvReader(source, tuple(header), dict(source.columns)), tasks
    return CsvReader(source, tuple(header), _infer_csv(session, source, header, tasks)), tasks


def _tasks(session: SparkSession, name: str, source: RowSource, paths: tuple[Path, ...], *, splittable: bool) -> Tasks:
    """What each task reads. On other machines it sees first to having the file."""
    tasks = divide_into_tasks(paths, session.sparkContext.defaultParallelism, splittable=splittable)
    if str(session.sparkContext.master).startswith("local"):
        return tasks
    origin = (name, cast(Source, source))
    return [[replace(part, origin=origin) for part in parts] for parts in tasks]


def image_reader(files: SourceFiles, *, check: bool) -> ImageReader:
    """What reads a source of images.

    Args:
        files: Its files.
        check: Whether each image is decoded, to see whether it can be.
    """
    base = files.base or Path(os.path.commonpath([path.parent for path in files.paths]))
    return ImageReader(base, check)


def _images(name: str, files: SourceFiles) -> tuple[Path, ...]:
    images = tuple(path for path in files.paths if path.suffix.lower() in SUFFIXES)
    if not images:
        raise DataError(
            f"data.sources.{name}.path: none of {len(files.paths)} files is an image; their names must end in"
            f" {', '.join(SUFFIXES)}"
        )
    return images


def _infer_csv(session: SparkSession, source: CsvSource, header: list[str], tasks: Tasks) -> dict[str, str]:
    """The narrowest type that all values of each column fit."""
    reader = CsvReader(source, tuple(header), dict.fromkeys(header, "string"))

    def guess(part: ByteRange) -> Iterator[list[list[bool]]]:
        for table in reader.texts(part):
            columns = [table.column(column).combine_chunks() for column in header]
            yield [[fits_type(values, kind) for kind in INFERRED_TYPES] for values in columns]

    found = [json.loads(text) for text in _collect(session, tasks, lambda part: map(json.dumps, guess(part)))]
    types = {}
    for index, column in enumerate(header):
        kinds = [kind for place, kind in enumerate(INFERRED_TYPES) if all(fitting[index][place] for fitting in found)]
        types[column] = kinds[0] if kinds else "string"
    return types


def _infer_json(session: SparkSession, name: str, tasks: Tasks) -> dict[str, str]:
    def infer(part: ByteRange) -> Iterator[str]:
        yield json.dumps([str(part.path), infer_types(part).serialize().to_pybytes().hex()])

    found = [json.loads(text) for text in _collect(session, tasks, infer)]
    schemas = [pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(schema))) for _, schema in sorted(found)]
    schema = unify_schemas(tasks[0][0].path, schemas)
    if not len(schema):
        raise DataError(f"data.sources.{name}: no line holds a member; look at the files")
    return {field.name: sql_type(field.type) for field in sorted(schema, key=lambda field: field.name)}


def _check_members(session: SparkSession, name: str, columns: Mapping[str, str], tasks: Tasks) -> None:
    """Whether each declared member occurs at all: a misspelt one would be missing in every row.

    The first lines of the first file tell, as a rule; only for what they lack all files are looked through.

    Raises:
        DataError: One does not.
    """
    wanted = frozenset(columns)
    missing = wanted - find_members(tasks[0][0], wanted, most_lines=_FIRST_LINES)
    if not missing:
        return
    absent = sorted(missing - set(_collect(session, tasks, lambda part: iter(find_members(part, missing)))))
    if absent:
        raise DataError(
            f"data.sources.{name}.columns: no line of the files has the member {absent[0]}; mend its name, or remove it"
        )


def _collect(session: SparkSession, tasks: Tasks, read: Callable[[ByteRange], Iterator[str]]) -> list[str]:
    """What `read` yields for all parts, in no order."""

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for part in _parts(tasks, batches):
                yield pa.record_batch({"found": pa.array(list(read(part)), pa.string())})

    return [row["found"] for row in _tasks_frame(session, tasks).mapInArrow(work, "found string").collect()]


def _tasks_frame(session: SparkSession, tasks: Tasks) -> DataFrame:
    """One partition for each task, which holds its number."""
    return session.range(0, len(tasks), 1, len(tasks))


def _parts(tasks: Tasks, batches: Iterable[pa.RecordBatch]) -> Iterator[ByteRange]:
    for batch in batches:
        for number in batch.column(0).to_pylist():
            for part in tasks[number]:
                if part.origin is not None:
                    name, source = part.origin
                    ensure_local(name, source, part.path)
                yield part


def _row_function(reader: RowReader, tasks: Tasks, strict: bool) -> BatchFunction:
    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for part in _parts(tasks, batches):
                for rows in reader.read(part):
                    if rows.malformed and strict:
                        first = rows.malformed[0]
                        place = first.file if first.line is None else f"{first.file}: line {first.line}"
                        raise MalformedRowError(f"{place}: {first.reason}")
                    for start in range(0, len(rows.batch), _BATCH_ROWS):
                        yield rows.batch.slice(start, _BATCH_ROWS)

    return work


def _malformed_function(reader: RowReader, tasks: Tasks) -> BatchFunction:
    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ErrorTransport():
            for part in _parts(tasks, batches):
                for rows in reader.read(part):
                    yield _as_batch([asdict(found) | {"rows": 1} for found in rows.malformed])
                    yield _as_batch([{"rows": len(rows.batch)}])

    return work


def _as_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=_MALFORMED_SCHEMA)
