from __future__ import annotations

from pathlib import Path

from farandole.ingest.prepared import find_manifest, is_current
from tests.support.made_data import make_dataset


def test_empty_directory_has_no_manifest(tmp_path: Path) -> None:
    assert find_manifest(tmp_path) is None


def test_dataset_is_current_with_the_same_key_and_all_shards_in_full_size(tmp_path: Path) -> None:
    made = make_dataset(tmp_path, "binary")
    manifest = find_manifest(made.path)
    assert manifest is not None
    assert is_current(made.path, manifest, manifest.request)
    assert not is_current(made.path, manifest, "0" * 64)
    shard = next(made.path.glob("train/*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert not is_current(made.path, manifest, manifest.request)
