"""Explanation of failures inside Spark: file, line, column, value, count and remedy.

Reading stays fast: sources are read once, and the first malformed row fails the Spark job. Only then are they read a
second time, to the end, to find out what is malformed and how often.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from py4j.protocol import Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from farandole.errors import DataError, FarandoleError, PreparationError
from farandole.ingest.readers.image_reader import ImageReader
from farandole.ingest.readers.row_batch import MalformedRowError
from farandole.ingest.rules.malformed import describe_malformed
from farandole.ingest.sources.checksums import checksum_path
from farandole.ingest.sources.files import SourceFiles
from farandole.ingest.spark.error_transport import SPARK_ERRORS, decode_error, headline, plain_message
from farandole.ingest.spark.row_frames import make_reader
from farandole.preprocess import Preprocessing
from farandole.preprocess.image import ImageTransform
from farandole.spec import ImageSource, Job, RowSource

_CHECKSUM = re.compile(r"Checksum error: (?P<uri>\S+) at (?P<offset>\d+)")
_UNREADABLE = re.compile(r"\[FAILED_READ_FILE\.\w+\] Encountered error while reading file (?P<uri>\S+)\. (?P<why>.*)")


@dataclass(frozen=True)
class Explanation:
    """The error that a failure of Spark means for the user.

    Args:
        error: The error.
        quotes_spark: Whether it quotes a message of Spark.
    """

    error: FarandoleError
    quotes_spark: bool = False


def explain_failure(error: Exception, session: SparkSession, job: Job, files: Mapping[str, SourceFiles]) -> Explanation:
    """Explain the failure of a Spark job.

    Args:
        error: Spark's error.
        session: The session, which reads the sources again if a record is malformed.
        job: The job.
        files: The files of its sources.
    """
    text = str(error)
    packed = explain_packed(text, session, job, files)
    if packed is not None:
        return Explanation(packed)
    if isinstance(error, ConnectionError | Py4JNetworkError):
        return _preparation_error(
            "data.memory: Spark's Java process ended (the kernel does this when memory runs out);"
            f" {job.data.memory} may be more than this machine has left",
            text,
        )
    if "No space left on device" in text:
        return _preparation_error(
            "data: the disk with Spark's scratch space is full; free some space, or point SPARK_LOCAL_DIRS at another"
            " disk",
            text,
        )
    if "java.lang.OutOfMemoryError" in text:
        return _preparation_error(f"data.memory: {job.data.memory} was not enough; give Spark more", text)
    return _explain_message(error, text, job)


def explain_packed(
    text: str, session: SparkSession | None, job: Job, files: Mapping[str, SourceFiles]
) -> FarandoleError | None:
    """Return the error that a worker packed into the text of a failure, None if there is none.

    If a record is malformed, the sources are read again, and the error describes all such records.

    Args:
        text: The text.
        session: The session that reads the sources again; None: this process reads them.
        job: The job.
        files: The files of its sources.
    """
    decoded = decode_error(text)
    has_images = any(isinstance(source, ImageSource) for source in job.data.sources.values())
    if isinstance(decoded, MalformedRowError) or (has_images and isinstance(decoded, DataError)):
        try:
            found = _describe_all_malformed(session, job, files)
        except SPARK_ERRORS as second:
            return decode_error(str(second)) or decoded
        return DataError("\n".join(found), detail=text) if found else decoded
    return decoded


def _preparation_error(message: str, text: str) -> Explanation:
    return Explanation(PreparationError(message, detail=text))


def _explain_message(error: Exception, text: str, job: Job) -> Explanation:
    damaged = _CHECKSUM.search(text)
    if damaged:
        path = _local_path(damaged["uri"])
        message = (
            f"{path}: differs from its checksums in {checksum_path(path)} at byte {damaged['offset']}; it is damaged,"
            " or a program changed it that writes no checksums: write the file again, or remove the .crc file if the"
            " file is whole"
        )
        return Explanation(DataError(message, detail=text))
    unreadable = _UNREADABLE.search(text)
    if unreadable:
        why = plain_message(unreadable["why"]) or "its content is damaged"
        path = _local_path(unreadable["uri"])
        return Explanation(DataError(f"{path}: cannot be read: {why}; write the file again", detail=text))
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    reason = headline(text)
    if condition is None or condition.startswith(("INTERNAL_ERROR", "_LEGACY")) or "Job aborted" in reason:
        failed = PreparationError(f"data: Spark failed: {reason}; see --debug", detail=text)
        return Explanation(failed, quotes_spark=True)
    field_path = "data.query" if job.data.query is not None else "data.transform" if job.data.transform else "data"
    return Explanation(DataError(f"{field_path}: {reason}", detail=text), quotes_spark=True)


def _describe_all_malformed(session: SparkSession | None, job: Job, files: Mapping[str, SourceFiles]) -> list[str]:
    """Describe the malformed records of all sources that allow none, by source, reason and column."""
    found = []
    show_values = not job.data.privacy.protected
    transforms = Preprocessing.from_spec(job.data).transforms
    features = tuple(each for each in transforms if isinstance(each, ImageTransform) and each.spec.pixels == "encoded")
    for name, source in job.data.sources.items():
        if isinstance(source, RowSource) and source.malformed == "fail":
            reader, tasks = make_reader(session, name, source, files[name], job.data.wanted_source_types)
            if isinstance(reader, ImageReader):
                reader = replace(reader, check=True, features=features)
            found += describe_malformed(session, name, source, reader, tasks, show_values=show_values)
    return found


def _local_path(uri: str) -> Path:
    """Return the local file that Spark names by a URI."""
    return Path(unquote(urlsplit(uri).path))
