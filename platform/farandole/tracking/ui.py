"""MLflow's UI on a store, and the address of an experiment's runs in it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from farandole.errors import UnavailableError
from farandole.process.parent_death import signal_on_parent_death
from farandole.storage import home
from farandole.tracking.store import VIEW, VIEW_TAG, TrackingStore

_POLL_S = 0.2
_REQUEST_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0
_SHOWN_LINES = 15
_EVERYTHING: dict[str, Any] = {"max_results": 1000}


def serve_ui(
    store: TrackingStore, host: str, port: int, experiment: str | None, on_ready: Callable[[str], None]
) -> None:
    """Serve MLflow's UI until it is interrupted.

    Args:
        store: The store; not a server, which serves its own UI.
        host: The address to listen on.
        port: The port to listen on.
        experiment: The experiment to show. Default: the one with the newest run.
        on_ready: Called with the address of the experiment's runs once the UI answers.

    Raises:
        UnavailableError: The port is in use, or MLflow does not start.
    """
    _check_port(host, port)
    folder = home()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "ui.log"
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]
    with log.open("wb") as output:  # the server's own log is not what the user asked for
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(store),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: signal_on_parent_death(signal.SIGTERM),
        )
        try:
            address = f"http://{host}:{port}"
            _wait_until_healthy(process, address, log)
            on_ready(runs_page(address, experiment))
            if process.wait():
                raise _ended(log)
        finally:
            _stop(process)


def runs_page(address: str, experiment: str | None) -> str:
    """Return the page of an experiment's runs on an MLflow server.

    Args:
        address: The server's address.
        experiment: The experiment's name. Default: the one with the newest run.

    Returns:
        The page; that of all experiments if there is no such experiment, or the server does not answer.
    """
    address = address.rstrip("/")
    try:
        found = _find_experiment(address, experiment)
    except (OSError, ValueError, KeyError):
        found = None
    if found is None:
        return f"{address}/#/experiments"
    options = {"workflowType": "machine_learning"}
    if VIEW_TAG in [tag["key"] for tag in found.get("tags", [])]:
        options["viewStateShareKey"] = VIEW
    return f"{address}/#/experiments/{found['experiment_id']}/runs?{urlencode(options)}"


def _find_experiment(address: str, name: str | None) -> dict[str, Any] | None:
    found = _post(address, "experiments/search", _EVERYTHING).get("experiments", [])
    if name is not None:
        return next((entry for entry in found if entry["name"] == name), None)
    query = {"experiment_ids": [entry["experiment_id"] for entry in found], "max_results": 1}
    runs = _post(address, "runs/search", {**query, "order_by": ["attributes.start_time DESC"]}).get("runs", [])
    newest = runs[0]["info"]["experiment_id"] if runs else None
    return next((entry for entry in found if entry["experiment_id"] == newest), None)


def _post(address: str, route: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(f"--port {port}: {error.strerror} on {host}; choose another port") from error


def _environment(store: TrackingStore) -> dict[str, str]:
    """Return the variables of the server, which hold the store: a URI may contain a password, unlike a command line."""
    return {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_REGISTRY_STORE_URI": store.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": store.artifacts_uri or "",
        "MLFLOW_ARTIFACTS_DESTINATION": store.artifacts_uri or "",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    while True:
        if process.poll() is not None:
            raise _ended(log)
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=_REQUEST_TIMEOUT_S):
                return
        except OSError:
            time.sleep(_POLL_S)


def _ended(log: Path) -> UnavailableError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return UnavailableError(
        f"MLflow's UI has ended; {log} says why, and `farandole doctor` checks the store",
        detail="\n".join(lines[-_SHOWN_LINES:]),
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
