"""Supervision of a job, with a launcher that sends real messages and starts no workers."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import ModelError, TrainingError, UnavailableError
from farandole.events import EpochMetrics, Event, EventHandler, Message
from farandole.jobdir.status import Status, read_history, read_status
from farandole.launch import autoscale
from farandole.launch.restarts import RestartPolicy
from farandole.launch.result import TrainedModel
from farandole.launch.supervisor import Supervisor, train
from farandole.process.messages import (
    MESSAGE_PREFIX,
    Alive,
    Exited,
    Failed,
    Met,
    MlflowRunCreated,
    Result,
    Started,
    Stopped,
    WorkerMessage,
    format_message,
)
from farandole.spec import Job, parse_job
from tests.support.paths import SUPPORT

Step = tuple[str, Any]

DATASET = {"path": "/data/small", "digest": "1", "rows": {"train": 8}, "reused": True}
TRAINING = {
    "mlflow_run_id": "run",
    "workers": 2,
    "steps": 7,
    "rows_per_s": 1.0,
    "weights_digest": "0",
    "metrics": {},
    "time_split": {},
    "time_by_rank": [],
    "straggler": None,
}
EPOCH = EpochMetrics(1, 2, {"rmse": 1.0})


def _print(*messages: WorkerMessage | Event, rank: int | None = None) -> Step:
    """Print messages, of a worker or of the launcher itself."""
    prefix = "" if rank is None else f"[{rank}]<stdout>:"
    return "print", "".join(prefix + format_message(message) for message in messages)


def _start(workers: int = 2, step: int = 1) -> list[Step]:
    """Start workers, connect them, and complete a step."""
    started = _print(*(Started(rank, 0) for rank in range(workers)))
    connected = _print(Met(workers), MlflowRunCreated("run"), rank=0)
    alive = [_print(Alive(rank, 0, step, 0, 1), rank=rank) for rank in range(workers)]
    return [started, connected, *alive]


def _exit(workers: int = 2, code: int = 0) -> Step:
    return _print(*(Exited(rank, time.time(), code) for rank in range(workers)))


def _finish(workers: int = 2) -> list[Step]:
    """Send the result and exit."""
    result = Result(DATASET, {**TRAINING, "workers": workers}, {"uri": "models:/small/1"})
    return [_print(result, rank=0), _exit(workers)]


def _fail(step: int, kind: str = "TrainingError", message: str = "it broke") -> list[Step]:
    """Let worker 1 fail, and worker 0 with it."""
    reports = [
        Failed(1, time.time(), kind, message, "evidence", step),
        Failed(0, time.time(), "PeerLost", "", None, step),
    ]
    return [*(_print(report, rank=report.rank) for report in reports), _exit(code=1)]


class Launcher:
    """A fake launcher with its script."""

    def __init__(self, directory: Path, *attempts: list[Step]) -> None:
        self._path = directory / "script.json"
        self._path.write_text(json.dumps(attempts))
        self.command = (sys.executable, "-IS", str(SUPPORT / "fake_launcher.py"), str(self._path))

    @property
    def commands(self) -> list[str]:
        return Path(f"{self._path}.commands").read_text().splitlines()

    @property
    def workers(self) -> list[int]:
        """Workers of each attempt, from its arguments."""
        lines = Path(f"{self._path}.arguments").read_text().splitlines()
        return [int(arguments[arguments.index("--workers") + 1]) for arguments in map(json.loads, lines)]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a job, whose attempts follow each other without a pause."""
    monkeypatch.setattr(RestartPolicy, "pause_s", lambda self: 0.0)
    path = tmp_path / "home" / "jobs" / "small-1"
    path.mkdir(parents=True)
    return path


def _job(**resources: Any) -> Job:
    data = {"sources": {"things": {"path": "things.csv"}}, "features": {"x": {"kind": "numeric"}}}
    return parse_job({"name": "small", "data": data, "resources": {"workers": 2, "max_restarts": 0, **resources}})


def _run(
    directory: Path, launcher: Launcher, on_event: EventHandler = lambda event: None, **resources: Any
) -> TrainedModel:
    return Supervisor(_job(**resources), directory, False, on_event, launcher.command).run()


def _names(directory: Path) -> list[str]:
    return [event["event"] for event in read_history(directory)]


def _status(directory: Path) -> Status:
    status = read_status(directory)
    assert status is not None
    return status


def test_result_of_rank_zero_is_returned(directory: Path) -> None:
    trained = _run(directory, Launcher(directory, [*_start(), *_finish()]))
    assert (trained.job, trained.id, trained.model_uri) == ("small", "small-1", "models:/small/1")
    assert (trained.training.steps, trained.training.attempts, trained.training.recoveries) == (7, 1, [])
    assert _names(directory) == ["started", "met", "first_step", "ended"]
    status = _status(directory)
    assert (status.state, status.attempt, status.workers, status.step) == ("succeeded", 1, 2, 7)
    assert status.mlflow_run_id == "run"
    assert not (directory / "environment.json").exists()


def test_status_follows_the_attempt(directory: Path) -> None:
    seen: list[tuple[str, str]] = []

    def on_event(event: Event) -> None:
        status = _status(directory)
        seen.append((status.state, status.reason))

    _run(directory, Launcher(directory, [*_start(), _print(EPOCH, rank=0), *_finish()]), on_event)
    assert seen == [("running", "attempt 1 is starting"), ("running", "attempt 1 is training")]


def test_failed_attempt_is_restarted_and_its_recovery_recorded(directory: Path) -> None:
    launcher = Launcher(directory, [*_start(step=3), *_fail(4)], [*_start(step=4), *_finish()])
    events: list[Event] = []
    trained = _run(directory, launcher, events.append, max_restarts=1)
    assert trained.training.attempts == 2
    (recovery,) = trained.training.recoveries
    assert (recovery["attempt"], recovery["kind"], recovery["from_step"]) == (2, "raised", 3)
    assert _names(directory) == [
        "started", "met", "first_step", "failed", "started", "met", "first_step", "restarted", "ended",
    ]  # fmt: skip
    warnings = [event.text for event in events if isinstance(event, Message) and event.level == "warning"]
    assert warnings == ["attempt 1 failed: it broke; restarting from the last checkpoint"]


def test_job_fails_after_its_last_restart(directory: Path) -> None:
    launcher = Launcher(directory, [*_start(), *_fail(4)], [*_start(), *_fail(9)])
    with pytest.raises(TrainingError, match="it broke"):
        _run(directory, launcher, max_restarts=1)
    assert (_status(directory).state, _status(directory).reason) == ("failed", "it broke")
    (failed, _) = [event for event in read_history(directory) if event["event"] == "failed"]
    assert (failed["rank"], failed["step"], failed["victims"]) == (1, 4, [0])


def test_error_of_the_user_is_not_restarted(directory: Path) -> None:
    launcher = Launcher(directory, [*_start(), *_fail(4, "ModelError", "no such layer")])
    with pytest.raises(ModelError, match="no such layer"):
        _run(directory, launcher, max_restarts=9)
    assert launcher.workers == [2]


def test_launcher_that_ends_without_a_result_is_reported_with_its_output(directory: Path) -> None:
    launcher = Launcher(directory, [("print", "no route to host\n"), ("exit", 3)])
    with pytest.raises(TrainingError, match="ended with exit code 3 and without a result") as caught:
        _run(directory, launcher)
    assert caught.value.detail == "no route to host"


@pytest.mark.parametrize("error", [KeyError("loss"), TypeError("not a number"), ConnectionResetError("gone")])
def test_error_of_the_event_handler_ends_the_training_unchanged(directory: Path, error: Exception) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, EpochMetrics):
            raise error

    launcher = Launcher(directory, [*_start(), _print(EPOCH, rank=0), ("wait", "kill"), *_finish()])
    with pytest.raises(type(error)) as caught:
        _run(directory, launcher, on_event)
    assert caught.value is error
    assert _status(directory).state == "failed"
    assert launcher.commands[-1] == "kill"


def test_error_of_the_supervisor_itself_is_not_taken_for_a_malformed_message(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("status")

    monkeypatch.setattr("farandole.jobdir.status.StatusWriter.progress", fail)
    with pytest.raises(KeyError, match="status"):
        _run(directory, Launcher(directory, [*_start(), *_finish()]))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_asks_for_space(directory: Path, number: int) -> None:
    def on_event(event: Event) -> None:
        raise OSError(number, os.strerror(number), "/data/log")

    with pytest.raises(TrainingError, match=rf"/data/log: {os.strerror(number)}; free some space"):
        _run(directory, Launcher(directory, []), on_event)


@pytest.mark.parametrize(
    "line",
    [
        "{not json}",
        json.dumps({"event": "alive", "rank": 1}),
        json.dumps({"event": "exited", "rank": "one", "time_s": 0}),
        json.dumps({"event": "EpochMetrics", "epoch": 1, "loss": 3}),
        json.dumps({"event": "unknown", "rank": 1}),
    ],
)
def test_malformed_message_is_output_of_its_worker(directory: Path, line: str) -> None:
    text = MESSAGE_PREFIX + line
    launcher = Launcher(directory, [*_start(), ("print", f"[1]<stdout>:{text}\n"), *_finish()])
    assert _run(directory, launcher).training.steps == 7
    assert text in (directory / "logs" / "attempt-1" / "rank-1.log").read_text().splitlines()


def test_message_on_standard_error_is_output(directory: Path) -> None:
    text = format_message(Stopped(3))
    launcher = Launcher(directory, [*_start(), ("print", f"[0]<stderr>:{text}"), *_finish()])
    _run(directory, launcher)
    assert (directory / "logs" / "attempt-1" / "rank-0.log").read_text() == text


def test_output_before_a_message_is_kept(directory: Path) -> None:
    launcher = Launcher(directory, [*_start(), ("print", f"[0]<stdout>:torn{format_message(EPOCH)}"), *_finish()])
    events: list[Event] = []
    _run(directory, launcher, events.append)
    assert EPOCH in events
    assert (directory / "logs" / "attempt-1" / "rank-0.log").read_text() == "torn\n"


def test_requested_size_is_used_from_the_next_checkpoint(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscale, "_CHECK_EVERY_S", 0.0)

    def on_event(event: Event) -> None:
        if event == EPOCH:
            (directory / "scale.json").write_text(json.dumps({"workers": 3}))

    first = [*_start(), _print(EPOCH, rank=0), ("wait", "stop"), _print(Stopped(5), rank=0), _exit()]
    launcher = Launcher(directory, first, [*_start(3, step=6), *_finish(3)])
    trained = _run(directory, launcher, on_event, hosts=["localhost:3"])
    assert launcher.workers == [2, 3]
    assert (trained.training.attempts, trained.training.recoveries) == (2, [])
    (scaled,) = [event for event in read_history(directory) if event["event"] == "scaled"]
    assert (scaled["workers"], scaled["to"], scaled["step"]) == (2, 3, 5)


def test_interrupted_training_saves_its_state(directory: Path) -> None:
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if event == EPOCH:
            raise KeyboardInterrupt

    script = [*_start(), _print(EPOCH, rank=0), ("wait", "stop"), _print(Stopped(5), rank=0), _exit()]
    with pytest.raises(KeyboardInterrupt):
        _run(directory, Launcher(directory, script), on_event)
    status = _status(directory)
    assert (status.state, status.reason) == ("cancelled", "interrupted after step 5 was saved")
    assert status.step == 5
    texts = [event.text for event in events if isinstance(event, Message)]
    assert texts == [
        "stopping: the training saves a checkpoint; press Ctrl-C again to stop at once",
        f"step 5 is saved; `farandole retry {directory.name}` resumes from there",
    ]


def test_interrupted_script_is_waited_for_with_a_message(directory: Path) -> None:
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if event == EPOCH:
            raise KeyboardInterrupt

    job = _job(stop_timeout_s=47)
    job = job.model_copy(update={"train": job.train.model_copy(update={"script": "train.py"})})
    launcher = Launcher(directory, [*_start(), _print(EPOCH, rank=0), ("wait", "stop"), _exit()])
    with pytest.raises(KeyboardInterrupt):
        Supervisor(job, directory, False, on_event, launcher.command).run()
    texts = [event.text for event in events if isinstance(event, Message)]
    assert any("waiting up to 47 s for the script to save (farandole.Checkpoint.save); press" in text for text in texts)


def test_second_interruption_kills_the_gang(directory: Path) -> None:
    def on_event(event: Event) -> None:
        if event == EPOCH:
            raise KeyboardInterrupt

    script = [
        *_start(),
        _print(EPOCH, rank=0),
        ("wait", "stop"),
        _print(EPOCH, rank=0),
        ("wait", "kill"),
        _exit(code=1),
    ]
    launcher = Launcher(directory, script)
    with pytest.raises(KeyboardInterrupt):
        _run(directory, launcher, on_event)
    assert launcher.commands == ["mlflow_run run", "stop", "kill"]
    assert _status(directory).reason == "interrupted"


def test_frozen_worker_is_killed(directory: Path) -> None:
    launcher = Launcher(directory, [*_start(1), ("wait", "kill 0"), _exit(1, code=1)])
    with pytest.raises(TrainingError, match=r"worker 0 sent no heartbeat for .*\(resources\.heartbeat_timeout_s\)"):
        _run(directory, launcher, workers=1, heartbeat_timeout_s=0.4)
    assert launcher.commands[-1] == "kill 0"


def test_too_few_hosts_are_waited_for_and_then_reported(directory: Path, tmp_path: Path) -> None:
    script = tmp_path / "discover"
    script.write_text("#!/bin/sh\necho localhost:1\n")
    script.chmod(0o755)
    with pytest.raises(UnavailableError, match=r"there are slots for 1 workers, but at least 2 are needed") as caught:
        _run(directory, Launcher(directory), hosts={"script": str(script)}, wait_s=0.5)
    assert "hosts answering: localhost:1; repair the hosts, or request fewer workers" in str(caught.value)
    assert _status(directory).state == "failed"
    assert not (directory / "logs").exists()


def test_secrets_that_a_killed_supervisor_left_are_removed(directory: Path) -> None:
    left = directory / "away.json"
    left.write_text('{"request": {"environment": {"AWS_SECRET_ACCESS_KEY": "s3cret"}}}')
    _run(directory, Launcher(directory, [*_start(), *_finish()]))
    assert not left.exists()


def test_attempts_of_a_resumed_job_continue_their_numbers(directory: Path) -> None:
    _run(directory, Launcher(directory, [*_start(), *_finish()]))
    assert _run(directory, Launcher(directory, [], [*_start(), *_finish()])).training.attempts == 2
    assert sorted(path.name for path in (directory / "logs").iterdir()) == ["attempt-1", "attempt-2"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.ENOTDIR, "choose a directory that can be created"),
        (errno.EIO, "make sure that you may write there"),
    ],
)
def test_home_that_cannot_be_written_is_reported_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fail(job: Job) -> Path:
        raise OSError(number, os.strerror(number), "/home/x/jobs")

    for name in ("read_manifest", "require_policies", "load_key"):
        monkeypatch.setattr(f"farandole.launch.supervisor.{name}", lambda *_: None)
    monkeypatch.setattr("farandole.jobdir.directory.create_job_directory", fail)
    with pytest.raises(TrainingError) as caught:
        train(_job())
    text = f"/home/x/jobs: {os.strerror(number)}; {remedy}, or set FARANDOLE_HOME to another directory"
    assert str(caught.value) == text
