"""Transport of Farandole's errors out of Spark, and Spark's own errors in plain words.

Spark passes an error on as text only. `ErrorTransport` packs an error of Farandole into a line of JSON in this text,
from which `decode_error` restores it on the driver.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column
from pyspark.sql import functions as F

from farandole.errors import ERRORS, FarandoleError, PreparationError
from farandole.ingest.readers.row_batch import MalformedRowError
from farandole.storage import Location

SPARK_ERRORS = (PySparkException, Py4JError, ConnectionError)
"""Errors that Spark raises on the driver; the last one if its JVM has ended."""

ERROR_MARK = "@farandole-error "
"""Prefix of a packed error in the text of a failure."""

_CONDITION = re.compile(r"\[[A-Z][A-Z0-9_]+(\.[A-Z0-9_]+)*\] .+")
"""Start of Spark's messages about a known condition: `[DIVIDE_BY_ZERO] Division by zero. …`."""
_CODE = re.compile(r"^\[[A-Z][A-Z0-9_]+(\.[A-Z0-9_]+)*\] ")
_CALL = re.compile(r"An error occurred while calling [\w.$:]+")
_JAVA_CLASS = re.compile(r"^(Caused by: |: )?([\w$]+\.)+[\w$]*(Exception|Error|Throwable)(: |$)")
_LOST_TASK = re.compile(
    r"^Job aborted due to stage failure: .*?most recent failure: Lost task .*?\(TID \d+\) \(.*?\): "
)

_TYPES: dict[str, type[FarandoleError]] = {**ERRORS, MalformedRowError.__name__: MalformedRowError}


class ErrorTransport:
    """Context manager that packs Farandole's errors, and a full disk, into text that `decode_error` understands.

    Args:
        directory: The dataset directory that the block writes to, if it writes to one.
        scratch: The temporary directory that the block writes to, if it writes to one.
    """

    def __init__(self, directory: Location | None = None, *, scratch: Path | None = None) -> None:
        # Shards for a remote directory are first written to this machine's temporary directory.
        self._directory = Path(tempfile.gettempdir()) if isinstance(directory, str) else directory
        self._scratch = scratch

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error = PreparationError(self._disk_full_message(error))
        if isinstance(error, FarandoleError):
            packed = json.dumps({"kind": type(error).__name__, "message": str(error)})
            raise RuntimeError(ERROR_MARK + packed) from error  # noqa: TRY004 - not about a type

    def _disk_full_message(self, error: OSError) -> str:
        reason = os.strerror(error.errno or errno.ENOSPC)
        if self._scratch is not None:
            return f"{self._scratch}: {reason}; free some space, or set SPARK_LOCAL_DIRS to a directory with more"
        location = self._directory or error.filename
        return f"data.output: {location}: {reason}; free some space, or choose another data.output"


def decode_error(text: str) -> FarandoleError | None:
    """Return the error that a worker packed into the text of a failure, None if there is none."""
    _, mark, rest = text.partition(ERROR_MARK)
    if not mark:
        return None
    data, _ = json.JSONDecoder().raw_decode(rest)
    return _TYPES[data["kind"]](data["message"], detail=text)


def raise_in_spark(message: Column) -> Column:
    """Return an expression that fails the Spark job with a `DataError`."""
    packed = F.to_json(F.struct(F.lit("DataError").alias("kind"), message.alias("message")))
    return F.raise_error(F.concat(F.lit(ERROR_MARK), packed))


def plain_message(text: str) -> str:
    """Return Spark's message without the plan, the codes and the advice to change settings."""
    text = text.split("\n\nJVM stacktrace")[0].split(";\n")[0].split("\n== ")[0]
    text = re.sub(r" ?SQLSTATE: \w+", "", " ".join(text.split())).replace(".;", ";")
    return _CODE.sub("", re.sub(r" ?[^.]*\"spark\.[\w.]+\"[^.]*\.", "", text))


def headline(text: str) -> str:
    """Return the first informative line of Spark's message, without stack traces and the names of Java's classes."""
    condition = _CONDITION.search(text)
    if condition:
        return plain_message(condition[0])[:400]
    lines = [line.strip() for line in text.splitlines() if not line.strip().startswith(("at ", "... "))]
    causes = [line for line in lines if line.startswith("Caused by: ")]
    for line in [*reversed(causes), *lines]:
        reason = _LOST_TASK.sub("", _CALL.sub("", _JAVA_CLASS.sub("", line))).strip(" .:")
        if reason:
            return plain_message(_JAVA_CLASS.sub("", reason))[:400]
    return "no message"
