"""Verification of every byte of a dataset."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from farandole.errors import DatasetError
from farandole.shards import MANIFEST_NAME, Manifest, verify, write_manifest

Written = tuple[Path, Manifest]


def test_intact_dataset_has_no_problems_and_all_bytes_are_read(dataset: Written) -> None:
    directory, manifest = dataset
    seen: list[tuple[int, int]] = []
    assert verify(directory, lambda done, total: seen.append((done, total))) == []
    size = sum(shard.bytes for shard in manifest.splits["train"])
    assert seen[-1] == (size, size)


def test_flipped_bits_are_located_by_shard_and_record_batch(dataset: Written) -> None:
    directory, manifest = dataset
    draw = random.Random(7)
    for _ in range(100):
        shard = draw.choice(manifest.splits["train"])
        path = directory / shard.file
        whole = path.read_bytes()
        place = draw.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        (problem,) = verify(directory)
        inside = [n for n, block in enumerate(shard.blocks) if block.offset <= place < block.offset + block.bytes]
        assert problem.shard == shard.file
        assert problem.block == (inside[0] if inside else None)
        path.write_bytes(whole)
    assert verify(directory) == []


def test_missing_and_truncated_shards_are_named(dataset: Written) -> None:
    directory, manifest = dataset
    first, second = manifest.splits["train"]
    (directory / first.file).unlink()
    path = directory / second.file
    path.write_bytes(path.read_bytes()[:-1])
    missing, short = verify(directory)
    assert (missing.shard, missing.text) == (first.file, "cannot be read: No such file or directory")
    assert (short.shard, short.text) == (
        second.file,
        f"has {second.bytes - 1} bytes instead of {second.bytes}, which the manifest states",
    )


def test_contradictory_manifest_is_reported(dataset: Written) -> None:
    directory, manifest = dataset
    first, second = manifest.splits["train"]
    lying = first.model_copy(update={"rows": first.rows + 1})
    write_manifest(directory, manifest.model_copy(update={"splits": {**manifest.splits, "train": (lying, second)}}))
    texts = [problem.text for problem in verify(directory)]
    assert "the content digest does not match the listed shards" in texts
    assert f"has {first.rows + 1} rows, but its record batches add up to another number" in texts


def test_damaged_manifest_is_an_error(dataset: Written) -> None:
    directory, _ = dataset
    path = directory / MANIFEST_NAME
    path.write_text(path.read_text().replace('"rows": 3', '"rows": 4', 1))
    with pytest.raises(DatasetError, match="does not match its own checksum"):
        verify(directory)
