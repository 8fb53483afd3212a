"""The code of a logged model, which maps raw rows to predictions. MLflow loads this file on its own.

The fitted preprocessing and the network are stored with it as data: JSON, and a torch.export program or, if the network
cannot be exported, the name of its builder and its weights.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.pyfunc.model import PythonModel

from farandole.preprocess import Preprocessing
from farandole.shards import LabelColumn


class ServedModel(PythonModel):
    """The fitted preprocessing, the network and the classes of its outputs."""

    def load_context(self, context: Any) -> None:
        """Load the preprocessing and the network."""
        folder = Path(context.artifacts["model"])
        self._preprocessing = Preprocessing.from_dict(json.loads((folder / "preprocessing.json").read_text()))
        self._label = self._preprocessing.schema.target
        self._network = _load_network(folder, self._preprocessing)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict the label of raw rows.

        Args:
            context: MLflow's context; unused.
            model_input: Raw rows with the columns of the signature.
            params: Unused; the model has no parameters.

        Returns:
            For classes: `prediction` (the class as text) and `probability` (of the positive class), or one column
            `probability_CLASS` for each class. For regression: `prediction`.
        """
        features = self._preprocessing.features(self._preprocessing.raw_batch(model_input))
        with torch.no_grad():
            outputs = self._network({name: torch.from_numpy(values) for name, values in features.items()}).float()
        return _as_frame(outputs, self._label)


def _as_frame(outputs: torch.Tensor, label: LabelColumn) -> pd.DataFrame:
    kind, classes = label.kind, label.classes
    if kind == "regression":
        return pd.DataFrame({"prediction": label.in_units(outputs.squeeze(1).numpy())})
    if kind == "binary":
        probability = outputs.squeeze(1).double().sigmoid().numpy()
        predicted = np.array(classes, dtype=object)[(probability > 0.5).astype(int)]
        return pd.DataFrame({"prediction": predicted, "probability": probability})
    probabilities = outputs.double().softmax(1).numpy()
    columns: dict[str, Any] = {"prediction": np.array(classes, dtype=object)[probabilities.argmax(1)]}
    columns |= {f"probability_{name}": probabilities[:, index] for index, name in enumerate(classes)}
    return pd.DataFrame(columns)


def _load_network(folder: Path, preprocessing: Preprocessing) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    if (folder / "network.pt2").exists():
        program: Callable[[dict[str, torch.Tensor]], torch.Tensor] = torch.export.load(folder / "network.pt2").module()
        return program
    saved = json.loads((folder / "builder.json").read_text())
    module_name, function_name = saved["builder"].split(":")
    network = getattr(importlib.import_module(module_name), function_name)(preprocessing.schema, **saved["options"])
    network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    network.eval()
    return lambda groups: network(**groups)


mlflow.models.set_model(ServedModel())
