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
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.model import PythonModel
from mlflow.types.schema import AnyType

from farandole.errors import DataError
from farandole.preprocess import Preprocessing, RawForm
from farandole.shards import LabelColumn


class ServedModel(PythonModel):
    """The fitted preprocessing, the network and the classes of its outputs."""

    def load_context(self, context: Any) -> None:
        """Load the preprocessing and the network."""
        folder = Path(context.artifacts["model"])
        self._preprocessing = Preprocessing.from_dict(json.loads((folder / "preprocessing.json").read_text()))
        forms = json.loads((folder / "rows.json").read_text())
        self._forms = {column: RawForm.from_dict(form) for column, form in forms.items()}
        self._label = self._preprocessing.schema.target
        self._network = _load_network(folder, self._preprocessing)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict the label of raw rows.

        Args:
            context: MLflow's context; unused.
            model_input: Raw rows with the columns of the signature, in any form that their source or pandas gives them.
            params: Unused; the model has no parameters.

        Returns:
            For classes: `prediction` (the class as text) and `probability` (of the positive class), or one column
            `probability_CLASS` for each class. For regression: `prediction`.

        Raises:
            MlflowException: A column is missing, or a value does not fit its type.
        """
        try:
            features = self._preprocessing.features(self._preprocessing.raw_batch(model_input, self._forms))
        except DataError as error:  # MLflow's server hides the text of any other error
            raise MlflowException(str(error), error_code=BAD_REQUEST) from error
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


def _parse_csv(csv_input: Any, schema: Any = None) -> pd.DataFrame:
    """Read the body of a request to MLflow's scoring server as the texts that it holds.

    The server has an error for columns of any type, and pandas would turn `007` into 7, and categories such as `None`
    into missing values.
    """
    if not _takes_any_type(schema):
        return _PARSE_CSV(csv_input, schema=schema)
    try:
        return pd.read_csv(csv_input, dtype=str, keep_default_na=False, na_filter=False)
    except ValueError as error:
        raise MlflowException(f"the body of the request is not CSV: {error}", error_code=BAD_REQUEST) from error


def _parse_instances(inp_dict: dict[str, Any], schema: Any = None) -> Any:
    """Read `instances` or `inputs` in the body of a request, of which the objects may lack members.

    The server would move the values of a column up to fill its gaps, into the rows of other objects.
    """
    rows = inp_dict.get("instances")
    if _takes_any_type(schema) and isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        names = dict.fromkeys(name for row in rows for name in row)
        inp_dict = {**inp_dict, "instances": [{name: row.get(name) for name in names} for row in rows]}
    return _PARSE_INSTANCES(inp_dict, schema=schema)


def _takes_any_type(schema: Any) -> bool:
    return schema is not None and all(isinstance(column.type, AnyType) for column in schema.inputs)


def _replace(name: str, function: Any) -> Any:
    """Replace a function of the scoring server, of this process alone; return the server's own."""
    original = getattr(scoring_server, name)
    original = getattr(original, "original", original)  # a process may load several models
    function.original = original
    setattr(scoring_server, name, function)
    return original


_PARSE_CSV = _replace("parse_csv_input", _parse_csv)
_PARSE_INSTANCES = _replace("parse_tf_serving_input", _parse_instances)
mlflow.models.set_model(ServedModel())
