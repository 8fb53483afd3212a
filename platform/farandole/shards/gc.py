"""Removes files that no manifest refers to: temporary ones of dead tasks, and shards of earlier datasets."""

from __future__ import annotations

import re
import time

from farandole.shards.manifest import MANIFEST_NAME, Manifest
from farandole.shards.quarantine import QUARANTINE
from farandole.storage import Location, open_storage

MIN_AGE_S = 24 * 3600
"""Younger files may belong to a preparation or a training that still goes on."""


_OURS = re.compile(
    rf"^({QUARANTINE}/[^/]*-[^/]*\.(parquet|tmp)|[^/]+/[0-9][^/]*-[^/]*\.(arrow|tmp)"
    rf"|\.{re.escape(MANIFEST_NAME)}\.[^/]*\.tmp)$"
)


def collect_garbage(place: Location, manifest: Manifest, *, min_age_s: float = MIN_AGE_S) -> list[str]:
    """Remove unreferenced files of a dataset directory that are older than `min_age_s` seconds.

    Uploads to an object store that were broken off are no files, and nothing that pyarrow can see: a lifecycle rule of
    the bucket (`AbortIncompleteMultipartUpload`) removes them.

    Returns:
        What was removed, relative to the directory.
    """
    storage = open_storage(place)
    kept = {shard.file for shards in manifest.splits.values() for shard in shards}
    kept |= {entry.file for entry in manifest.quarantine}
    now = time.time()
    removed = [
        file.name
        for file in storage.list_files(["", *manifest.splits, QUARANTINE])
        if file.name not in kept and _OURS.match(file.name) and now - file.modified_s > min_age_s
    ]
    for name in removed:
        storage.remove(name)
    return removed


def mark_as_recent(place: Location, manifest: Manifest) -> None:
    """Let the shards of a manifest that is about to be replaced count as new: trainings may still read them."""
    shards = [shard.file for shards in manifest.splits.values() for shard in shards]
    open_storage(place).touch([*shards, *(entry.file for entry in manifest.quarantine)])
