"""What reading a source gives: rows in their declared types, and what could not be read, with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import ByteRange
from farandole.ingest.readers.text_types import convert_text


@dataclass(frozen=True)
class MalformedRecord:
    """A record that cannot be read as declared.

    Args:
        file: Its file.
        line: The number of its first line, from 1 on; None: it is not a line of text.
        record: Its bytes, in UTF-8 where they are text.
        reason: What is wrong, in words that name no value.
        column: The column that is wrong; None: the record as a whole.
        found: The wrong value, or what tells more than the reason does. Never kept, for it may be personal.
    """

    file: str
    line: int | None
    record: bytes
    reason: str
    column: str | None = None
    found: str = ""


@dataclass(frozen=True)
class RowBatch:
    """What became of some records.

    Args:
        batch: The rows that can be read.
        malformed: The records that cannot.
    """

    batch: pa.RecordBatch
    malformed: list[MalformedRecord] = field(default_factory=list)


class RowReader(Protocol):
    """Reads the files of one source in one format; it is sent to Spark's workers."""

    @property
    def types(self) -> dict[str, str]:
        """Column to its SQL type."""

    def read(self, part: ByteRange) -> Iterator[RowBatch]:
        """The rows of a part of a file."""


class MalformedRowError(DataError):
    """A record that cannot be read, where none may be left out."""


def convert_columns(
    texts: pa.Table, types: dict[str, str], patterns: dict[str, str | None]
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Columns in their types.

    Args:
        texts: The columns; those of dates, timestamps and of all CSV are text.
        types: Column to its SQL type.
        patterns: SQL type to the pattern that its texts are written in.

    Returns:
        The rows, with nulls where a value does not fit; and each row that has such a value to the first such column.
    """
    arrays: list[pa.Array] = []
    wrong: dict[int, str] = {}
    for column, kind in types.items():
        values = texts.column(column).combine_chunks()
        if pa.types.is_string(values.type):
            values, misfits = convert_text(values, kind, patterns.get(kind))
            for row in [] if misfits is None else np.flatnonzero(misfits).tolist():
                wrong.setdefault(row, column)
        arrays.append(values)
    return pa.record_batch(arrays, names=list(types)), wrong
