"""Datasets whose rows carry their row number, so that a batch shows which rows it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farandole.shards import (
    LABEL,
    Dataset,
    Group,
    LabelColumn,
    Manifest,
    Schema,
    ShardWriter,
    content_digest,
    write_manifest,
)


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Write a dataset, given the number of rows of each shard of each split.

    Every feature of a row derives from its number. `first` is the number of the first row; a dataset with another
    `name` is a sibling of the first one.
    """

    def write_dataset(
        block_rows: int = 4, name: str = "dataset", first: int = 0, wide: bool = False, **splits: list[int]
    ) -> Dataset:
        directory = tmp_path / name
        dense = 512 if wide else 2
        schema = Schema(
            groups=(
                Group(name="dense", kind="numbers", features=tuple(f"a{index}" for index in range(dense))),
                Group(name="ids", kind="ids", features=("c",), cardinalities=(10_000,)),
            ),
            label=LabelColumn(kind="regression", column="y"),
        )
        directory.mkdir(exist_ok=True)
        written = {}
        for split, shards in splits.items():
            start, infos = first, []
            for index, count in enumerate(shards):
                number = np.arange(start, start + count)
                writer = ShardWriter(directory, split, index, schema, block_rows)
                writer.write(
                    {
                        "dense": np.stack([number, -number] * (dense // 2), axis=1).astype(np.float32),
                        "ids": number[:, None].astype(np.int32),
                        LABEL: (number * 2).astype(np.float32),
                    }
                )
                infos.append(writer.close())
                start += count
            written[split] = tuple(infos)
        manifest = Manifest(
            digest=content_digest(schema, {}, written),
            columns=schema,
            splits=written,
            preprocessing={},
            statistics={},
            split_rule={},
            sources=(),
            request="",
            code_version={},
        )
        write_manifest(directory, manifest)
        return Dataset(directory)

    return write_dataset
