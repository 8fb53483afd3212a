"""Records that cannot be read: described in an error, or left out, counted and perhaps stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from farandole.errors import DataError
from farandole.events import format_count
from farandole.ingest.readers.row_batch import (
    MISPLACED_QUOTE,
    NOT_JSON,
    NOT_OBJECT,
    NUL_BYTE,
    WRONG_FIELD_COUNT,
    MalformedRecord,
    RowReader,
    not_text,
)
from farandole.ingest.spark.error_transport import ErrorTransport
from farandole.ingest.spark.row_frames import Tasks, malformed_frame
from farandole.ingest.spark.worker_environment import environment_file, load_environment
from farandole.shards import MalformedRows, QuarantineFile, QuarantineWriter
from farandole.spec import CsvSource, JsonSource, RowSource
from farandole.storage import Location

_NUM_EXAMPLES = 3
_NUM_VALUES = 3
_MAX_DESCRIBED = 10
_ORDER = ("file", "line", "reason", "column", "record")
_REMEDIES = {
    WRONG_FIELD_COUNT: "fix the rows, or set `separator` or `quote` of the source",
    MISPLACED_QUOTE: "double quotes inside a quoted field, set `quote`, or `multiline: true` for line breaks",
    NUL_BYTE: "restore the file, or set `encoding` of the source",
    not_text("utf-8"): "save the file as UTF-8, or set `encoding` of the source",
    NOT_JSON: "write one JSON object on each line, or one array of objects",
    NOT_OBJECT: "write one JSON object on each line, or one array of objects",
}
"""Remedies for records that are malformed as a whole, by reason."""


@dataclass(frozen=True)
class MalformedReason:
    """The malformed records of one source with the same reason and column.

    Args:
        reason: The reason.
        column: The column with the fault; None: the record as a whole.
        rows: The number of records.
        examples: The first records, in the order of their positions.
        values: The most frequent wrong values; errors show them, and they are never stored.
    """

    reason: str
    column: str | None
    rows: int
    examples: tuple[MalformedRecord, ...]
    values: tuple[str, ...]


def exclude_malformed(
    session: SparkSession,
    name: str,
    source: RowSource,
    reader: RowReader,
    tasks: Tasks,
    directory: Location,
    *,
    show_values: bool = True,
) -> MalformedRows:
    """Count the records of a source that cannot be read, and store them if the source says so.

    Args:
        session: The Spark session.
        name: The source's name.
        source: The source.
        reader: The source's reader.
        tasks: The byte ranges of each task.
        directory: The dataset directory.
        show_values: Whether an error may show wrong values.

    Returns:
        The entry of the manifest's `malformed`.

    Raises:
        DataError: There are more than the source allows.
    """
    found = malformed_frame(session, reader, tasks).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        good, reasons = _count(found)
        bad = sum(reason.rows for reason in reasons)
        if bad > source.max_malformed * (good + bad):
            problems = "\n".join(_describe(name, source, one, show_values) for one in reasons[:_MAX_DESCRIBED])
            raise DataError(
                f"data.sources.{name}.max_malformed: {bad} of {good + bad} rows cannot be read, more than"
                f" {source.max_malformed:.2%}; fix them, or allow more:\n{problems}"
            )
        store = bad and source.malformed == "quarantine"
        return MalformedRows(
            source=name,
            policy=source.malformed,
            read=good,
            rows=bad,
            reasons=tuple(
                {
                    "reason": one.reason,
                    "column": one.column,
                    "rows": one.rows,
                    "examples": [{"file": example.file, "line": example.line} for example in one.examples],
                }
                for one in reasons
            ),
            quarantine=_quarantine(found, name, directory) if store else None,
        )
    finally:
        found.unpersist()


def describe_malformed(
    session: SparkSession | None,
    name: str,
    source: RowSource,
    reader: RowReader,
    tasks: Tasks,
    *,
    show_values: bool = True,
) -> list[str]:
    """Describe the malformed records of a source, one text for each reason and column.

    Args:
        session: The Spark session; None: this process reads the source.
        name: The source's name.
        source: The source.
        reader: The source's reader.
        tasks: The byte ranges of each task.
        show_values: Whether the texts may show wrong values.
    """
    reasons = _find_reasons(reader, tasks) if session is None else _reasons_by_spark(session, reader, tasks)
    return [_describe(name, source, reason, show_values) for reason in reasons[:_MAX_DESCRIBED]]


def _reasons_by_spark(session: SparkSession, reader: RowReader, tasks: Tasks) -> list[MalformedReason]:
    found = malformed_frame(session, reader, tasks).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        return _count(found)[1]
    finally:
        found.unpersist()


def _find_reasons(reader: RowReader, tasks: Tasks) -> list[MalformedReason]:
    """Read a source in this process for the reasons why records are malformed, by their first positions."""
    examples: dict[tuple[str, str | None], list[MalformedRecord]] = {}
    values: dict[tuple[str, str | None], Counter[str]] = {}
    for byte_range in chain.from_iterable(tasks):
        for record in chain.from_iterable(rows.malformed for rows in reader.read(byte_range)):
            key = record.reason, record.column
            first = sorted([*examples.get(key, ()), record], key=lambda one: (one.file, one.line or 0, one.record))
            examples[key] = first[:_NUM_EXAMPLES]
            values.setdefault(key, Counter())[record.found] += 1
    reasons = []
    for (reason, column), counter in values.items():
        frequent = sorted(counter, key=lambda found: (-counter[found], found))[: _NUM_VALUES + 1]
        first = examples[reason, column]
        reasons.append(MalformedReason(reason, column, counter.total(), tuple(first), tuple(frequent)))
    return sorted(reasons, key=_sort_key)


def _count(found: DataFrame) -> tuple[int, list[MalformedReason]]:
    """Return the number of rows that can be read, and the reasons of the others, by their first positions."""
    counts = found.groupBy("reason", "column").agg(F.sum("rows").alias("rows")).collect()
    good = sum(row["rows"] for row in counts if row["reason"] is None)
    reasons = [_reason(found, row["reason"], row["column"], row["rows"]) for row in counts if row["reason"] is not None]
    return good, sorted(reasons, key=_sort_key)


def _sort_key(reason: MalformedReason) -> tuple[bool, str, int, str]:
    first = reason.examples[0]
    return reason.column is not None, first.file, first.line or 0, reason.column or ""


def _reason(found: DataFrame, reason: str, column: str | None, rows: int) -> MalformedReason:
    these = found.where((F.col("reason") == reason) & F.col("column").eqNullSafe(F.lit(column)))
    first = these.orderBy(*_ORDER).limit(_NUM_EXAMPLES).select("file", "line", "record").collect()
    values = these.groupBy("found").count().orderBy(F.desc("count"), "found").limit(_NUM_VALUES + 1).collect()
    examples = tuple(MalformedRecord(row["file"], row["line"], bytes(row["record"]), reason, column) for row in first)
    return MalformedReason(reason, column, rows, examples, tuple(row["found"] for row in values))


def _describe(name: str, source: RowSource, reason: MalformedReason, show_values: bool) -> str:
    policy = ", or set `malformed: drop` or `quarantine` of the source" if source.malformed == "fail" else ""
    if reason.column is None:
        return f"{_describe_records(source, reason, show_values)}{policy}"
    values = [repr(_shorten(value)) for value in reason.values[:_NUM_VALUES]] if show_values else ["'…'"]
    more = ", …" if len(reason.values) > _NUM_VALUES and show_values else ""
    rule = reason.reason.replace("not ", "is not ", 1)
    problem = (
        f"{reason.examples[0].position}: column {reason.column}: {', '.join(values)}{more} in"
        f" {format_count(reason.rows, 'row')} {rule}"
    )
    if not isinstance(source, CsvSource):
        return f"{problem}; fix the rows, or declare another type{policy}"
    example = json.dumps(_shorten(reason.values[0]), ensure_ascii=False) if show_values else "…"
    return (
        f"{problem}; if it means a missing value, write `null_values: [{example}]` in data.sources.{name}, or declare"
        f" the column as string{policy}"
    )


def _describe_records(source: RowSource, reason: MalformedReason, show_values: bool) -> str:
    first = reason.examples[0]
    problem = reason.values[0] if reason.reason == WRONG_FIELD_COUNT else reason.reason
    if isinstance(source, CsvSource | JsonSource) and show_values:
        problem += f": {_shorten(first.record[:200].decode(errors='backslashreplace'))!r}"
    remedy = _REMEDIES.get(reason.reason, "fix the rows")
    return f"{first.position}: {problem} ({format_count(reason.rows, 'such row')}); {remedy}"


def _shorten(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."


def _quarantine(found: DataFrame, name: str, directory: Location) -> QuarantineFile:
    """Write the malformed records into one file, in the order of their positions."""
    one = found.where("reason IS NOT NULL").coalesce(1).sortWithinPartitions(*_ORDER)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        load_environment(environment)
        with ErrorTransport(directory), QuarantineWriter(directory, name) as writer:
            for batch in batches:
                writer.write(batch)
            info = writer.close()
        yield pa.record_batch({"info": [info.model_dump_json()]})

    columns = one.select(F.lit(name).alias("source"), *_ORDER[:2], "record", "reason", "column")
    with environment_file(directory) as environment:
        row = columns.mapInArrow(write, "info string").collect()[0]
    return QuarantineFile.model_validate_json(row["info"])
