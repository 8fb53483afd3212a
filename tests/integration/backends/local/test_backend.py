"""The backend `local` as its callers see it, with jobs that run a line of shell."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from farandole.backends.local.backend import LocalBackend
from farandole.errors import SpecError, UnavailableError
from farandole.spec import parse_job
from tests.support.queued import (
    MakeBackend,
    only_runner,
    others_of,
    shell_job,
    wait_for_end,
    wait_for_state,
    wait_until,
)


def test_submitted_job_is_stored_with_its_spec_before_submit_returns(local: MakeBackend, farandole_home: Path) -> None:
    backend = local()
    job = shell_job()
    submitted = backend.submit(job)
    assert submitted.to_dict() == {"id": submitted.id, "backend": "local", "mlflow_run_id": None}
    assert submitted.id.startswith("tiny-2")
    text = (farandole_home / "jobs" / submitted.id / "job.json").read_text()
    assert parse_job(json.loads(text)) == job
    wait_for_state(backend, submitted.id, "succeeded")
    status = backend.status(submitted.id)
    assert (status.name, status.reason, status.attempt) == ("tiny", "completed", 0)
    assert status.submitted_at <= status.since


def test_jobs_are_listed_newest_first(local: MakeBackend) -> None:
    backend = local()
    ids = [backend.submit(shell_job()).id for _ in range(3)]
    assert [job.id for job in backend.list()] == ids[::-1]


def test_waiting_job_with_the_highest_priority_starts_first(local: MakeBackend, tmp_path: Path) -> None:
    line = f"until [ -e {tmp_path}/go ]; do sleep 0.1; done; echo ${{FARANDOLE_GANG##*/}} >> {tmp_path}/order"
    backend = local(line)
    first = backend.submit(shell_job()).id
    wait_for_state(backend, first, "running")
    low, high = (backend.submit(shell_job(backend={"priority": priority})).id for priority in (1, 9))
    assert backend.status(low).reason == f"waits: 1 job ahead of it; 1 of 1 slot taken, by {first}"
    assert backend.status(high).reason == f"waits: it is next; 1 of 1 slot taken, by {first}"
    (tmp_path / "go").touch()
    wait_for_state(backend, low, "succeeded")
    assert (tmp_path / "order").read_text().split() == [first, high, low]


def test_cancel_ends_a_job_and_everything_that_it_started(
    local: MakeBackend, farandole_home: Path, tmp_path: Path
) -> None:
    backend = local(f"trap 'touch {tmp_path}/saved; exit 143' TERM; setsid sleep 600 & touch {tmp_path}/began; wait")
    running, waiting = (backend.submit(shell_job()).id for _ in range(2))
    wait_until((tmp_path / "began").exists)
    backend.cancel(waiting)
    backend.cancel(running)
    assert not others_of(farandole_home)
    assert (tmp_path / "saved").exists()
    assert [job.reason for job in backend.list()] == ["cancelled while it waited", "cancelled while it ran"]
    assert [job.state for job in backend.list()] == ["cancelled"] * 2
    backend.cancel(running)  # a job that has ended keeps its state
    assert backend.status(running).state == "cancelled"


def test_job_that_ignores_sigterm_is_killed_after_its_stop_timeout(
    local: MakeBackend, farandole_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farandole.backends.local.backend.GRACE_S", 0.5)
    backend = local(f"trap '' TERM; touch {tmp_path}/began; while true; do sleep 1; done")
    submitted = backend.submit(shell_job())
    wait_until((tmp_path / "began").exists)
    monkeypatch.undo()
    monkeypatch.setenv("FARANDOLE_HOME", str(farandole_home))
    backend.cancel(submitted.id)
    assert backend.status(submitted.id).state == "cancelled"


def test_job_with_a_stopped_runner_can_be_cancelled(
    local: MakeBackend, farandole_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farandole.backends.local.backend.GRACE_S", 0.5)
    backend = local("sleep 600")
    submitted = backend.submit(shell_job())
    wait_for_state(backend, submitted.id, "running")
    runner = only_runner(farandole_home)
    runner.send_signal(signal.SIGSTOP)
    backend.cancel(submitted.id)
    assert backend.status(submitted.id).state == "cancelled"
    wait_for_end(runner.pid)


def test_impossible_requests_are_rejected_with_a_remedy(local: MakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = local()
    submitted = backend.submit(shell_job())
    wait_for_state(backend, submitted.id, "succeeded")
    with pytest.raises(SpecError, match=f"{submitted.id}: has succeeded; only a job that failed or was cancelled"):
        backend.retry(submitted.id)
    with pytest.raises(SpecError, match=rf"did you mean {submitted.id}\?"):
        backend.status(submitted.id[:-1])
    monkeypatch.setenv("FARANDOLE_SLOTS", "many")
    with pytest.raises(SpecError, match="FARANDOLE_SLOTS: many: the number of jobs that run at once; use"):
        backend.submit(shell_job())


def test_home_that_cannot_be_written_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / "file"))
    with pytest.raises(UnavailableError, match=r"file/jobs\.db: cannot be used .* or set FARANDOLE_HOME"):
        LocalBackend().submit(shell_job())


def test_number_of_slots_is_kept_until_it_is_set_again(local: MakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_SLOTS", "3")
    first = local("sleep 600").submit(shell_job())
    monkeypatch.delenv("FARANDOLE_SLOTS")
    backend = local("sleep 600")
    others = [backend.submit(shell_job()).id for _ in range(3)]
    wait_for_state(backend, others[1], "running")
    assert "3 of 3 slots taken" in backend.status(others[2]).reason
    assert backend.status(first.id).state == "running"


def test_backend_of_another_name_has_its_own_pool(local: MakeBackend) -> None:
    class Elsewhere(LocalBackend):
        name = "hosts"

        def check(self, job: object) -> list[str]:
            return self.problems

        problems: list[str] = []  # noqa: RUF012 - of the one instance

    backend, other = local("sleep 600"), Elsewhere(command=["/bin/sh", "-c", "true"])
    here, there = backend.submit(shell_job()).id, other.submit(shell_job()).id
    wait_until(lambda: other.status(there).state == "succeeded")
    assert other.status(there).backend == "hosts"
    assert [job.id for job in backend.list()] == [here]
    with pytest.raises(SpecError, match="the backend local has no such job"):
        backend.status(there)
    other.problems = ["resources.hosts: there are none; name some", "node1: no answer"]
    with pytest.raises(SpecError, match="name some\nnode1: no answer"):
        other.submit(shell_job())
