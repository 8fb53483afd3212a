"""Writer of malformed records: one Parquet file beside the shards, named by its content."""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from farandole.shards.manifest import QuarantineFile
from farandole.storage import Location, open_storage

QUARANTINE = "quarantine"
"""The folder in the dataset directory."""
_ROW_GROUP_ROWS = 10_000
_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("record", pa.binary()),
        ("reason", pa.string()),
        ("column", pa.string()),
    ]
)


class QuarantineWriter:
    """Collects malformed records and writes them to `quarantine/SOURCE-CHECKSUM.parquet`.

    The same records in the same order give the same bytes, however they are cut into batches. If the context ends
    before `close`, the draft is removed.

    Args:
        location: The dataset directory.
        source: The source's name.
    """

    def __init__(self, location: Location, source: str) -> None:
        self._storage = open_storage(location)
        stem = re.sub(r"[^\w.]", "_", source)
        self._stem = f"{QUARANTINE}/{stem}"
        self._draft = self._storage.draft(self._stem)
        self._writer = pq.ParquetWriter(self._draft, _SCHEMA, compression="zstd")
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draft.unlink(missing_ok=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Add records with the columns source, file, line, record, reason and column."""
        self._pending.append(batch.cast(_SCHEMA))
        self._pending_rows += len(batch)
        if self._pending_rows >= _ROW_GROUP_ROWS:
            self._flush(last=False)

    def close(self) -> QuarantineFile:
        """Write the remaining records, flush the file to the disk and publish it."""
        self._flush(last=True)
        self._writer.close()
        with self._draft.open("rb+") as file:
            os.fsync(file.fileno())
            content = xxhash.xxh3_128()
            while data := file.read(1 << 20):
                content.update(data)
            size = file.tell()
        checksum = content.hexdigest()
        name = f"{self._stem}-{checksum[:16]}.parquet"
        self._storage.publish(self._draft, name)
        return QuarantineFile(file=name, rows=self._rows, bytes=size, xxh3_128=checksum)

    def _flush(self, *, last: bool) -> None:
        """Write complete row groups, and the rest if it is the last call."""
        table = pa.Table.from_batches(self._pending, _SCHEMA)
        whole = len(table) if last else len(table) - len(table) % _ROW_GROUP_ROWS
        for start in range(0, whole, _ROW_GROUP_ROWS):
            self._writer.write_table(table.slice(start, min(_ROW_GROUP_ROWS, whole - start)).combine_chunks())
        rest = table.slice(whole)
        self._pending, self._pending_rows, self._rows = rest.to_batches(), len(rest), self._rows + whole
