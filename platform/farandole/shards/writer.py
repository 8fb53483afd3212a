"""Writer of shards: from arrays to record batches of a fixed number of rows, in a file named by its content."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from farandole.privacy import Secret
from farandole.shards.encryption import PieceCipher
from farandole.shards.manifest import BlockInfo, ShardInfo
from farandole.shards.schema import Schema
from farandole.storage import Location, open_storage


class ShardWriter:
    """Writer of one Arrow IPC file, uncompressed so that it can be memory-mapped.

    The file is drafted under a temporary name. Only `close` publishes it, under a name that ends in its checksum: two
    attempts of one task that write the same rows produce one file, and an attempt that dies leaves only a `.tmp`.

    Args:
        location: The dataset directory.
        split: The split, which is also the subdirectory.
        index: The shard's number in its split.
        schema: The columns.
        block_rows: Rows of a record batch; the last one may have fewer.
        secret: The key that encrypts the blocks; None: they are not encrypted.
    """

    def __init__(
        self, location: Location, split: str, index: int, schema: Schema, block_rows: int, secret: Secret | None = None
    ) -> None:
        self._storage = open_storage(location)
        self._stem = f"{split}/{index:05d}"
        self._schema = schema
        self._block_rows = block_rows
        self._pending: list[dict[str, np.ndarray]] = []
        self._pending_rows = 0
        self._blocks: list[BlockInfo] = []
        self._draft = self._storage.draft(self._stem)
        cipher = PieceCipher(secret, split, index, schema.fingerprint) if secret is not None else None
        self._sink = _HashingFile(self._draft) if cipher is None else _EncryptingFile(self._draft, cipher)
        self._writer = pa.ipc.new_file(pa.PythonFile(self._sink, mode="w"), schema.arrow)

    def write(self, columns: dict[str, np.ndarray]) -> None:
        """Add rows: `[rows, size]` for each group, `[rows]` for the label."""
        self._pending.append(columns)
        self._pending_rows += len(next(iter(columns.values())))
        if self._pending_rows >= self._block_rows:
            self._flush(last=False)

    def close(self) -> ShardInfo:
        """Write the remaining rows, flush the file to the disk and publish it."""
        self._flush(last=True)
        self._sink.start_block()
        self._writer.close()
        self._sink.end_block()
        checksum = self._sink.close_durably()
        name = f"{self._stem}-{checksum[:16]}.arrow"
        self._storage.publish(self._draft, name)
        return ShardInfo(
            file=name,
            rows=sum(block.rows for block in self._blocks),
            bytes=self._sink.size,
            xxh3_128=checksum,
            blocks=tuple(self._blocks),
            footer_xxh3_64=self._sink.block_checksum(),
        )

    def abandon(self) -> None:
        """Remove the draft."""
        with suppress(OSError):  # on a full disk, the buffered bytes cannot be written
            self._sink.close()
        self._draft.unlink(missing_ok=True)

    def _flush(self, *, last: bool) -> None:
        """Write all complete pending blocks, and the rest if it is the last call."""
        rows = self._pending_rows
        stop = rows if last else rows // self._block_rows * self._block_rows
        if not stop:
            return
        joined = {name: np.concatenate([part[name] for part in self._pending]) for name in self._pending[0]}
        for start in range(0, stop, self._block_rows):
            end = min(start + self._block_rows, stop)
            self._write_block({name: values[start:end] for name, values in joined.items()})
        self._pending = [{name: values[stop:].copy() for name, values in joined.items()}] if stop < rows else []
        self._pending_rows = rows - stop

    def _write_block(self, columns: dict[str, np.ndarray]) -> None:
        # Arrow writes the file's header together with the first batch, so the first block includes it.
        offset = self._sink.start_block()
        self._writer.write_batch(self._schema.record_batch(columns))
        self._sink.end_block()
        self._blocks.append(
            BlockInfo(
                rows=len(next(iter(columns.values()))),
                offset=offset,
                bytes=self._sink.size - offset,
                xxh3_64=self._sink.block_checksum(),
            )
        )


_WRITE_BYTES = 8 * 2**20
"""A file is written in pieces of this size, at multiples of it. Linux (ext4, XFS, Btrfs) then caches it in pages of
2 MiB, and a loader that maps it has one page fault instead of 512."""


class _HashingFile:
    """A file that computes its size, the xxh3-128 of all its bytes and the xxh3-64 of the present block."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._pending = bytearray()
        self._all = xxhash.xxh3_128()
        self._block = xxhash.xxh3_64()
        self.size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._pending += data
        self._drain(len(self._pending) // _WRITE_BYTES * _WRITE_BYTES)
        self._all.update(data)
        self._block.update(data)
        self.size += len(data)
        return len(data)

    def start_block(self) -> int:
        """Begin a block, and return its offset in the file."""
        self._block = xxhash.xxh3_64()
        return self.size

    def end_block(self) -> None:
        """End the block."""

    def block_checksum(self) -> str:
        return self._block.hexdigest()

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Do nothing: only complete pieces are written before the end."""

    def close(self) -> None:
        self._file.close()
        self.closed = True

    def close_durably(self) -> str:
        self._drain(len(self._pending))
        os.fsync(self._file.fileno())
        self.close()
        return self._all.hexdigest()

    def _drain(self, size: int) -> None:
        """Write the first bytes of the pending ones."""
        written = 0
        with memoryview(self._pending) as pending:
            while written < size:
                written += self._file.write(pending[written:size]) or 0
        del self._pending[:size]


class _EncryptingFile(_HashingFile):
    """A file whose blocks are encrypted; Arrow, which puts block offsets into the footer, sees an unencrypted one."""

    def __init__(self, path: Path, cipher: PieceCipher) -> None:
        super().__init__(path)
        self._cipher = cipher
        self._pieces = 0
        self._plain = io.BytesIO()
        self._plain_size = 0

    def write(self, data: bytes) -> int:
        self._plain_size += len(data)
        return self._plain.write(data)

    def tell(self) -> int:
        return self._plain_size

    def end_block(self) -> None:
        with self._plain.getbuffer() as plain:
            super().write(self._cipher.encrypt(self._pieces, plain))
        self._pieces += 1
        self._plain = io.BytesIO()
