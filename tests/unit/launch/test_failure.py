"""Why an attempt failed, from what was heard of it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import JobFailedError, ModelError
from farandole.launch import failure
from farandole.launch.attempt import Attempt, WorkerExit
from farandole.launch.failure import Failure, diagnose
from farandole.launch.health import HealthProblem
from farandole.launch.hosts import Host


def _attempt(*messages: dict[str, Any]) -> Attempt:
    attempt = Attempt(1, (Host("localhost", 3),))
    for rank in range(3):
        attempt.hear({"event": "started", "rank": rank, "pid": 100 + rank}, 0.0)
    for message in messages:
        attempt.hear(message, 0.0)
    return attempt


def _failed(rank: int, time_s: float, kind: str, message: str, step: int | None = None) -> dict[str, Any]:
    said = {"event": "failed", "rank": rank, "time_s": time_s, "kind": kind, "message": message, "step": step}
    return {**said, "detail": f"{message}: evidence"}


def _lost(rank: int, time_s: float, step: int | None = None) -> dict[str, Any]:
    return _failed(rank, time_s, "PeerLost", "another rank ended", step)


def _exited(rank: int, time_s: float, **how: int) -> dict[str, Any]:
    return {"event": "exited", "rank": rank, "time_s": time_s, **how}


def _cause(logs: Path, *messages: dict[str, Any], trouble: HealthProblem | None = None) -> Failure:
    return diagnose(_attempt(*messages), logs, trouble, 1)


def test_the_first_to_fail_is_the_cause_and_those_that_lost_a_peer_are_its_victims(tmp_path: Path) -> None:
    found = _cause(
        tmp_path,
        _lost(0, 1.0, 41),
        _failed(2, 3.0, "ModelError", "late"),
        _failed(1, 2.0, "ModelError", "early", 41),
        _exited(0, 4.0, code=1),
        _exited(1, 4.0, code=1),
    )
    assert isinstance(found.error, ModelError)
    assert (str(found.error), found.error.detail) == ("early", "early: evidence")
    assert (found.kind, found.rank, found.victims, found.step, found.exact) == ("raised", 1, (0,), 41, True)


def test_a_silent_end_is_told_though_a_victim_has_the_lower_rank(tmp_path: Path) -> None:
    found = _cause(tmp_path, _lost(0, 1.2, 7), _exited(1, 1.0, signal=11), _exited(0, 1.3, code=1))
    assert str(found.error).startswith("train: worker 1 was killed by signal 11, SIGSEGV; its log")
    assert (found.kind, found.rank, found.victims, found.step) == ("killed", 1, (0,), 7)


def test_an_error_that_follows_from_a_silent_end_is_not_the_cause(tmp_path: Path) -> None:
    found = _cause(tmp_path, _exited(1, 1.0, signal=9), _failed(0, 1.5, "TrainingError", "queue is closed"))
    assert (found.kind, found.rank) == ("killed", 1)


def test_a_victim_that_crashed_is_not_the_cause(tmp_path: Path) -> None:
    found = _cause(tmp_path, _exited(2, 1.0, code=7), _exited(0, 1.1, signal=6), _lost(1, 1.1))
    assert str(found.error).startswith("train: worker 2 ended with exit code 7; its log is ")
    assert (found.kind, found.victims) == ("exited", (1,))


def test_a_worker_that_left_with_code_0_in_the_middle_is_the_cause(tmp_path: Path) -> None:
    found = _cause(tmp_path, _exited(1, 1.0, code=0), _lost(0, 1.1), _exited(0, 1.2, code=1))
    assert "worker 1 ended with exit code 0 before the training's end" in str(found.error)


def test_the_last_lines_of_the_log_are_the_evidence(tmp_path: Path) -> None:
    (tmp_path / "rank-1.log").write_text("".join(f"line {number}\n" for number in range(100)))
    found = _cause(tmp_path, _exited(1, 1.0, code=7))
    assert found.error.detail is not None
    assert found.error.detail.splitlines() == [f"line {number}" for number in range(80, 100)]


def test_a_frozen_worker_is_named_and_not_how_it_was_ended(tmp_path: Path) -> None:
    found = _cause(tmp_path, _exited(1, 9.0, signal=9), _lost(0, 9.1), trouble=HealthProblem("frozen", 1, 15.2))
    assert str(found.error).startswith("train: worker 1 gave no sign of life for 15 s (resources.heartbeat_timeout_s)")
    assert (found.kind, found.rank, found.victims) == ("frozen", 1, (0,))


def test_a_gang_that_never_met_says_who_began(tmp_path: Path) -> None:
    found = _cause(tmp_path, trouble=HealthProblem("unmet", None, 120))
    assert "the 3 workers did not meet within 120 s (resources.meet_timeout_s); of these began: 0, 1, 2" in str(
        found.error
    )


def test_a_launcher_that_fails_alone_is_told_with_its_own_words(tmp_path: Path) -> None:
    attempt = Attempt(1, words=["no route to host"])
    found = diagnose(attempt, tmp_path, None, 1)
    assert isinstance(found.error, JobFailedError)
    assert str(found.error) == f"train: Horovod's launcher ended with 1 and no result; see {tmp_path}"
    assert found.error.detail == "no route to host"


def test_a_stop_that_somebody_else_asked_for_is_told(tmp_path: Path) -> None:
    found = _cause(tmp_path, {"event": "stopped", "step": 12}, _exited(0, 1.0, code=0), _exited(1, 1.0, code=0))
    assert (found.kind, str(found.error)) == (
        "stopped",
        "train: somebody else asked the workers to stop; they saved their state at step 12",
    )


def test_memory_is_blamed_with_evidence_only(tmp_path: Path) -> None:
    count = tmp_path / "memory.events"
    count.write_text("oom 0\noom_kill 3\n")
    attempt = _attempt(_exited(1, 1.0, signal=9))
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
        (WorkerExit(0, 1, None, 0.0), "ended with exit code 1"),
        (WorkerExit(0, None, 6, 0.0), "was killed by signal 6, SIGABRT"),
        (
            WorkerExit(0, None, signal.SIGKILL, 0.0),
            "was killed by signal 9, SIGKILL (the kernel does this when memory runs",
        ),
        (WorkerExit(0, None, 120, 0.0), "was killed by signal 120, unknown"),
    ],
)
def test_an_end_is_put_into_words(end: WorkerExit, text: str) -> None:
    assert failure._in_words(end).startswith(text)


def test_a_lost_host_is_the_cause_though_others_were_killed_for_it(tmp_path: Path) -> None:
    lost = {**_exited(1, 1.0), "host": "node2", "lost": "it gave no sign for 8 s (resources.heartbeat_timeout_s)"}
    attempt = _attempt(lost)
    assert attempt.lost
    found = _cause(tmp_path, lost, _exited(0, 1.5, signal=9), _exited(2, 1.5, signal=9))
    assert (found.kind, found.rank, found.victims) == ("lost", 1, ())
    assert str(found.error).startswith("train: host node2 is lost, and worker 1 with it: it gave no sign for 8 s")
