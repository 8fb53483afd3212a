"""The MLflow run of a job whose processes were all killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks.queue.scratch_queue import kill, processes_of
from farandole.backends.local.backend import LocalBackend
from farandole.backends.protocol import JobStatus
from farandole.spec import Job
from tests.support.queued import TRAINING_S, wait_until

MakeJob = Callable[..., Job]


@pytest.mark.slow(seconds=50)
@pytest.mark.usefixtures("ended")
@pytest.mark.timeout(900)
def test_killed_job_fails_in_mlflow_too_and_its_run_continues_on_retry(
    home: Path, make_job: MakeJob, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    model = {"builder": "network:build_slow", "options": {"marks": str(marks), "step_s": 0.05}}
    backend = LocalBackend()
    job_id = backend.submit(make_job(model=model, train__epochs=4)).id
    wait_until(lambda: _is_recorded(backend.status(job_id)), TRAINING_S)
    while processes := processes_of(home):  # a process that was just started is found the next time
        for process in processes:
            kill(process)
    status = backend.status(job_id)
    assert status.state == "failed"
    assert "was killed" in status.reason
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    assert status.mlflow_run_id is not None
    wait_until(lambda: client.get_run(status.mlflow_run_id).info.status == "FAILED")
    assert backend.retry(job_id).mlflow_run_id == status.mlflow_run_id
    wait_until(lambda: backend.status(job_id).ended, TRAINING_S)
    assert backend.status(job_id).reason == "trained models:/small/1"
    assert client.get_run(status.mlflow_run_id).info.status == "FINISHED"
    wait_until(lambda: not processes_of(home))


def _is_recorded(status: JobStatus) -> bool:
    assert not status.ended, status
    return status.step >= 3 and status.mlflow_run_id is not None
