"""The commands for submitted jobs as processes, with real trainings."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks.queue.scratch_queue import processes_of
from farandole import api
from farandole.backends.protocol import JobStatus
from farandole.training.checkpoint import open_backend
from tests.support.command import FARANDOLE, document, farandole
from tests.support.made_data import BATCH_ROWS, ROWS, WriteJob
from tests.support.queued import wait_until

STEPS = -(-ROWS["train"] // BATCH_ROWS)
"""Steps of an epoch, including the short one at its end."""


@pytest.mark.slow(seconds=45)
@pytest.mark.usefixtures("ended")
@pytest.mark.timeout(600)
def test_job_outlives_the_terminal_that_submitted_it_and_gives_the_same_weights_as_run(
    home: Path, write_job: WriteJob
) -> None:
    # The boosted trees are late on a busy machine, which is a warning among the stages.
    job = write_job(train__baseline="trivial")
    shown, terminal = pty.openpty()
    submitting = subprocess.Popen(
        [FARANDOLE, "submit", str(job), "--json"],
        stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, start_new_session=True, text=True,
    )  # fmt: skip
    os.close(terminal)
    output, _ = submitting.communicate(timeout=120)
    os.close(shown)  # the terminal goes: everything of its session gets SIGHUP
    job_id = json.loads(output)["id"]
    log = farandole("logs", "-f", job_id)
    assert log.returncode == 0, log.stderr
    status = document("status", job_id)
    assert (status["state"], status["reason"]) == ("succeeded", "trained models:/small/1"), log.stdout
    assert (status["attempt"], status["workers"], status["step"], status["epoch"]) == (1, 2, 2 * STEPS, 2)
    stages = [line.split(" ", 1)[1].partition(":")[0] for line in log.stdout.splitlines()]
    assert [stage for stage in dict.fromkeys(stages) if not stage.startswith("epoch")][1:] == [
        "prepare", "train", "evaluate", "register", "succeeded",
    ], log.stdout  # fmt: skip
    result = json.loads((home / "jobs" / job_id / "result.json").read_text())
    assert status["mlflow_run_id"] == result["training"]["mlflow_run_id"]
    again = document("run", job)
    assert again["training"]["weights_digest"] == result["training"]["weights_digest"]
    assert set(again) == set(result)


@pytest.mark.slow(seconds=85)
@pytest.mark.usefixtures("ended")
@pytest.mark.timeout(900)
def test_training_is_scaled_then_cancelled_with_a_checkpoint_and_retried_from_it(
    home: Path, write_job: WriteJob, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    model = {"builder": "network:build_slow", "options": {"marks": str(marks), "step_s": 0.2}}
    job = write_job(model=model, train__epochs=6, resources__min_workers=1)
    submitted = document("submit", job)
    job_id, directory = submitted["id"], home / "jobs" / submitted["id"]
    _wait_for(job_id, lambda status: status.step >= 3)
    scaled = farandole("scale", job_id, 1)
    assert scaled.returncode == 0, scaled.stderr
    status = _wait_for(job_id, lambda status: status.attempt == 2 and status.workers == 1)
    cancelled = document("cancel", job_id)
    assert cancelled["state"] == "cancelled"
    assert [process for process in processes_of(home) if "FARANDOLE_GANG" in process.environ()] == []
    step = int(open_backend(directory / "checkpoints").names()[0].removeprefix("step-"))
    assert 0 < step < 6 * STEPS
    assert not list(directory.glob("*environment.json"))
    retried = document("retry", job_id)
    assert retried == {"id": job_id, "backend": "local", "mlflow_run_id": status.mlflow_run_id}
    status = _wait_for(job_id, lambda status: status.ended)
    assert (status.state, status.step, status.epoch) == ("succeeded", 6 * STEPS, 6), status.reason
    assert status.attempt > 2
    assert status.mlflow_run_id == retried["mlflow_run_id"]
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    points = client.get_metric_history(str(status.mlflow_run_id), "train.loss")
    assert sorted(point.step for point in points) == list(range(1, 6 * STEPS + 1))
    assert client.get_run(str(status.mlflow_run_id)).info.status == "FINISHED"
    rank = farandole("logs", job_id, "--rank", 0)
    assert rank.returncode == 0


def _wait_for(job_id: str, so: Callable[[JobStatus], bool]) -> JobStatus:
    deadline = time.monotonic() + 300
    while not so(status := api.status(job_id)):
        assert time.monotonic() < deadline, status
        assert not status.ended, status
        time.sleep(0.1)
    return status


@pytest.mark.slow
@pytest.mark.usefixtures("ended")
@pytest.mark.timeout(600)
def test_failure_of_a_training_is_the_reason_and_the_exit_code_of_wait(home: Path, write_job: WriteJob) -> None:
    job = write_job(model={"builder": "network:build_raising", "options": {}}, resources__workers=1)
    done = farandole("submit", job, "--follow", "--json")
    assert done.returncode == 1
    job_id = json.loads(done.stdout)["id"]
    status = document("status", job_id)
    reason = f"model.builder: network:build_raising: raised KeyError: 'no such layer' in {job.parent}"
    assert status["state"] == "failed"
    assert status["reason"].startswith(reason)
    assert done.stderr.splitlines()[-1].startswith(f"farandole: {job_id} failed: {reason}")
    assert 'raise KeyError("no such layer")' in done.stderr  # the evidence is in the log
    wait_until(lambda: not processes_of(home))
