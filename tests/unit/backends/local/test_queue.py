"""The queue by itself: transitions, order, and what becomes of jobs whose runner has died."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farandole.backends.local.queue import Queue
from farandole.backends.records import JobRecord
from farandole.errors import SpecError
from farandole.jobdir.locks import try_lock_job


@pytest.fixture
def queue(farandole_home: Path) -> Queue:
    return Queue(farandole_home)


def _add(queue: Queue, job_id: str, priority: int = 0, lane: str = "local") -> None:
    directory = queue.home / "jobs" / job_id
    directory.mkdir(parents=True)
    queue.submit(JobRecord(job_id, "tiny", lane), directory, ["true"], priority=priority)


def _state(queue: Queue, job_id: str) -> tuple[str, str]:
    entry = queue.find(job_id)
    assert entry is not None
    return entry.state, entry.reason


def test_the_highest_priority_goes_first_and_then_who_came_first(queue: Queue) -> None:
    for job_id, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)):
        _add(queue, job_id, priority)
    order = []
    while claimed := queue.claim("local"):
        entry, hold = claimed
        assert (entry.state, entry.starts, entry.pid) == ("running", 1, os.getpid())
        order.append(entry.id)
        queue.end(entry, "succeeded", "reached its end")
        hold.release()
    assert order == ["b", "d", "a", "c", "e"]


def test_no_more_jobs_run_than_there_are_slots_in_a_lane(queue: Queue) -> None:
    for job_id in "abc":
        _add(queue, job_id)
    _add(queue, "elsewhere", lane="hosts")
    first = queue.claim("local")
    assert first is not None
    assert queue.claim("local") is None
    queue.set_slots("local", 2)
    second = queue.claim("local")
    assert second is not None
    assert queue.claim("local") is None
    other = queue.claim("hosts")
    assert other is not None
    waiting = queue.find("c")
    assert waiting is not None
    place = queue.place(waiting)
    assert (place.before, place.running, place.slots) == (0, ("a", "b"), 2)
    for _, hold in (first, second, other):
        hold.release()


def test_a_job_that_waits_is_cancelled_at_once_and_one_that_runs_is_asked(queue: Queue) -> None:
    for job_id in "ab":
        _add(queue, job_id)
    claimed = queue.claim("local")
    assert claimed is not None
    for job_id in "ab":
        queue.request_cancel(job_id)
    assert _state(queue, "a")[0] == "running"
    assert queue.is_cancel_requested("a")
    assert _state(queue, "b") == ("cancelled", "cancelled while it waited")
    claimed[1].release()


def test_only_what_failed_or_was_cancelled_is_tried_again_and_goes_to_the_end(queue: Queue) -> None:
    for job_id in "ab":
        _add(queue, job_id)
    queue.request_cancel("a")
    queue.retry("a")
    with pytest.raises(SpecError, match="a: has not ended; only a job that failed or was cancelled is tried again"):
        queue.retry("a")
    claimed = queue.claim("local")
    assert claimed is not None
    entry, hold = claimed
    assert entry.id == "b"
    queue.end(entry, "succeeded", "reached its end")
    hold.release()
    with pytest.raises(SpecError, match="b: has succeeded; "):
        queue.retry("b")


def test_a_job_whose_runner_has_died_has_failed_and_says_so(queue: Queue) -> None:
    _add(queue, "a")
    claimed = queue.claim("local")
    assert claimed is not None
    queue.reconcile()
    assert _state(queue, "a")[0] == "running"  # somebody holds it
    claimed[1].release()  # as the kernel does when a process dies
    queue.reconcile()
    state, reason = _state(queue, "a")
    assert state == "failed"
    assert reason == (
        f"its runner, process {os.getpid()}, was killed; `farandole retry a` goes on from its last checkpoint"
    )


def test_after_a_restart_of_the_machine_that_is_the_reason(queue: Queue) -> None:
    _add(queue, "a")
    claimed = queue.claim("local")
    assert claimed is not None
    with queue.records.transaction() as db:
        db.execute("UPDATE queue SET boot = 'another'")
    claimed[1].release()
    queue.reconcile()
    assert _state(queue, "a")[1].startswith("the machine was restarted while it ran; ")


def test_a_job_that_was_being_cancelled_when_its_runner_died_is_cancelled(queue: Queue) -> None:
    _add(queue, "a")
    claimed = queue.claim("local")
    assert claimed is not None
    queue.request_cancel("a")
    claimed[1].release()
    queue.reconcile()
    assert _state(queue, "a")[0] == "cancelled"


def test_a_job_whose_directory_is_gone_does_not_stop_the_queue(queue: Queue) -> None:
    for job_id in "ab":
        _add(queue, job_id)
    (queue.home / "jobs" / "a").rmdir()
    claimed = queue.claim("local")
    assert claimed is not None
    assert claimed[0].id == "b"
    assert _state(queue, "a") == ("failed", f"its directory {queue.home / 'jobs' / 'a'} is gone")
    claimed[1].release()
    (queue.home / "jobs" / "b" / "runner.lock").unlink()
    (queue.home / "jobs" / "b").rmdir()
    queue.reconcile()
    assert _state(queue, "b")[1].startswith(f"its directory {queue.home / 'jobs' / 'b'} was removed while it ran; ")


def test_what_another_process_has_in_hand_is_not_started(queue: Queue) -> None:
    for job_id in "ab":
        _add(queue, job_id)
    hold = try_lock_job(queue.home / "jobs" / "a")
    assert hold is not None
    claimed = queue.claim("local")
    assert claimed is not None
    assert claimed[0].id == "b"
    hold.release()
    claimed[1].release()
