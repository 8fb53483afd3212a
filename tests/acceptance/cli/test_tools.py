"""`ui` as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support.command import FARANDOLE, farandole


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _get(url: str, data: dict[str, Any] | None = None) -> str:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture
def served(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """Start a UI on a store with one run; yield its process, its address and the run's id."""
    run_id = MlflowClient(f"sqlite:///{home / 'mlflow.db'}").create_run("0").info.run_id
    port = _free_port()
    process = subprocess.Popen(
        [FARANDOLE, "ui", "--no-browser", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180  # MLflow imports for long on a busy machine
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _get(f"{url}/health")
            break
        except OSError:
            time.sleep(0.2)
    yield process, url, run_id
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.slow(seconds=80)
def test_ui_serves_the_store_of_the_jobs_and_ends_on_sigterm(
    served: tuple[subprocess.Popen[bytes], str, str],
) -> None:
    process, url, run_id = served
    assert _get(f"{url}/health") == "OK"
    assert "<title>MLflow" in _get(url)
    runs = json.loads(_get(f"{url}/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}))["runs"]
    assert [run["info"]["run_id"] for run in runs] == [run_id]

    taken = farandole("ui", "--port", url.rpartition(":")[2])
    assert taken.returncode == 3
    assert "Address already in use on 127.0.0.1; choose another port" in taken.stderr

    process.send_signal(signal.SIGTERM)
    process.wait(20)
    with pytest.raises(OSError, match="refused"):
        _get(f"{url}/health")
