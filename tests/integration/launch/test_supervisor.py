"""Trainings by real Horovod processes: preconditions and secrets. Restarts are in `tests/chaos`."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farandole.errors import DatasetError, SpecError, TrainingError
from farandole.launch import train
from farandole.spec import Job

MakeJob = Callable[..., Job]


def test_dataset_without_a_policy_of_the_job_is_rejected_before_the_start(home: Path, make_job: MakeJob) -> None:
    job = make_job(data__privacy={"columns": {"colour": {"policy": "mask"}}})
    with pytest.raises(DatasetError, match=r"data\.privacy\.columns\.colour: the job requires mask"):
        train(job)
    assert not (home / "jobs").exists()


def test_missing_dataset_is_reported_before_the_start(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job()
    data = job.data.model_copy(update={"output": str(tmp_path / "nowhere")})
    with pytest.raises(DatasetError, match=r"nowhere: no manifest\.json, so no dataset .*farandole prepare"):
        train(job.model_copy(update={"data": data}))
    assert not (home / "jobs").exists()


def test_secret_in_the_environment_only_reaches_the_workers(
    home: Path, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = f"s3cret-{time.time_ns()}"
    monkeypatch.setenv("MY_SECRET", secret)
    marks = tmp_path / "marks"
    marks.mkdir()
    job = make_job(model={"builder": "network:build_reading_secret", "options": {"marks": str(marks)}}, train__epochs=1)
    trained = train(job)

    for rank in range(2):
        length, num_command_lines = map(int, (marks / f"rank-{rank}").read_text().split())
        assert length == len(secret), f"rank {rank} does not know the secret"
        assert num_command_lines == 0
    # MLflow's database, the artifacts, the model, the logs, the spec, the checkpoints
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert not (trained.directory / "environment.json").exists()


def test_running_job_cannot_be_resumed(home: Path, make_job: MakeJob) -> None:
    job = make_job()
    directory = home / "jobs" / f"{job.name}-earlier"
    directory.mkdir(parents=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(SpecError, match=f"--resume: {directory.name} is still running"):
            train(job, directory=directory)
    finally:
        os.close(handle)


def test_home_that_cannot_be_written_is_reported(
    home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    monkeypatch.setenv("FARANDOLE_HOME", "/dev/null/home")
    with pytest.raises(
        TrainingError,
        match=r"/dev/null/home/jobs.*: Not a directory; choose a directory that can be created, or set FARAND",
    ):
        train(job)
