"""Servers of one model: Farandole's, MLflow's, LitServe's and a few lines of FastAPI, each with two workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serve.cases import RawRow
from farandole.errors import TrainingError

_BIN = Path(sys.executable).parent
_START_S = 180.0
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ONEDNN_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Served:
    """Subject of a server.

    Args:
        model: URI of the model in MLflow.
        bundle: The model's bundle.
        home: The farandole home with MLflow's store.
        workers: Number of worker processes.
        key: A key of Farandole's service; None: it asks for none.
    """

    model: str
    bundle: Path
    home: Path
    workers: int
    key: str | None = None


@dataclass(frozen=True)
class ServerKind:
    """Ways in which one system serves.

    Args:
        about: Description.
        package: The package whose version counts.
        command: Returns the command for what is served and a port.
        path: Where it takes predictions.
        ready: Where it answers once it is ready.
        body: Returns the body of a request for one row.
        variables: Returns variables of the environment.
    """

    about: str
    package: str
    command: Callable[[Served, int], Sequence[str]]
    path: str
    ready: str
    body: Callable[[RawRow], object]
    variables: Callable[[Served], Mapping[str, str]] = field(default=lambda served: {})


def _farandole(served: Served, port: int) -> list[str]:
    command = [str(_BIN / "farandole"), "serve", str(served.bundle), "--port", str(port)]
    return [*command, "--workers", str(served.workers), *([] if served.key else ["--no-auth"])]


def _mlflow(served: Served, port: int) -> list[str]:
    command = [str(_BIN / "mlflow"), "models", "serve", "--model-uri", served.model, "--env-manager", "local"]
    return [*command, "--port", str(port), "--workers", str(served.workers)]


def _litserve(served: Served, port: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.serve.litserve_app", str(served.bundle), str(port), str(served.workers)]


def _fastapi(served: Served, port: int) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "benchmarks.serve.fastapi_app:app", "--port", str(port)]
    return [*command, "--workers", str(served.workers), "--log-level", "warning", "--no-access-log"]


def _one_row(row: RawRow) -> object:
    return {"rows": [row]}


_SERVICE = ServerKind(
    "`farandole serve`: keys, limits, audit and metrics on",
    "farandole",
    _farandole,
    "/predict",
    "/v2/health/ready",
    _one_row,
)
SERVERS = {
    "farandole": _SERVICE,
    "farandole_open": ServerKind(
        "`farandole serve --no-auth`", "farandole", _farandole, "/predict", "/v2/health/ready", _one_row
    ),
    "mlflow": ServerKind(
        "`mlflow models serve`",
        "mlflow",
        _mlflow,
        "/invocations",
        "/health",
        lambda row: {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
        lambda served: {"MLFLOW_TRACKING_URI": f"sqlite:///{served.home}/mlflow.db"},
    ),
    "litserve": ServerKind(
        "LitServe with batches of up to 64 and the bundle's predictor",
        "litserve",
        _litserve,
        "/predict",
        "/health",
        lambda row: row,
    ),
    "fastapi": ServerKind(
        "FastAPI: one handler around the bundle's predictor",
        "fastapi",
        _fastapi,
        "/predict",
        "/health",
        lambda row: row,
        lambda served: {"BUNDLE": str(served.bundle)},
    ),
}
"""By name on the command line."""


@contextmanager
def run_server(kind: ServerKind, served: Served, log: Path) -> Iterator[str]:
    """Run a server in a session of its own; yield the URL of its predictions once it is ready.

    Raises:
        TrainingError: It ended, or was not ready in time.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = f"{_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # MLflow starts uvicorn by its name
    variables = {**os.environ, **_ONE_THREAD, "PATH": path, "PYTHONPATH": root, "FARANDOLE_HOME": str(served.home)}
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            kind.command(served, port),
            env={**variables, **kind.variables(served)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=log.parent,
        )
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{port}{kind.ready}", log)
            yield f"http://127.0.0.1:{port}{kind.path}"
        finally:
            _stop(process)


def first_answer(url: str, body: bytes, headers: Mapping[str, str]) -> object:
    """Send one request and return the JSON document of the answer.

    Raises:
        TrainingError: The server refused it.
    """
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            document: object = json.load(answer)
            return document
    except urllib.error.HTTPError as error:
        raise TrainingError(f"{url}: {error.code}: {error.read().decode(errors='replace')[:500]}") from None


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    ends_s = time.monotonic() + _START_S
    while time.monotonic() < ends_s:
        if process.poll() is not None:
            break
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # not up yet
            if answer.status < 300:
                return
        time.sleep(0.2)
    last = log.read_text(errors="replace").strip()[-500:]
    raise TrainingError(f"{url}: the server was not ready within {_START_S:.0f} s: {last}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):  # workers that outlive their parent would disturb the next server
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
