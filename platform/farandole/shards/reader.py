"""Opens a dataset and maps its blocks into memory."""

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
    """A dataset directory with its manifest. The shards of a remote one are fetched into this machine's cache.

    Args:
        place: Where the manifest lies: a path, or the URI of a remote directory.
        key: Where the key of encrypted shards lies. Default: where it lay when they were made.

    Raises:
        DatasetError: There is no manifest, or it is damaged.
        StorageRefused: The object store will not give it.
        StorageFailed: The object store does not answer.
    """

    def __init__(self, place: Location, key: KeyReference | None = None) -> None:
        self._storage = open_storage(place)
        self._cache: ShardCache | None = None
        self.directory: Location = self._storage.location
        self.manifest: Manifest = read_manifest(self.directory)
        self._key = key

    @cached_property
    def secret(self) -> Secret | None:
        """The key of its shards; None where they are not encrypted.

        Raises:
            DatasetError: It is not there, or is another one.
        """
        return load_key(self.manifest, self.directory, self._key)

    def split(self, name: str) -> SplitReader:
        """The rows of one split, block by block.

        Raises:
            DatasetError: There is no such split, or the shards are encrypted and the key is not there.
        """
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise DatasetError(f"{self.directory}: no split {name!r}; it has {known}")
        return SplitReader(self, name)

    def local_path(self, shard: ShardInfo) -> Path:
        """A shard as a file of this machine. That of a remote dataset is fetched first, and its checksum compared.

        Raises:
            DatasetError: The shard is missing where it comes from, or damaged there.
            StorageRefused: The object store will not give it.
            StorageFailed: The object store does not answer, or the cache's disk is full.
        """
        if isinstance(self._storage, LocalStorage):
            return self._storage.directory / shard.file
        assert self.cache is not None
        return self.cache.path(shard)

    @property
    def cache(self) -> ShardCache | None:
        """This machine's cache of the dataset's shards; None: they are local themselves."""
        if self._cache is None and not isinstance(self._storage, LocalStorage):
            from farandole.shards.cache import ShardCache  # only remote datasets need them
            from farandole.storage.object_store import ObjectStorage

            assert isinstance(self._storage, ObjectStorage)
            self._cache = ShardCache(self._storage)
        return self._cache


class SplitReader:
    """The blocks of a split, numbered over all its shards. A shard is mapped when it is first asked for, and a block's
    checksum is compared when it is first read: Arrow would not notice a changed byte."""

    def __init__(self, dataset: Dataset, split: str) -> None:
        shards = dataset.manifest.splits[split]
        self._dataset = dataset
        self._split = split
        self._places = [(shard, index) for shard in shards for index in range(len(shard.blocks))]
        self._mapped: dict[str, MappedShard | EncryptedShard] = {}
        self._secret = dataset.secret
        self._opened = DecryptedBlocks()
        self._trusted: set[int] = set()
        self._coming: dict[str, dict[int, int]] = {}
        self.schema: Schema = dataset.manifest.columns
        self.block_rows: tuple[int, ...] = tuple(block.rows for shard in shards for block in shard.blocks)

    @property
    def rows(self) -> int:
        """The number of rows in all blocks."""
        return sum(self.block_rows)

    def announce(self, blocks: Sequence[int]) -> None:
        """Hear which blocks will be read, in the order of their first use; it replaces what was said before.

        The shards of a remote dataset are fetched ahead in this order, and where the machine's cache is full, the one
        with the furthest next use goes. Local files need no preparation.
        """
        cache = self._dataset.cache
        if cache is None:
            return
        self._coming = {}
        uses: dict[int, ShardInfo] = {}
        for use, number in enumerate(blocks):
            shard = self._places[number][0]
            if shard.file not in self._coming:
                uses[use] = shard
            self._coming.setdefault(shard.file, {})[number] = use
        for file in [file for file in self._mapped if file not in self._coming]:
            del self._mapped[file]
        cache.announce(self._split, uses)

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
            try:
                mapped.check_block(index)
            except DatasetError:
                if self._dataset.cache is None:
                    raise
                self._dataset.cache.discard(shard)  # this copy was damaged here: another one
                mapped = self._map(shard)
                mapped.check_block(index)
            self._trusted.add(number)
        return mapped.arrays(index)

    def _map(self, shard: ShardInfo) -> MappedShard | EncryptedShard:
        path = self._dataset.local_path(shard)
        mapped: MappedShard | EncryptedShard
        if self._secret is None:
            mapped = MappedShard(path, shard, self.schema)
        else:
            mapped = EncryptedShard(path, shard, self.schema, self._secret, self._opened)
        self._mapped[shard.file] = mapped
        return mapped

    def release(self, number: int) -> None:
        """Take a block's pages out of this process's memory. Views of it stay good: what is read again is mapped
        again, from the system's cache of files, where the pages stay."""
        shard, index = self._places[number]
        if shard.file in self._mapped:
            self._mapped[shard.file].release(index)
        coming = self._coming.get(shard.file, {})
        if self._dataset.cache is None or coming.pop(number, None) is None:
            return
        self._dataset.cache.postpone(self._split, shard, min(coming.values(), default=None))
        if not coming:
            self._mapped.pop(shard.file, None)
