"""Opens a dataset and maps its blocks into memory."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from farandole.errors import DatasetError
from farandole.shards.manifest import Manifest, ShardInfo, read_manifest
from farandole.shards.schema import Schema


class Dataset:
    """A dataset directory with its manifest.

    Args:
        directory: Where the manifest lies.

    Raises:
        DatasetError: There is no manifest, or it is damaged.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.manifest: Manifest = read_manifest(directory)

    def split(self, name: str) -> SplitReader:
        """The rows of one split, block by block."""
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise DatasetError(f"{self.directory}: no split {name!r}; it has {known}")
        return SplitReader(self, self.manifest.splits[name])

    def local_path(self, shard: ShardInfo) -> Path:
        """Where a shard's file lies on this machine."""
        return self.directory / shard.file


class SplitReader:
    """The blocks of a split, numbered over all its shards. A shard is mapped when it is first asked for, and a block's
    checksum is compared when it is first read: Arrow would not notice a changed byte."""

    def __init__(self, dataset: Dataset, shards: tuple[ShardInfo, ...]) -> None:
        self._dataset = dataset
        self._places = [(shard, index) for shard in shards for index in range(len(shard.blocks))]
        self._mapped: dict[str, _MappedShard] = {}
        self._trusted: set[int] = set()
        self.schema: Schema = dataset.manifest.columns
        self.block_rows: tuple[int, ...] = tuple(block.rows for shard in shards for block in shard.blocks)

    @property
    def rows(self) -> int:
        """The number of rows in all blocks."""
        return sum(self.block_rows)

    def announce(self, blocks: Sequence[int]) -> None:
        """Hear which blocks will be read, in the order of their first use. Files that lie on this machine need no
        preparation, so nothing follows from it here."""

    def block(self, number: int) -> dict[str, np.ndarray]:
        """Read-only views of one block: `[rows, *shape]` for each group, `[rows]` for the label.

        Raises:
            DatasetError: The shard is missing, cut short, damaged or not the file that the manifest describes.
        """
        shard, index = self._places[number]
        mapped = self._mapped.get(shard.file)
        if mapped is None:
            mapped = _MappedShard(self._dataset.local_path(shard), shard, self.schema)
            self._mapped[shard.file] = mapped
        if number not in self._trusted:
            mapped.check_block(index)
            self._trusted.add(number)
        return mapped.arrays(index)

    def release(self, number: int) -> None:
        """Take a block's pages out of this process's memory. Views of it stay good: what is read again is mapped
        again, from the system's cache of files, where the pages stay."""
        shard, index = self._places[number]
        if shard.file in self._mapped:
            self._mapped[shard.file].release(index)


class _MappedShard:
    """One shard in memory, its size, footer and columns compared with the manifest."""

    def __init__(self, path: Path, shard: ShardInfo, schema: Schema) -> None:
        self._path = path
        self._shard = shard
        self._schema = schema
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size != shard.bytes:
                    raise DatasetError(
                        f"{path}: {size} bytes, the manifest says {shard.bytes}; prepare the dataset again"
                    )
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DatasetError(f"{path}: the shard is missing; prepare the dataset again") from error
        last = shard.blocks[-1]
        end = last.offset + last.bytes
        self._compare(end, size - end, shard.footer_xxh3_64, "its footer")
        try:
            self._reader = pa.ipc.open_file(pa.py_buffer(self._memory))
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: not an Arrow IPC file ({error}); prepare the dataset again") from error
        if not self._reader.schema.equals(schema.arrow) or self._reader.num_record_batches != len(shard.blocks):
            raise DatasetError(f"{path}: other columns or blocks than the manifest says; prepare the dataset again")

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Views of a block's columns."""
        return self._schema.arrays(self._reader.get_batch(index))

    def release(self, index: int) -> None:
        """Unmap the whole pages of a block."""
        block = self._shard.blocks[index]
        start = -(-block.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = (block.offset + block.bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if start < stop:
            self._memory.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def check_block(self, index: int) -> None:
        """Compare the bytes of a block with its checksum."""
        block = self._shard.blocks[index]
        self._compare(block.offset, block.bytes, block.xxh3_64, f"record batch {index}")

    def _compare(self, offset: int, size: int, checksum: str, what: str) -> None:
        with memoryview(self._memory) as view, view[offset : offset + size] as part:
            found = xxhash.xxh3_64_hexdigest(part)
        if found != checksum:
            raise DatasetError(
                f"{self._path}: {what} is damaged (bytes {offset} to {offset + size}); prepare the dataset again"
            )
