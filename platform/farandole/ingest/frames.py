"""Sources and query as Spark frames."""

from __future__ import annotations

import re

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from farandole.errors import DataError, nearest
from farandole.ingest.files import SourceFiles, check_header, check_parquet
from farandole.spec import CsvSource, Data, ParquetSource, Source

CORRUPT = "_corrupt_record"
_GUESSES = ("bigint", "double", "boolean", "timestamp")


def query_frame(session: SparkSession, data: Data, files: dict[str, SourceFiles]) -> DataFrame:
    """The rows of the query over all sources.

    Raises:
        DataError: A header is wrong, a column is missing, or the query is not valid or not deterministic.
    """
    for name, source in data.sources.items():
        source_frame(session, name, source, files[name]).createOrReplaceTempView(name)
    if data.query is None:
        return session.table(next(iter(data.sources)))
    try:
        frame = session.sql(data.query)
    except (ParseException, AnalysisException) as error:
        raise DataError(f"data.query: {plain(str(error))}", detail=str(error)) from error
    check_repeatable(frame, "data.query")
    return frame


def check_repeatable(frame: DataFrame, place: str) -> None:
    """Whether a frame gives the same rows each time, under names that each stand for one column.

    Args:
        frame: Rows that the user described.
        place: Where, for errors.

    Raises:
        DataError: It does not.
    """
    if not frame._jdf.queryExecution().analyzed().deterministic():
        raise DataError(
            f"{place}: uses a function whose value changes when Spark repeats a task (rand, uuid,"
            " monotonically_increasing_id, …); use a hash of columns instead, for example xxhash64(id)"
        )
    repeated = sorted({column for column in frame.columns if frame.columns.count(column) > 1})
    if repeated:
        raise DataError(f"{place}: gives {', '.join(repeated)} twice; name one of them with AS")


def needed_columns(frame: DataFrame, wanted: dict[str, str]) -> DataFrame:
    """The frame with just the columns that the dataset is made of, in the order of their names.

    Args:
        frame: The rows of the query.
        wanted: Column to the field of the job file that asks for it.

    Raises:
        DataError: The frame lacks one.
    """
    for column, field in wanted.items():
        if column not in frame.columns:
            close = nearest(column, frame.columns)
            hint = f"did you mean {close}?" if close else f"it has {', '.join(frame.columns)}"
            raise DataError(f"{field}: the query gives no column {column}; {hint}")
    selected: list[Column] = []
    for column in sorted(wanted):
        kind = frame.schema[column].dataType
        # -0.0 equals 0.0 for Spark's hash and sort, yet has other bytes: keep one of them.
        exact = isinstance(kind, T.FloatType | T.DoubleType)
        quoted = F.col(f"`{column}`")
        selected.append((quoted + F.lit(0.0).cast(kind)).alias(column) if exact else quoted)
    return frame.select(*selected)


def source_frame(session: SparkSession, name: str, source: Source, files: SourceFiles) -> DataFrame:
    """One source as a frame; a wrong row makes the job that reads it fail.

    Raises:
        DataError: The files do not have the declared columns.
    """
    if isinstance(source, ParquetSource):
        return _parquet_frame(session, name, source, files)
    text = read_text(session, source, files, check_header(name, source, files), mode="FAILFAST")
    columns = dict(source.columns) if source.columns is not None else _guess(text, source)
    return text.select(*(cast_text(source, column, kind).alias(column) for column, kind in columns.items()))


def read_text(session: SparkSession, source: CsvSource, files: SourceFiles, header: list[str], mode: str) -> DataFrame:
    """A CSV source with all its columns as text. Mode PERMISSIVE keeps wrong rows whole, in `_corrupt_record`."""
    schema = T.StructType([T.StructField(column, T.StringType()) for column in header])
    if mode == "PERMISSIVE":
        schema = schema.add(CORRUPT, T.StringType())
    reader = session.read.schema(schema).options(
        header=source.header,
        sep=source.separator,
        quote=source.quote,
        escape=source.quote,
        multiLine=source.multiline,
        mode=mode,
        columnNameOfCorruptRecord=CORRUPT,
        maxCharsPerColumn=-1,
    )
    return reader.csv(_literal(files))


def cast_text(source: CsvSource, column: str, kind: str) -> Column:
    """A text column in its declared type; the source's null values become null."""
    text = present_text(source, column)
    if kind == "string":
        return text
    if kind == "timestamp" and source.timestamp_format:
        return F.to_timestamp(text, source.timestamp_format)
    if kind == "date" and source.date_format:
        return F.to_date(text, source.date_format)
    return _dated(text, kind).cast(kind)


def try_cast_text(source: CsvSource, column: str, kind: str) -> Column:
    """Like `cast_text`, but null where the text does not fit."""
    text = present_text(source, column)
    if kind == "timestamp" and source.timestamp_format:
        return F.try_to_timestamp(text, F.lit(source.timestamp_format))
    if kind == "date" and source.date_format:
        return F.try_to_timestamp(text, F.lit(source.date_format)).cast("date")
    return _dated(text, kind).try_cast(kind)


def present_text(source: CsvSource, column: str) -> Column:
    """A text column without the texts that stand for a missing value."""
    text = F.col(f"`{column}`")
    return F.when(~text.isin(*source.null_values), text) if source.null_values else text


def _dated(text: Column, kind: str) -> Column:
    """The text; for a timestamp, one that does not fit where the date is left out: Spark would take today's."""
    if kind != "timestamp":
        return text
    # The first colon of the shortest timestamp, `2013-1-1 5:15`, is its eleventh character.
    return F.when(F.instr(F.ltrim(text), ":").between(1, 10), "a time without a date").otherwise(text)


def _guess(text: DataFrame, source: CsvSource) -> dict[str, str]:
    """The narrowest type that all values of each column fit."""
    counts = [
        F.count_if(try_cast_text(source, column, kind).isNull() & present_text(source, column).isNotNull())
        for column in text.columns
        for kind in _GUESSES
    ]
    misfits = iter(text.agg(*(count.alias(str(i)) for i, count in enumerate(counts))).collect()[0])
    columns = {}
    for column in text.columns:
        fits = [kind for kind, misfit in [(kind, next(misfits)) for kind in _GUESSES] if not misfit]
        columns[column] = fits[0] if fits else "string"
    return columns


def _parquet_frame(session: SparkSession, name: str, source: ParquetSource, files: SourceFiles) -> DataFrame:
    check_parquet(name, source, files)
    reader = session.read.option("mergeSchema", "false")
    if files.base is not None:
        reader = reader.option("basePath", str(files.base))
    try:
        frame = reader.parquet(*_literal(files))
    except AnalysisException as error:
        raise DataError(f"data.sources.{name}: {plain(str(error))}", detail=str(error)) from error
    if source.columns is None:
        return frame
    for column in source.columns:
        if column not in frame.columns:
            close = nearest(column, frame.columns)
            hint = f"did you mean {close}?" if close else f"they have {', '.join(frame.columns)}"
            raise DataError(f"data.sources.{name}.columns: the files have no column {column}; {hint}")
    return frame.select(*source.columns)


def _literal(files: SourceFiles) -> list[str]:
    """Paths as Spark takes them: it reads patterns, so signs that mean something in one are escaped."""
    return [re.sub(r"([\\\[\]{}*?])", r"\\\1", str(path)) for path in files.paths]


def plain(text: str) -> str:
    """Spark's own words, without its plan, its codes and its advice to change settings."""
    text = text.split("\n\nJVM stacktrace")[0].split(";\n")[0].split("\n== ")[0]
    text = re.sub(r" ?SQLSTATE: \w+", "", " ".join(text.split())).replace(".;", ";")
    return re.sub(r" ?[^.]*\"spark\.[\w.]+\"[^.]*\.", "", text)
