"""Fixtures: a schema of every kind of column, rows for it, and small datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from farandole.shards import (
    LABEL,
    Group,
    LabelColumn,
    Manifest,
    Schema,
    ShardInfo,
    ShardWriter,
    content_digest,
    write_manifest,
)

Columns = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def schema() -> Schema:
    return Schema(
        groups=(
            Group(name="dense", kind="numbers", features=("a", "b", "c")),
            Group(name="categorical", kind="ids", features=("d",), cardinalities=(7,)),
        ),
        label=LabelColumn(kind="binary", column="y", classes=("no", "yes")),
    )


@pytest.fixture(scope="session")
def rows() -> Callable[..., Columns]:
    """Provide a function that returns `count` distinct rows, from number `start` on."""

    def rows(count: int, start: int = 0) -> Columns:
        number = np.arange(start, start + count)
        return {
            "dense": (number[:, None] * 10 + np.arange(3)).astype(np.float32),
            "categorical": (number[:, None] % 7).astype(np.int32),
            LABEL: (number % 2).astype(np.int32),
        }

    return rows


@pytest.fixture(scope="session")
def describe(schema: Schema) -> Callable[..., Manifest]:
    """Provide a function that returns the manifest of shards."""

    def describe(**splits: tuple[ShardInfo, ...]) -> Manifest:
        preprocessing = {"transforms": [{"offset": 0.1, "factor": 1e-300, "vocabulary": ["é", "\u2028", "a"]}]}
        return Manifest(
            digest=content_digest(schema, preprocessing, splits),
            columns=schema,
            splits=splits,
            preprocessing=preprocessing,
            statistics={"a": {"rows": 3, "mean": 1 / 3}},
            split_rule={"train": 1.0},
            sources=({"path": "/a.csv", "bytes": 1, "changed_ns": 2**60},),
            request="0" * 64,
            code_version={"farandole": "0.1.0"},
        )

    return describe


@pytest.fixture
def dataset(
    tmp_path: Path, schema: Schema, rows: Callable[..., Columns], describe: Callable[..., Manifest]
) -> tuple[Path, Manifest]:
    """Provide a dataset of two shards of 7 and 5 rows in blocks of 3, and of a split without rows."""
    shards = []
    for index, (count, start) in enumerate([(7, 0), (5, 7)]):
        writer = ShardWriter(tmp_path, "train", index, schema, block_rows=3)
        writer.write(rows(count, start))
        shards.append(writer.close())
    manifest = describe(train=tuple(shards), validation=())
    write_manifest(tmp_path, manifest)
    return tmp_path, manifest
