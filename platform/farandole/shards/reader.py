"""Opens a dataset and maps its blocks into memory."""

from __future__ import annotations

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


class SplitReader:
    """The blocks of a split, numbered over all its shards. A shard is mapped when it is first asked for, and a block's
    checksum is compared when it is first read: Arrow would not notice a changed byte."""

    def __init__(self, dataset: Dataset, shards: tuple[ShardInfo, ...]) -> None:
        self._directory = dataset.directory
        self._schema = dataset.manifest.columns
        self._places = [(shard, index) for shard in shards for index in range(len(shard.blocks))]
        self._mapped: dict[str, _MappedShard] = {}
        self._trusted: set[int] = set()
        self.block_rows: tuple[int, ...] = tuple(block.rows for shard in shards for block in shard.blocks)

    @property
    def rows(self) -> int:
        """The number of rows in all blocks."""
        return sum(self.block_rows)

    def block(self, number: int) -> dict[str, np.ndarray]:
        """Read-only views of one block: `[rows, size]` for each group, `[rows]` for the label.

        Raises:
            DatasetError: The shard is missing, cut short, damaged or not the file that the manifest describes.
        """
        shard, index = self._places[number]
        mapped = self._mapped.get(shard.file)
        if mapped is None:
            mapped = self._mapped[shard.file] = _MappedShard(self._directory / shard.file, shard, self._schema)
        if number not in self._trusted:
            mapped.check_block(index)
            self._trusted.add(number)
        return self._schema.arrays(mapped.reader.get_batch(index))


class _MappedShard:
    """One shard in memory, its size, footer and columns compared with the manifest."""

    def __init__(self, path: Path, shard: ShardInfo, schema: Schema) -> None:
        self._path = path
        self._shard = shard
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DatasetError(f"{path}: the shard is missing; prepare the dataset again") from error
        if size != shard.bytes:
            raise DatasetError(f"{path}: {size} bytes, the manifest says {shard.bytes}; prepare the dataset again")
        self._file = pa.memory_map(str(path))
        last = shard.blocks[-1]
        end = last.offset + last.bytes
        self._compare(end, size - end, shard.footer_xxh3_64, "its footer")
        try:
            self.reader = pa.ipc.open_file(self._file)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{path}: not an Arrow IPC file ({error}); prepare the dataset again") from error
        if not self.reader.schema.equals(schema.arrow) or self.reader.num_record_batches != len(shard.blocks):
            raise DatasetError(f"{path}: other columns or blocks than the manifest says; prepare the dataset again")

    def check_block(self, index: int) -> None:
        """Compare the bytes of a block with its checksum."""
        block = self._shard.blocks[index]
        self._compare(block.offset, block.bytes, block.xxh3_64, f"record batch {index}")

    def _compare(self, offset: int, size: int, checksum: str, what: str) -> None:
        if xxhash.xxh3_64_hexdigest(self._file.read_at(size, offset)) != checksum:
            raise DatasetError(
                f"{self._path}: {what} is damaged (bytes {offset} to {offset + size}); prepare the dataset again"
            )
