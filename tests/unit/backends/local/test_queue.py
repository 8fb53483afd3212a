"""The queue by itself: transitions, order, and the end of jobs whose runner or whose parent has died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.backends.local import queue as queue_module
from farandole.backends.local.queue import Queue
from farandole.backends.records import JobRecord
from farandole.errors import SpecError
from farandole.jobdir.locks import try_lock_job
from farandole.process.identity import ProcessIdentity


@pytest.fixture
def queue(farandole_home: Path) -> Queue:
    return Queue(farandole_home)


def _add(queue: Queue, job_id: str, priority: int = 0, backend: str = "local") -> None:
    directory = queue.home / "jobs" / job_id
    directory.mkdir(parents=True)
    queue.submit(JobRecord(job_id, "tiny", backend), directory, ["true"], priority=priority)


def _state(queue: Queue, job_id: str) -> tuple[str, str]:
    entry = queue.find(job_id)
    assert entry is not None
    return entry.state, entry.reason


def test_highest_priority_starts_first_and_then_the_oldest(queue: Queue) -> None:
    for job_id, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)):
        _add(queue, job_id, priority)
    order = []
    while claimed := queue.claim("local"):
        entry, lock = claimed
        assert (entry.state, entry.starts, entry.runner) == ("running", 1, ProcessIdentity.current())
        order.append(entry.id)
        queue.finish(entry, "succeeded", "completed")
        lock.release()
    assert order == ["b", "d", "a", "c", "e"]


def test_pool_runs_no_more_jobs_than_it_has_slots(queue: Queue) -> None:
    for job_id in "abc":
        _add(queue, job_id)
    _add(queue, "elsewhere", backend="hosts")
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
    position = queue.position(waiting)
    assert (position.jobs_ahead, position.running, position.slots) == (0, ("a", "b"), 2)
    for _, lock in (first, second, other):
        lock.release()


def test_waiting_job_is_cancelled_at_once_and_a_running_one_on_request(queue: Queue) -> None:
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


def test_only_failed_and_cancelled_jobs_are_retried_and_they_go_last(queue: Queue) -> None:
    for job_id in "ab":
        _add(queue, job_id)
    queue.request_cancel("a")
    queue.retry("a")
    with pytest.raises(SpecError, match="a: has not ended; only a job that failed or was cancelled can be retried"):
        queue.retry("a")
    claimed = queue.claim("local")
    assert claimed is not None
    entry, lock = claimed
    assert entry.id == "b"
    queue.finish(entry, "succeeded", "completed")
    lock.release()
    with pytest.raises(SpecError, match="b: has succeeded; "):
        queue.retry("b")


def test_job_whose_runner_died_fails_with_a_reason(queue: Queue) -> None:
    _add(queue, "a")
    claimed = queue.claim("local")
    assert claimed is not None
    queue.reconcile()
    assert _state(queue, "a")[0] == "running"  # its lock is held
    claimed[1].release()  # as the kernel does when a process dies
    queue.reconcile()
    state, reason = _state(queue, "a")
    assert state == "failed"
    assert reason == (
        f"its runner, process {os.getpid()}, was killed; `farandole retry a` resumes it from its last checkpoint"
    )


def test_restart_of_the_machine_is_the_reason_of_a_failure(queue: Queue) -> None:
    _add(queue, "a")
    claimed = queue.claim("local")
    assert claimed is not None
    with queue.database.transaction() as db:
        db.execute("UPDATE queue SET boot = 'another'")
    claimed[1].release()
    queue.reconcile()
    assert _state(queue, "a")[1].startswith("the machine was restarted while it ran; ")


def test_job_whose_runner_died_during_its_cancellation_is_cancelled(queue: Queue) -> None:
    _add(queue, "a")
    claimed = queue.claim("local")
    assert claimed is not None
    queue.request_cancel("a")
    claimed[1].release()
    queue.reconcile()
    assert _state(queue, "a")[0] == "cancelled"


def test_job_without_its_directory_does_not_stop_the_queue(queue: Queue) -> None:
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


def test_job_that_another_process_locks_is_not_started(queue: Queue) -> None:
    for job_id in "ab":
        _add(queue, job_id)
    lock = try_lock_job(queue.home / "jobs" / "a")
    assert lock is not None
    claimed = queue.claim("local")
    assert claimed is not None
    assert claimed[0].id == "b"
    lock.release()
    claimed[1].release()


def _submit_as_sweep(queue: Queue, *job_ids: str) -> None:
    """Submit jobs from a process that ends at once: the sweep that they belong to is dead."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from farandole.backends.local.queue import Queue\n"
        "from farandole.backends.records import JobRecord\n"
        "for job_id in sys.argv[2:]:\n"
        "    directory = Path(sys.argv[1]) / 'jobs' / job_id\n"
        "    directory.mkdir(parents=True)\n"
        "    record = JobRecord(job_id, 'tiny', 'local')\n"
        "    Queue(Path(sys.argv[1])).submit(record, directory, ['true'], pool='sweep-1', parent='sweep-1')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(queue.home), *job_ids], check=True)


def test_jobs_of_a_sweep_take_the_slots_of_their_own_pool(queue: Queue) -> None:
    _add(queue, "a")
    for job_id in "bc":
        directory = queue.home / "jobs" / job_id
        directory.mkdir(parents=True)
        record = JobRecord(job_id, "tiny", "local")
        queue.submit(record, directory, ["true"], pool="sweep-1", parent="sweep-1")
    queue.set_slots("sweep-1", 2)
    claims = [queue.claim(pool) for pool in ("local", "sweep-1", "sweep-1")]
    assert [claimed[0].id for claimed in claims if claimed is not None] == ["a", "b", "c"]
    assert not any(queue.is_cancel_requested(job_id) for job_id in "abc")
    entries = queue.all("local")
    assert [(entry.id, entry.pool, entry.parent) for entry in entries] == [
        ("c", "sweep-1", "sweep-1"),
        ("b", "sweep-1", "sweep-1"),
        ("a", "local", None),
    ]
    for claimed in claims:
        assert claimed is not None
        claimed[1].release()
    queue.remove_pool("sweep-1")
    assert queue.position(entries[0]).slots == 1


def test_jobs_of_a_dead_sweep_are_cancelled_and_can_be_retried_alone(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    finalized: list[bool] = []
    monkeypatch.setattr(queue_module, "finalize_mlflow_run", lambda *_, cancelled, **__: finalized.append(cancelled))
    _submit_as_sweep(queue, "a", "b")
    with queue.database.transaction() as db:
        db.execute("UPDATE queue SET state = 'running', starts = 1 WHERE id = 'b'")
    assert queue.is_cancel_requested("b")
    queue.reconcile()
    assert _state(queue, "b")[0] == "cancelled"
    assert finalized == [True], "the MLflow run is not closed as KILLED"
    assert queue.claim("sweep-1") is None
    assert _state(queue, "a") == ("cancelled", "the sweep sweep-1 ended before it started")
    queue.retry("a")
    claimed = queue.claim("local")
    assert claimed is not None
    assert (claimed[0].id, claimed[0].parent, claimed[0].is_orphan) == ("a", "sweep-1", False)
    assert not queue.is_cancel_requested("a")
    claimed[1].release()
