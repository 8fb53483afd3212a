"""The client of an MLflow store, and its errors by what helps against them.

MLflow itself retries for minutes where a store can never answer, and quotes a URI with its password in its errors.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException, RestException
from mlflow.tracking._tracking_service.utils import _SERVER_ARTIFACT_ROOT_ENV_VAR

from farandole.tracking.new_store import create_store
from farandole.tracking.store import TrackingStore
from farandole.tracking.store_check import find_problem

_RETRIABLE_STATUSES = (408, 409, 425, 429)
_SCHEMA_MISMATCH = re.compile(r"out-of-date database schema|Can't locate revision")


class DeliveryError(Exception):
    """An operation was not delivered."""


class PermanentError(DeliveryError):
    """MLflow understood an operation and will never accept it."""


class DeletedExperimentError(PermanentError):
    """The experiment is deleted in MLflow, which keeps its name until it is restored or removed for good."""


class UnusableStoreError(DeliveryError):
    """The URI is not that of a usable MLflow store; retrying does not help until the user changes something."""


class AuthError(UnusableStoreError):
    """The store rejected the credentials."""


class TransientError(DeliveryError):
    """The store does not answer now; a retry may succeed."""


def prepare_client(store: TrackingStore) -> str:
    """Silence MLflow's links and progress bars, leave retries to the caller, and hide the store's credentials.

    Credentials of a server's URI move to the environment, since MLflow's errors quote the URI.

    Returns:
        The URI for MLflow.
    """
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    parts = urlsplit(store.uri)
    if not store.is_server or parts.username is None:
        return store.uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return store.shown


def open_client(store: TrackingStore) -> mlflow.MlflowClient:
    """Return a client of a store, whose tables are created if there are none.

    Raises:
        UnusableStoreError: The store can never answer.
    """
    uri = prepare_client(store)
    if not store.is_server and store.artifacts_uri:
        # MLflow's own experiment "Default", which every store has, would get a folder where the process runs.
        os.environ.setdefault(_SERVER_ARTIFACT_ROOT_ENV_VAR, store.artifacts_uri)
    problem = find_problem(store)
    if problem is not None:
        raise UnusableStoreError(problem)
    create_store(store.uri)
    return mlflow.MlflowClient(uri, registry_uri=uri)


def classify_error(error: Exception, store: TrackingStore) -> DeliveryError:
    """Convert an error of MLflow, or of a library below it, into one of this module."""
    text = " ".join(str(error).replace(store.uri, store.shown).split())[:300]
    if _SCHEMA_MISMATCH.search(text):
        return UnusableStoreError(
            "its tables are those of another version of MLflow; use that version, or migrate them with"
            f" `mlflow db upgrade {store.shown}`"
        )
    if not isinstance(error, MlflowException):
        return TransientError(f"{type(error).__name__}: {text}")
    status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
    if status == 401:
        return AuthError(f"MLflow at {store.shown} rejected the credentials (401); set MLFLOW_TRACKING_PASSWORD")
    if status == 403:
        return AuthError(
            f"MLflow at {store.shown} denied access (403: {text}); set MLFLOW_TRACKING_USERNAME and"
            " MLFLOW_TRACKING_PASSWORD to those of a user with write permission"
        )
    if 400 <= status < 500 and status not in _RETRIABLE_STATUSES:
        # A rejection that is not in MLflow's format may come from a proxy in front of an unavailable server.
        from_mlflow = isinstance(error, RestException) or not store.is_server
        return PermanentError(text) if from_mlflow else UnusableStoreError(text)
    return TransientError(text)
