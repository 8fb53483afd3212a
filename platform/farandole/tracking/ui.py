"""MLflow's UI on a store, and the address of an experiment's runs in it."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from farandole.errors import SpecError, UnavailableError
from farandole.process.parent_death import signal_on_parent_death
from farandole.storage import home
from farandole.tracking.store import VIEW, VIEW_TAG, TrackingStore

_POLL_S = 0.2
_REQUEST_TIMEOUT_S = 10.0
_START_TIMEOUT_S = 180.0
"""MLflow imports for long on a busy machine."""
_STOP_TIMEOUT_S = 10.0
_SHOWN_LINES = 15
_EVERYTHING: dict[str, Any] = {"max_results": 1000}
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)
"""Errors of an address that this machine does not have, whichever the port."""
_LAST_PORT = 65_535
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""For a server of this machine, which no proxy reaches."""


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
        SpecError: The host is not an address of this machine, or the port is not one.
        UnavailableError: The port is in use, or MLflow does not start.
    """
    _check_address(host, port)
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
            address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            _wait_until_healthy(process, address, log)
            on_ready(runs_page(address, experiment, is_here=True))
            if process.wait():
                raise _failed("MLflow's UI has ended", log)
        finally:
            _stop(process)


def runs_page(address: str, experiment: str | None, *, is_here: bool = False) -> str:
    """Return the page of an experiment's runs on an MLflow server.

    Args:
        address: The server's address.
        experiment: The experiment's name. Default: the one with the newest run.
        is_here: Whether it is a server of this machine, which is reached without a proxy.

    Returns:
        The page; that of all experiments if there is no such experiment, or the server does not answer.
    """
    address = address.rstrip("/")
    try:
        found = _find_experiment(_DIRECT.open if is_here else urllib.request.urlopen, address, experiment)
    except (OSError, ValueError, KeyError):
        found = None
    if found is None:
        return f"{address}/#/experiments"
    options = {"workflowType": "machine_learning"}
    if VIEW_TAG in [tag["key"] for tag in found.get("tags", [])]:
        options["viewStateShareKey"] = VIEW
    return f"{address}/#/experiments/{found['experiment_id']}/runs?{urlencode(options)}"


def _find_experiment(send: Callable[..., Any], address: str, name: str | None) -> dict[str, Any] | None:
    found = _post(send, address, "experiments/search", _EVERYTHING).get("experiments", [])
    if name is not None:
        return next((entry for entry in found if entry["name"] == name), None)
    query = {"experiment_ids": [entry["experiment_id"] for entry in found], "max_results": 1}
    runs = _post(send, address, "runs/search", {**query, "order_by": ["attributes.start_time DESC"]}).get("runs", [])
    newest = runs[0]["info"]["experiment_id"] if runs else None
    return next((entry for entry in found if entry["experiment_id"] == newest), None)


def _post(send: Callable[..., Any], address: str, route: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with send(request, timeout=_REQUEST_TIMEOUT_S) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def _check_address(host: str, port: int) -> None:
    """Check that a server can listen; a name like `localhost` may stand for several addresses."""
    if not 1 <= port <= _LAST_PORT:
        raise SpecError(f"--port {port}: is not a port; choose one from 1 to {_LAST_PORT}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _wrong_host(host, error) from error
    errors = [_bind_error(family, address) for family, *_, address in found]
    for refusal in errors:
        if refusal is not None and refusal.errno not in _NOT_HERE:
            raise UnavailableError(f"--port {port}: {refusal.strerror} on {host}; choose another port") from refusal
    if None not in errors:
        raise _wrong_host(host, errors[0])


def _bind_error(family: int, address: Any) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _wrong_host(host: str, error: Exception | None) -> SpecError:
    why = getattr(error, "strerror", None) or error
    return SpecError(f"--host {host}: {why}; use an address of this machine, for example 127.0.0.1")


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
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise _failed("MLflow's UI has ended", log)
        try:
            with _DIRECT.open(f"{address}/health", timeout=_REQUEST_TIMEOUT_S):
                return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(_POLL_S)
    raise _failed(f"MLflow's UI does not answer at {address} after {_START_TIMEOUT_S:g} s", log)


def _failed(what: str, log: Path) -> UnavailableError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return UnavailableError(
        f"{what}; {log} says why, and `farandole doctor` checks the store",
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
