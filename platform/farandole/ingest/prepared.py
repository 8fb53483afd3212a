"""Datasets that exist already; works without Spark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farandole.errors import DatasetError
from farandole.shards import Manifest, ShardInfo, read_manifest
from farandole.storage import Location, open_storage


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset that is ready for training.

    Args:
        path: The dataset directory: a path, or the URI of a remote one.
        manifest: Its manifest.
        reused: Whether it existed already, made from the same inputs by the same code.
    """

    path: Location
    manifest: Manifest
    reused: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the `dataset` part of a result document."""
        return {
            "path": str(self.path),
            "digest": self.manifest.digest,
            "rows": self.manifest.row_counts,
            "reused": self.reused,
            "left_out": {entry.source: entry.rows for entry in self.manifest.malformed},
        }


def find_manifest(location: Location) -> Manifest | None:
    """Return the manifest in a dataset directory; None: there is no dataset, or none that this version can read."""
    try:
        return read_manifest(location)
    except DatasetError:
        return None


def is_current(location: Location, manifest: Manifest, cache_key: str) -> bool:
    """Return whether a dataset has this cache key and all of its shards are there in full size."""
    return manifest.request == cache_key and not missing_shards(location, manifest.splits)


def missing_shards(location: Location, splits: dict[str, tuple[ShardInfo, ...]]) -> list[str]:
    """Return the shards that are missing from the dataset directory, or are not there in full size."""
    storage = open_storage(location)
    found = {file.name: file.bytes for file in storage.list_files(splits)}
    return [
        storage.display_path(shard.file)
        for shards in splits.values()
        for shard in shards
        if found.get(shard.file) != shard.bytes
    ]
