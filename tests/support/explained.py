"""Models to explain, of every builder and every kind of feature, on made rows."""

from __future__ import annotations

import datetime
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import nn

from farandole.explaining.model import ExplainedModel
from farandole.models import cnn, fusion, mlp, rnn, tabular, text
from farandole.preprocess import Observations, Preprocessing, learn, statistics
from farandole.shards import Schema
from farandole.spec import Data

ROWS = 120
_WORDS = ("late", "early", "plane", "train", "good", "bad", "storm", "sun")

TABLE: dict[str, Any] = {
    "size": {"kind": "numeric", "indicator": True},
    "price": {"kind": "numeric", "scale": "robust", "log": True},
    "colour": {"kind": "categorical"},
    "colour_code": {"kind": "categorical", "column": "colour", "encoding": "onehot"},
    "town": {"kind": "categorical", "encoding": "hash", "buckets": 16},
    "price_level": {"kind": "bucket", "column": "price", "quantiles": 4},
    "size_level": {"kind": "bucket", "column": "size", "quantiles": 3, "encoding": "onehot"},
    "at": {"kind": "time", "parts": ["month", "hour"]},
    "weekday": {"kind": "time", "column": "at", "parts": ["weekday"], "encoding": "category"},
    "year": {"kind": "time", "column": "at", "parts": ["year"], "encoding": "number"},
    "vector": {"kind": "tensor", "shape": [3]},
}
"""Every kind and encoding of features of tables; several share a raw column."""
PICTURE = {"picture": {"kind": "image", "size": [8, 8]}}
SERIES = {"past": {"kind": "tensor", "shape": [5, 2]}}
TEXT = {"words": {"kind": "text", "length": 6, "vocab_size": 300}}

BUILDERS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any], dict[str, Any]]] = {
    "mlp": (mlp.build, {**TABLE, **PICTURE}, {"hidden": [16]}),
    "tabular": (tabular.build, {**TABLE, **PICTURE}, {"members": 2, "width": 16, "intervals": 4}),
    "cnn": (cnn.build, PICTURE, {"channels": [4, 4], "hidden": [8]}),
    "rnn": (rnn.build, SERIES, {"size": 6, "hidden": [8]}),
    "text": (text.build, TEXT, {"width": 8, "layers": 1, "heads": 2}),
    "fusion": (fusion.build, {**TABLE, **PICTURE, **SERIES, **TEXT}, {"width": 8, "channels": [4, 4], "hidden": [16]}),
}
"""Builder to its function, the features that it reads, and options of a small network."""

TYPES = {
    "size": "double",
    "price": "double",
    "colour": "string",
    "town": "string",
    "at": "timestamp",
    "vector": "array<double>",
    "past": "array<array<double>>",
    "picture": "binary",
    "words": "string",
    "copy": "double",
}


def raw_rows(rows: int = ROWS, seed: int = 0) -> dict[str, list[Any]]:
    """Draw raw rows with the columns of `TYPES`, some of them with gaps."""
    random = np.random.default_rng(seed)
    start = datetime.datetime(2022, 1, 1, tzinfo=datetime.UTC)
    gaps = random.random((rows, 3)) < 0.1
    size, price = random.normal(10, 3, rows), random.exponential(50, rows)
    colour, town = random.integers(0, 12, rows), random.integers(0, 30, rows)
    return {
        "size": [None if gap else float(value) for value, gap in zip(size, gaps[:, 0], strict=True)],
        "price": price.tolist(),
        "colour": [None if gap else f"c{value}" for value, gap in zip(colour, gaps[:, 1], strict=True)],
        "town": [f"town {value}" for value in town],
        "at": [
            None if gap else start + datetime.timedelta(hours=int(hour))
            for hour, gap in zip(random.integers(0, 20_000, rows), gaps[:, 2], strict=True)
        ],
        "vector": random.normal(size=(rows, 3)).tolist(),
        "past": random.normal(size=(rows, 5, 2)).tolist(),
        "picture": [_picture(random) for _ in range(rows)],
        "words": [
            " ".join(random.choice(_WORDS, random.integers(0, 6))) for _ in range(rows)
        ],
        "copy": random.normal(size=rows).tolist(),
    }  # fmt: skip


def _picture(random: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def labels(kind: str, rows: int = ROWS, seed: int = 0) -> list[Any]:
    """Draw labels."""
    random = np.random.default_rng(seed + 1)
    if kind == "regression":
        return (random.normal(size=rows) * 20 + 100).tolist()
    classes = ("no", "yes") if kind == "binary" else ("a", "b", "c")
    return [classes[index] for index in random.integers(0, len(classes), rows)]


def fit(features: Mapping[str, Any], kind: str = "binary", **label: Any) -> tuple[Preprocessing, dict[str, Any]]:
    """Fit the preprocessing of features on made rows; return it and the statistics of the raw columns."""
    data = Data.model_validate(
        {
            "sources": {"made": {"path": "made.parquet"}},
            "features": features,
            "label": {"column": "label", "kind": kind, **label},
            "output": "made",
        }
    )
    unfitted = Preprocessing.from_spec(data)
    preprocessing = replace(unfitted, types={column: TYPES[column] for column in unfitted.columns})
    batch = preprocessing.raw_batch(raw_rows()).append_column("label", pa.array(labels(kind)))
    known: dict[str, Any] = {}
    while not preprocessing.fitted:
        seen = Observations()
        seen.add(preprocessing, batch)
        known = statistics(preprocessing, seen) | known
        preprocessing = learn(preprocessing, seen)
    return preprocessing, known


def features_of(model: ExplainedModel, rows: int = ROWS, seed: int = 5) -> dict[str, np.ndarray]:
    """Return the features of made rows that the preprocessing was not fitted on."""
    preprocessing = model.preprocessing
    return preprocessing.features(preprocessing.raw_batch(raw_rows(rows, seed)))


def raw_batch(model: ExplainedModel, rows: int, seed: int = 5) -> pa.RecordBatch:
    """Return made rows in the types of training."""
    return model.preprocessing.raw_batch(raw_rows(rows, seed))


def made_model(
    build: Callable[..., nn.Module], features: Mapping[str, Any], kind: str = "binary", **options: Any
) -> ExplainedModel:
    """Return an untrained model with random weights, larger than those that a training begins with."""
    preprocessing, known = fit(features, kind)
    torch.manual_seed(0)
    network = build(preprocessing.schema, **options)
    sample = {name: torch.from_numpy(values) for name, values in preprocessing.features(_raw(preprocessing)).items()}
    if isinstance(network, tabular.Tabular):
        network.initialize_inputs(**sample)
    for parameter in network.parameters():
        if not parameter.abs().any():  # the heads of some builders begin as zeros
            nn.init.normal_(parameter)
        elif parameter.ndim > 1 and not isinstance(network, Linear):
            nn.init.normal_(parameter, std=1.5 * float(parameter.detach().std()))
    return ExplainedModel(network, preprocessing, known, "network:build")


def _raw(preprocessing: Preprocessing) -> pa.RecordBatch:
    return preprocessing.raw_batch(raw_rows())


@functools.cache
def builder_model(name: str, kind: str = "binary") -> ExplainedModel:
    """Return an untrained model of one of `BUILDERS`; tests only read it."""
    build, features, options = BUILDERS[name]
    return made_model(build, features, kind, **options)


class Linear(nn.Module):
    """A linear map of one group of numbers; `weights` has one row for each output."""

    def __init__(self, weights: Sequence[Sequence[float]], group: str = "dense") -> None:
        super().__init__()
        self.weights, self.group = nn.Parameter(torch.tensor(weights)), group

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = groups[self.group] @ self.weights.T
        return outputs


def linear(schema: Schema, weights: Sequence[Sequence[float]]) -> nn.Module:
    """Build a linear network."""
    return Linear(weights)
