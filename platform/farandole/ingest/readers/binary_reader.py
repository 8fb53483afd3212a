"""Reader of binary files of fixed-length records, by NumPy's structured types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from farandole.errors import DataError
from farandole.ingest.readers.byte_ranges import CHUNK_BYTES, ByteRange, open_decompressed
from farandole.ingest.readers.row_batch import MalformedRecord, RowBatch
from farandole.preprocess.values import arrow_type
from farandole.spec import RecordSource

_SQL_TYPES = {
    "uint8": "smallint",  # SQL has no unsigned numbers
    "int8": "smallint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float32": "float",
    "float64": "double",
}


class BinaryReader:
    """Reader of one source of fixed-length records.

    Args:
        source: The source.
    """

    def __init__(self, source: RecordSource) -> None:
        self._source = source
        self.types = {column: _SQL_TYPES.get(kind, "binary") for column, kind in source.columns.items()}
        self.types |= {"file": "string", "record": "bigint"}
        self._record = np.dtype([(column, _numpy_type(kind, source)) for column, kind in source.columns.items()])

    def read(self, byte_range: ByteRange) -> Iterator[RowBatch]:
        """Read the records of a file; bytes behind the last whole record are a malformed record.

        Raises:
            DataError: The file cannot be read, or ends within its header.
        """
        size, first = self._record.itemsize, 0
        try:
            with open_decompressed(byte_range.path) as stream:
                header = stream.read(self._source.header_bytes)
                if len(header) < self._source.header_bytes:
                    raise DataError(
                        f"{byte_range.path}: has {len(header)} bytes, less than `header_bytes`"
                        f" ({self._source.header_bytes}); write the file again, or fix `header_bytes`"
                    )
                while data := stream.read(max(1, CHUNK_BYTES // size) * size):
                    whole = len(data) // size
                    records = np.frombuffer(data, self._record, count=whole)
                    yield RowBatch(
                        self._batch(records, byte_range, first), self._rest(data[whole * size :], byte_range)
                    )
                    first += whole
        except (OSError, EOFError, pa.ArrowException) as error:
            raise DataError(f"{byte_range.path}: cannot be read ({error}); write the file again") from error

    def _batch(self, records: np.ndarray, byte_range: ByteRange, first: int) -> pa.RecordBatch:
        columns: dict[str, Any] = {}
        for column, kind in self.types.items():
            if column == "file":
                columns[column] = pa.repeat(byte_range.path.name, len(records))
            elif column == "record":
                columns[column] = pa.array(np.arange(first, first + len(records), dtype=np.int64))
            elif kind == "binary":
                length = self._record[column].itemsize
                fixed = pa.py_buffer(np.ascontiguousarray(records[column]))
                columns[column] = pa.Array.from_buffers(pa.binary(length), len(records), [None, fixed]).cast(
                    pa.binary()
                )
            else:
                native = records[column].astype(records[column].dtype.newbyteorder("="))
                columns[column] = pa.array(native).cast(arrow_type(kind))
        return pa.record_batch(columns)

    def _rest(self, data: bytes, byte_range: ByteRange) -> list[MalformedRecord]:
        if not data:
            return []
        reason = f"the last {len(data)} bytes are not a whole record of {self._record.itemsize} bytes"
        return [MalformedRecord(str(byte_range.path), None, data, reason)]


def _numpy_type(kind: str, source: RecordSource) -> np.dtype:
    length = re.fullmatch(r"bytes\[(\d+)\]", kind)
    if length:
        return np.dtype(f"V{length[1]}")
    return np.dtype(kind).newbyteorder("<" if source.byte_order == "little" else ">")
