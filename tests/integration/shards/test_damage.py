"""Exhaustive damage: each byte of a small manifest and of a small shard."""

from __future__ import annotations

from pathlib import Path

import pytest

from farandole.errors import DatasetError
from farandole.shards import MANIFEST_NAME, Dataset, Manifest, read_manifest

Written = tuple[Path, Manifest]


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_every_changed_byte_of_a_manifest_is_detected(dataset: Written, mask: int) -> None:
    path = dataset[0] / MANIFEST_NAME
    content = path.read_bytes()
    for index in range(len(content)):
        path.write_bytes(content[:index] + bytes([content[index] ^ mask]) + content[index + 1 :])
        with pytest.raises(DatasetError):
            read_manifest(dataset[0])


def test_every_flipped_byte_of_a_shard_is_detected_and_named(dataset: Written) -> None:
    directory, manifest = dataset
    shard = manifest.splits["train"][0]
    path = directory / shard.file
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        reader = Dataset(directory).split("train")
        with pytest.raises(DatasetError, match=f"{shard.file}: .* is damaged"):
            [reader.block(number) for number in range(len(reader.block_rows))]
