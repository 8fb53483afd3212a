"""Every kind of feature through Spark: shards hold what the saved preprocessing makes of the same raw rows."""

from __future__ import annotations

import datetime
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pyspark.sql import SparkSession

from farandole.ingest.spark.partitioning import ORDER, SPLIT, with_partition_columns
from farandole.preprocess import Preprocessing
from farandole.shards import read_manifest
from farandole.spec import SPLITS, Split
from tests.support.ingest_inputs import MakeJob, Prepare, Refuse, as_bytes, columns, shard_bytes, verify

FEATURES: dict[str, Any] = {
    "x": {"kind": "numeric", "scale": "robust", "indicator": True, "clip": {"lower": -1e6, "upper": 1e6}},
    "logged": {"kind": "numeric", "column": "x", "log": True, "clip": {"by": "quantile", "upper": 0.9}},
    "same": {"kind": "numeric", "column": "small", "scale": "none"},
    "interval": {"kind": "bucket", "column": "x", "quantiles": 4},
    "side": {"kind": "bucket", "column": "small", "boundaries": [-1, 0, 1], "encoding": "onehot"},
    "colour": {"kind": "categorical"},
    "colours": {"kind": "categorical", "column": "colour", "encoding": "onehot", "max_size": 3},
    "hashed": {"kind": "categorical", "column": "colour", "encoding": "hash", "buckets": 8},
    "value": {"kind": "categorical", "column": "small", "group": "values"},
    "clock": {"kind": "time", "column": "at", "parts": ["hour", "week"]},
    "calendar": {"kind": "time", "column": "at", "parts": ["month", "is_weekend"], "encoding": "category"},
    "since": {"kind": "time", "column": "at", "parts": ["year", "days"], "encoding": "number"},
    "body": {"kind": "text", "length": 6, "vocab_size": 300, "lower": True},
    "title": {"kind": "text", "column": "body", "length": 3, "tokenizer": "words", "truncate": "start"},
    "vector": {"kind": "tensor", "shape": [2]},
    "matrix": {"kind": "tensor", "column": "content", "shape": [2, 2], "dtype": "int16"},
    "picture": {"kind": "image", "size": [3, 4], "missing": "blank"},
}
TYPES = pa.schema(
    {
        "x": pa.float64(),
        "small": pa.float32(),
        "colour": pa.string(),
        "at": pa.timestamp("us", tz="UTC"),
        "body": pa.string(),
        "vector": pa.list_(pa.float64()),
        "content": pa.binary(),
        "picture": pa.binary(),
        "y": pa.int32(),
        "part": pa.string(),
    }
)


def picture(seed: int) -> bytes:
    """A PNG file of a few random pixels."""
    random = np.random.default_rng(seed)
    file = io.BytesIO()
    Pillow.fromarray(random.integers(0, 256, (*random.integers(1, 7, 2), 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBER = st.floats(-1e100, 1e100) | st.sampled_from([0.0, -0.0, 5e-324, 1e150, 0.1])
ROW = st.fixed_dictionaries(
    {
        "x": st.none() | NUMBER | st.just(math.nan),
        "small": st.none() | st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 3.0]),
        "colour": st.none() | st.sampled_from(["red", "RED", "", "blå", "青", "\u0000"]) | TEXT,
        "at": st.none() | st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)),
        "body": st.none() | st.sampled_from(["the box", "the fox  and the box", " "]) | TEXT,
        "vector": st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=2),
        "content": st.binary(min_size=8, max_size=8),
        "picture": st.none() | st.integers(0, 5).map(picture),
    }
)
KNOWN: dict[str, Any] = {
    "x": 1.0,
    "small": 2.0,
    "colour": "red",
    "at": datetime.datetime(2024, 1, 1),
    "body": "the box",
    "vector": [-0.0, 1.0],
    "content": bytes(8),
    "picture": picture(9),
}


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows with a label and a split; two known ones train."""
    made = [KNOWN, {**KNOWN, "x": 2.0}, *rows]
    named = [{**row, "y": number % 2, "part": SPLITS[number % 5 % 3]} for number, row in enumerate(made)]
    for row, part in zip(named, ("train", "train", "validation", "test"), strict=False):
        row["part"] = part
    return pa.Table.from_pylist(named, TYPES)


@pytest.mark.slow
@given(rows=st.lists(ROW, min_size=20, max_size=60))
@hypothesis_settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.generate],  # an example takes seconds: none is made smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.large_base_example],
)
def test_shards_hold_what_the_saved_preprocessing_makes_of_the_raw_rows(
    make_job: MakeJob, prepare: Prepare, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    table = table_of(rows)
    pq.write_table(table, tmp_path / "rows.parquet")
    label = {"column": "y", "kind": "binary"}
    changes = {"features": FEATURES, "label": label, "split": {"column": "part"}, "partitions": 3}
    source = {"path": "rows.parquet", "format": "parquet", "columns": ...}
    prepared = prepare(make_job(changes, rows=source), force=True)
    verify(prepared.path)

    manifest = read_manifest(prepared.path)
    preprocessing = Preprocessing.from_dict(json.loads(json.dumps(manifest.preprocessing)))
    assert preprocessing.schema == manifest.columns
    for split in SPLITS:
        raw = table.filter(pa.compute.equal(table["part"], split)).to_pydict()
        # As a served model gets them: from Python, without Spark.
        made = preprocessing.features(preprocessing.raw_batch(raw))
        made["label"] = np.array(raw["y"], dtype=np.int32)
        assert as_bytes(manifest.columns, made) == as_bytes(manifest.columns, columns(prepared.path, split))
    assert {"x", "small", "colour", "at.year", "body.characters", "picture.width"} <= set(manifest.statistics)
    example = preprocessing.features(preprocessing.raw_batch(preprocessing.example()))
    assert {name: values.shape for name, values in example.items()} == {
        group.name: (1, *group.shape) for group in manifest.columns.groups
    }


# Packed texts -------------------------------------------------------------------------------------------------

LINES = [f"line {number} of {number % 7} words, and {'more ' * (number % 5)}" for number in range(120)]
PACKED = {
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
