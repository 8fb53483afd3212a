"""How a gang of real Horovod processes ends, and what is said about it."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from farandole.errors import EnvironmentLacking, FarandoleError, JobFailed, ModelError, TrainingFailed
from farandole.launch import gang, train
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
def test_a_rank_that_leaves_is_named_with_its_exit_code_and_its_last_words(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("exit")))
    (log,) = home.glob("jobs/*/logs/attempt-1/rank-1.log")
    assert str(error) == f"train: worker 1 ended with exit code 7; its log is {log}"
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    (run,) = client.search_runs([entry.experiment_id for entry in client.search_experiments()])
    assert run.info.status == "FAILED"
    assert error.detail is not None
    assert "about to leave" in error.detail


@slow
def test_an_exception_in_a_rank_is_told_once_with_its_place(home: Path, make_job: MakeJob) -> None:
    job = make_job(model=_failing("raise"))
    error = _failure(job)
    assert isinstance(error, TrainingFailed)
    assert "ValueError: the third step is too much in " in str(error)
    assert f"{job.folder}/network.py, line " in str(error)
    assert error.detail is not None
    assert error.detail.count("Traceback (most recent call last)") == 1
    assert error.detail.count("the third step is too much") == 2  # the line that raises, and what it raised


@slow
def test_a_builder_that_raises_is_the_users_error_told_once(home: Path, make_job: MakeJob) -> None:
    job = make_job(model={"builder": "network:build_raising", "options": {"depth": 3}}, resources__max_restarts=2)
    started = time.monotonic()
    error = _failure(job)
    assert isinstance(error, ModelError)
    assert error.exit_code == 2
    assert str(error).count("no such layer") == 1
    assert f"raised KeyError: 'no such layer' in {job.folder}/network.py, line " in str(error)
    assert str(error).endswith("options were {'depth': 3}")
    assert len(list(home.glob("jobs/*/logs/attempt-*"))) == 1, "wrong input was tried again"
    assert time.monotonic() - started < 120


@slow
def test_a_store_that_cannot_be_used_is_what_the_environment_lacks(
    home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:s3cret@no such host")
    error = _failure(make_job())
    assert isinstance(error, EnvironmentLacking)
    assert error.exit_code == 3
    assert str(error).startswith("tracking.uri: http://no such host: the MLflow store cannot be used (")
    assert str(error).endswith("; mend tracking.uri, or its user and password")
    assert "s3cret" not in f"{error} {error.detail}"
    logs = [path.read_text() for path in home.glob("jobs/*/logs/*/*")]
    assert not any("s3cret" in text for text in logs)


def test_the_environment_lies_in_a_file_for_its_user_only_and_only_while_it_is_needed(
    home: Path, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "s3cret")
    with gang._environment_file(make_job(), tmp_path) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "s3cret" in path.read_text()
        assert str(path.name) == "environment.json"
    assert not path.exists()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (1, "ended with exit code 1"),
        (134, "was killed by signal 6, SIGABRT"),
        (-11, "was killed by signal 11, SIGSEGV"),
        (-9, "was killed by signal 9, SIGKILL (the kernel does this when memory runs out: use a smaller batch, or"),
        (255, "was killed by signal 127, unknown"),
    ],
)
def test_an_exit_status_is_put_into_words(status: int, text: str) -> None:
    assert gang._ended(status).startswith(text)


def test_the_first_to_fail_is_the_cause_and_those_that_lost_a_peer_are_not(tmp_path: Path) -> None:
    attempt = gang.Attempt(
        1,
        failures=[
            {"kind": "PeerLost", "rank": 0, "time_s": 1.0, "message": "another rank ended"},
            {"kind": "ModelError", "rank": 2, "time_s": 3.0, "message": "late", "detail": None},
            {"kind": "ModelError", "rank": 1, "time_s": 2.0, "message": "early", "detail": "traceback"},
        ],
    )
    error = gang._cause(attempt, 1, tmp_path)
    assert isinstance(error, ModelError)
    assert (str(error), error.detail) == ("early", "traceback")


def test_a_silent_end_is_told_from_the_exit_codes_of_those_that_lost_no_peer(tmp_path: Path) -> None:
    attempt = gang.Attempt(
        1,
        failures=[{"kind": "PeerLost", "rank": 0, "time_s": 1.0, "message": "another rank ended"}],
        exits=[(0, 1), (1, 139)],
    )
    assert str(gang._cause(attempt, 1, tmp_path)).startswith(
        "train: worker 1 was killed by signal 11, SIGSEGV; its log"
    )


def test_a_launcher_that_fails_alone_is_told_with_its_own_words(tmp_path: Path) -> None:
    error = gang._cause(gang.Attempt(1, words=["no route to host"]), 1, tmp_path)
    assert isinstance(error, JobFailed)
    assert str(error) == f"train: Horovod's launcher ended with 1 and no result; see {tmp_path}"
    assert error.detail == "no route to host"
