"""Parquet files as Spark data frames: Spark reads them, helped over names and types that it rejects."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from farandole.errors import DataError, closest_match
from farandole.ingest.readers.directory_columns import DirectoryColumns, check_no_collision
from farandole.ingest.readers.parquet_footers import ParquetColumn, ParquetColumns, check_parquet
from farandole.ingest.sources.checksums import checksum_path, find_outdated_checksums
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.column_names import NeutralFrame, distinguish_case
from farandole.ingest.spark.error_transport import plain_message, raise_in_spark
from farandole.ingest.spark.row_frames import SourceReaders
from farandole.spec import ParquetSource

_NANOS_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong"
_WITHOUT_CHECKSUMS = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}
"""Options with which Hadoop looks for no checksum files; their names would be invalid URIs if there is a colon."""
_URI, _PATH = "uri", "path"
"""Names of columns beside neutral names."""
_LOCAL = "^file:/*"
"""Prefix of local paths in Spark, with one slash in a row's metadata and with three in a list of files."""
_NO_PATTERNS = {"__globPaths__": "false"}
"""Option with which Spark takes one path as it is; of several paths that look like patterns, it would read each file
several times."""
_PATTERN = re.compile(r"[\\\[\]{}*?]")


def parquet_frame(session: SparkSession, name: str, source: ParquetSource, readers: SourceReaders) -> DataFrame:
    """Return the rows of a source of Parquet files.

    Columns that Spark cannot read are left out; `readers` receives the reason for errors about their use.

    Args:
        session: The Spark session.
        name: The source's name.
        source: The source.
        readers: The readers of the sources of the job.

    Raises:
        DataError: The files do not agree, or do not have the declared columns.
    """
    files, directories = readers.files[name], readers.directories(name)
    columns = check_parquet(name, source, files)
    readers.unreadable |= columns.unreadable
    frame = _read(session, name, source, files, columns, readers.notes)
    found = [*frame.columns, *directories.types]
    for column in source.columns or ():
        if column not in found:
            close = closest_match(column, found)
            hint = f"did you mean {close}?" if close else f"they have {', '.join(found)}"
            raise DataError(f"data.sources.{name}.columns: the files have no column {column}; {hint}")
    check_no_collision(files.paths[0], sorted(columns.names), directories)
    wanted = [column for column in source.columns or frame.columns if column not in directories.types]
    rounded = [column for column in wanted if columns.first[column].nanoseconds]
    readers.rounded |= {column: str(files.paths[0]) for column in rounded}
    rows, uri = NeutralFrame(frame), frame.metadataColumn("_metadata")["file_path"]
    selected = [_readable(rows, column, columns.first[column], uri) for column in wanted]
    if not directories.types:
        return rows.frame.select(*selected).toDF(*wanted)
    located = rows.frame.select(*selected, uri.alias(_URI))
    return _with_directories(located, frame, directories).toDF(*wanted, *directories.types)


def _read(
    session: SparkSession,
    name: str,
    source: ParquetSource,
    files: SourceFiles,
    columns: ParquetColumns,
    notes: list[str],
) -> DataFrame:
    """Return the columns of the files as Spark reads them: timestamps in nanoseconds are integers."""
    distinguish_case(session, columns.names)
    session.conf.set(_NANOS_AS_LONG, "true")
    paths, options = _paths(files)
    outdated = find_outdated_checksums(files.paths)
    if outdated or any(":" in path.name for path in files.paths):
        options |= _WITHOUT_CHECKSUMS
    if outdated:
        more = f" (and {len(outdated) - 1} more such files)" if len(outdated) > 1 else ""
        notes.append(
            f"{outdated[0]}: was rewritten since its checksums in {checksum_path(outdated[0]).name} were written{more},"
            " so this source is read without such checks; remove the outdated .crc files"
        )
    # Without a `basePath`, Spark reads no columns off the directories: it takes `1D` for a number.
    reader = session.read.options(**options)
    try:
        if columns.unreadable:
            readable = [column for column in columns.first if column not in columns.unreadable]
            wanted = [column for column in readable if source.columns is None or column in source.columns]
            reader = reader.schema(_schema(session, files.paths[0], wanted))
        return reader.parquet(*paths)
    except AnalysisException as error:
        raise DataError(f"data.sources.{name}: {plain_message(str(error))}", detail=str(error)) from error


def _paths(files: SourceFiles) -> tuple[list[str], dict[str, str]]:
    """Return the paths in a form that Spark does not read as patterns, and options for it.

    Raises:
        DataError: Spark cannot read one of them: it walks along what looks like a pattern, and a step with a colon then
            looks like a URI.
    """
    options = {"mergeSchema": "false"}
    if len(files.paths) == 1:
        return [str(files.paths[0])], options | _NO_PATTERNS
    for path in files.paths:
        if ":" in str(path) and _PATTERN.search(str(path)):
            raise DataError(
                f"{path}: Spark cannot read this among several files, because its path has a colon and one of"
                " [ ] { } * ? \\; rename the file or its folder"
            )
    return [_PATTERN.sub(r"\\\g<0>", str(path)) for path in files.paths], options


def _schema(session: SparkSession, path: Path, wanted: Sequence[str]) -> T.StructType:
    """Return some columns of a file in Spark's types, which Spark itself converts only for all columns together."""
    jvm = session._jvm
    assert jvm is not None
    configuration = jvm.org.apache.hadoop.conf.Configuration(session.sparkContext._jsc.hadoopConfiguration())
    for key, value in _WITHOUT_CHECKSUMS.items():
        configuration.set(key, value)
    parquet = jvm.org.apache.parquet
    file = parquet.hadoop.util.HadoopInputFile.fromPath(jvm.org.apache.hadoop.fs.Path(str(path)), configuration)
    footer = parquet.hadoop.ParquetFileReader.open(file)
    try:
        message = footer.getFooter().getFileMetaData().getSchema()
    finally:
        footer.close()
    fields = jvm.java.util.ArrayList()
    for column in wanted:
        fields.add(message.getType(message.getFieldIndex(column)))
    settings = session._jsparkSession.sessionState().conf()
    package = jvm.org.apache.spark.sql.execution.datasources.parquet
    converter = package.ParquetToSparkSchemaConverter(settings)
    chosen = parquet.schema.MessageType(message.getName(), fields)
    return T.StructType.fromJson(json.loads(converter.convert(chosen).json()))


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
    unknown = raise_in_spark(F.concat(F.lit("a row comes from an unknown file: "), path))
    kept = [F.when(F.col(_PATH).isNull(), unknown).otherwise(F.col(name)) for name in names]
    return joined.select(*rows.columns[:-1], *kept)


def _readable(rows: NeutralFrame, name: str, kind: ParquetColumn, uri: Column) -> Column:
    """Return a column with its values checked, or converted, where Spark only takes them as they are.

    Args:
        rows: The rows.
        name: The column.
        kind: Its type in the files.
        uri: The URI of a row's file; input_file_name() counts as a function whose value changes.
    """
    column = rows.column(name)
    if kind.nanoseconds:
        return _rounded(rows.neutral(name), in_utc=kind.in_utc).alias(rows.neutral(name))
    if isinstance(rows.type_of(name), T.StringType):
        return _valid_text(column, name, uri).alias(rows.neutral(name))
    return column


def _rounded(column: str, *, in_utc: bool) -> Column:
    """Return a timestamp of a column of nanoseconds, rounded half up to microseconds; no step can overflow."""
    rounding = f"CASE WHEN {column} % 1000 >= 500 THEN 1 WHEN {column} % 1000 < -500 THEN -1 ELSE 0 END"
    time = F.expr(f"timestamp_micros({column} div 1000 + {rounding})")
    return time if in_utc else time.cast("timestamp_ntz")


def _valid_text(column: Column, name: str, uri: Column) -> Column:
    """Return a column of text with a check: text that is not UTF-8, which Parquet does not verify, fails the job."""
    path = F.url_decode(F.replace(F.regexp_replace(uri, "^file:(//)?", ""), F.lit("+"), F.lit("%2B")))
    failure = raise_in_spark(
        F.concat(path, F.lit(f": column {name}: holds text that is not UTF-8; write the file again"))
    )
    return F.when(column.isNull() | F.is_valid_utf8(column), column).otherwise(failure)
