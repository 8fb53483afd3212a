"""Every byte of a dataset is looked at, and what is wrong is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from farandole.errors import DatasetError
from farandole.shards import MANIFEST_NAME, Manifest, verify, write_manifest

Written = tuple[Path, Manifest]


def test_a_whole_dataset_has_no_problems_and_all_bytes_are_read(dataset: Written) -> None:
    directory, manifest = dataset
    seen: list[tuple[int, int]] = []
    assert verify(directory, lambda done, total: seen.append((done, total))) == []
    size = sum(shard.bytes for shard in manifest.splits["train"])
    assert seen[-1] == (size, size)


def test_a_hundred_random_flipped_bits_are_found_in_their_shard_and_record_batch(dataset: Written) -> None:
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


def test_a_missing_and_a_short_shard_are_named(dataset: Written) -> None:
    directory, manifest = dataset
    first, second = manifest.splits["train"]
    (directory / first.file).unlink()
    path = directory / second.file
    path.write_bytes(path.read_bytes()[:-1])
    missing, short = verify(directory)
    assert (missing.shard, missing.text) == (first.file, "cannot be read: No such file or directory")
    assert (short.shard, short.text) == (second.file, f"{second.bytes - 1} bytes; the manifest says {second.bytes}")


def test_a_manifest_that_contradicts_itself_is_named(dataset: Written) -> None:
    directory, manifest = dataset
    first, second = manifest.splits["train"]
    lying = first.model_copy(update={"rows": first.rows + 1})
    write_manifest(directory, manifest.model_copy(update={"splits": {**manifest.splits, "train": (lying, second)}}))
    texts = [problem.text for problem in verify(directory)]
    assert "the content digest does not follow from the shards that are listed" in texts
    assert f"{first.rows + 1} rows, but its record batches have others in sum" in texts


def test_a_damaged_manifest_is_an_error(dataset: Written) -> None:
    directory, _ = dataset
    path = directory / MANIFEST_NAME
    path.write_text(path.read_text().replace('"rows": 3', '"rows": 4', 1))
    with pytest.raises(DatasetError, match="does not match its own checksum"):
        verify(directory)
