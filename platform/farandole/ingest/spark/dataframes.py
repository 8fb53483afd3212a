"""Sources and the query as Spark data frames."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from farandole.errors import DataError, closest_match
from farandole.ingest.readers.directory_columns import DirectoryColumns, check_no_collision
from farandole.ingest.readers.file_schemas import check_parquet
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.column_names import NeutralFrame, distinguish_case
from farandole.ingest.spark.error_transport import ERROR_MARK
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
        raise DataError(f"data.query: {plain_message(str(error))}", detail=str(error)) from error
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
_URI, _PATH = "uri", "path"
"""Names of columns beside neutral names."""
_LOCAL = "^file:/*"
"""What Spark writes before local paths, with one slash in a row's metadata and with three in a list of files."""
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
    return F.when(column.isNull() | fits, column.cast(kind)).otherwise(_failure(text)).alias(rows.neutral(name))


def _failure(message: Column) -> Column:
    """Return an expression that fails the Spark job with a `DataError`."""
    packed = F.to_json(F.struct(F.lit("DataError").alias("kind"), message.alias("message")))
    return F.raise_error(F.concat(F.lit(ERROR_MARK), packed))


def source_frame(session: SparkSession, name: str, source: Source, readers: SourceReaders) -> DataFrame:
    """Return one source as a frame; a malformed row fails the Spark job that reads it.

    Raises:
        DataError: The files do not have the declared columns.
    """
    if isinstance(source, ParquetSource):
        return _parquet_frame(session, name, source, readers)
    return row_frame(session, source, *readers.reader(name))


def _parquet_frame(session: SparkSession, name: str, source: ParquetSource, readers: SourceReaders) -> DataFrame:
    files, directories = readers.files[name], readers.directories(name)
    check_parquet(name, source, files)
    try:
        # Without a `basePath`, Spark reads no columns off the directories: it takes `1D` for a number.
        frame = session.read.option("mergeSchema", "false").parquet(*_escaped_paths(files))
    except AnalysisException as error:
        raise DataError(f"data.sources.{name}: {plain_message(str(error))}", detail=str(error)) from error
    found = [*frame.columns, *directories.types]
    for column in source.columns or ():
        if column not in found:
            close = closest_match(column, found)
            hint = f"did you mean {close}?" if close else f"they have {', '.join(found)}"
            raise DataError(f"data.sources.{name}.columns: the files have no column {column}; {hint}")
    check_no_collision(files.paths[0], frame.columns, directories)
    rows, uri = NeutralFrame(frame), frame.metadataColumn("_metadata")["file_path"]
    wanted = [column for column in source.columns or frame.columns if column not in directories.types]
    columns = [_valid_text(rows, column, uri) for column in wanted]
    if not directories.types:
        return rows.frame.select(*columns).toDF(*wanted)
    return _with_directories(rows.frame.select(*columns, uri.alias(_URI)), frame, directories).toDF(
        *wanted, *directories.types
    )


def _with_directories(rows: DataFrame, frame: DataFrame, directories: DirectoryColumns) -> DataFrame:
    """Replace the URI of each row's file, the last column, by the values of its directories.

    Args:
        rows: The rows.
        frame: The frame that reads the files.
        directories: The columns of the directories.
    """
    uris = frame.inputFiles()
    values = [directories.values(Path(unquote(urlsplit(uri).path))) for uri in uris]
    columns = [pa.concat_arrays([of_file[column] for of_file in values]) for column in directories.types]
    names = [f"directory{position}" for position in range(len(columns))]
    paths = pa.array([re.sub(_LOCAL, "", uri) for uri in uris], pa.string())
    by_path = rows.sparkSession.createDataFrame(pa.table([paths, *columns], names=[_PATH, *names]))
    path = F.regexp_replace(_URI, _LOCAL, "")
    joined = rows.join(F.broadcast(by_path), path == F.col(_PATH), "left")
    unknown = _failure(F.concat(F.lit("a row comes from an unknown file: "), path))
    kept = [F.when(F.col(_PATH).isNull(), unknown).otherwise(F.col(name)) for name in names]
    return joined.select(*rows.columns[:-1], *kept)


def _valid_text(rows: NeutralFrame, name: str, uri: Column) -> Column:
    """Return a column with a check: text that is not UTF-8, which Parquet does not verify, fails the Spark job.

    Args:
        rows: The rows.
        name: The column.
        uri: The URI of a row's file; input_file_name() counts as a function whose value changes.
    """
    column = rows.column(name)
    if not isinstance(rows.type_of(name), T.StringType):
        return column
    path = F.url_decode(F.replace(F.regexp_replace(uri, "^file:(//)?", ""), F.lit("+"), F.lit("%2B")))
    text = F.concat(path, F.lit(f": column {name}: holds text that is not UTF-8; write the file again"))
    return F.when(column.isNull() | F.is_valid_utf8(column), column).otherwise(_failure(text)).alias(rows.neutral(name))


def _escaped_paths(files: SourceFiles) -> list[str]:
    """Escape paths for Spark, which reads them as patterns."""
    return [re.sub(r"([\\\[\]{}*?])", r"\\\1", str(path)) for path in files.paths]


def plain_message(text: str) -> str:
    """Return Spark's message without the plan, the codes and the advice to change settings."""
    text = text.split("\n\nJVM stacktrace")[0].split(";\n")[0].split("\n== ")[0]
    text = re.sub(r" ?SQLSTATE: \w+", "", " ".join(text.split())).replace(".;", ";")
    return re.sub(r" ?[^.]*\"spark\.[\w.]+\"[^.]*\.", "", text)
