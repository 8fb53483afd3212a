"""The commands around submitted jobs as processes: on jobs that are a line of shell, and on a real one."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from farandole import api
from farandole.backends.protocol import JobStatus
from farandole.backends.records import JobDatabase, JobRecord
from farandole.training.checkpoint import open_backend
from tests.support.made_data import BATCH_ROWS, ROWS, WriteJob
from tests.support.queued import MakeBackend, processes_of, shell_job, wait_for_state, wait_until

FARANDOLE = str(Path(sys.executable).with_name("farandole"))
STEPS = -(-ROWS["train"] // BATCH_ROWS)
"""Of an epoch, the short one at its end among them."""


def farandole(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [FARANDOLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, **options)


def document(*arguments: object) -> Any:
    done = farandole(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_jobs_and_logs_tell_of_a_job(local: MakeBackend) -> None:
    backend = local("echo [working]; exit 7")
    job_id = backend.submit(shell_job()).id
    wait_for_state(backend, job_id, "failed")
    status = document("status", job_id)
    assert set(status) == {
        "id", "name", "backend", "state", "reason", "stage", "attempt", "workers", "step", "epoch", "priority",
        "submitted_at", "since", "mlflow_run_id", "details",
    }  # fmt: skip
    assert (status["state"], status["reason"]) == ("failed", "its process ended with exit code 7")
    assert document("jobs") == [status]
    assert document("jobs", "--state", "running") == []
    assert document("jobs", "--state", "running", "--state", "failed", "--backend", "local") == [status]
    assert job_id in farandole("jobs").stdout
    shown = farandole("status", job_id).stdout
    assert "its process ended with exit code 7" in shown
    assert farandole("logs", job_id).stdout.splitlines()[1] == "[working]"
    assert (
        farandole("logs", "-f", job_id).stdout.splitlines()[-1].endswith("failed: its process ended with exit code 7")
    )
    assert farandole("logs", job_id, "--rank", "0").stdout == ""


def test_jobs_are_limited_to_the_newest(local: MakeBackend) -> None:
    backend = local()
    ids = [backend.submit(shell_job()).id for _ in range(3)]
    for job_id in ids:
        wait_for_state(backend, job_id, "succeeded")
    assert [job["id"] for job in document("jobs", "--limit", 2)] == [ids[2], ids[1]]
    done = farandole("jobs", "-n", 1)
    assert "2 more; --limit shows them" in done.stdout


def test_cancel_and_retry(local: MakeBackend) -> None:
    backend = local("sleep 600")
    job_id = backend.submit(shell_job()).id
    wait_for_state(backend, job_id, "running")
    cancelled = document("cancel", job_id)
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "cancelled while it ran")
    assert farandole("retry", job_id).stdout == f"{job_id}\n"
    wait_for_state(backend, job_id, "running")
    refused = farandole("retry", job_id)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"farandole: {job_id}: has not ended; only a job that failed or was cancelled can be retried\n"
    )


@pytest.mark.parametrize("command", ["status", "logs", "cancel", "retry"])
def test_an_id_that_is_not_there_is_told(farandole_home: Path, command: str) -> None:
    done = farandole(command, "nowhere-1")
    assert done.returncode == 2
    assert done.stderr.startswith("farandole: nowhere-1: no job of this id was submitted from here; `farandole jobs`")


def test_what_contradicts_itself_is_told(farandole_home: Path) -> None:
    for arguments, words in (
        (("jobs", "--state", "runing"), "--state: runing: there is no such state; did you mean running?"),
        (("status", "a-1", "--backend", "lokal"), "--backend: lokal: there is no such backend; did you mean local?"),
        (
            ("status", "a-1", "--backend", "local", "--namespace", "people"),
            "--context, --namespace: these are options of kubernetes, and --backend is local; leave them out",
        ),
    ):
        done = farandole(*arguments)
        assert (done.returncode, done.stderr) == (2, f"farandole: {words}\n")


def test_the_shell_completes_ids_of_jobs_that_were_submitted_from_here(farandole_home: Path) -> None:
    records = JobDatabase(farandole_home)
    for job_id in ("flights-1", "flights-2", "taxi-1"):
        records.remember(JobRecord(job_id, "job", "local"))
    variables = {
        **os.environ,
        "_FARANDOLE_COMPLETE": "complete_bash",
        "COMP_WORDS": "farandole status fl",
        "COMP_CWORD": "2",
    }
    assert farandole(env=variables).stdout.split() == ["flights-2", "flights-1"]


def test_ctrl_c_ends_the_watching_and_not_the_job(local: MakeBackend) -> None:
    backend = local("echo working; sleep 600")
    job_id = backend.submit(shell_job()).id
    with subprocess.Popen(
        [FARANDOLE, "logs", "-f", job_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline().rstrip().endswith(f"starts on {os.uname().nodename}")
        following.send_signal(signal.SIGINT)
        assert following.wait() == 130
        assert following.stderr.read() == (
            f"farandole: {job_id} goes on without you; `farandole cancel {job_id}` ends it\n"
        )
    assert backend.status(job_id).state == "running"


def test_what_cannot_be_trained_is_not_taken(home: Path, write_job: WriteJob) -> None:
    done = farandole("submit", write_job(model={"builder": "nowhere:build", "options": {}}))
    assert done.returncode == 2
    assert done.stderr.startswith("farandole: model.builder: nowhere:build: there is no module nowhere")
    assert not (home / "jobs").exists()


# A real job ---------------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=45)
@pytest.mark.usefixtures("ended")
@pytest.mark.timeout(600)
def test_a_job_outlives_the_terminal_that_submitted_it_and_gives_the_same_weights_as_run(
    home: Path, write_job: WriteJob
) -> None:
    job = write_job()
    ours, theirs = pty.openpty()
    submitting = subprocess.Popen(
        [FARANDOLE, "submit", str(job), "--json"],
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True, text=True,
    )  # fmt: skip
    os.close(theirs)
    words, _ = submitting.communicate(timeout=120)
    os.close(ours)  # the terminal goes: everything of its session gets SIGHUP
    job_id = json.loads(words)["id"]
    log = farandole("logs", "-f", job_id)
    assert log.returncode == 0, log.stderr
    status = document("status", job_id)
    assert (status["state"], status["reason"]) == ("succeeded", "trained models:/small/1"), log.stdout
    assert (status["attempt"], status["workers"], status["step"], status["epoch"]) == (1, 2, 2 * STEPS, 2)
    stages = [line.split(" ", 1)[1].partition(":")[0] for line in log.stdout.splitlines()]
    assert [stage for stage in dict.fromkeys(stages) if not stage.startswith("epoch")][1:] == [
        "prepare", "train", "evaluate", "register", "succeeded",
    ]  # fmt: skip
    result = json.loads((home / "jobs" / job_id / "result.json").read_text())
    assert status["mlflow_run_id"] == result["training"]["mlflow_run_id"]
    again = document("run", job)
    assert again["training"]["weights_digest"] == result["training"]["weights_digest"]
    assert set(again) == set(result)


@pytest.mark.slow(seconds=85)
@pytest.mark.usefixtures("ended")
@pytest.mark.timeout(900)
def test_a_training_is_scaled_cancelled_with_a_checkpoint_and_tried_again_from_it(
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
    points = client.get_metric_history(status.mlflow_run_id, "train.loss")
    assert sorted(point.step for point in points) == list(range(1, 6 * STEPS + 1))
    assert client.get_run(status.mlflow_run_id).info.status == "FINISHED"
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
def test_the_failure_of_a_training_is_the_reason_and_wait_ends_as_the_job_does(home: Path, write_job: WriteJob) -> None:
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
