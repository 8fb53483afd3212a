from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import FarandoleError, SpecError, UnavailableError
from farandole.tracking import ui
from farandole.tracking.store import VIEW_TAG, TrackingStore
from farandole.tracking.ui import (
    _bind_error,
    _check_address,
    _environment,
    _wait_until_healthy,
    runs_page,
    serve_ui,
)
from tests.support.ports import free_ports

EXPERIMENTS = [
    {"experiment_id": "0", "name": "Default"},
    {"experiment_id": "7", "name": "flights", "tags": [{"key": VIEW_TAG, "value": "{}"}]},
]


class Store(BaseHTTPRequestHandler):
    """MLflow's answers to the two questions of `runs_page`."""

    def do_GET(self) -> None:
        """Answer that the server is healthy."""
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        """Answer with all experiments, or with the newest run."""
        self.rfile.read(int(self.headers["Content-Length"]))
        answer: dict[str, Any] = {"runs": [{"info": {"experiment_id": "7"}}]}
        if self.path.endswith("experiments/search"):
            answer = {"experiments": EXPERIMENTS}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start a server that answers like MLflow; yield its address."""
    with HTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_page_is_that_of_the_newest_run_with_its_view(server: str) -> None:
    page = f"{server}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=farandole"
    assert runs_page(server, None) == runs_page(f"{server}/", "flights") == page


def test_an_experiment_without_a_view_has_the_usual_one(server: str) -> None:
    assert runs_page(server, "Default") == f"{server}/#/experiments/0/runs?workflowType=machine_learning"


def test_without_the_experiment_or_the_server_the_page_lists_all_experiments(server: str) -> None:
    assert runs_page(server, "none") == f"{server}/#/experiments"
    assert runs_page("http://127.0.0.1:1", None) == "http://127.0.0.1:1/#/experiments"


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"--port {port}: Address already in use on 127.0.0.1; choose"):
            serve_ui(TrackingStore("sqlite:///a.db", None), "127.0.0.1", port, None, pytest.fail)


def test_an_address_of_another_machine_is_named() -> None:
    store = TrackingStore("sqlite:///a.db", None)
    for host, why in (
        ("no.such.host.invalid", "(Name or service not known|Temporary failure in name resolution)"),
        ("192.0.2.1", "Cannot assign requested address"),
        ("a" * 70, ".+"),
    ):
        with pytest.raises(SpecError, match=f"--host {host}: {why}.*; use an address of this machine"):
            serve_ui(store, host, 5000, None, pytest.fail)


def _refusal(host: str, port: int) -> str | None:
    try:
        _check_address(host, port)
    except FarandoleError as error:
        return str(error)
    return None


def test_every_way_to_write_this_machine_can_be_listened_on() -> None:
    (port,) = free_ports()
    hosts = ["127.0.0.1", "localhost", "0.0.0.0"]
    if socket.has_ipv6 and _bind_error(socket.AF_INET6, ("::1", 0)) is None:
        hosts.append("::1")
    assert {host: _refusal(host, port) for host in hosts} == dict.fromkeys(hosts)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that lives, and answers nothing."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_server_of_this_machine_is_reached_without_the_proxy(
    process: subprocess.Popen[bytes], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    _wait_until_healthy(process, server, tmp_path / "ui.log")
    assert "/experiments/7/runs" in runs_page(server, None, is_here=True)


def test_a_server_that_does_not_answer_is_reported_with_its_log(
    process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "ui.log"
    log.write_text("waits for the database\n")
    monkeypatch.setattr(ui, "_START_TIMEOUT_S", 0.3)
    with pytest.raises(
        UnavailableError, match=r"does not answer at http://127\.0\.0\.1:1 after 0\.3 s; .*ui\.log"
    ) as caught:
        _wait_until_healthy(process, "http://127.0.0.1:1", log)
    assert caught.value.detail == "waits for the database"
    process.kill()
    process.wait()
    with pytest.raises(UnavailableError, match="MLflow's UI has ended"):
        _wait_until_healthy(process, "http://127.0.0.1:1", log)


def test_the_server_gets_the_store_and_writes_artifacts_beside_it(tmp_path: Path) -> None:
    environment = _environment(TrackingStore("sqlite:////a/mlflow.db", "/a b/artifacts"))
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "sqlite:////a/mlflow.db"
    assert environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == "file:///a%20b/artifacts"
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == "file:///a%20b/artifacts"
