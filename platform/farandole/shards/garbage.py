"""Removes files that no manifest refers to: temporary ones of dead tasks, and shards of earlier datasets."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from farandole.shards.manifest import Manifest
from farandole.shards.quarantine import QUARANTINE

MIN_AGE_S = 24 * 3600
"""Younger files may belong to a preparation or a training that still goes on."""


def collect_garbage(directory: Path, manifest: Manifest, *, min_age_s: float = MIN_AGE_S) -> list[str]:
    """Remove unreferenced files of a dataset directory that are older than `min_age_s` seconds.

    Returns:
        What was removed, relative to the directory.
    """
    kept = {shard.file for shards in manifest.splits.values() for shard in shards}
    kept |= {entry.file for entry in manifest.quarantine}
    removed = []
    written = [(split, "[0-9]*-*", ".arrow") for split in manifest.splits] + [(QUARANTINE, "*-*", ".parquet")]
    for folder, pattern, suffix in written:
        for path in sorted((directory / folder).glob(pattern)):
            name = f"{folder}/{path.name}"
            if name not in kept and path.suffix in (suffix, ".tmp") and _age_s(path) > min_age_s:
                path.unlink(missing_ok=True)
                removed.append(name)
    return removed


def spare(directory: Path, manifest: Manifest) -> None:
    """Let the shards of a manifest that is about to be replaced count as new: trainings may still read them."""
    shards = [shard.file for shards in manifest.splits.values() for shard in shards]
    for file in (*shards, *(entry.file for entry in manifest.quarantine)):
        with suppress(FileNotFoundError):
            os.utime(directory / file)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
