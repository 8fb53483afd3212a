"""Opens a dataset and maps its blocks into memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from farandole.errors import DatasetError
from farandole.privacy import Secret
from farandole.shards.encryption import open_key
from farandole.shards.manifest import Manifest, ShardInfo, read_manifest
from farandole.shards.mapped import MappedShard
from farandole.shards.schema import Schema
from farandole.shards.sealed import OpenedBlocks, SealedShard
from farandole.spec import Key


class Dataset:
    """A dataset directory with its manifest.

    Args:
        directory: Where the manifest lies.
        key: Where the key of encrypted shards lies. Default: where it lay when they were made.

    Raises:
        DatasetError: There is no manifest, or it is damaged.
    """

    def __init__(self, directory: str | Path, key: Key | None = None) -> None:
        self.directory = Path(directory)
        self.manifest: Manifest = read_manifest(directory)
        self._key = key

    @cached_property
    def secret(self) -> Secret | None:
        """The key of its shards; None where they are not encrypted.

        Raises:
            DatasetError: It is not there, or is another one.
        """
        return open_key(self.manifest, self.directory, self._key)

    def split(self, name: str) -> SplitReader:
        """The rows of one split, block by block.

        Raises:
            DatasetError: There is no such split, or the shards are encrypted and the key is not there.
        """
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
        self._mapped: dict[str, MappedShard | SealedShard] = {}
        self._secret = dataset.secret
        self._opened = OpenedBlocks()
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
            mapped = self._map(shard)
        if number not in self._trusted:
            mapped.check_block(index)
            self._trusted.add(number)
        return mapped.arrays(index)

    def _map(self, shard: ShardInfo) -> MappedShard | SealedShard:
        path = self._dataset.local_path(shard)
        mapped: MappedShard | SealedShard
        if self._secret is None:
            mapped = MappedShard(path, shard, self.schema)
        else:
            mapped = SealedShard(path, shard, self.schema, self._secret, self._opened)
        self._mapped[shard.file] = mapped
        return mapped

    def release(self, number: int) -> None:
        """Take a block's pages out of this process's memory. Views of it stay good: what is read again is mapped
        again, from the system's cache of files, where the pages stay."""
        shard, index = self._places[number]
        if shard.file in self._mapped:
            self._mapped[shard.file].release(index)
