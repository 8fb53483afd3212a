"""Removal of files that no manifest refers to: drafts of dead tasks, and shards of earlier datasets."""

from __future__ import annotations

import re
import time

from farandole.shards.manifest import MANIFEST_NAME, Manifest
from farandole.shards.quarantine import QUARANTINE
from farandole.storage import Location, open_storage

MIN_AGE_S = 24 * 3600
"""Younger files may belong to a running preparation or training."""

_WRITTEN_BY_PREPARATION = re.compile(
    rf"^({QUARANTINE}/[^/]*-[^/]*\.(parquet|tmp)|[^/]+/[0-9][^/]*-[^/]*\.(arrow|tmp)"
    rf"|\.{re.escape(MANIFEST_NAME)}\.[^/]*\.tmp)$"
)


def collect_garbage(location: Location, manifest: Manifest, *, min_age_s: float = MIN_AGE_S) -> list[str]:
    """Remove unreferenced files of a dataset directory.

    Interrupted uploads to an object store are not files, and pyarrow cannot see them: a lifecycle rule of the bucket
    (`AbortIncompleteMultipartUpload`) removes them.

    Args:
        location: The dataset directory.
        manifest: Its manifest.
        min_age_s: Only files older than this are removed, in seconds.

    Returns:
        The removed files, relative to the directory.
    """
    storage = open_storage(location)
    kept = {shard.file for shards in manifest.splits.values() for shard in shards}
    kept |= {entry.file for entry in manifest.quarantine}
    now = time.time()
    removed = [
        file.name
        for file in storage.list_files(["", *manifest.splits, QUARANTINE])
        if file.name not in kept and _WRITTEN_BY_PREPARATION.match(file.name) and now - file.modified_s > min_age_s
    ]
    for name in removed:
        storage.remove(name)
    return removed


def mark_as_recent(location: Location, manifest: Manifest) -> None:
    """Protect the shards of a manifest that is about to be replaced from removal: trainings may still read them."""
    shards = [shard.file for shards in manifest.splits.values() for shard in shards]
    open_storage(location).touch([*shards, *(entry.file for entry in manifest.quarantine)])
