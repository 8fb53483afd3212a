"""Models of texts, images and tensors are saved and served like those of tables."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import nn

from farandole.preprocess import Observations, Preprocessing, learn
from farandole.spec import parse_job
from farandole.tracking.model import save_model

FEATURES: dict[str, Any] = {
    "body": {"kind": "text", "length": 5, "vocab_size": 300},
    "picture": {"kind": "image", "size": [4, 4]},
    "vector": {"kind": "tensor", "shape": [3]},
    "raw": {"kind": "tensor", "shape": [2], "dtype": "int64"},
    "year": {"kind": "time", "column": "at", "parts": ["year"], "encoding": "number"},
    "side": {"kind": "bucket", "column": "size", "quantiles": 2, "encoding": "onehot"},
}
JOB: dict[str, Any] = {
    "name": "kinds",
    "data": {
        "sources": {"a": {"path": "/a.parquet"}},
        "features": FEATURES,
        "label": {"column": "y", "kind": "binary"},
    },
    "model": {"builder": "network:build"},
}
TYPES = {"body": "string", "picture": "binary", "vector": "array<double>", "raw": "binary", "at": "date", "size": "int"}


def picture(value: int) -> bytes:
    """Return a PNG file of a single grey."""
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (value,) * 3).save(file, "PNG")
    return file.getvalue()


ROWS = {
    "body": ["the box", "a fox", None],
    "picture": [picture(0), picture(100), picture(200)],
    "vector": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [1.0, 1.0, 1.0]],
    "raw": [np.array([number, 2], "<i8").tobytes() for number in range(3)],
    "at": pd.to_datetime(["2020-01-01", "2021-01-01", "2022-06-01"]),
    "size": [1, 2, 3],
}


class Everything(nn.Module):
    """A network that uses every group; B rows."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 4)
        self.pixels = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(4 + 4 + 3 + 2 + 4, 1)

    def forward(self, **groups: torch.Tensor) -> torch.Tensor:
        """Map the groups to logits `[B, 1]`."""
        mask = groups["body_mask"].unsqueeze(2)
        text = (self.embedding(groups["body"]) * mask).sum(1) / mask.sum(1).clamp(min=1)
        image = self.pixels(groups["picture"].permute(0, 3, 1, 2) / 255).mean((2, 3))
        parts = [text, image, groups["vector"], groups["raw"].float(), groups["dense"]]
        outputs: torch.Tensor = self.linear(torch.cat(parts, dim=1))
        return outputs


@pytest.fixture
def fitted() -> Preprocessing:
    preprocessing = Preprocessing.from_spec(parse_job(JOB).data).with_types({**TYPES, "y": "boolean"})
    raw = preprocessing.raw_batch(ROWS).append_column("y", pa.array([True, False, True]))
    while not preprocessing.fitted:
        seen = Observations()
        seen.add(preprocessing, raw)
        preprocessing = learn(preprocessing, seen)
    return preprocessing


def test_a_model_of_every_kind_of_feature_is_saved_and_served(fitted: Preprocessing, tmp_path: Path) -> None:
    features = fitted.features(fitted.raw_batch(ROWS))
    assert sum(array.shape[1] for name, array in features.items() if name == "dense") == 1 + 3
    torch.manual_seed(0)
    network = Everything(fitted.schema.groups[0].cardinalities[0]).eval()
    problem = save_model(network, fitted, parse_job(JOB), tmp_path / "model")
    assert problem is None

    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    predictions = model.predict(pd.DataFrame(ROWS))
    with torch.no_grad():
        expected = network(**{name: torch.from_numpy(array) for name, array in features.items()})
    np.testing.assert_allclose(predictions["probability"], expected.squeeze(1).sigmoid().numpy(), rtol=1e-4)
    assert {column.name: str(column.type) for column in model.metadata.signature.inputs} == dict.fromkeys(TYPES, "Any")
    assert model.metadata.metadata["columns"] == TYPES
    assert len(model.predict(model.input_example)) == 1
