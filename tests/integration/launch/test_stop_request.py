"""Stop of a gang by a signal to one of its workers, and the attempt that resumes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from farandole.events import Event, Message, ignore_event
from farandole.launch.attempt import Attempt
from farandole.launch.gang import GangOptions, run_gang
from farandole.launch.hosts import Host
from farandole.spec import Job
from farandole.training.checkpoint import open_backend
from tests.support.made_data import BATCH_ROWS, ROWS

pytestmark = pytest.mark.slow

MakeJob = Callable[..., Job]
STEPS = ROWS["train"] // BATCH_ROWS


def test_signal_to_one_worker_stops_all_with_a_checkpoint_and_the_next_attempt_resumes(
    home: Path, make_job: MakeJob, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    model = {"builder": "network:build_slow", "options": {"marks": str(marks), "step_s": 0.1}}
    job = make_job(model=model, train__tail="drop", train__epochs=2, train__baseline="trivial")
    directory = home / "jobs" / "small-1"
    directory.mkdir(parents=True)
    (directory / "job.json").write_text(job.model_dump_json())

    first = Attempt(1, (Host("localhost", job.resources.workers),))
    terminator = threading.Thread(target=_terminate, args=(marks / "rank-1-began",))
    terminator.start()
    failure = run_gang(GangOptions(job, directory, False, ignore_event), first)
    terminator.join()

    assert failure is not None
    assert failure.kind == "stopped"
    assert first.failures == []
    assert first.result is None
    assert first.stopped_step is not None
    assert 0 < first.stopped_step < 2 * STEPS
    assert open_backend(directory / "checkpoints").names()[0] == f"step-{first.stopped_step:09d}"
    assert first.mlflow_run_id is not None
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    assert client.get_run(first.mlflow_run_id).info.status == "RUNNING"  # another attempt may resume it

    events: list[Event] = []
    second = Attempt(2, first.hosts, mlflow_run_id=first.mlflow_run_id)
    assert run_gang(GangOptions(job, directory, False, events.append), second) is None
    assert second.result is not None
    assert second.result.training["steps"] == 2 * STEPS
    assert any(isinstance(event, Message) and f"step {first.stopped_step}" in event.text for event in events)
    points = client.get_metric_history(first.mlflow_run_id, "train.loss")
    assert sorted(point.step for point in points) == list(range(1, 2 * STEPS + 1))
    assert client.get_run(first.mlflow_run_id).info.status == "FINISHED"


def _terminate(mark: Path) -> None:
    """Send SIGTERM to the worker whose process id is in the file, once it trains."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if mark.exists() and mark.read_text():
            os.kill(int(mark.read_text()), signal.SIGTERM)
            return
        time.sleep(0.05)
