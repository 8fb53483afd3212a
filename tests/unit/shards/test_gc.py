from __future__ import annotations

import os
import time
from pathlib import Path

from farandole.shards import Dataset, Manifest, collect_garbage, mark_as_recent, verify

HOUR_S = 3600
Written = tuple[Path, Manifest]


def put(path: Path, age_s: float) -> Path:
    """Create a file of an age in seconds."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    changed = time.time() - age_s
    os.utime(path, (changed, changed))
    return path


def age(directory: Path, age_s: float) -> None:
    """Make all files of a dataset old."""
    changed = time.time() - age_s
    for path in directory.rglob("*.arrow"):
        os.utime(path, (changed, changed))


def test_old_unreferenced_files_are_removed(dataset: Written) -> None:
    directory, manifest = dataset
    put(directory / "train" / "00000-0123456789abcdef.arrow", 25 * HOUR_S)
    put(directory / "validation" / "00001-0123456789abcdef.tmp", 25 * HOUR_S)
    assert collect_garbage(directory, manifest) == [
        "train/00000-0123456789abcdef.arrow",
        "validation/00001-0123456789abcdef.tmp",
    ]
    assert len(list((directory / "train").iterdir())) == 2
    assert list((directory / "validation").iterdir()) == []


def test_unfinished_draft_of_a_manifest_is_removed(dataset: Written) -> None:
    directory, manifest = dataset
    put(directory / ".manifest.json.x1y2.tmp", 25 * HOUR_S)
    mine = put(directory / "notes.tmp", 25 * HOUR_S)
    os.utime(directory / "manifest.json", (0, 0))
    assert collect_garbage(directory, manifest) == [".manifest.json.x1y2.tmp"]
    assert mine.exists()
    assert (directory / "manifest.json").exists()


def test_recent_files_stay(dataset: Written) -> None:
    directory, manifest = dataset
    path = put(directory / "train" / "00000-0123456789abcdef.tmp", 23 * HOUR_S)
    assert collect_garbage(directory, manifest) == []
    assert path.exists()
    assert collect_garbage(directory, manifest, min_age_s=22 * HOUR_S) == ["train/00000-0123456789abcdef.tmp"]


def test_referenced_shards_stay_however_old(dataset: Written) -> None:
    directory, manifest = dataset
    age(directory, 1000 * HOUR_S)
    assert collect_garbage(directory, manifest, min_age_s=0) == []
    reader = Dataset(directory).split("train")
    assert sum(len(reader.block(number)["label"]) for number in range(5)) == 12


def test_foreign_files_stay(dataset: Written) -> None:
    directory, manifest = dataset
    others = [
        put(directory / "train" / name, 1000 * HOUR_S) for name in ("notes.txt", "notes.arrow", "00000-note.parquet")
    ]
    others.append(put(directory / "mine" / "00000-0123456789abcdef.arrow", 1000 * HOUR_S))
    assert collect_garbage(directory, manifest) == []
    assert all(path.exists() for path in others)


def test_shards_about_to_be_replaced_count_as_recent(dataset: Written) -> None:
    directory, manifest = dataset
    age(directory, 10 * 24 * 3600)
    mark_as_recent(directory, manifest)
    assert collect_garbage(directory, manifest.model_copy(update={"splits": {"train": ()}})) == []
    assert verify(directory) == []
