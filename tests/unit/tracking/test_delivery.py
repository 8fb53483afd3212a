from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST

from farandole.tracking.delivery import (
    AuthError,
    Delivery,
    PermanentError,
    TransientError,
    UnusableStoreError,
    _check_database_file,
)
from farandole.tracking.run_link import RunLink
from farandole.tracking.store import TrackingStore

SERVER = TrackingStore("http://ada:s3cret@mlflow:5000", None)


def _database(path: Path) -> TrackingStore:
    return TrackingStore(f"sqlite:///{path}", None)


@pytest.fixture
def delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Delivery:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # restored after the test
    return Delivery(SERVER, tmp_path, RunLink("key", 0, SERVER.shown))


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
def test_errors_are_classified_by_their_status(delivery: Delivery, error: Exception, kind: type, text: str) -> None:
    found = delivery._classify(error)
    assert type(found) is kind
    assert str(found).startswith(text)
    assert "s3cret" not in str(found)


def test_an_invalid_operation_on_a_database_is_permanent(tmp_path: Path) -> None:
    store = _database(tmp_path / "mlflow.db")
    delivery = Delivery(store, tmp_path, RunLink("key", 0, store.shown))
    assert type(delivery._classify(MlflowException("no", error_code=BAD_REQUEST))) is PermanentError


def test_a_locked_database_is_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"
    connect = sqlite3.connect

    def connect_without_waiting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, **{"timeout": 0, **options})

    owner = connect(path, isolation_level=None)
    owner.execute("CREATE TABLE runs (id)")
    owner.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", connect_without_waiting)
    _check_database_file(_database(path))
    assert owner.in_transaction  # the lock was there during the check
    owner.close()


def test_a_damaged_database_is_unusable_also_if_its_path_says_locked(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(UnusableStoreError, match=r"locked\.db: file is not a database"):
        _check_database_file(_database(path))


def test_the_folder_of_a_new_database_is_created(tmp_path: Path) -> None:
    _check_database_file(_database(tmp_path / "new" / "mlflow.db"))
    assert (tmp_path / "new").is_dir()
