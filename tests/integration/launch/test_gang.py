"""Failures of real Horovod processes, and their error messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from farandole.errors import FarandoleError, ModelError, TrainingError, UnavailableError
from farandole.launch import train
from farandole.spec import Job

MakeJob = Callable[..., Job]
slow = pytest.mark.slow


def _failing(how: str) -> dict[str, object]:
    return {"builder": "network:build_failing", "options": {"how": how, "rank": 1, "step": 3}}


def _failure(job: Job) -> FarandoleError:
    with pytest.raises(FarandoleError) as caught:
        train(job)
    return caught.value


@slow
def test_exit_of_a_rank_is_reported_with_its_code_and_its_last_output(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("exit"), train__baseline="off"))
    (log,) = home.glob("jobs/*/logs/attempt-1/rank-1.log")
    assert str(error) == f"train: worker 1 ended with exit code 7; its log is {log}"
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    (run,) = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    assert run.info.status == "FAILED"
    assert error.detail is not None
    assert "about to leave" in error.detail


@slow
def test_exception_in_a_rank_is_reported_once_with_its_location(home: Path, make_job: MakeJob) -> None:
    job = make_job(model=_failing("raise"), train__baseline="off")
    error = _failure(job)
    assert isinstance(error, TrainingError)
    assert "ValueError: the third step is too much in " in str(error)
    assert f"{job.folder}/network.py, line " in str(error)
    assert error.detail is not None
    assert error.detail.count("Traceback (most recent call last)") == 1
    assert error.detail.count("the third step is too much") == 2  # the line that raises, and what it raised


@slow
def test_exception_of_the_builder_is_reported_once_as_an_error_of_the_user(home: Path, make_job: MakeJob) -> None:
    model = {"builder": "network:build_raising", "options": {"depth": 3}}
    job = make_job(model=model, train__baseline="off", resources__max_restarts=2)
    error = _failure(job)
    assert isinstance(error, ModelError)
    assert error.exit_code == 2
    assert str(error).count("no such layer") == 1
    assert f"raised KeyError: 'no such layer' in {job.folder}/network.py, line " in str(error)
    assert str(error).endswith("options were {'depth': 3}")
    assert len(list(home.glob("jobs/*/logs/attempt-*"))) == 1, "invalid input was retried"


@slow
def test_unusable_mlflow_store_is_reported_without_its_password(
    home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:s3cret@no such host")
    error = _failure(make_job(train__baseline="off"))
    assert isinstance(error, UnavailableError)
    assert error.exit_code == 3
    assert str(error).startswith("tracking.uri: http://no such host: the MLflow store cannot be used (")
    assert str(error).endswith("; correct tracking.uri")
    assert "s3cret" not in f"{error} {error.detail}"
    logs = [path.read_text() for path in home.glob("jobs/*/logs/*/*")]
    assert not any("s3cret" in text for text in logs)
