"""Bundles for the page of the service: every kind of raw column, with names and values that try to be HTML."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import nn

from farandole.bundle import BundleContents, write_bundle
from farandole.bundle.manifest import write_manifest
from farandole.preprocess import Observations, Preprocessing, learn
from farandole.spec import Data

ROWS = 300
EVIL = "</label><script>alert(1)</script>\"'&"
"""Name of a column."""
EVIL_VALUE = "\"><img src=x onerror=alert(2)>'"
"""A category, a class and a word of the card."""
WORDS = ("late", "early", "plane", "storm", "sun", "good", "bad", "über")

_FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "width": ("double", {"kind": "numeric"}),
    "age": ("int", {"kind": "numeric"}),
    "price": ("decimal(10,2)", {"kind": "numeric"}),
    "member": ("boolean", {"kind": "categorical"}),
    "colour": ("string", {"kind": "categorical"}),
    "grade": ("int", {"kind": "categorical"}),
    "town": ("string", {"kind": "categorical"}),
    "code": ("string", {"kind": "categorical", "encoding": "hash", "buckets": 16}),
    "born": ("date", {"kind": "time", "parts": ["month"]}),
    "seen": ("timestamp", {"kind": "time", "parts": ["hour"]}),
    "local": ("timestamp_ntz", {"kind": "time", "parts": ["hour"]}),
    "notes": ("string", {"kind": "text", "length": 8, "vocab_size": 300}),
    "vector": ("array<double>", {"kind": "tensor", "shape": [3]}),
    "raw": ("binary", {"kind": "tensor", "shape": [2], "dtype": "uint8"}),
    "picture": ("binary", {"kind": "image", "size": [8, 8]}),
    EVIL: ("double", {"kind": "numeric"}),
}
"""Raw column to its SQL type and the feature that it becomes."""


def mixed_rows(rows: int = ROWS) -> dict[str, list[Any]]:
    """Draw raw rows with every column."""
    random = np.random.default_rng(7)
    start = datetime.datetime(2022, 1, 1, 8)
    times = [start + datetime.timedelta(hours=int(hour)) for hour in random.integers(0, 9000, rows)]
    return {
        "width": random.normal(10, 3, rows).tolist(),
        "age": random.integers(18, 90, rows).tolist(),
        "price": [f"{value:.2f}" for value in random.exponential(50, rows)],
        "member": (random.random(rows) < 0.5).tolist(),
        "colour": [("red", "green", "blue", EVIL_VALUE)[index] for index in random.integers(0, 4, rows)],
        "grade": random.integers(1, 6, rows).tolist(),
        "town": [f"town {index}" for index in random.integers(0, 60, rows)],
        "code": [f"c{index}" for index in random.integers(0, 99, rows)],
        "born": [time.date() for time in times],
        "seen": [time.replace(tzinfo=datetime.UTC) for time in times],
        "local": times,
        "notes": [" ".join(random.choice(WORDS, 4)) for _ in range(rows)],
        "vector": random.normal(size=(rows, 3)).tolist(),
        "raw": [bytes(pair) for pair in random.integers(0, 256, (rows, 2), dtype=np.uint8)],
        "picture": [png(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(rows)],
        EVIL: random.normal(size=rows).tolist(),
    }


def png(pixels: np.ndarray) -> bytes:
    """Return pixels, uint8 `[height, width]` or `[height, width, 3]`, as an image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def fit(
    fields: Mapping[str, tuple[str, dict[str, Any]]], rows: Mapping[str, list[Any]], label: list[Any], **spec: Any
) -> Preprocessing:
    """Fit the preprocessing of columns; their features have other names, as in many jobs."""
    features = {f"f{index}": {**feature, "column": name} for index, (name, (_, feature)) in enumerate(fields.items())}
    data = Data.model_validate(
        {"sources": {"made": {"path": "made.parquet"}}, "features": features, "label": spec, "output": "made"}
    )
    types = {name: sql_type for name, (sql_type, _) in fields.items()}
    fitted = replace(Preprocessing.from_spec(data), types=types)
    batch = fitted.raw_batch(rows).append_column(spec["column"], pa.array(label))
    while not fitted.fitted:
        seen = Observations()
        seen.add(fitted, batch)
        fitted = learn(fitted, seen)
    return fitted


@cache
def mixed() -> Preprocessing:
    """Return the fitted preprocessing of every kind of column."""
    label = [("no", EVIL_VALUE)[index] for index in np.random.default_rng(1).integers(0, 2, ROWS)]
    return fit(_FIELDS, mixed_rows(), label, column="answer", kind="binary", positive=EVIL_VALUE)


@cache
def digits() -> Preprocessing:
    """Return the preprocessing of images that are lists of pixels, with ten classes."""
    random = np.random.default_rng(2)
    fields = {"pixels": ("array<int>", {"kind": "image", "pixels": "hwc", "size": [12, 8], "mode": "gray"})}
    rows = {"pixels": random.integers(0, 256, (ROWS, 96)).tolist()}
    return fit(fields, rows, random.integers(0, 10, ROWS).tolist(), column="digit", kind="multiclass")


@cache
def reviews() -> Preprocessing:
    """Return the preprocessing of texts, with a number to predict."""
    random = np.random.default_rng(3)
    fields = {"review": ("string", {"kind": "text", "length": 8, "vocab_size": 300})}
    rows = {"review": [" ".join(random.choice(WORDS, 5)) for _ in range(ROWS)]}
    return fit(fields, rows, random.normal(1000, 50, ROWS).tolist(), column="stars", kind="regression")


@dataclass(frozen=True)
class PageModel:
    """A model of the tests: its preprocessing and its network's builder and options."""

    preprocessing: Preprocessing
    builder: str
    options: dict[str, Any]

    def network(self) -> nn.Module:
        """Return an untrained network, whose outputs differ between rows."""
        torch.manual_seed(0)
        module, _, function = self.builder.partition(":")
        network: nn.Module = getattr(import_module(module), function)(self.preprocessing.schema, **self.options)
        for parameter in network.parameters():
            if not parameter.abs().any():
                nn.init.normal_(parameter)
        return network


def page_models() -> dict[str, PageModel]:
    """Return the models: a table with everything, images and texts."""
    small = {"channels": [4, 4], "hidden": [16]}
    return {
        "mixed": PageModel(mixed(), "farandole.models.fusion:build", {**small, "width": 8}),
        "digits": PageModel(digits(), "farandole.models.cnn:build", small),
        "reviews": PageModel(
            reviews(), "farandole.models.text:build", {"width": 8, "layers": 1, "heads": 2, "dropout": 0.0}
        ),
    }


DOCUMENTS: dict[str, Any] = {
    "card.md": f"# The model\n\nOf {EVIL_VALUE}\n\n<script>alert(3)</script>\n\n![a picture](http://example.invalid/x.png)"
    "\n\n[bad](javascript:alert(4)) and [good](https://example.org/)\n\n## Limits\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "metrics.json": {
        "test": {"roc_auc": 0.812345, "log_loss": 0.5},
        "validation": {"roc_auc": 0.8, "log_loss": None},
    },
    "lineage.json": {
        "job": {"name": "mixed", "command": EVIL_VALUE},
        "sources": [{"path": "a.csv", "bytes": 12345}, {"path": "b.csv", "bytes": 1}],
    },
    "statistics.json": {
        "columns": {"width": {"kind": "number", "edges": [2.5, 10, 17.25], "shares": [0.5, 0.5], "missing_share": 0}}
    },
}
"""Documents of a bundle beside the model."""


def write_model(directory: Path, name: str, model: PageModel) -> None:
    """Write the bundle of a model."""
    contents = BundleContents(name, model.builder, model.options, model.preprocessing, documents=DOCUMENTS)
    write_bundle(directory, model.network(), contents)


def write_without_network(directory: Path, name: str, preprocessing: Preprocessing, **documents: Any) -> None:
    """Write a bundle that only the page can use: it has no network."""
    directory.mkdir()
    (directory / "preprocessing.json").write_text(json.dumps(preprocessing.to_dict()))
    for file, document in (documents or DOCUMENTS).items():
        content = document if isinstance(document, str) else json.dumps(document)
        (directory / file).write_text(content, encoding="utf-8")
    write_manifest(directory, name)
