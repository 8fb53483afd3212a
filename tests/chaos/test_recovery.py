"""Gangs that break in every way that processes know, and what becomes of their jobs. All processes are real."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import FarandoleError, SpecError, TrainingError, UnavailableError
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
    place = tmp_path / "marks"
    place.mkdir()
    return place


# How attempts end -------------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=40)
def test_a_frozen_worker_is_found_and_its_gang_starts_again(home: Path, make_job: MakeJob, marks: Path) -> None:
    job = make_job(
        model=_failing("freeze", step=STEPS + 3, marks=str(marks)),
        resources__max_restarts=1,
        resources__heartbeat_timeout_s=8,
    )
    trained = train(job)
    assert trained.training.attempts == 2
    (failed,) = _history(home, "failed")
    assert (failed["kind"], failed["rank"], failed["victims"]) == ("frozen", 1, [0])
    assert failed["message"].startswith("train: worker 1 gave no sign of life for ")
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
def test_a_gang_that_stands_still_is_told_with_the_place_where_each_worker_stood(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("hang"), resources__stall_timeout_s=5))
    assert "all workers live and none made a step for " in str(error)
    assert error.detail is not None
    of_0, of_1 = error.detail.split("worker 1:\n")
    assert "network.py" in of_1
    assert "in _fail" in of_1
    assert "in _fail" not in of_0
    assert _history(home, "failed")[0]["kind"] == "stalled"


@slow
def test_a_worker_that_leaves_with_exit_code_0_does_not_pass_for_a_success(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("leave")))
    assert str(error).startswith("train: worker 1 ended with exit code 0 before the training's end; its log is ")
    assert error.detail is not None
    assert error.detail.endswith("about to leave")


@slow
def test_memory_that_python_cannot_get_is_told_as_such(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("memory", rank=0), resources__workers=1))
    assert str(error).startswith("train.global_batch_size: a worker ran out of memory")
    assert error.detail is not None
    assert error.detail.rstrip().endswith("MemoryError")


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group with 128 MB of memory, beside this process's own."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    root, limit = ("/sys/fs/cgroup", "memory.max") if "memory" not in paths else ("/sys/fs/cgroup/memory", "")
    place = Path(root + paths.get("memory", paths.get("", "/"))) / f"farandole-{os.getpid()}"
    try:
        place.mkdir()
        (place / (limit or "memory.limit_in_bytes")).write_text(str(128 * 2**20))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield place
    finally:
        place.rmdir()


@slow
def test_a_worker_that_the_kernel_killed_for_want_of_memory_is_told_with_the_evidence(
    home: Path, make_job: MakeJob, memory_group: Path
) -> None:
    error = _failure(make_job(model=_failing("group", rank=0, group=str(memory_group)), resources__workers=1))
    assert str(error).startswith("train: worker 0 was killed by the kernel because memory ran out (")
    assert f"{memory_group}/memory." in str(error)
    assert "oom_kill rose from 0 to 1); use a smaller batch or model" in str(error)
    assert _history(home, "failed")[0]["kind"] == "out_of_memory"


@slow
def test_a_failure_that_repeats_at_one_step_ends_with_the_diagnosis(home: Path, make_job: MakeJob) -> None:
    error = _failure(make_job(model=_failing("raise", rank=0), resources__workers=1, resources__max_restarts=9))
    assert isinstance(error, TrainingError)
    assert str(error).startswith("ValueError: the third step is too much in ")
    assert str(error).endswith("; it failed 3 times in the same way after step 2, so no further attempt is made")
    assert len(_history(home, "started")) == 3
    assert _status(home)["state"] == "failed"
    assert _status(home)["reason"] == str(error)


# Hosts and sizes --------------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=65)
def test_the_next_gang_has_the_size_that_the_hosts_have_room_for(
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
    told: list[Event] = []
    trained = train(job, told.append)
    assert [(event["workers"], event["hosts"]) for event in _history(home, "started")] == [
        (3, ["localhost:3"]),
        (2, ["localhost:2"]),
        (3, ["localhost:3"]),
    ]
    assert trained.training.workers == 3
    assert trained.training.steps == 3 * STEPS
    assert [recovery["from_step"] for recovery in trained.training.recoveries] == [STEPS, 2 * STEPS]
    assert "1 worker of 3 have no place; hosts answering: localhost:2" in [
        event.text for event in told if isinstance(event, Message)
    ]


def test_too_few_hosts_for_too_long_are_what_the_environment_lacks(
    home: Path, make_job: MakeJob, tmp_path: Path
) -> None:
    script = tmp_path / "discover"
    script.write_text("#!/bin/sh\necho localhost:1\n")
    script.chmod(0o755)
    job = make_job(resources={"workers": 3, "min_workers": 2, "wait_s": 1.5, "hosts": {"script": str(script)}})
    error = _failure(job)
    assert isinstance(error, UnavailableError)
    assert str(error).startswith("resources.hosts: there is room for 1 of at least 2 workers (resources.min_workers)")
    assert "hosts answering: localhost:1; mend the hosts, or ask for fewer workers" in str(error)
    assert _status(home)["state"] == "failed"
    assert not list(home.glob("jobs/*/logs"))


@pytest.mark.slow(seconds=65)
def test_a_running_job_grows_and_shrinks_on_request(home: Path, make_job: MakeJob, marks: Path) -> None:
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


def test_a_size_that_cannot_be_is_refused(home: Path, make_job: MakeJob) -> None:
    job = make_job(resources={"workers": 4, "min_workers": 2})
    directory = home / "jobs" / "small-20260101-000000-abcd"
    with pytest.raises(SpecError, match=r"small-2026: there is no such job here; the jobs are the folders of "):
        scale("small-2026", 2)
    directory.mkdir(parents=True)
    (directory / "job.json").write_text(job.model_dump_json())
    with pytest.raises(SpecError, match=rf"there is no such job here; did you mean {directory.name}\?"):
        scale(directory.name[:-1] + "e", 2)
    with pytest.raises(SpecError, match=r"1 workers are fewer than resources\.min_workers, 2; ask for at least 2"):
        scale(directory.name, 1)
    with pytest.raises(SpecError, match=rf"65 workers are more than the {BATCH_ROWS} rows of a global batch"):
        scale(directory.name, BATCH_ROWS + 1)
    with pytest.raises(SpecError, match=r"only a running job changes its size, and it is not training"):
        scale(directory.name, 3)
    for state, said in (("running", "its supervisor has died"), ("succeeded", "it is succeeded")):
        (directory / "status.json").write_text(json.dumps({"state": state}))
        with pytest.raises(SpecError, match=f"and {said}; use `farandole train --resume`"):
            scale(directory.name, 3)
    assert not (directory / "scale.json").exists()
