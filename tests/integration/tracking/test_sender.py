"""An unavailable store, or one that rejects operations: nothing is lost, duplicated or reordered."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from farandole.errors import UnavailableError
from farandole.events import Event, Message
from farandole.spec import Tracking
from farandole.tracking.recorder import close_run, record_run
from farandole.tracking.run_link import read_run_id
from farandole.tracking.sync import sync
from tests.support.mlflow_server import MlflowServer

START_S = 300


def _eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def _history(uri: str, run_id: str | None, name: str) -> list[tuple[int, float]]:
    assert run_id is not None
    points = MlflowClient(uri).get_metric_history(run_id, name)
    return [(point.step, point.value) for point in sorted(points, key=lambda point: (point.timestamp, point.step))]


def _expected(steps: int) -> list[tuple[int, float]]:
    return [(step, step / 10) for step in range(steps)]


class EventList(list[Event]):
    """An event handler that keeps all events."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self if isinstance(event, Message) and event.level == "warning"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "server")
    yield server
    server.kill()


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(1200)
def test_a_server_with_several_outages_gets_each_metric_once_and_in_order(
    home: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    tracking = Tracking(wait_s=0.5)
    directory = home / "jobs" / "outages"
    events = EventList()
    run_ids: list[str] = []
    with record_run(tracking, directory, events, run_ids.append) as recorder:
        steps = iter(range(250))

        def log(count: int) -> None:
            for step in (next(steps) for _ in range(count)):
                recorder.log_metrics({"loss": step / 10}, step)

        log(50)
        recorder.log_file("notes/first.txt", "before the server")
        assert recorder.run_id is None
        assert len(events.warnings) == 1
        server.start()
        _eventually(lambda: recorder.drain(0.5).unsent == 0)
        log(50)
        server.kill()  # possibly during a request
        log(50)
        _eventually(lambda: len(events.warnings) == 2)
        server.start()
        log(50)
        _eventually(lambda: recorder.drain(0.5).unsent == 0)
        server.kill()
        log(50)
        recorder.log_file("notes/last.txt", "after the server")
    assert run_ids == [recorder.run_id]
    assert events.warnings[-1].endswith(
        f"records, kept in {directory / 'tracking/chief'}; send them with `farandole sync outages` when it answers again"
    )

    server.start()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # the store's URI is in the job's directory
    (synced,) = sync()
    assert (synced.id, synced.unsent, synced.mlflow_run_id, synced.problem) == ("outages", 0, recorder.run_id, None)
    assert _history(server.uri, recorder.run_id, "loss") == _expected(250)
    run = MlflowClient(server.uri).get_run(run_ids[0])
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time < (time.time() * 1000 - run.info.start_time) - 100
    assert {file.path for file in MlflowClient(server.uri).list_artifacts(run_ids[0], "notes")} == {
        "notes/first.txt", "notes/last.txt",
    }  # fmt: skip
    assert len(MlflowClient(server.uri).search_runs([run.info.experiment_id])) == 1
    assert sync() == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from farandole.spec import Tracking
from farandole.tracking.recorder import recording
with recording(Tracking(uri="http://127.0.0.1:1", wait_s=0), Path(sys.argv[1])) as recorder:
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
    assert _history(store, recorder.run_id, "loss") == _expected(101)


def test_operations_that_are_sent_twice_are_applied_once(home: Path, tmp_path: Path) -> None:
    directory = home / "jobs" / "twice"
    store = f"sqlite:///{home / 'mlflow.db'}"

    def save(place: Path) -> None:
        import mlflow
        from mlflow.pyfunc.model import PythonModel

        class Echo(PythonModel):
            def predict(self, context: Any, model_input: list[str]) -> list[str]:
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
    assert _history(store, run.info.run_id, "loss") == _expected(20)
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
    assert _history(f"sqlite:///{home / 'mlflow.db'}", recorder.run_id, "loss") == _expected(2)
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
    assert _history(store, recorder.run_id, "loss") == _expected(20)
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


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_credentials_and_strange_servers_are_errors_at_the_start(
    home: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # restored after the test
    directory = home / "jobs" / "refused"
    with _rejecting_server(status) as (address, credentials):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:s3cret@{address}")
        refused = pytest.raises(UnavailableError, match="the MLflow store cannot be used")
        with refused as caught, record_run(Tracking(), directory):
            pytest.fail("the store was accepted")
    assert credentials == ["Basic YWRhOnMzY3JldA=="]
    assert "s3cret" not in str(caught.value)
    assert not any(b"s3cret" in path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert sync() == []


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_a_server_that_rejects_requests_later_is_retried(home: Path, status: int) -> None:
    directory = home / "jobs" / "later"
    store = f"sqlite:///{home / 'mlflow.db'}"
    with _rejecting_server(503) as (address, _):
        pass
    events = EventList()
    with record_run(Tracking(uri=f"http://{address}", wait_s=0.3), directory, events) as recorder:
        port = int(address.rpartition(":")[2])
        server = _server_on_port(port, status)
        try:
            recorder.log_metrics({"loss": 0.0}, 0)
            recorder.drain(0.5)
        finally:
            server.shutdown()
            server.server_close()
    assert "has not accepted 1 record" in events.warnings[-1]
    (synced,) = sync(uri=store)
    assert synced.unsent == 0
    assert _history(store, read_run_id(directory), "loss") == _expected(1)
    assert not (directory / "tracking/chief").exists()


def _server_on_port(port: int, status: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *arguments: Any) -> None:
            """Log nothing, since it would go to stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
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
