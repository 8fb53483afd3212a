"""Reading of a dataset, whose blocks are mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from farandole.errors import DatasetError
from farandole.privacy import Secret
from farandole.shards.encrypted import DecryptedBlocks, EncryptedShard
from farandole.shards.encryption import load_key
from farandole.shards.manifest import Manifest, ShardInfo, read_manifest
from farandole.shards.mmap import MappedShard
from farandole.shards.schema import Schema
from farandole.spec import KeyReference
from farandole.storage import LocalStorage, Location, open_storage

if TYPE_CHECKING:
    from farandole.shards.cache import ShardCache


class Dataset:
    """A dataset directory with its manifest. Shards in an object store are fetched into this machine's cache.

    Args:
        location: The directory: a path, or a URI.
        key: Where to find the key of encrypted shards. Default: where it was found when the dataset was prepared.

    Raises:
        DatasetError: There is no manifest, or it is damaged.
        StorageAccessError: The object store refuses.
        StorageError: The object store does not answer.
    """

    def __init__(self, location: Location, key: KeyReference | None = None) -> None:
        self._storage = open_storage(location)
        self._cache: ShardCache | None = None
        self.directory: Location = self._storage.location
        self.manifest: Manifest = read_manifest(self.directory)
        self._key = key

    @cached_property
    def secret(self) -> Secret | None:
        """The key of the shards; None if they are not encrypted.

        Raises:
            DatasetError: The key is missing, or is another one.
        """
        return load_key(self.manifest, self.directory, self._key)

    def split(self, name: str) -> SplitReader:
        """Return a reader of one split.

        Raises:
            DatasetError: There is no such split, or the key of encrypted shards is missing.
        """
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise DatasetError(f"{self.directory}: has no split {name!r}; use {known}")
        return SplitReader(self, name)

    def local_path(self, shard: ShardInfo) -> Path:
        """Return the path of a shard on this machine. A shard of an object store is fetched and checked first.

        Raises:
            DatasetError: The shard is missing in the object store, or damaged there.
            StorageAccessError: The object store refuses.
            StorageError: The object store does not answer, or the cache's disk is full.
        """
        if isinstance(self._storage, LocalStorage):
            return self._storage.directory / shard.file
        assert self.cache is not None
        return self.cache.path(shard)

    @property
    def cache(self) -> ShardCache | None:
        """This machine's cache of the dataset's shards; None if the shards are local."""
        if self._cache is None and not isinstance(self._storage, LocalStorage):
            from farandole.shards.cache import ShardCache  # only remote datasets need them
            from farandole.storage.object_store import ObjectStorage

            assert isinstance(self._storage, ObjectStorage)
            self._cache = ShardCache(self._storage)
        return self._cache


class SplitReader:
    """Reader of the blocks of a split, numbered over all its shards.

    A shard is mapped when its first block is read. The checksum of a block is compared when it is first read: Arrow
    would not detect a changed byte.
    """

    def __init__(self, dataset: Dataset, split: str) -> None:
        shards = dataset.manifest.splits[split]
        self._dataset = dataset
        self._split = split
        self._addresses = [(shard, index) for shard in shards for index in range(len(shard.blocks))]
        self._mapped: dict[str, MappedShard | EncryptedShard] = {}
        self._secret = dataset.secret
        self._decrypted = DecryptedBlocks()
        self._checked: set[int] = set()
        self._upcoming: dict[str, dict[int, int]] = {}
        self.schema: Schema = dataset.manifest.columns
        self.block_rows: tuple[int, ...] = tuple(block.rows for shard in shards for block in shard.blocks)

    @property
    def rows(self) -> int:
        """The number of rows in all blocks."""
        return sum(self.block_rows)

    def announce(self, blocks: Sequence[int]) -> None:
        """Announce which blocks will be read; this replaces an earlier announcement.

        Shards of an object store are fetched ahead in this order, and a full cache evicts the one whose next use is the
        furthest. For local files nothing happens.

        Args:
            blocks: Numbers of blocks, in the order of their first use.
        """
        cache = self._dataset.cache
        if cache is None:
            return
        self._upcoming = {}
        uses: dict[int, ShardInfo] = {}
        for use, number in enumerate(blocks):
            shard = self._addresses[number][0]
            if shard.file not in self._upcoming:
                uses[use] = shard
            self._upcoming.setdefault(shard.file, {})[number] = use
        for file in [file for file in self._mapped if file not in self._upcoming]:
            del self._mapped[file]
        cache.announce(self._split, uses)

    def block(self, number: int) -> dict[str, np.ndarray]:
        """Return read-only views of one block: `[rows, *shape]` for each group, `[rows]` for the label.

        Raises:
            DatasetError: The shard is missing, truncated, damaged or not the file that the manifest describes.
        """
        shard, index = self._addresses[number]
        mapped = self._mapped.get(shard.file)
        if mapped is None:
            mapped = self._map(shard)
        if number not in self._checked:
            try:
                mapped.check_block(index)
            except DatasetError:
                if self._dataset.cache is None:
                    raise
                self._dataset.cache.discard(shard)  # the cached copy was damaged on this machine: fetch it again
                mapped = self._map(shard)
                mapped.check_block(index)
            self._checked.add(number)
        return mapped.arrays(index)

    def _map(self, shard: ShardInfo) -> MappedShard | EncryptedShard:
        path = self._dataset.local_path(shard)
        mapped: MappedShard | EncryptedShard
        if self._secret is None:
            mapped = MappedShard(path, shard, self.schema)
        else:
            mapped = EncryptedShard(path, shard, self.schema, self._secret, self._decrypted)
        self._mapped[shard.file] = mapped
        return mapped

    def release(self, number: int) -> None:
        """Release a block's pages from this process's memory.

        Views of the block stay valid: the pages stay in the system's file cache, from which they are mapped again.
        """
        shard, index = self._addresses[number]
        if shard.file in self._mapped:
            self._mapped[shard.file].release(index)
        upcoming = self._upcoming.get(shard.file, {})
        if self._dataset.cache is None or upcoming.pop(number, None) is None:
            return
        self._dataset.cache.postpone(self._split, shard, min(upcoming.values(), default=None))
        if not upcoming:
            self._mapped.pop(shard.file, None)
