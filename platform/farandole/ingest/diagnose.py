"""Turns a failure inside Spark into what the user can mend: file, line, column, value, count, remedy.

The reading itself stays fast: sources are read once, and any wrong value fails the job. Only then are they read a
second time, leniently, to find out what it was.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from farandole.errors import DataError, FarandoleError, PreparationFailed
from farandole.ingest.executor import error_in
from farandole.ingest.files import SourceFiles, check_header
from farandole.ingest.frames import CORRUPT, plain, present_text, read_text, try_cast_text
from farandole.spec import CsvSource, Job

_CONDITION = re.compile(r"\[[A-Z][A-Z0-9_]+(\.[A-Z0-9_]+)*\] .+")
"""How a message of Spark starts that says what is wrong: `[DIVIDE_BY_ZERO] Division by zero. …`."""
_UNREADABLE = re.compile(r"\[FAILED_READ_FILE\.\w+\] Encountered error while reading file (?P<uri>\S+)\. (?P<why>.*)")


def explain(error: Exception, session: SparkSession, job: Job, files: dict[str, SourceFiles]) -> FarandoleError:
    """The error of ours that a failed Spark job stands for."""
    text = str(error)
    ours = error_in(text)
    if ours is not None:
        return ours
    if isinstance(error, ConnectionError | Py4JNetworkError):
        return PreparationFailed(
            "data.memory: Spark's Java process ended (the kernel does this when memory runs out);"
            f" {job.data.memory} may be more than this machine has left",
            detail=text,
        )
    if "No space left on device" in text:
        return PreparationFailed(
            "data: the disk with Spark's scratch space is full; free some space, or point SPARK_LOCAL_DIRS at another"
            " disk",
            detail=text,
        )
    if "java.lang.OutOfMemoryError" in text:
        return PreparationFailed(f"data.memory: {job.data.memory} was not enough; give Spark more", detail=text)
    try:
        problems = [
            problem
            for name, source in job.data.sources.items()
            if isinstance(source, CsvSource)
            for problem in _problems(session, name, source, files[name])
        ]
    except (PySparkException, Py4JError, ConnectionError) as second:
        problems, text = [], f"{text}\n\nWhile looking for the cause: {second}"
    if problems:
        return DataError("\n".join(problems), detail=text)
    return _generic(error, text)


def _generic(error: Exception, text: str) -> FarandoleError:
    unreadable = _UNREADABLE.search(text)
    if unreadable:
        why = plain(unreadable["why"]) or "its content is damaged"
        return DataError(f"{_local(unreadable['uri'])}: cannot be read: {why}; write the file again", detail=text)
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    reason = _headline(text)
    if condition is None or condition.startswith(("INTERNAL_ERROR", "_LEGACY")) or "Job aborted" in reason:
        return PreparationFailed(f"data: Spark failed: {reason}; see --debug", detail=text)
    return DataError(f"data.query: {reason}", detail=text)


def _problems(session: SparkSession, name: str, source: CsvSource, files: SourceFiles) -> list[str]:
    """What is wrong with one CSV source: one line for rows with a wrong shape, and one for each column."""
    header = check_header(name, source, files)
    text = read_text(session, source, files, header, mode="PERMISSIVE").withColumn("_file", F.input_file_name())
    # Spark refuses to look at the column of corrupt records alone, unless the frame is cached.
    text = text.cache()
    try:
        broken = text.where(F.col(CORRUPT).isNotNull())
        first = broken.select("_file", CORRUPT).first()
        if first is not None:
            return [_wrong_shape(source, header, first["_file"], first[CORRUPT], broken.count())]
        return _wrong_values(text, name, source, files)
    finally:
        text.unpersist()


def _wrong_shape(source: CsvSource, header: list[str], uri: str, record: str, count: int) -> str:
    path = _local(uri)
    line = _line_of(path, record)
    place = f"{path}: line {line}" if line else str(path)
    fields = len(next(csv.reader([record], delimiter=source.separator, quotechar=source.quote)))
    shown = record if len(record) <= 120 else record[:117] + "..."
    return (
        f"{place}: {fields} fields where the header has {len(header)}: {shown!r} ({count} such rows);"
        " mend the rows, or set `separator` or `quote` of the source"
    )


def _wrong_values(text, name: str, source: CsvSource, files: SourceFiles) -> list[str]:  # type: ignore[no-untyped-def]
    problems = []
    for column, kind in (source.columns or {}).items():
        if kind == "string":
            continue
        value = present_text(source, column)
        wrong = text.where(value.isNotNull() & try_cast_text(source, column, kind).isNull())
        # One row per distinct wrong value, the most frequent first.
        worst = wrong.groupBy(value.alias("value")).agg(F.count("*").alias("rows"), F.min("_file").alias("file"))
        found = worst.orderBy(F.desc("rows"), "value").limit(4).collect()
        if not found:
            continue
        rows = wrong.count()
        values = ", ".join(repr(row["value"]) for row in found[:3]) + (", …" if len(found) > 3 else "")
        advice = f"null_values: [{json.dumps(found[0]['value'])}]"
        problems.append(
            f"{_local(found[0]['file'])}: column {column}: {values} in {rows} rows is not {kind}; if it stands for a"
            f" missing value, write `{advice}` in data.sources.{name}, or declare the column as string"
        )
    return problems


def _local(uri: str) -> Path:
    """The file that Spark names by a URI."""
    return Path(unquote(urlsplit(uri).path))


def _line_of(path: Path, record: str) -> int | None:
    """The number of the first line that reads `record`."""
    wanted = record.rstrip("\r\n")
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            for number, line in enumerate(stream.read().decode("utf-8", errors="replace").splitlines(), start=1):
                if line == wanted:
                    return number
    except (OSError, pa.ArrowException):
        return None  # the message then names the file alone
    return None


def _headline(text: str) -> str:
    """The first telling line of Spark's message, without its stack trace."""
    telling = _CONDITION.search(text)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("at ")]
    return plain(telling[0] if telling else (lines or ["no message"])[0])[:400]
