from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farandole.errors import DatasetError
from farandole.shards import LABEL, Dataset, Manifest, Schema, ShardWriter, write_manifest

Columns = dict[str, np.ndarray]
Written = tuple[Path, Manifest]


def test_blocks_are_numbered_over_all_shards(dataset: Written, rows: Callable[..., Columns]) -> None:
    reader = Dataset(dataset[0]).split("train")
    assert reader.block_rows == (3, 3, 1, 3, 2)
    assert reader.rows == 12
    blocks = [reader.block(number) for number in (4, 0, 2, 1, 3)]
    blocks = [blocks[1], blocks[3], blocks[2], blocks[4], blocks[0]]
    for name, values in rows(12).items():
        np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks]), values)


def test_blocks_are_read_only_views(dataset: Written) -> None:
    block = Dataset(str(dataset[0])).split("train").block(0)
    assert list(block) == ["dense", "categorical", LABEL]
    assert not any(view.flags.writeable or view.flags.owndata for view in block.values())


def test_views_outlive_their_reader(dataset: Written, rows: Callable[..., Columns]) -> None:
    block = Dataset(dataset[0]).split("train").block(0)
    np.testing.assert_array_equal(block["dense"], rows(3)["dense"])


def test_split_without_rows_has_no_blocks(dataset: Written) -> None:
    reader = Dataset(dataset[0]).split("validation")
    assert (reader.rows, reader.block_rows) == (0, ())


def test_unknown_split_is_refused(dataset: Written) -> None:
    with pytest.raises(DatasetError, match="has no split 'tset'; use train, validation"):
        Dataset(dataset[0]).split("tset")


def test_directory_without_manifest_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset"):
        Dataset(tmp_path)


def test_missing_shard_is_named_and_the_others_can_be_read(dataset: Written) -> None:
    directory, manifest = dataset
    path = directory / manifest.splits["train"][1].file
    path.unlink()
    reader = Dataset(directory).split("train")
    assert len(reader.block(0)[LABEL]) == 3
    with pytest.raises(DatasetError, match="the shard is missing; prepare the dataset again") as caught:
        reader.block(3)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("change", [-1, -200, 8])
def test_shard_of_another_size_is_refused(dataset: Written, change: int) -> None:
    directory, manifest = dataset
    shard = manifest.splits["train"][0]
    content = (directory / shard.file).read_bytes()
    (directory / shard.file).write_bytes(content[:change] if change < 0 else content + b"\0" * change)
    with pytest.raises(DatasetError, match=f"has {shard.bytes + change} bytes instead of {shard.bytes}, which"):
        Dataset(directory).split("train").block(0)


@pytest.mark.parametrize("wrong", ["columns", "blocks"])
def test_shard_of_other_columns_or_blocks_is_refused(
    tmp_path: Path, schema: Schema, rows: Callable[..., Columns], describe: Callable[..., Manifest], wrong: str
) -> None:
    writer = ShardWriter(tmp_path, "train", 0, schema, block_rows=3)
    writer.write(rows(6))
    shard = writer.close()
    manifest = describe(train=(shard,))
    if wrong == "blocks":
        manifest = describe(train=(shard.model_copy(update={"blocks": shard.blocks[:1]}),))
    else:
        renamed = schema.groups[0].model_copy(update={"name": "sparse"})
        columns = schema.model_copy(update={"groups": (renamed, *schema.groups[1:])})
        manifest = manifest.model_copy(update={"columns": columns})
    write_manifest(tmp_path, manifest)
    with pytest.raises(DatasetError, match=r"is damaged|other columns or blocks than the manifest states"):
        Dataset(tmp_path).split("train").block(0)
