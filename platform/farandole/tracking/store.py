"""The MLflow store that jobs are recorded in, and MLflow's UI on it."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass

from farandole.errors import UnavailableError
from farandole.spec import Tracking
from farandole.storage import home, sqlite_path, sqlite_uri


@dataclass(frozen=True)
class TrackingStore:
    """A tracking URI, and the location for artifacts of new experiments.

    Args:
        uri: MLflow's tracking URI.
        artifacts: A directory or URI; None if the server decides.
    """

    uri: str
    artifacts: str | None

    @property
    def shown(self) -> str:
        """The URI without user name, password and options, for messages."""
        if sqlite_path(self.uri) is not None:
            return self.uri.partition("?")[0]
        scheme, separator, rest = self.uri.partition("://")
        return scheme + separator + rest.partition("?")[0].rpartition("@")[2]

    @property
    def is_server(self) -> bool:
        """True if the URI is that of an MLflow server."""
        return _is_http(self.uri)


def resolve_store(tracking: Tracking) -> TrackingStore:
    """Return the store of a job: its `uri`, or `$MLFLOW_TRACKING_URI`, or a SQLite file in `$FARANDOLE_HOME`."""
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(home() / "mlflow.db")
    return TrackingStore(uri, tracking.artifacts or (None if _is_http(uri) else str(home() / "artifacts")))


def _is_http(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def exec_ui(store: TrackingStore, host: str, port: int) -> None:
    """Replace this process by MLflow's UI.

    Args:
        store: The store; not a server, which serves its own UI.
        host: The address to listen on.
        port: The port to listen on.

    Raises:
        UnavailableError: The port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(f"--port {port}: {error.strerror} on {host}; choose another port") from error
    # Passed in the environment, since a URI may contain a password, and command lines are visible to all users.
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_REGISTRY_STORE_URI": store.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": store.artifacts or "",
    }
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    os.execve(sys.executable, command, environment)
