"""Diagnosis of failed attempts from the messages of their gangs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from farandole.errors import JobFailedError, ModelError
from farandole.launch import failure
from farandole.launch.attempt import PEER_LOST, Attempt
from farandole.launch.failure import Failure, diagnose
from farandole.launch.health import HealthProblem
from farandole.launch.hosts import Host
from farandole.process.messages import Exited, Failed, Started, Stopped, WorkerMessage


def _attempt(*messages: WorkerMessage) -> Attempt:
    attempt = Attempt(1, (Host("localhost", 3),))
    for rank in range(3):
        attempt.apply(Started(rank, 100 + rank), 0.0)
    for message in messages:
        attempt.apply(message, 0.0)
    return attempt


def _failed(rank: int, time_s: float, kind: str, message: str, step: int | None = None) -> Failed:
    return Failed(rank, time_s, kind, message, f"{message}: evidence", step)


def _lost_peer(rank: int, time_s: float, step: int | None = None) -> Failed:
    return _failed(rank, time_s, PEER_LOST, "another rank ended", step)


def _diagnose(logs: Path, *messages: WorkerMessage, problem: HealthProblem | None = None) -> Failure:
    return diagnose(_attempt(*messages), logs, problem, 1)


def test_first_error_is_the_cause_and_workers_that_lost_a_peer_are_victims(tmp_path: Path) -> None:
    found = _diagnose(
        tmp_path,
        _lost_peer(0, 1.0, 41),
        _failed(2, 3.0, "ModelError", "late"),
        _failed(1, 2.0, "ModelError", "early", 41),
        Exited(0, 4.0, code=1),
        Exited(1, 4.0, code=1),
    )
    assert isinstance(found.error, ModelError)
    assert (str(found.error), found.error.detail) == ("early", "early: evidence")
    assert (found.kind, found.rank, found.victims, found.step, found.is_step_exact) == ("raised", 1, (0,), 41, True)


def test_silent_exit_is_reported_although_a_victim_has_a_lower_rank(tmp_path: Path) -> None:
    found = _diagnose(tmp_path, _lost_peer(0, 1.2, 7), Exited(1, 1.0, signal=11), Exited(0, 1.3, code=1))
    assert str(found.error).startswith("train: worker 1 was killed by signal 11, SIGSEGV; its log")
    assert (found.kind, found.rank, found.victims, found.step) == ("killed", 1, (0,), 7)


def test_error_after_a_silent_exit_is_a_consequence(tmp_path: Path) -> None:
    found = _diagnose(tmp_path, Exited(1, 1.0, signal=9), _failed(0, 1.5, "TrainingError", "queue is closed"))
    assert (found.kind, found.rank) == ("killed", 1)


def test_victim_that_crashed_remains_a_victim(tmp_path: Path) -> None:
    found = _diagnose(tmp_path, Exited(2, 1.0, code=7), Exited(0, 1.1, signal=6), _lost_peer(1, 1.1))
    assert str(found.error).startswith("train: worker 2 ended with exit code 7; its log is ")
    assert (found.kind, found.victims) == ("exited", (1,))


def test_early_exit_with_code_0_is_a_failure(tmp_path: Path) -> None:
    found = _diagnose(tmp_path, Exited(1, 1.0, code=0), _lost_peer(0, 1.1), Exited(0, 1.2, code=1))
    assert "worker 1 ended with exit code 0 before the end of the training" in str(found.error)


def test_detail_is_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "rank-1.log").write_text("".join(f"line {number}\n" for number in range(100)))
    found = _diagnose(tmp_path, Exited(1, 1.0, code=7))
    assert found.error.detail is not None
    assert found.error.detail.splitlines() == [f"line {number}" for number in range(80, 100)]


def test_frozen_worker_is_reported_instead_of_the_signal_that_killed_it(tmp_path: Path) -> None:
    found = _diagnose(tmp_path, Exited(1, 9.0, signal=9), _lost_peer(0, 9.1), problem=HealthProblem("frozen", 1, 15.2))
    assert str(found.error).startswith("train: worker 1 sent no heartbeat for 15 s (resources.heartbeat_timeout_s)")
    assert (found.kind, found.rank, found.victims) == ("frozen", 1, (0,))


def test_gang_that_never_connected_names_the_workers_that_started(tmp_path: Path) -> None:
    found = _diagnose(tmp_path, problem=HealthProblem("unmet", None, 120))
    assert (
        "the 3 workers did not connect to each other within 120 s (resources.meet_timeout_s); started: 0, 1, 2"
        in str(found.error)
    )


def test_failure_of_the_launcher_alone_is_reported_with_its_output(tmp_path: Path) -> None:
    attempt = Attempt(1, launcher_output=["no route to host"])
    found = diagnose(attempt, tmp_path, None, 1)
    assert isinstance(found.error, JobFailedError)
    assert str(found.error) == f"train: Horovod's launcher ended with exit code 1 and without a result; see {tmp_path}"
    assert found.error.detail == "no route to host"


def test_stop_by_another_process_is_reported(tmp_path: Path) -> None:
    found = _diagnose(tmp_path, Stopped(12), Exited(0, 1.0, code=0), Exited(1, 1.0, code=0))
    assert (found.kind, str(found.error)) == (
        "stopped",
        "train: the workers were asked to stop by another process; step 12 is saved",
    )


def test_out_of_memory_is_only_reported_with_evidence(tmp_path: Path) -> None:
    count = tmp_path / "memory.events"
    count.write_text("oom 0\noom_kill 3\n")
    attempt = _attempt(Exited(1, 1.0, signal=9))
    assert diagnose(attempt, tmp_path, None, 1).kind == "killed"
    attempt.oom.by_rank[1], attempt.oom.first[count] = count, 3
    without = diagnose(attempt, tmp_path, None, 1)
    assert without.kind == "killed"
    assert "(the kernel does this when memory runs out: use a smaller batch, or fewer workers)" in str(without.error)
    count.write_text("oom 1\noom_kill 4\n")
    found = diagnose(attempt, tmp_path, None, 1)
    assert found.kind == "out_of_memory"
    assert f"killed by the kernel because memory ran out ({count}: oom_kill rose from 3 to 4)" in str(found.error)


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (Exited(0, 0.0, 1), "ended with exit code 1"),
        (Exited(0, 0.0, None, 6), "was killed by signal 6, SIGABRT"),
        (
            Exited(0, 0.0, None, signal.SIGKILL),
            "was killed by signal 9, SIGKILL (the kernel does this when memory runs",
        ),
        (Exited(0, 0.0, None, 120), "was killed by signal 120, unknown"),
    ],
)
def test_exit_is_described(end: Exited, text: str) -> None:
    assert failure._describe_exit(end).startswith(text)


def test_lost_host_is_reported_although_other_workers_were_killed(tmp_path: Path) -> None:
    lost = Exited(1, 1.0, host="node2", lost="it was silent for 8 s (resources.heartbeat_timeout_s)")
    attempt = _attempt(lost)
    assert attempt.has_lost_host
    found = _diagnose(tmp_path, lost, Exited(0, 1.5, signal=9), Exited(2, 1.5, signal=9))
    assert (found.kind, found.rank, found.victims) == ("lost", 1, ())
    assert str(found.error).startswith("train: host node2 is lost, and worker 1 with it: it was silent for 8 s")
