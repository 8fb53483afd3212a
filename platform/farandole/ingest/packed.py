"""Record batches as single binary values, which Spark keeps and shuffles without looking at their rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

_PIECE_BYTES = 16 * 2**20
"""About how much a packed value holds before it is compressed: Spark copies values whole, and cannot pass 2 GiB."""
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


def pack(batch: pa.RecordBatch) -> pa.BinaryArray:
    """A batch as one binary value."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_COMPRESSED) as stream:
        stream.write_batch(batch)
    content = sink.getvalue()
    offsets = pa.py_buffer(np.array([0, content.size], dtype=np.int32))
    return pa.Array.from_buffers(pa.binary(), 1, [None, offsets, content])


def packed_pieces(batch: pa.RecordBatch) -> Iterator[pa.BinaryArray]:
    """A batch as binary values of moderate size."""
    pieces = batch.nbytes // _PIECE_BYTES + 1
    rows = -(-batch.num_rows // pieces)
    for start in range(0, batch.num_rows, max(1, rows)):
        yield pack(batch.slice(start, rows))


def unpack(value: pa.BinaryScalar) -> pa.RecordBatch:
    """The batch that was packed."""
    return pa.ipc.open_stream(value.as_buffer()).read_next_batch()
