"""Results of reading a source: batches of typed rows, and the records that could not be read, with their positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.preprocess.text_types import convert_text

WRONG_FIELD_COUNT = "wrong number of fields"
MISPLACED_QUOTE = "a quote out of place"
NUL_BYTE = "NUL byte"
NOT_JSON = "not JSON"
NOT_OBJECT = "not an object"


def not_text(encoding: str) -> str:
    """Return the reason of a record that is not text of its encoding."""
    return f"not {encoding} text"


@dataclass(frozen=True)
class MalformedRecord:
    """A record that cannot be read as declared.

    Args:
        file: Its file.
        line: The number of its first line, from 1; None if it is not a line of text.
        record: Its bytes, in UTF-8 if they are text.
        reason: The fault, in words that contain no value.
        column: The column with the fault; None: the record as a whole.
        found: The wrong value, or details about the reason. Never stored, because it may be personal.
    """

    file: str
    line: int | None
    record: bytes
    reason: str
    column: str | None = None
    found: str = ""

    @property
    def position(self) -> str:
        """The file and the line, as errors name them."""
        return self.file if self.line is None else f"{self.file}: line {self.line}"


@dataclass(frozen=True)
class RowBatch:
    """The rows of some consecutive records.

    Args:
        batch: The rows that can be read.
        malformed: The records that cannot.
    """

    batch: pa.RecordBatch
    malformed: list[MalformedRecord] = field(default_factory=list)


class RowReader(Protocol):
    """Reader of one source's files; it is sent to Spark's Python workers."""

    @property
    def types(self) -> dict[str, str]:
        """Column to SQL type."""

    def read(self, byte_range: ByteRange) -> Iterator[RowBatch]:
        """Read the rows of a byte range."""


class MalformedRowError(DataError):
    """A record that cannot be read, in a source that allows none."""


def convert_columns(
    texts: pa.Table, types: dict[str, str], patterns: dict[str, str | None]
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Convert columns of text to their types.

    Args:
        texts: The columns. Dates, timestamps and all columns of CSV files are text; others are returned as they are.
        types: Column to SQL type.
        patterns: SQL type to the pattern that its texts are written in.

    Returns:
        The rows, null where a value does not fit its type; and the index of each row with such a value, with the first
        such column.
    """
    arrays: list[pa.Array] = []
    wrong: dict[int, str] = {}
    for column, sql_type in types.items():
        values = texts.column(column).combine_chunks()
        if pa.types.is_string(values.type):
            values, misfits = convert_text(values, sql_type, patterns.get(sql_type))
            for row in [] if misfits is None else np.flatnonzero(misfits).tolist():
                wrong.setdefault(row, column)
        arrays.append(values)
    return pa.record_batch(arrays, names=list(types)), wrong
