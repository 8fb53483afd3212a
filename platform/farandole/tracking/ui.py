"""MLflow's own UI on the store that the jobs use."""

from __future__ import annotations

import os
import socket
import sys

from farandole.errors import UnavailableError
from farandole.tracking.store import TrackingStore


def exec_ui(store: TrackingStore, host: str, port: int) -> None:
    """Replace this process by MLflow's server; it ends when this process would.

    Args:
        store: The store; not a server, which has a UI of its own.
        host: The address to listen on.
        port: The port to listen on.

    Raises:
        EnvironmentLacking: The port is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(f"--port {port}: {error.strerror} on {host}; choose another port") from error
    # By variables, not options: a URI may hold a password, and everybody can read a command line.
    variables = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_REGISTRY_STORE_URI": store.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": store.artifacts or "",
    }
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    os.execve(sys.executable, command, variables)
