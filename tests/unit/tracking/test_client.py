from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST

from farandole.tracking.client import (
    AuthError,
    PermanentError,
    TransientError,
    UnusableStoreError,
    classify_error,
)
from farandole.tracking.store import TrackingStore

SERVER = TrackingStore("http://ada:s3cret@mlflow:5000", None)


def _database(path: Path) -> TrackingStore:
    return TrackingStore(f"sqlite:///{path}", None)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            RestException({"error_code": "UNAUTHENTICATED", "message": "no"}),
            AuthError,
            "MLflow at http://mlflow:5000 rejected the credentials (401); set MLFLOW_TRACKING_PASSWORD",
        ),
        (
            RestException({"error_code": "PERMISSION_DENIED", "message": "no"}),
            AuthError,
            "MLflow at http://mlflow:5000 denied access (403: PERMISSION_DENIED: no); set",
        ),
        (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}), PermanentError, "INVALID_PARAM"),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}), TransientError, "TEMPORARILY"),
        (MlflowException("no", error_code=RESOURCE_DOES_NOT_EXIST), UnusableStoreError, "no"),
        (MlflowException("no", error_code=INTERNAL_ERROR), TransientError, "no"),
        (OSError("http://ada:s3cret@mlflow:5000 is away"), TransientError, "OSError: http://mlflow:5000 is away"),
    ],
)
def test_errors_are_classified_by_their_status(error: Exception, kind: type, text: str) -> None:
    found = classify_error(error, SERVER)
    assert type(found) is kind
    assert str(found).startswith(text)
    assert "s3cret" not in str(found)


def test_an_invalid_operation_on_a_database_is_permanent(tmp_path: Path) -> None:
    store = _database(tmp_path / "mlflow.db")
    assert type(classify_error(MlflowException("no", error_code=BAD_REQUEST), store)) is PermanentError
