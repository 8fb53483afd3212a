"""Jobs in the foreground: what they leave on disk while they run, when they end, and when they are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from farandole.errors import SpecError, TrainingError
from farandole.events import EpochMetrics, Event, Progress, StageStarted
from farandole.jobdir.checkpoints import newest_checkpoint
from farandole.jobdir.directory import create_job_directory, load_job, save_spec
from farandole.jobdir.foreground import (
    find_foreground_directory,
    foreground_directory_of,
    foreground_job,
    handed_over,
    is_running,
    newest_foreground_directory,
    read_foreground,
    reconcile,
)
from farandole.jobdir.layout import job_directory
from farandole.jobdir.locks import (
    foreground_directories,
    is_foreground_job,
    training_lock,
    try_lock_ended,
    try_lock_job,
)
from farandole.jobdir.outcome import read_progress, read_result
from farandole.process.atomic import draft_path
from tests.support.queued import shell_job

_KILLED = """
import os, signal, sys
from farandole.events import StageStarted
from farandole.jobdir.foreground import foreground_job
from tests.support.queued import shell_job
with foreground_job(shell_job(), lambda event: None, resume="farandole run job.yaml --resume-id") as here:
    here.on_event(StageStarted("prepare", "preparing"))
    print(here.directory, flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Return a process that runs a job in the foreground, and kills itself when it reads a line."""
    command = [sys.executable, "-c", _KILLED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_job_leaves_its_state_progress_and_log() -> None:
    passed: list[Event] = []
    with foreground_job(shell_job(), passed.append) as here:
        here.on_event(StageStarted("train", "starting 2 workers"))
        here.on_event(EpochMetrics(1, 3, {"roc_auc": 0.75}))
        assert is_running(here.directory)
        assert load_job(here.directory) == shell_job()
        record = read_foreground(here.directory)
        assert record is not None
        assert (record.state, record.process.pid, record.starts) == ("running", os.getpid(), 1)
        here.write_result({"job": "tiny"})
    assert not is_running(here.directory)
    record, has_died = reconcile(here.directory)
    assert (record.state, record.reason, has_died) == ("succeeded", "completed", False)
    progress = read_progress(here.directory)
    assert progress is not None
    assert (progress.stage, progress.epoch, progress.epochs, progress.metrics) == ("train", 1, 3, {"roc_auc": 0.75})
    assert read_result(here.directory) == {"job": "tiny"}
    log = [line.split(" ", 1)[1] for line in (here.directory / "job.log").read_text().splitlines()]
    assert log == [
        "starts in the foreground",
        "train: starting 2 workers",
        "epoch 1 of 3: validation roc_auc 0.75",
        "succeeded: completed",
    ]
    assert len(passed) == 2
    assert foreground_directories() == [here.directory]


def test_failure_is_recorded_with_the_command_that_continues_the_job() -> None:
    error = TrainingError("worker 1 was killed")
    with suppress(TrainingError), foreground_job(shell_job(), print, resume="farandole run x --resume-id") as here:
        (here.directory / "checkpoints" / "step-000000120").mkdir(parents=True)
        raise error
    command = f"farandole run x --resume-id {here.directory.name}"
    assert error.next_step == f"`{command}` continues it from its checkpoint after step 120"
    record, _ = reconcile(here.directory)
    assert (record.state, record.reason, record.resume) == ("failed", "worker 1 was killed", command)


def test_input_error_has_no_next_command() -> None:
    with pytest.raises(SpecError) as caught, foreground_job(shell_job(), print):
        raise SpecError("data.sources: no files")
    assert caught.value.next_step is None


def test_interruption_cancels_the_job_and_retry_is_its_command_by_default() -> None:
    with pytest.raises(KeyboardInterrupt), foreground_job(shell_job(), print) as here:
        raise KeyboardInterrupt
    record, _ = reconcile(here.directory)
    assert (record.state, record.reason) == ("cancelled", "interrupted")
    assert record.resume == f"farandole retry {here.directory.name}"


def test_killed_job_has_failed_at_once_and_leaves_no_drafts(other: subprocess.Popen[str]) -> None:
    assert other.stdin is not None
    assert other.stdout is not None
    directory = Path(other.stdout.readline().strip())
    assert is_running(directory)
    assert reconcile(directory)[0].state == "running"
    with pytest.raises(SpecError, match="is still running"), foreground_job(shell_job(), print, directory=directory):
        pass
    draft_path(directory / "status.json").touch()
    other.stdin.write("\n")
    other.stdin.flush()
    other.wait()
    record, has_died = reconcile(directory)
    assert (record.state, record.reason, has_died) == ("failed", f"its process {other.pid} was killed", True)
    assert reconcile(directory)[1] is False
    assert not list(directory.glob(".*.tmp"))


def test_continued_job_keeps_its_start_and_forgets_its_last_end() -> None:
    with suppress(KeyboardInterrupt), foreground_job(shell_job(), print) as first:
        first.on_event(Progress("train", 5, 10, "rows"))
        raise KeyboardInterrupt
    before = read_foreground(first.directory)
    with foreground_job(shell_job(), print, directory=first.directory) as second:
        assert read_progress(second.directory) is None
        now = read_foreground(second.directory)
        assert now is not None
        assert before is not None
        assert (now.started_at, now.starts, now.state) == (before.started_at, 2, "running")


def _interrupted(name: str = "tiny") -> Path:
    """Return the directory of a job in the foreground that was interrupted."""
    with suppress(KeyboardInterrupt), foreground_job(shell_job(name), print) as here:
        raise KeyboardInterrupt
    return here.directory


def test_job_in_the_foreground_is_handed_over_to_the_queue_once_it_has_ended() -> None:
    with (
        foreground_job(shell_job(), print) as here,
        pytest.raises(SpecError, match="is still running"),
        handed_over(here.directory),
    ):
        pass
    with pytest.raises(SpecError, match="has succeeded"), handed_over(here.directory):
        pass
    directory = _interrupted()
    with handed_over(directory):
        assert is_foreground_job(directory)
        assert is_running(directory), "nobody else continues it meanwhile"
    assert not is_foreground_job(directory)
    with (
        pytest.raises(SpecError, match=f"{directory.name}: was submitted, so .*; use `farandole retry"),
        foreground_job(shell_job(), print, directory=directory),
    ):
        pass
    assert not (directory / "foreground.json").exists()


def test_job_stays_in_the_foreground_if_it_cannot_be_handed_over() -> None:
    directory = _interrupted()
    record = read_foreground(directory)
    with pytest.raises(OSError, match="disk"), handed_over(directory):
        raise OSError("disk")
    assert read_foreground(directory) == record
    assert is_foreground_job(directory)
    assert not is_running(directory)


def test_job_that_is_still_running_is_not_touched_by_another_start(other: subprocess.Popen[str]) -> None:
    assert other.stdout is not None
    directory = Path(other.stdout.readline().strip())
    draft = draft_path(directory / "status.json")
    draft.touch()
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(SpecError, match="is still running"), foreground_job(shell_job("x"), print, directory=directory):
        pass
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_job_whose_directory_is_trained_in_is_not_touched() -> None:
    directory = _interrupted()
    with (
        training_lock(directory),
        pytest.raises(SpecError, match=f"{directory.name}: is still running; wait for it, or end it first"),
        foreground_job(shell_job(), print, directory=directory),
    ):
        pass
    record = read_foreground(directory)
    assert record is not None
    assert (record.state, record.starts) == ("cancelled", 1)


def test_newest_job_is_the_one_that_was_started_last_whichever_directory_changed_last() -> None:
    with pytest.raises(SpecError, match="--resume: no job named tiny has been started here; leave --resume out"):
        newest_foreground_directory("tiny")
    directories = [_interrupted() for _ in range(3)]
    _interrupted("tiny-2")
    torn = _interrupted()
    (torn / "foreground.json").write_text("{torn")
    for age_s, directory in zip((0, 30, 20), directories, strict=True):
        os.utime(directory, (1e9 - age_s, 1e9 - age_s))
    assert newest_foreground_directory("tiny") == directories[2]
    with suppress(KeyboardInterrupt), foreground_job(shell_job(), print, directory=directories[0]):
        raise KeyboardInterrupt
    assert newest_foreground_directory("tiny") == directories[2]


def test_submitted_job_is_not_the_newest_in_the_foreground() -> None:
    submitted = create_job_directory(shell_job())
    save_spec(submitted, shell_job())
    with pytest.raises(SpecError, match=f"{submitted.name}: was submitted, .*use `farandole retry {submitted.name}`"):
        newest_foreground_directory("tiny")
    earlier = _interrupted()
    assert newest_foreground_directory("tiny") == earlier


def test_job_to_continue_is_found_by_its_id_and_has_the_name_of_the_job_file() -> None:
    directory = _interrupted()
    assert foreground_directory_of(directory.name, "tiny") == directory
    with pytest.raises(SpecError, match=f"{directory.name}: is a job of tiny, and the job file's name is large; use"):
        foreground_directory_of(directory.name, "large")
    with pytest.raises(SpecError, match=f"no such job in the foreground; did you mean {directory.name}"):
        find_foreground_directory(directory.name + "x")


def test_job_continues_once_its_mlflow_run_is_closed() -> None:
    directory = _interrupted()
    lock = try_lock_ended(directory)
    assert lock is not None
    assert try_lock_ended(directory) is None
    assert not is_running(directory), "the process that closes the MLflow run is not the job's"
    closed = threading.Event()

    def close() -> None:
        closed.set()
        lock.release()

    threading.Timer(0.2, close).start()
    with foreground_job(shell_job(), print, directory=directory):
        assert closed.is_set()
        assert try_lock_ended(directory) is None, "the MLflow run of a job that continues stays open"


def test_queued_job_that_has_ended_is_kept_from_its_runner(tmp_path: Path) -> None:
    lock = try_lock_ended(tmp_path)
    assert lock is not None
    assert try_lock_job(tmp_path) is None
    lock.release()


def test_newest_checkpoint_is_found_where_the_job_keeps_it(tmp_path: Path) -> None:
    directory = job_directory("small-1")
    directory.mkdir(parents=True)
    assert newest_checkpoint(directory) is None
    (directory / "checkpoints" / "step-000000100").mkdir(parents=True)
    (directory / "checkpoints" / ".step-000000900.abc.tmp").mkdir()
    newest = newest_checkpoint(directory)
    assert newest is not None
    assert newest.step == 100
    spec = {"train": {"checkpoint": {"directory": str(tmp_path / "elsewhere")}}}
    (directory / "job.json").write_text(json.dumps(spec))
    assert newest_checkpoint(directory) is None
    (tmp_path / "elsewhere" / "small-1" / "step-000000200-2").mkdir(parents=True)
    newest = newest_checkpoint(directory)
    assert newest is not None
    assert newest.step == 200
    spec["train"]["checkpoint"]["directory"] = "s3://bucket/folder"
    (directory / "job.json").write_text(json.dumps(spec))
    assert newest_checkpoint(directory) is None
