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
"""So many decrypted blocks of a split stay in memory: the order of rows reads one or two for each lane at a time."""


class DecryptedBlocks:
    """The decrypted blocks of a split that were used last, for any number of threads."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, int], dict[str, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, shard: str, index: int) -> dict[str, np.ndarray] | None:
        """A block that is there."""
        with self._lock:
            arrays = self._blocks.get((shard, index))
            if arrays is not None:
                self._blocks.move_to_end((shard, index))
            return arrays

    def keep(self, shard: str, index: int, arrays: dict[str, np.ndarray]) -> None:
        """Add a block; where there are too many, the one that was not used for the longest time goes."""
        with self._lock:
            self._blocks[shard, index] = arrays
            while len(self._blocks) > MAX_BLOCKS:
                self._blocks.popitem(last=False)

    def drop(self, shard: str, index: int) -> None:
        """Forget a block. Arrays that were handed out stay good."""
        with self._lock:
            self._blocks.pop((shard, index), None)


class EncryptedShard(ShardFile):
    """One encrypted shard.

    Args:
        path: The file.
        shard: What the manifest says of it.
        schema: The dataset's columns.
        secret: The key.
        opened: Where decrypted blocks are kept.

    Raises:
        DatasetError: It is not the file that the manifest describes.
    """

    def __init__(self, path: Path, shard: ShardInfo, schema: Schema, secret: Secret, opened: DecryptedBlocks) -> None:
        super().__init__(path, shard, schema)
        self._seal = cipher_for(secret, shard.file, schema)
        self._opened = opened

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Read-only views of a decrypted block: `[rows, *shape]` for each group, `[rows]` for the label."""
        arrays = self._opened.get(self.shard.file, index)
        if arrays is None:
            arrays = self.schema.arrays(self.batch(index))
            self.free(index)  # the encrypted bytes were read, and are not needed again
            self._opened.keep(self.shard.file, index, arrays)
        return arrays

    def release(self, index: int) -> None:
        """Forget a decrypted block."""
        self._opened.drop(self.shard.file, index)

    def batch(self, index: int) -> pa.RecordBatch:
        """A decrypted block.

        Raises:
            DatasetError: It cannot be decrypted, or holds something else than the manifest says.
        """
        place = f"{self.path}: record batch {index}"
        block = self.shard.blocks[index]
        try:
            reader = pa.BufferReader(self._plain(index, block.offset, block.bytes))
            if index == 0:  # the first block begins with the file's header: a sign of 8 bytes, and the columns
                reader.seek(8)
                pa.ipc.read_message(reader)
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(reader), self.schema.arrow)
        except DecryptionError as error:
            raise DatasetError(
                f"{place} cannot be decrypted: it was changed, or is not the one that was written here; prepare the"
                " dataset again"
            ) from error
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{place} is none of Arrow's ({error}); prepare the dataset again") from error
        if batch.num_rows != block.rows:
            raise DatasetError(
                f"{place} has {batch.num_rows} rows, the manifest says {block.rows}; prepare the dataset again"
            )
        return batch

    def check_footer(self) -> None:
        """Decrypt what comes after the last block.

        Raises:
            DecryptionError: It was changed, or belongs to another shard.
        """
        last = self.shard.blocks[-1]
        end = last.offset + last.bytes
        self._plain(len(self.shard.blocks), end, self.shard.bytes - end)

    def _plain(self, piece: int, offset: int, size: int) -> bytes:
        with memoryview(self.memory) as view, view[offset : offset + size] as part:
            return self._seal.open(piece, part)
