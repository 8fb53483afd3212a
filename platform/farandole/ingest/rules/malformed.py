"""What becomes of the records that cannot be read: told in an error, or left out, counted and perhaps kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from farandole.errors import DataError
from farandole.events import format_count
from farandole.ingest.readers.row_batch import RowReader
from farandole.ingest.spark.row_frames import Tasks, malformed_frame
from farandole.ingest.spark.tasks import ErrorTransport
from farandole.ingest.spark.worker_environment import environment_file, load_environment
from farandole.shards import MalformedRows, QuarantineFile, QuarantineWriter
from farandole.spec import CsvSource, JsonSource, RowSource
from farandole.storage import Location

_NUM_EXAMPLES = 3
_NUM_VALUES = 3
_MOST_PROBLEMS = 10
_ORDER = ("file", "line", "reason", "column", "record")


@dataclass(frozen=True)
class MalformedReason:
    """Malformed records of one source that have the same thing wrong.

    Args:
        reason: What is wrong.
        column: The column that is wrong; None: the record as a whole.
        rows: How many there are.
        examples: The places of the first ones, as `{"file", "line"}`.
        values: The most frequent wrong values; they are shown in an error and never kept.
        record: The first record's start, as text.
    """

    reason: str
    column: str | None
    rows: int
    examples: tuple[dict[str, Any], ...]
    values: tuple[str, ...]
    record: str


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
    """Count the records that cannot be read, and keep them if the source says so.

    Args:
        session: Spark.
        name: The source's name.
        source: The source.
        reader: What reads it.
        tasks: What each task reads of it.
        directory: The dataset directory.
        show_values: Whether an error may show wrong values.

    Raises:
        DataError: They are more than the source allows.
    """
    found = malformed_frame(session, reader, tasks).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        good, kinds = _count(found)
        bad = sum(kind.rows for kind in kinds)
        if bad > source.max_malformed * (good + bad):
            problems = "\n".join(_problem(name, source, kind, show_values) for kind in kinds[:_MOST_PROBLEMS])
            raise DataError(
                f"data.sources.{name}.max_malformed: {bad} of {good + bad} rows cannot be read, more than"
                f" {source.max_malformed:.2%}; mend them, or allow more:\n{problems}"
            )
        keep = bad and source.malformed == "quarantine"
        return MalformedRows(
            source=name,
            policy=source.malformed,
            read=good,
            rows=bad,
            reasons=tuple(
                {"reason": kind.reason, "column": kind.column, "rows": kind.rows, "examples": list(kind.examples)}
                for kind in kinds
            ),
            quarantine=_keep(found, name, directory) if keep else None,
        )
    finally:
        found.unpersist()


def describe_malformed(
    session: SparkSession, name: str, source: RowSource, reader: RowReader, tasks: Tasks, *, show_values: bool = True
) -> list[str]:
    """What is wrong with a source: one text for each kind of malformed record, with its values or without."""
    found = malformed_frame(session, reader, tasks).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        return [_problem(name, source, kind, show_values) for kind in _count(found)[1][:_MOST_PROBLEMS]]
    finally:
        found.unpersist()


def _count(found: DataFrame) -> tuple[int, list[MalformedReason]]:
    """The rows that can be read, and the kinds of those that cannot, by their first places."""
    counts = found.groupBy("reason", "column").agg(F.sum("rows").alias("rows")).collect()
    good = sum(row["rows"] for row in counts if row["reason"] is None)
    kinds = [_kind(found, row["reason"], row["column"], row["rows"]) for row in counts if row["reason"] is not None]
    return good, sorted(kinds, key=lambda kind: (kind.column is not None, _place(kind), kind.column or ""))


def _kind(found: DataFrame, reason: str, column: str | None, rows: int) -> MalformedReason:
    these = found.where((F.col("reason") == reason) & F.col("column").eqNullSafe(F.lit(column)))
    first = these.orderBy(*_ORDER).limit(_NUM_EXAMPLES).select("file", "line", "record").collect()
    values = these.groupBy("found").count().orderBy(F.desc("count"), "found").limit(_NUM_VALUES + 1).collect()
    return MalformedReason(
        reason,
        column,
        rows,
        tuple({"file": row["file"], "line": row["line"]} for row in first),
        tuple(row["found"] for row in values),
        bytes(first[0]["record"][:200]).decode(errors="backslashreplace"),
    )


def _place(kind: MalformedReason) -> tuple[str, int]:
    return kind.examples[0]["file"], kind.examples[0]["line"] or 0


def _problem(name: str, source: RowSource, kind: MalformedReason, show_values: bool) -> str:
    file, line = _place(kind)
    place = f"{file}: line {line}" if line else file
    policy = ", or set `malformed: drop` or `quarantine` of the source" if source.malformed == "fail" else ""
    if kind.column is not None:
        values = [repr(_short(value)) for value in kind.values[:_NUM_VALUES]] if show_values else ["'…'"]
        shown = ", ".join(values)
        more = ", …" if len(kind.values) > _NUM_VALUES and show_values else ""
        rule = kind.reason.replace("not ", "is not ", 1)
        what = f"{place}: column {kind.column}: {shown}{more} in {format_count(kind.rows, 'row')} {rule}"
        if isinstance(source, CsvSource):
            example = json.dumps(_short(kind.values[0]), ensure_ascii=False) if show_values else "…"
            advice = f"null_values: [{example}]"
            return (
                f"{what}; if it stands for a missing value, write `{advice}` in data.sources.{name}, or declare the"
                f" column as string{policy}"
            )
        return f"{what}; mend the rows, or declare another type{policy}"
    what = kind.values[0] if kind.reason == "wrong number of fields" else kind.reason
    remedy = _REMEDIES.get(kind.reason, "mend the rows")
    if isinstance(source, CsvSource | JsonSource) and show_values:
        what += f": {_short(kind.record)!r}"
    return f"{place}: {what} ({format_count(kind.rows, 'such row')}); {remedy}{policy}"


_REMEDIES = {
    "wrong number of fields": "mend the rows, or set `separator` or `quote` of the source",
    "a quote out of place": "double quotes inside a quoted field, set `quote`, or `multiline: true` for line breaks",
    "NUL byte": "restore the file, or set `encoding` of the source",
    "not utf-8 text": "save the file as UTF-8, or set `encoding` of the source",
    "not JSON": "write one JSON object on each line",
    "not an object": "write one JSON object on each line",
}
"""What to do about a record that is wrong as a whole."""


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."


def _keep(found: DataFrame, name: str, directory: Location) -> QuarantineFile:
    """Write the malformed records into one file, in the order of their places."""
    one = found.where("reason IS NOT NULL").coalesce(1).sortWithinPartitions(*_ORDER)

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        load_environment(environment)
        with ErrorTransport(directory), QuarantineWriter(directory, name) as writer:
            for batch in batches:
                writer.write(batch)
            info = writer.close()
        yield pa.record_batch({"info": [info.model_dump_json()]})

    columns = one.select(F.lit(name).alias("source"), *_ORDER[:2], "record", "reason", "column")
    with environment_file(directory) as environment:
        row = columns.mapInArrow(work, "info string").collect()[0]
    return QuarantineFile.model_validate_json(row["info"])
