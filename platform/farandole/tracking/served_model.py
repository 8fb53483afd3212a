"""The code of a logged model, which maps raw rows to predictions. MLflow loads this file on its own.

The model is stored with it as a bundle: the fitted preprocessing and the network as data, without pickles.
"""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.model import PythonModel
from mlflow.types.schema import AnyType

from farandole.bundle import open_bundle
from farandole.errors import DataError


class ServedModel(PythonModel):
    """The bundle's predictor."""

    def load_context(self, context: Any) -> None:
        """Open the bundle."""
        # Code that the bundle carries is trusted like this file, which MLflow has already run.
        self._predictor = open_bundle(context.artifacts["model"]).predictor(run_code=True)

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
            return pd.DataFrame(self._predictor.predict(model_input))
        except DataError as error:  # MLflow's server hides the text of any other error
            raise MlflowException(str(error), error_code=BAD_REQUEST) from error


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
