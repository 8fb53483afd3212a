"""Packed texts through Spark, and values that do not fit their feature."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from pyspark.sql import SparkSession

from farandole.ingest.spark.partitioning import ORDER, SPLIT, with_partition_columns
from farandole.preprocess import Preprocessing
from farandole.spec import SPLITS, Split
from tests.support.ingest_inputs import MakeJob, Prepare, Refuse, columns, shard_bytes, verify


def picture(seed: int) -> bytes:
    """Return a PNG file of a few random pixels."""
    random = np.random.default_rng(seed)
    file = io.BytesIO()
    Pillow.fromarray(random.integers(0, 256, (*random.integers(1, 7, 2), 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


# Packed texts -------------------------------------------------------------------------------------------------

LINES = [f"line {number} of {number % 7} words, and {'more ' * (number % 5)}" for number in range(120)]
PACKED: dict[str, Any] = {
    "query": "SELECT text FROM rows",
    "features": {"text": {"kind": "text", "mode": "pack", "length": 16, "vocab_size": 300}},
    "label": None,
    "split": {"train": 0.7, "validation": 0.15, "test": 0.15},
}


@pytest.fixture
def lines(tmp_path: Path) -> dict[str, Any]:
    pq.write_table(pa.table({"text": [*LINES, "", None, "twice", "twice"]}), tmp_path / "lines.parquet")
    return {"path": "lines.parquet", "format": "parquet", "columns": ...}


def test_packed_texts_fill_windows_in_the_order_of_their_shard(
    make_job: MakeJob, prepare: Prepare, lines: dict[str, Any], spark: SparkSession, tmp_path: Path
) -> None:
    one = prepare(make_job({**PACKED, "output": "one", "partitions": 1}, rows=lines))
    many = prepare(make_job({**PACKED, "output": "many", "partitions": 5}, rows=lines))
    assert one.manifest.digest == many.manifest.digest
    assert shard_bytes(one.path) == shard_bytes(many.path)
    preprocessing = Preprocessing.from_dict(one.manifest.preprocessing)
    raw = with_partition_columns(spark.read.parquet(str(tmp_path / "lines.parquet")), Split(**PACKED["split"]))
    ordered = raw.sort(SPLIT, *ORDER).toArrow().combine_chunks().to_batches()[0]
    shards = ordered.column(SPLIT).to_numpy()
    for index, split in enumerate(SPLITS):
        found = columns(one.path, split)["text"]
        made = preprocessing.features(ordered.filter(pa.array(shards == index)))["text"]
        assert np.array_equal(found, made)
        assert (found.ravel() == 2).sum() == (shards == index).sum()
        assert one.manifest.rows(split) == len(found)
    assert sum(one.manifest.row_counts.values()) > 60
    assert one.manifest.columns.label is None
    assert one.manifest.statistics["text.characters"]["rows"] == (shards == 0).sum()


def test_packed_texts_fill_several_shards(make_job: MakeJob, prepare: Prepare, lines: dict[str, Any]) -> None:
    prepared = prepare(make_job({**PACKED, "shards": {"size_mib": 0.002, "block_mib": 0.0005}}, rows=lines))
    shards = prepared.manifest.splits["train"]
    assert len(shards) > 2
    assert sum(shard.rows for shard in shards) == len(columns(prepared.path, "train")["text"])
    verify(prepared.path)


# Labels ---------------------------------------------------------------------------------------------------------


def test_label_that_float32_cannot_hold_keeps_its_values(make_job: MakeJob, prepare: Prepare, tmp_path: Path) -> None:
    lines = [f"{number % 7},{1_700_000_000 + number}" for number in range(200)]
    (tmp_path / "times.csv").write_text("\n".join(["x,t", *lines, ""]))
    data = {
        "query": None,
        "features": {"x": {"kind": "numeric"}},
        "label": {"column": "t", "kind": "regression"},
        "split": {"train": 0.7, "validation": 0.15, "test": 0.15},
    }
    prepared = prepare(make_job(data, rows={"path": "times.csv", "columns": {"x": "int", "t": "bigint"}}))
    label = prepared.manifest.columns.target
    found = np.concatenate([label.in_units(columns(prepared.path, split)["label"]) for split in SPLITS])
    assert sorted(found.round(3)) == [1_700_000_000 + number for number in range(200)]
    statistics = prepared.manifest.statistics["t"]
    assert statistics["mean"] == label.scale.mean
    assert statistics["rows"] == prepared.manifest.rows("train")


# What does not fit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "values", "problem"),
    [
        ({"kind": "image", "size": [2, 2]}, [b"no image", *[picture(1)] * 20], "rows hold no readable image"),
        ({"kind": "tensor", "shape": [2]}, [[1.0], *[[1.0, 2.0]] * 20], r"have 1 values .* float32\[2\] needs 2"),
        ({"kind": "numeric"}, [[1.0]] * 20, "is not a number, yet its feature is numeric"),
        ({"kind": "text", "length": 3}, [b"\xff"] * 20, "cannot be a category or text"),
    ],
    ids=["image", "tensor", "list as number", "bytes as text"],
)
def test_values_that_do_not_fit_are_named_with_their_feature(
    make_job: MakeJob, refuse: Refuse, tmp_path: Path, feature: dict[str, Any], values: list[Any], problem: str
) -> None:
    table = pa.table({"thing": values, "y": [number % 2 for number in range(len(values))]})
    pq.write_table(table, tmp_path / "things.parquet")
    source = {"path": "things.parquet", "format": "parquet", "columns": ...}
    changes = {"features": {"thing": feature}, "label": {"column": "y", "kind": "binary"}}
    error = refuse(make_job({**changes, "split": {"train": 1, "validation": 0, "test": 0}}, rows=source))
    assert "column thing: " in str(error)
    assert re.search(problem, str(error))
