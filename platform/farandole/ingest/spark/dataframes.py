"""Sources and the query as Spark data frames."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from farandole.errors import DataError, closest_match
from farandole.ingest.spark.column_names import NeutralFrame, distinguish_case
from farandole.ingest.spark.error_transport import plain_message, raise_in_spark
from farandole.ingest.spark.parquet_frames import parquet_frame
from farandole.ingest.spark.partitioning import RESERVED_PREFIX
from farandole.ingest.spark.row_frames import SourceReaders, row_frame
from farandole.spec import Data, ParquetSource, Source


def query_frame(session: SparkSession, data: Data, readers: SourceReaders) -> DataFrame:
    """Return the rows of the query over all sources.

    Args:
        session: The Spark session.
        data: The data part of the job.
        readers: The readers of its sources.

    Raises:
        DataError: A header is wrong, a column is missing, or the query is not valid or not deterministic.
    """
    frames = {name: source_frame(session, name, source, readers) for name, source in data.sources.items()}
    if data.query is None:
        (frame,) = frames.values()
        return frame
    distinguish_case(session, frames)
    for frame in frames.values():
        distinguish_case(session, frame.columns)
    for name, frame in frames.items():
        frame.createOrReplaceTempView(name)
    try:
        frame = session.sql(data.query)
    except (ParseException, AnalysisException) as error:
        reason = readers.why_missing(str(error)) or plain_message(str(error))
        raise DataError(f"data.query: {reason}", detail=str(error)) from error
    check_deterministic(frame, "data.query")
    return frame


def check_deterministic(frame: DataFrame, field_path: str) -> None:
    """Check that a frame gives the same rows each time, under names that each mean one column.

    Args:
        frame: Rows that the user described.
        field_path: The field of the job file that describes them, for errors.

    Raises:
        DataError: It does not.
    """
    if not frame._jdf.queryExecution().analyzed().deterministic():
        raise DataError(
            f"{field_path}: uses a function whose value changes when Spark repeats a task (rand, uuid,"
            " monotonically_increasing_id, …); use a hash of columns instead, for example xxhash64(id)"
        )
    repeated = sorted(column for column, count in Counter(frame.columns).items() if count > 1)
    if repeated:
        raise DataError(f"{field_path}: gives {', '.join(repeated)} twice; name one of them with AS")


_CLOCKS = {
    "CurrentDate": "current_date",
    "CurrentTimestamp": "current_timestamp",
    "CurrentTime": "current_time",
    "LocalTimestamp": "localtimestamp",
    "Now": "now",
}
"""Spark's expressions whose value is constant in a query and different in the next query."""
_NUMBER = r"^[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*$"
"""A number in Java's syntax of patterns; Spark's own cast accepts `1D` and `Infinity` too."""
_SHOWN = 60
"""The number of characters of a value that an error shows."""
_NOT_CONVERTED = (
    "if it means a missing value, list it in `null_values` of the source or write NULLIF in the query; otherwise"
    " convert it in the query, or use `kind: categorical`"
)
_ORDER_PRESERVING = {"Project", "SubqueryAlias"}
"""Plans that keep the order of rows."""


def find_unstable_parts(frame: DataFrame) -> list[str]:
    """Find the parts of a frame that give other rows the next time, although the sources and the code stay the same.

    Returns:
        Descriptions of functions that read the clock, and of `LIMIT` without an order.
    """
    nodes = json.loads(frame._jdf.queryExecution().analyzed().toJSON())
    classes = [str(node["class"]).rpartition(".")[2] for node in _objects(nodes)]
    clocks = sorted({_CLOCKS[name] for name in classes if name in _CLOCKS})
    found = [f"{name} gives another value each time" for name in clocks]
    # Plans are listed from the top down: the input of a limit follows it.
    plan = [name for node in nodes if (name := str(node["class"]).rpartition(".")[2]) not in _ORDER_PRESERVING]
    if any(name == "LocalLimit" and plan[index + 1] != "Sort" for index, name in enumerate(plan)):
        found.append("LIMIT without an order takes any rows; add ORDER BY with a column whose values are unique")
    return found


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all expressions and plans in Spark's description of a plan."""
    if isinstance(value, list):
        for part in value:
            yield from _objects(part)
    elif isinstance(value, dict):
        if "class" in value:
            yield value
        for part in value.values():
            yield from _objects(part)


def needed_columns(frame: DataFrame, wanted: dict[str, str]) -> DataFrame:
    """Select the columns that the dataset is made of, in the order of their names.

    Args:
        frame: The rows of the query.
        wanted: Column to the field of the job file that uses it.

    Raises:
        DataError: The frame lacks a column, or a name has the reserved prefix.
    """
    for column, field in wanted.items():
        if column.lower().startswith(RESERVED_PREFIX):
            raise DataError(
                f"{field}: {column}: names that begin with {RESERVED_PREFIX} are reserved; rename the column with AS"
            )
        if column not in frame.columns:
            close = closest_match(column, frame.columns)
            hint = f"did you mean {close}?" if close else f"it has {', '.join(frame.columns)}"
            raise DataError(f"{field}: the query gives no column {column}; {hint}")
    rows = NeutralFrame(frame)
    selected: list[str] = []
    for column in sorted(wanted):
        kind, name = rows.type_of(column), rows.neutral(column)
        # -0.0 equals 0.0 for Spark's hash and sort, but has other bytes: adding 0 turns it into 0.0.
        exact = isinstance(kind, T.FloatType | T.DoubleType)
        selected.append(f"{name} + CAST(0 AS {kind.simpleString()}) AS {name}" if exact else name)
    return rows.frame.selectExpr(*selected).toDF(*sorted(wanted))


def with_wanted_types(frame: DataFrame, wanted: Mapping[str, str]) -> DataFrame:
    """Convert columns of text to the types that their uses need; a text that does not fit fails the Spark job.

    Args:
        frame: The rows of the query.
        wanted: Column to `double` or `timestamp`.
    """
    rows = NeutralFrame(frame)
    texts = {name for name in rows.names if name in wanted and isinstance(rows.type_of(name), T.StringType)}
    if not texts:
        return frame
    converted = (_converted(rows, name, wanted[name]) if name in texts else rows.column(name) for name in rows.names)
    return rows.restore(rows.frame.select(*converted))


def _converted(rows: NeutralFrame, name: str, kind: str) -> Column:
    column = rows.column(name)
    fits = column.rlike(_NUMBER) if kind == "double" else column.try_cast(kind).isNotNull()
    noun = "a number" if kind == "double" else "a time"
    shown = F.concat(F.lit(f"column {name}: '"), F.substring(column, 1, _SHOWN))
    text = F.concat(shown, F.lit(f"' is not {noun}, as the features and the label need it; {_NOT_CONVERTED}"))
    return F.when(column.isNull() | fits, column.cast(kind)).otherwise(raise_in_spark(text)).alias(rows.neutral(name))


def source_frame(session: SparkSession, name: str, source: Source, readers: SourceReaders) -> DataFrame:
    """Return one source as a frame; a malformed row fails the Spark job that reads it.

    Raises:
        DataError: The files do not have the declared columns.
    """
    if isinstance(source, ParquetSource):
        return parquet_frame(session, name, source, readers)
    return row_frame(session, source, *readers.reader(name))
