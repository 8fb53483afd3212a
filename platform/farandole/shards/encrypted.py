"""Encrypted shards, whose blocks are decrypted one by one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa

from farandole.errors import DatasetError
from farandole.privacy import Secret
from farandole.shards.encryption import DecryptionError, cipher_for
from farandole.shards.manifest import ShardInfo
from farandole.shards.mmap import ShardFile
from farandole.shards.schema import Schema

MAX_BLOCKS = 24
"""The number of decrypted blocks of a split that stay in memory: the order of rows reads one or two for each lane."""


class DecryptedBlocks:
    """Cache of the most recently used decrypted blocks of a split, for any number of threads."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, int], dict[str, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, shard: str, index: int) -> dict[str, np.ndarray] | None:
        """Return a block's arrays; None if it is not cached."""
        with self._lock:
            arrays = self._blocks.get((shard, index))
            if arrays is not None:
                self._blocks.move_to_end((shard, index))
            return arrays

    def keep(self, shard: str, index: int, arrays: dict[str, np.ndarray]) -> None:
        """Add a block, and remove the least recently used one if there are too many."""
        with self._lock:
            self._blocks[shard, index] = arrays
            while len(self._blocks) > MAX_BLOCKS:
                self._blocks.popitem(last=False)

    def drop(self, shard: str, index: int) -> None:
        """Remove a block. Arrays that were handed out stay valid."""
        with self._lock:
            self._blocks.pop((shard, index), None)


class BlockError(Exception):
    """A block is not what the manifest describes; the text is the predicate of a sentence."""


class EncryptedShard(ShardFile):
    """One encrypted shard.

    Args:
        path: The file.
        shard: Its entry in the manifest.
        schema: The dataset's columns.
        secret: The key.
        decrypted: Cache of decrypted blocks.

    Raises:
        DatasetError: The file is not the one that the manifest describes.
    """

    def __init__(
        self, path: Path, shard: ShardInfo, schema: Schema, secret: Secret, decrypted: DecryptedBlocks
    ) -> None:
        super().__init__(path, shard, schema)
        self._cipher = cipher_for(secret, shard.file, schema)
        self._decrypted = decrypted

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Return read-only views of a decrypted block: `[rows, *shape]` for each group, `[rows]` for the label."""
        arrays = self._decrypted.get(self.shard.file, index)
        if arrays is None:
            arrays = self.schema.arrays(self.batch(index))
            self.free(index)  # the encrypted bytes are not needed again
            self._decrypted.keep(self.shard.file, index, arrays)
        return arrays

    def release(self, index: int) -> None:
        """Remove a decrypted block from the cache."""
        self._decrypted.drop(self.shard.file, index)

    def batch(self, index: int) -> pa.RecordBatch:
        """Decrypt a block.

        Raises:
            DatasetError: The block cannot be decrypted, or does not contain what the manifest states.
        """
        try:
            return self.decrypt(index)
        except BlockError as error:
            raise DatasetError(f"{self.path}: record batch {index} {error}; prepare the dataset again") from error

    def decrypt(self, index: int) -> pa.RecordBatch:
        """Decrypt a block.

        Raises:
            BlockError: The block cannot be decrypted, or does not contain what the manifest states.
        """
        block = self.shard.blocks[index]
        try:
            reader = pa.BufferReader(self._plain(index, block.offset, block.bytes))
            if index == 0:  # the first block begins with the file's header: 8 magic bytes, and the columns
                reader.seek(8)
                pa.ipc.read_message(reader)
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(reader), self.schema.arrow)
        except DecryptionError as error:
            raise BlockError("cannot be decrypted: it was changed, or was written for another position") from error
        except (OSError, pa.ArrowException) as error:
            raise BlockError(f"is not an Arrow record batch ({error})") from error
        if batch.num_rows != block.rows:
            raise BlockError(f"has {batch.num_rows} rows instead of {block.rows}, which the manifest states")
        return batch

    def check_footer(self) -> None:
        """Decrypt the footer, which follows the last block.

        Raises:
            DecryptionError: It was changed, or belongs to another shard.
        """
        last = self.shard.blocks[-1]
        end = last.offset + last.bytes
        self._plain(len(self.shard.blocks), end, self.shard.bytes - end)

    def _plain(self, piece: int, offset: int, size: int) -> bytes:
        with memoryview(self.memory) as view, view[offset : offset + size] as part:
            return self._cipher.decrypt(piece, part)
