"""One shard as memory: the file is mapped, and what is read of it is compared with its checksums."""

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
    """A shard's bytes, its size and footer compared with the manifest.

    Args:
        path: The file.
        shard: What the manifest says of it.
        schema: The dataset's columns.

    Raises:
        DatasetError: It is missing, cut short or damaged.
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
                        f"{path}: {size} bytes, the manifest says {shard.bytes}; prepare the dataset again"
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
        """Take a block out of this process's memory, with all of its first and last page; who reads on there has it
        mapped again. A part of a page of 2 MiB would cost more: the rest of it would be mapped in pages of 4 KiB."""
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
    """A shard whose blocks are read where they lie.

    Raises:
        DatasetError: It is not the file that the manifest describes.
    """

    def __init__(self, path: Path, shard: ShardInfo, schema: Schema) -> None:
        super().__init__(path, shard, schema)
        try:
            self._reader = pa.ipc.open_file(pa.py_buffer(self.memory))
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: not an Arrow IPC file ({error}); prepare the dataset again") from error
        if not self._reader.schema.equals(schema.arrow) or self._reader.num_record_batches != len(shard.blocks):
            raise DatasetError(f"{path}: other columns or blocks than the manifest says; prepare the dataset again")
        self._views: dict[int, dict[str, np.ndarray]] = {}

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Views of a block's columns."""
        views = self._views.get(index)
        if views is None:  # to make them costs as much as to copy a thousand rows, and in each epoch they are the same
            views = self._views[index] = self.schema.arrays(self._reader.get_batch(index))
        return views

    def release(self, index: int) -> None:
        """Free a block's memory; views of it stay good."""
        self.free(index)
