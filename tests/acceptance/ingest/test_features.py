"""Every kind of feature through Spark: shards hold what the saved preprocessing makes of the same raw rows."""

from __future__ import annotations

import datetime
import io
import json
import math
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

from farandole.preprocess import Preprocessing
from farandole.shards import read_manifest
from farandole.spec import SPLITS
from tests.support.ingest_inputs import MakeJob, Prepare, as_bytes, columns, verify

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
    """Return a PNG file of a few random pixels."""
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
    """Return the rows with a label and a split; two known rows are for training."""
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
    phases=[Phase.generate],  # an example takes seconds: do not shrink it
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.large_base_example],
)
def test_shards_equal_the_saved_preprocessing_of_the_raw_rows(
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
        # The way of a served model: from Python, without Spark.
        made = preprocessing.features(preprocessing.raw_batch(raw))
        made["label"] = np.array(raw["y"], dtype=np.int32)
        assert as_bytes(manifest.columns, made) == as_bytes(manifest.columns, columns(prepared.path, split))
    assert {"x", "small", "colour", "at.year", "body.characters", "picture.width"} <= set(manifest.statistics)
    example = preprocessing.features(preprocessing.raw_batch(preprocessing.example()))
    assert {name: values.shape for name, values in example.items()} == {
        group.name: (1, *group.shape) for group in manifest.columns.groups
    }
