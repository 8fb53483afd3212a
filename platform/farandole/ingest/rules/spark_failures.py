"""Turns a failure inside Spark into what the user can mend: file, line, column, value, count, remedy.

The reading itself stays fast: sources are read once, and the first malformed row fails the job. Only then are they
read a second time, to the end, to find out what is wrong and how often.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from farandole.errors import DataError, FarandoleError, PreparationError
from farandole.ingest.readers.image_reader import ImageReader
from farandole.ingest.readers.row_batch import MalformedRowError
from farandole.ingest.rules.malformed import describe_malformed
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.dataframes import plain_message
from farandole.ingest.spark.row_frames import make_reader
from farandole.ingest.spark.tasks import decode_error
from farandole.spec import ImageSource, Job, RowSource

_CONDITION = re.compile(r"\[[A-Z][A-Z0-9_]+(\.[A-Z0-9_]+)*\] .+")
"""How a message of Spark starts that says what is wrong: `[DIVIDE_BY_ZERO] Division by zero. …`."""
_UNREADABLE = re.compile(r"\[FAILED_READ_FILE\.\w+\] Encountered error while reading file (?P<uri>\S+)\. (?P<why>.*)")


def explain_failure(error: Exception, session: SparkSession, job: Job, files: dict[str, SourceFiles]) -> FarandoleError:
    """The error of ours that a failed Spark job stands for."""
    text = str(error)
    ours = decode_error(text)
    has_images = any(isinstance(source, ImageSource) for source in job.data.sources.values())
    if isinstance(ours, MalformedRowError) or (has_images and isinstance(ours, DataError)):
        try:
            found = _problems(session, job, files)
        except (PySparkException, Py4JError, ConnectionError) as second:
            return decode_error(str(second)) or ours
        return DataError("\n".join(found), detail=text) if found else ours
    if ours is not None:
        return ours
    if isinstance(error, ConnectionError | Py4JNetworkError):
        return PreparationError(
            "data.memory: Spark's Java process ended (the kernel does this when memory runs out);"
            f" {job.data.memory} may be more than this machine has left",
            detail=text,
        )
    if "No space left on device" in text:
        return PreparationError(
            "data: the disk with Spark's scratch space is full; free some space, or point SPARK_LOCAL_DIRS at another"
            " disk",
            detail=text,
        )
    if "java.lang.OutOfMemoryError" in text:
        return PreparationError(f"data.memory: {job.data.memory} was not enough; give Spark more", detail=text)
    return _generic(error, text)


def _generic(error: Exception, text: str) -> FarandoleError:
    unreadable = _UNREADABLE.search(text)
    if unreadable:
        why = plain_message(unreadable["why"]) or "its content is damaged"
        return DataError(f"{_local(unreadable['uri'])}: cannot be read: {why}; write the file again", detail=text)
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    reason = _headline(text)
    if condition is None or condition.startswith(("INTERNAL_ERROR", "_LEGACY")) or "Job aborted" in reason:
        return PreparationError(f"data: Spark failed: {reason}; see --debug", detail=text)
    return DataError(f"data.query: {reason}", detail=text)


def _problems(session: SparkSession, job: Job, files: dict[str, SourceFiles]) -> list[str]:
    """What is wrong with the sources: all malformed records, by source, reason and column."""
    found = []
    for name, source in job.data.sources.items():
        if isinstance(source, RowSource) and source.malformed == "fail":
            reader, tasks = make_reader(session, name, source, files[name])
            if isinstance(reader, ImageReader):
                reader = replace(reader, check=True)
            found += describe_malformed(
                session, name, source, reader, tasks, show_values=not job.data.privacy.protected
            )
    return found


def _local(uri: str) -> Path:
    """The file that Spark names by a URI."""
    return Path(unquote(urlsplit(uri).path))


def _headline(text: str) -> str:
    """The first telling line of Spark's message, without its stack trace."""
    telling = _CONDITION.search(text)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("at ")]
    return plain_message(telling[0] if telling else (lines or ["no message"])[0])[:400]
