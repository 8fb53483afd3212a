"""A real MLflow server with several outages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from farandole.spec import Tracking
from farandole.tracking.recorder import record_run
from farandole.tracking.sync import sync
from tests.support.mlflow_server import MlflowServer
from tests.support.tracking import EventList, expected_history, metric_history

START_S = 300


def _eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


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
        f"records, kept in {directory / 'tracking/chief'}; send them with `farandole sync outages` when it answers"
        " again"
    )

    server.start()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # the store's URI is in the job's directory
    (synced,) = sync()
    assert (synced.id, synced.unsent, synced.mlflow_run_id, synced.problem) == ("outages", 0, recorder.run_id, None)
    assert metric_history(server.uri, recorder.run_id, "loss") == expected_history(250)
    run = MlflowClient(server.uri).get_run(run_ids[0])
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time < (time.time() * 1000 - run.info.start_time) - 100
    assert {file.path for file in MlflowClient(server.uri).list_artifacts(run_ids[0], "notes")} == {
        "notes/first.txt", "notes/last.txt",
    }  # fmt: skip
    assert len(MlflowClient(server.uri).search_runs([run.info.experiment_id])) == 1
    assert sync() == []
