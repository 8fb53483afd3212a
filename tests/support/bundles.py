"""Bundles of small networks, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from farandole.bundle import BundleContents, write_bundle
from farandole.models import mlp
from farandole.preprocess import Observations, Preprocessing, learn
from farandole.shards import Group, LabelColumn, Schema
from farandole.spec import parse_job

TYPES = {"size": "double", "colour": "string"}
ROWS: dict[str, list[Any]] = {
    "size": [1.0, 2.5, None, -3.0, 10.0, 0.5],
    "colour": ["red", "blue", "red", None, "green", "blue"],
}
OPTIONS: dict[str, Any] = {"hidden": [16, 8]}
BINARY = LabelColumn(kind="binary", column="y", classes=("no", "yes"))
DIGITS = LabelColumn(kind="multiclass", column="y", classes=tuple("0123456789"))

NUMBERS = Group(name="dense", kind="numbers", features=tuple(f"f{number}" for number in range(23)))
IDS = Group(name="ids", kind="ids", features=("a", "b", "c", "d"), cardinalities=(18, 5, 300, 1100))
IMAGE = Group(name="image", kind="image", features=("image",), shape=(16, 16, 1))
TOKENS = Group(name="text", kind="tokens", features=("text",), cardinalities=(500,), shape=(24,))
MASK = Group(name="text_mask", kind="mask", features=("text",), shape=(24,))
SERIES = Group(name="series", kind="tensor", features=("series",), shape=(12, 5), value_type="float32")


def fitted(kind: str = "binary") -> Preprocessing:
    """Return the preprocessing of a table with a number and a category, fitted on `ROWS`."""
    document = {
        "name": "small",
        "data": {
            "sources": {"a": {"path": "/a.parquet"}},
            "features": {"size": {"kind": "numeric", "indicator": True}, "colour": {"kind": "categorical"}},
            "label": {"column": "y", "kind": kind},
        },
        "model": {"builder": "farandole.models.mlp:build"},
    }
    label = {"binary": [True, False] * 3, "multiclass": ["a", "b", "c"] * 2, "regression": [0.5, 1.0, 7.0] * 2}[kind]
    preprocessing = Preprocessing.from_spec(parse_job(document).data)
    label_type = {"binary": "boolean", "multiclass": "string", "regression": "double"}[kind]
    preprocessing = preprocessing.with_types({**TYPES, "y": label_type})
    raw = preprocessing.raw_batch(ROWS).append_column("y", pa.array(label))
    while not preprocessing.fitted:
        seen = Observations()
        seen.add(preprocessing, raw)
        preprocessing = learn(preprocessing, seen)
    return preprocessing


def small_network(preprocessing: Preprocessing) -> torch.nn.Module:
    """Return an untrained network with random weights."""
    torch.manual_seed(1)
    return mlp.build(preprocessing.schema, **OPTIONS).eval()


def contents(preprocessing: Preprocessing, **changes: Any) -> BundleContents:
    """Return what the bundle of the small network is made of."""
    values: dict[str, Any] = {
        "name": "small",
        "builder": "farandole.models.mlp:build",
        "options": OPTIONS,
        "preprocessing": preprocessing,
    }
    return BundleContents(**{**values, **changes})


def write_small_bundle(folder: Path, kind: str = "binary") -> Path:
    """Write a bundle of the small network."""
    preprocessing = fitted(kind)
    assert write_bundle(folder, small_network(preprocessing), contents(preprocessing)) is None
    return folder


def random_features(schema: Schema, rows: int) -> dict[str, np.ndarray]:
    """Return random features of a schema."""
    generator, features = np.random.default_rng(0), {}
    for group in schema.groups:
        shape = (rows, *group.shape)
        if group.kind == "ids":
            columns = [generator.integers(0, count, rows) for count in group.cardinalities]
            features[group.name] = np.stack(columns, axis=1).astype(np.int32)
        elif group.kind == "tokens":
            features[group.name] = generator.integers(0, group.cardinalities[0], shape).astype(np.int32)
        elif group.kind == "mask":
            lengths = generator.integers(1, group.shape[0] + 1, rows)
            features[group.name] = (np.arange(group.shape[0]) < lengths[:, None]).astype(np.uint8)
        elif group.kind == "image":
            features[group.name] = generator.integers(0, 256, shape).astype(np.uint8)
        else:
            features[group.name] = generator.standard_normal(shape).astype(np.float32)
    return features
