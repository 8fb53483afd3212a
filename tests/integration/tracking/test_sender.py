"""An unavailable store, or one that rejects operations: nothing is lost, duplicated or reordered."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from farandole.errors import UnavailableError
from farandole.spec import Tracking
from farandole.tracking.recorder import close_run, record_run
from farandole.tracking.run_link import read_run_id
from farandole.tracking.sync import sync
from tests.support.tracking import EventList, expected_history, metric_history

_KILLED = """
import os, signal, sys
from pathlib import Path
from farandole.spec import Tracking
from farandole.tracking.recorder import record_run
with record_run(Tracking(uri="http://127.0.0.1:1", wait_s=0), Path(sys.argv[1])) as recorder:
    for step in range(100):
        recorder.log_metrics({"loss": step / 10}, step)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_loses_nothing_and_the_next_attempt_continues(home: Path) -> None:
    directory = home / "jobs" / "killed"
    done = subprocess.run([sys.executable, "-c", _KILLED, str(directory)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    store = f"sqlite:///{home / 'mlflow.db'}"
    with record_run(Tracking(uri=store), directory) as recorder:  # the store has moved
        recorder.log_metrics({"loss": 10.0}, 100)
    assert metric_history(store, recorder.run_id, "loss") == expected_history(101)


def test_operations_that_are_sent_twice_are_applied_once(home: Path, tmp_path: Path) -> None:
    directory = home / "jobs" / "twice"
    store = f"sqlite:///{home / 'mlflow.db'}"

    def save(place: Path) -> None:
        import mlflow
        from mlflow.pyfunc.model import PythonModel

        class Echo(PythonModel):
            def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[str]:
                return model_input

        mlflow.pyfunc.save_model(str(place), python_model=Echo(), pip_requirements=["mlflow"])

    with record_run(Tracking(uri="http://127.0.0.1:1", wait_s=0), directory) as recorder:
        for step in range(20):
            recorder.log_metrics({"loss": step / 10, "other": float("nan")}, step)
        recorder.set_tags({"mood": "calm"})
        recorder.log_file("notes/a.txt", "a")
        recorder.log_model(save, "echo")
    shutil.copytree(directory, tmp_path / "copy")
    # The run's id is unknown, as if the process had been killed right after the store created the run.
    for _ in range(2):
        (synced,) = sync("twice", uri=store)
        assert (synced.unsent, synced.model_uri) == (0, "models:/echo/1")
        shutil.rmtree(directory)
        shutil.copytree(tmp_path / "copy", directory)
    client = MlflowClient(store)
    (run,) = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    assert metric_history(store, run.info.run_id, "loss") == expected_history(20)
    assert len(client.get_metric_history(run.info.run_id, "other")) == 20
    assert [output.model_id for output in run.outputs.model_outputs] == [
        model.model_id for model in client.search_logged_models([run.info.experiment_id])
    ]
    assert len(client.search_model_versions("name = 'echo'")) == 1


def test_only_the_rejected_metric_is_set_aside_with_a_warning(home: Path) -> None:
    directory = home / "jobs" / "picky"
    events = EventList()
    with record_run(Tracking(), directory, events) as recorder:
        recorder.log_metrics({"loss": 0.0, "bad@name": 1.0}, 0)
        recorder.log_metrics({"loss": 0.1}, 1)
    assert metric_history(f"sqlite:///{home / 'mlflow.db'}", recorder.run_id, "loss") == expected_history(2)
    (warning,) = events.warnings
    assert "MLflow rejected metrics loss, bad@name (" in warning
    assert "bad@name" in (directory / "tracking/chief/refused.jsonl").read_text()


def test_a_failing_artifact_store_does_not_block_metrics(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = home / "jobs" / "blocked"
    blocked = home / "artifacts"
    blocked.write_text("a file where a folder should be")
    events = EventList()
    with record_run(Tracking(wait_s=10), directory, events) as recorder:
        recorder.log_file("notes/a.txt", "a")
        recorder.log_file("notes/b.txt", "b")
        for step in range(20):
            recorder.log_metrics({"loss": step / 10}, step)
    store = f"sqlite:///{home / 'mlflow.db'}"
    assert metric_history(store, recorder.run_id, "loss") == expected_history(20)
    assert "has not accepted 2 records" in events.warnings[-1]
    blocked.unlink()
    (synced,) = sync()
    assert (synced.sent, synced.unsent) == (2, 0)
    assert len(MlflowClient(store).list_artifacts(str(recorder.run_id), "notes")) == 2


@contextmanager
def _rejecting_server(status: int) -> Iterator[tuple[str, list[str]]]:
    """Run an HTTP server that rejects every request; yield its address and the credentials that it receives."""
    credentials: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            credentials.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"no")

        do_POST = do_GET

        def log_message(self, *arguments: Any) -> None:
            """Log nothing, since it would go to stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", credentials
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "tracking.uri: MLflow at {uri} rejected the credentials (401); set MLFLOW_TRACKING_PASSWORD"),
        (403, "tracking.uri: MLflow at {uri} denied access (403: "),
        (404, "tracking.uri: {uri}: the MLflow store cannot be used ("),
    ],
)
def test_rejected_credentials_and_servers_other_than_mlflow_are_errors_at_the_start(
    home: Path, status: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # restored after the test
    directory = home / "jobs" / "rejected"
    with _rejecting_server(status) as (address, credentials):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:s3cret@{address}")
        with pytest.raises(UnavailableError) as caught, record_run(Tracking(), directory):
            pytest.fail("the store was accepted")
    assert str(caught.value).startswith(reason.format(uri=f"http://{address}"))
    assert credentials == ["Basic YWRhOnMzY3JldA=="]
    assert "s3cret" not in str(caught.value)
    assert not any(b"s3cret" in path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert sync() == []


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_a_server_that_rejects_requests_later_is_retried(home: Path, status: int) -> None:
    directory = home / "jobs" / "later"
    store = f"sqlite:///{home / 'mlflow.db'}"
    events = EventList()
    with (
        _absent_server(status) as server,
        record_run(Tracking(uri=f"http://127.0.0.1:{server.server_port}", wait_s=0.3), directory, events) as recorder,
    ):
        server.server_activate()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            recorder.log_metrics({"loss": 0.0}, 0)
            recorder.drain(0.5)
        finally:
            server.shutdown()
            server.server_close()  # a server that accepts and never answers would hold the sender, and so its records
    assert "has not accepted 3 records" in events.warnings[-1]
    (synced,) = sync(uri=store)
    assert synced.unsent == 0
    assert metric_history(store, read_run_id(directory), "loss") == expected_history(1)
    assert not (directory / "tracking/chief").exists()


def _absent_server(status: int) -> ThreadingHTTPServer:
    """Return a server that keeps its port, but does not listen before it is activated."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *arguments: Any) -> None:
            """Log nothing, since it would go to stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.server_bind()
    return server


def test_closing_a_run_sends_the_pending_records_or_warns(home: Path) -> None:
    directory = home / "jobs" / "left"
    with record_run(Tracking(uri="http://127.0.0.1:1", wait_s=0), directory) as recorder:
        recorder.log_metrics({"loss": 0.0}, 0)
    events = EventList()
    close_run(Tracking(uri="http://127.0.0.1:1", wait_s=0), directory, "KILLED", events)
    assert "farandole sync left" in events.warnings[0]
    close_run(Tracking(), directory, "KILLED", events)
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    assert client.get_run(str(recorder.run_id)).info.status == "FINISHED"
    assert len(events.warnings) == 1
    assert os.listdir(directory / "tracking") == ["record.json"]
