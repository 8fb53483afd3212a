"""Gangs of real processes that fail in every possible way, and the recovery of their jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import FarandoleError, TrainingError
from farandole.events import Event, Message
from farandole.jobdir.scaling import scale
from farandole.launch import train
from farandole.spec import Job
from tests.support.made_data import BATCH_ROWS, ROWS

MakeJob = Callable[..., Job]
STEPS = -(-ROWS["train"] // BATCH_ROWS)
"""Steps of an epoch; a checkpoint follows each."""
slow = pytest.mark.slow
pytestmark = pytest.mark.timeout(600)


def _failing(how: str, step: int = 3, rank: int = 1, **options: object) -> dict[str, object]:
    return {"builder": "network:build_failing", "options": {"how": how, "rank": rank, "step": step, **options}}


def _failure(job: Job) -> FarandoleError:
    with pytest.raises(FarandoleError) as caught:
        train(job)
    return caught.value


def _history(home: Path, *names: str) -> list[dict[str, Any]]:
    (file,) = home.glob("jobs/*/events.jsonl")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    return [event for event in events if event["event"] in names]


def _status(home: Path) -> dict[str, Any]:
    (file,) = home.glob("jobs/*/status.json")
    status: dict[str, Any] = json.loads(file.read_text())
    return status


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    directory = tmp_path / "marks"
    directory.mkdir()
    return directory


# How attempts end -------------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=40)
def test_gang_of_a_frozen_worker_is_restarted(home: Path, make_job: MakeJob, marks: Path) -> None:
    job = make_job(
        model=_failing("freeze", step=STEPS + 3, marks=str(marks)),
        resources__max_restarts=1,
        resources__heartbeat_timeout_s=8,
    )
    trained = train(job)
    assert trained.training.attempts == 2
    (failed,) = _history(home, "failed")
    assert (failed["kind"], failed["rank"], failed["victims"]) == ("frozen", 1, [0])
    assert failed["message"].startswith("train: worker 1 sent no heartbeat for ")
    (recovery,) = trained.training.recoveries
    assert (recovery["attempt"], recovery["kind"], recovery["from_step"]) == (2, "frozen", STEPS)
    assert recovery["seconds"] > 0
    assert [event["event"] for event in _history(home, "started", "met", "failed", "restarted", "ended")] == [
        "started", "met", "failed", "started", "met", "restarted", "ended",
    ]  # fmt: skip
    status = _status(home)
    assert (status["state"], status["attempt"], status["step"]) == ("succeeded", 2, 2 * STEPS)
    assert status["mlflow_run_id"] == trained.training.mlflow_run_id


@slow
def test_stalled_gang_is_reported_with_the_stack_of_each_worker(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("hang"), resources__stall_timeout_s=5))
    assert "all workers are alive, but none of them completed a step for " in str(error)
    assert error.detail is not None
    of_0, of_1 = error.detail.split("worker 1:\n")
    assert "network.py" in of_1
    assert "in _fail" in of_1
    assert "in _fail" not in of_0
    assert _history(home, "failed")[0]["kind"] == "stalled"


@slow
def test_early_exit_with_code_0_is_a_failure(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("leave")))
    assert str(error).startswith("train: worker 1 ended with exit code 0 before the end of the training; its log is ")
    assert error.detail is not None
    assert error.detail.endswith("about to leave")


@slow
def test_memory_error_of_python_is_reported(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("memory", rank=0), resources__workers=1))
    assert str(error).startswith("train.global_batch_size: a worker ran out of memory")
    assert error.detail is not None
    assert error.detail.rstrip().endswith("MemoryError")


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """Create a control group with 128 MB of memory."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    root, limit = ("/sys/fs/cgroup", "memory.max") if "memory" not in paths else ("/sys/fs/cgroup/memory", "")
    place = Path(root + paths.get("memory", paths.get("", "/"))) / f"farandole-{os.getpid()}"
    try:
        place.mkdir()
        (place / (limit or "memory.limit_in_bytes")).write_text(str(128 * 2**20))
    except OSError as error:
        pytest.skip(f"control groups cannot be created here: {error}")
    try:
        yield place
    finally:
        place.rmdir()


@slow
def test_out_of_memory_kill_is_reported_with_evidence(home: Path, make_job: MakeJob, memory_group: Path) -> None:
    error = _failure(make_job(model=_failing("group", rank=0, group=str(memory_group)), resources__workers=1))
    assert str(error).startswith("train: worker 0 was killed by the kernel because memory ran out (")
    assert f"{memory_group}/memory." in str(error)
    assert "oom_kill rose from 0 to 1); use a smaller batch or model" in str(error)
    assert _history(home, "failed")[0]["kind"] == "out_of_memory"


@slow
def test_failure_that_repeats_at_one_step_is_final(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("raise", rank=0), resources__workers=1, resources__max_restarts=9))
    assert isinstance(error, TrainingError)
    assert str(error).startswith("ValueError: the third step is too much in ")
    assert str(error).endswith("; it failed 2 times in the same way after step 2, so no further attempt is made")
    assert len(_history(home, "started")) == 2
    assert _status(home)["state"] == "failed"
    assert _status(home)["reason"] == str(error)


# Hosts and sizes --------------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=65)
def test_next_gang_uses_the_slots_that_are_available(
    home: Path, make_job: MakeJob, marks: Path, tmp_path: Path
) -> None:
    script = tmp_path / "discover"
    script.write_text(
        f"#!/bin/sh\nif [ $(ls {marks} | wc -l) = 1 ]; then echo localhost:2; else echo localhost:3; fi\n"
    )
    script.chmod(0o755)
    job = make_job(
        model=_failing("kill", step=STEPS + 3, marks=str(marks), times=2),
        train__epochs=3,
        resources={
            "workers": 3, "min_workers": 2, "cpus": 1, "max_restarts": 2, "hosts": {"script": str(script)},
        },
    )  # fmt: skip
    events: list[Event] = []
    trained = train(job, events.append)
    assert [(event["workers"], event["hosts"]) for event in _history(home, "started")] == [
        (3, ["localhost:3"]),
        (2, ["localhost:2"]),
        (3, ["localhost:3"]),
    ]
    assert trained.training.workers == 3
    assert trained.training.steps == 3 * STEPS
    assert [recovery["from_step"] for recovery in trained.training.recoveries] == [STEPS, 2 * STEPS]
    assert "1 worker of 3 cannot start: no free slot; hosts answering: localhost:2" in [
        event.text for event in events if isinstance(event, Message)
    ]


@pytest.mark.slow(seconds=65)
def test_running_job_grows_and_shrinks_on_request(home: Path, make_job: MakeJob, marks: Path) -> None:
    options = {"marks": str(marks), "step_s": 0.1}
    job = make_job(
        model={"builder": "network:build_slow", "options": options},
        train__epochs=12,
        resources={"workers": 1, "cpus": 1},
    )
    wanted = {1: 2, 5: 1}

    def on_event(event: Event) -> None:
        epochs = [number for number in wanted if str(event).startswith(f"epoch {number} of 12: validation")]
        if epochs:
            (directory,) = (home / "jobs").iterdir()
            scale(directory.name, wanted.pop(epochs[0]))

    trained = train(job, on_event)
    assert [event["workers"] for event in _history(home, "started")] == [1, 2, 1]
    assert [(event["workers"], event["to"]) for event in _history(home, "scaled")] == [(1, 2), (2, 1)]
    assert not _history(home, "failed")
    assert trained.training.attempts == 3
    assert trained.training.steps == 12 * STEPS
    assert trained.training.recoveries == []
