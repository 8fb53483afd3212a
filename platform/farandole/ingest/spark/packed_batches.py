"""Record batches as single binary values, which Spark stores and shuffles without touching their rows.

A value is the batch itself, or a reference to a file of this machine that contains the batch: then Spark carries a few
bytes, and the task that unpacks the value maps the file.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

_PIECE_BYTES = 16 * 2**20
"""Approximate size of a packed value before compression: Spark copies values whole, and cannot handle 2 GiB."""
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")
_REFERENCE = b"@"
"""First byte of a reference; a batch itself begins with four bytes of 255."""
_ALIGNED_BYTES = 64


class BatchPacker:
    """Context manager that packs batches. The values can be unpacked after it is closed.

    Args:
        folder: The directory for the batches, if all tasks that unpack them run on this machine; None: the values hold
            the batches.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / f"{uuid.uuid4().hex}.arrow" if folder is not None else None
        self._file: pa.NativeFile | None = None

    def __enter__(self) -> BatchPacker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # nothing is buffered: a full disk raised an error when a batch was written
                self._file.close()

    def pack(self, batch: pa.RecordBatch) -> pa.BinaryArray:
        """Pack a batch into an array of one binary value."""
        if self._path is None:
            sink = pa.BufferOutputStream()
            _write(sink, batch, _COMPRESSED)
            return _one_value(sink.getvalue())
        if self._file is None:
            self._file = pa.OSFile(str(self._path), "wb")
        self._file.write(bytes(-self._file.tell() % _ALIGNED_BYTES))
        start = self._file.tell()
        _write(self._file, batch, None)
        reference = json.dumps([str(self._path), start, self._file.tell() - start]).encode()
        return _one_value(pa.py_buffer(_REFERENCE + reference))

    def pieces(self, batch: pa.RecordBatch) -> Iterator[pa.BinaryArray]:
        """Pack a batch into values of moderate size."""
        number = batch.nbytes // _PIECE_BYTES + 1
        rows = -(-batch.num_rows // number)
        for start in range(0, batch.num_rows, max(1, rows)):
            yield self.pack(batch.slice(start, rows))


def unpack_batch(value: pa.BinaryScalar) -> pa.RecordBatch:
    """Return the batch of a packed value."""
    content = value.as_buffer()
    if content[:1].to_pybytes() == _REFERENCE:
        path, start, size = json.loads(content[1:].to_pybytes())
        with pa.memory_map(path) as file:
            file.seek(start)
            content = file.read_buffer(size)  # keeps the mapping alive after the file is closed
    return pa.ipc.open_stream(content).read_next_batch()


def _write(sink: pa.NativeFile, batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None) -> None:
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)


def _one_value(content: pa.Buffer) -> pa.BinaryArray:
    offsets = pa.py_buffer(np.array([0, content.size], dtype=np.int32))
    return pa.Array.from_buffers(pa.binary(), 1, [None, offsets, content])
