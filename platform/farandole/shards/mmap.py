"""Memory-mapped shards, whose bytes are compared with their checksums when they are first read."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from farandole.errors import DatasetError
from farandole.shards.manifest import ShardInfo
from farandole.shards.schema import Schema

_HUGE_PAGE_BYTES = 2 * 1024 * 1024


class ShardFile:
    """The bytes of a shard, whose size and footer match the manifest.

    Args:
        path: The file.
        shard: Its entry in the manifest.
        schema: The dataset's columns.

    Raises:
        DatasetError: The file is missing, truncated or damaged.
    """

    def __init__(self, path: Path, shard: ShardInfo, schema: Schema) -> None:
        self.path = path
        self.shard = shard
        self.schema = schema
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size != shard.bytes:
                    raise DatasetError(
                        f"{path}: has {size} bytes instead of {shard.bytes}, which the manifest states; prepare the"
                        " dataset again"
                    )
                self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DatasetError(f"{path}: the shard is missing; prepare the dataset again") from error
        last = shard.blocks[-1]
        end = last.offset + last.bytes
        self._compare(end, size - end, shard.footer_xxh3_64, "its footer")

    def check_block(self, index: int) -> None:
        """Compare the bytes of a block with its checksum."""
        block = self.shard.blocks[index]
        self._compare(block.offset, block.bytes, block.xxh3_64, f"record batch {index}")

    def free(self, index: int) -> None:
        """Release a block from this process's memory, with all of its first and last page of 2 MiB.

        Whoever reads there again has it mapped again. To release a part of a page would cost more: the kernel would map
        the rest of it in pages of 4 KiB.
        """
        block = self.shard.blocks[index]
        start = block.offset // _HUGE_PAGE_BYTES * _HUGE_PAGE_BYTES
        stop = -(-(block.offset + block.bytes) // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
        self.memory.madvise(mmap.MADV_DONTNEED, start, min(stop, len(self.memory)) - start)

    def _compare(self, offset: int, size: int, checksum: str, what: str) -> None:
        with memoryview(self.memory) as view, view[offset : offset + size] as part:
            found = xxhash.xxh3_64_hexdigest(part)
        if found != checksum:
            raise DatasetError(
                f"{self.path}: {what} is damaged (bytes {offset} to {offset + size}); prepare the dataset again"
            )


class MappedShard(ShardFile):
    """A shard whose blocks are read in place.

    Raises:
        DatasetError: The file is not the one that the manifest describes.
    """

    def __init__(self, path: Path, shard: ShardInfo, schema: Schema) -> None:
        super().__init__(path, shard, schema)
        try:
            self._reader = pa.ipc.open_file(pa.py_buffer(self.memory))
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: is not an Arrow IPC file ({error}); prepare the dataset again") from error
        if not self._reader.schema.equals(schema.arrow) or self._reader.num_record_batches != len(shard.blocks):
            raise DatasetError(
                f"{path}: has other columns or blocks than the manifest states; prepare the dataset again"
            )
        self._views: dict[int, dict[str, np.ndarray]] = {}

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Return views of a block's columns: `[rows, *shape]` for each group, `[rows]` for the label."""
        views = self._views.get(index)
        if views is None:  # creating them costs as much as copying a thousand rows
            views = self._views[index] = self.schema.arrays(self._reader.get_batch(index))
        return views

    def release(self, index: int) -> None:
        """Free a block's memory; views of it stay valid."""
        self.free(index)
