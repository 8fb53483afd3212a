"""The commands for submitted jobs as processes, with jobs that are one line of shell."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from farandole.backends.local.queue import Queue
from farandole.backends.local.submit import create_job
from farandole.backends.records import JobDatabase, JobRecord
from farandole.spec import load_job
from tests.support.command import FARANDOLE, document, farandole
from tests.support.made_data import WriteJob
from tests.support.queued import MakeBackend, shell_job, wait_for_state


def test_status_jobs_and_logs_show_a_failed_job(local: MakeBackend) -> None:
    backend = local("echo [working]; exit 7")
    job_id = backend.submit(shell_job()).id
    wait_for_state(backend, job_id, "failed")
    status = document("status", job_id)
    assert set(status) == {
        "id", "name", "backend", "state", "reason", "stage", "attempt", "workers", "step", "epoch", "priority",
        "submitted_at", "since", "mlflow_run_id", "progress", "checkpoint", "details",
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
def test_unknown_id_is_reported(farandole_home: Path, command: str) -> None:
    done = farandole(command, "nowhere-1")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "farandole: nowhere-1: no job with this id was run or submitted here; `farandole jobs`"
    )


def test_contradictory_options_are_rejected(farandole_home: Path) -> None:
    for arguments, words in (
        (("jobs", "--state", "runing"), "--state: runing: there is no such state; did you mean running?"),
        (("status", "a-1", "--backend", "lokal"), "--backend: lokal: there is no such backend; did you mean local?"),
        (
            ("status", "a-1", "--backend", "local", "--namespace", "people"),
            "--namespace: this is an option of kubernetes, and --backend is local; leave it out",
        ),
    ):
        done = farandole(*arguments)
        assert (done.returncode, done.stderr) == (2, f"farandole: {words}\n")


def test_shell_completes_ids_of_jobs_submitted_from_here(farandole_home: Path) -> None:
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


@pytest.mark.parametrize("options", [("--resume",), ("--resume-id", "ID")])
def test_run_does_not_continue_a_submitted_job(home: Path, write_job: WriteJob, options: tuple[str, ...]) -> None:
    job = write_job()
    submitted = Queue(home)
    directory = create_job(load_job(job), home, "small-20260101-000000-abcd")
    submitted.submit(JobRecord(directory.name, "small", "local"), directory, ["true"])
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    done = farandole("run", job, *(directory.name if option == "ID" else option for option in options))
    command = f"farandole retry {directory.name}"
    message = f"farandole: {directory.name}: was submitted, so --resume does not start it; use `{command}`\n"
    assert (done.returncode, done.stderr) == (2, message)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_ctrl_c_ends_the_command_and_not_the_job(local: MakeBackend) -> None:
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
            f"farandole: {job_id} is still running; `farandole cancel {job_id}` ends it\n"
        )
    assert backend.status(job_id).state == "running"


def test_job_that_cannot_be_trained_is_rejected(home: Path, write_job: WriteJob) -> None:
    done = farandole("submit", write_job(model={"builder": "nowhere:build", "options": {}}))
    assert done.returncode == 2
    assert done.stderr.startswith("farandole: model.builder: nowhere:build: there is no module nowhere")
    assert not (home / "jobs").exists()
