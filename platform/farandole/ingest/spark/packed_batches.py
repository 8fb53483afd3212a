"""Record batches as single binary values, which Spark keeps and shuffles without looking at their rows.

A value is the batch itself, or says where in a file of this machine the batch lies: then Spark carries a few bytes,
and whoever unpacks the value maps the file.
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
"""About how much a packed value holds before it is compressed: Spark copies values whole, and cannot pass 2 GiB."""
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")
_REFERENCE = b"@"
"""What a value begins with that says where its batch lies; a batch itself begins with four bytes of 255."""
_ALIGNED_BYTES = 64


class BatchPacker:
    """Packs batches. A context manager: what it wrote can be read when it is closed.

    Args:
        folder: Where batches are written to, if all that unpack them run on this machine; None: values hold them.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / f"{uuid.uuid4().hex}.arrow" if folder is not None else None
        self._file: pa.NativeFile | None = None

    def __enter__(self) -> BatchPacker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # nothing is buffered: a full disk was told when a batch was written
                self._file.close()

    def pack(self, batch: pa.RecordBatch) -> pa.BinaryArray:
        """A batch as one binary value."""
        if self._path is None:
            sink = pa.BufferOutputStream()
            _write(sink, batch, _COMPRESSED)
            return _one_value(sink.getvalue())
        if self._file is None:
            self._file = pa.OSFile(str(self._path), "wb")
        self._file.write(bytes(-self._file.tell() % _ALIGNED_BYTES))
        start = self._file.tell()
        _write(self._file, batch, None)
        place = json.dumps([str(self._path), start, self._file.tell() - start]).encode()
        return _one_value(pa.py_buffer(_REFERENCE + place))

    def pieces(self, batch: pa.RecordBatch) -> Iterator[pa.BinaryArray]:
        """A batch as binary values of moderate size."""
        number = batch.nbytes // _PIECE_BYTES + 1
        rows = -(-batch.num_rows // number)
        for start in range(0, batch.num_rows, max(1, rows)):
            yield self.pack(batch.slice(start, rows))


def unpack_batch(value: pa.BinaryScalar) -> pa.RecordBatch:
    """The batch that was packed."""
    content = value.as_buffer()
    if content[:1].to_pybytes() == _REFERENCE:
        path, start, size = json.loads(content[1:].to_pybytes())
        with pa.memory_map(path) as file:
            file.seek(start)
            content = file.read_buffer(size)  # holds the mapping, also when the file is closed
    return pa.ipc.open_stream(content).read_next_batch()


def _write(sink: pa.NativeFile, batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None) -> None:
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)


def _one_value(content: pa.Buffer) -> pa.BinaryArray:
    offsets = pa.py_buffer(np.array([0, content.size], dtype=np.int32))
    return pa.Array.from_buffers(pa.binary(), 1, [None, offsets, content])
