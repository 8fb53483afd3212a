"""Jobs that were started in the foreground and continue in the queue."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from farandole import api
from farandole.backends.local.queue import Queue
from farandole.backends.records import JobRecord
from farandole.errors import SpecError
from farandole.jobdir.foreground import foreground_job
from farandole.jobdir.locks import is_foreground_job
from tests.support.queued import MakeBackend, shell_job, wait_for_state


@pytest.fixture
def interrupted() -> Path:
    """Return the directory of a job in the foreground that was interrupted."""
    with suppress(KeyboardInterrupt), foreground_job(shell_job(), print) as here:
        raise KeyboardInterrupt
    return here.directory


def test_retried_job_runs_in_the_queue_under_its_id(local: MakeBackend, interrupted: Path) -> None:
    backend = local("echo continued")
    assert backend.adopt(interrupted).id == interrupted.name
    wait_for_state(backend, interrupted.name, "succeeded")
    assert [(job.id, job.backend) for job in api.jobs()] == [(interrupted.name, "local")]
    assert "continued" in list(api.logs(interrupted.name))
    with pytest.raises(SpecError, match=f"{interrupted.name}: has succeeded; only a job that failed"):
        api.retry(interrupted.name)


def test_retry_that_was_killed_after_it_queued_the_job_is_completed_by_the_next_one(
    local: MakeBackend, interrupted: Path, farandole_home: Path
) -> None:
    backend = local("sleep 600")
    blocker = backend.submit(shell_job()).id
    wait_for_state(backend, blocker, "running")
    Queue(farandole_home).submit(JobRecord(interrupted.name, "tiny", "local"), interrupted, ["/bin/true"])
    with pytest.raises(SpecError, match=f"{interrupted.name}: was submitted, .*; use `farandole retry"):
        api._directory_to_resume(shell_job(), interrupted.name)
    with pytest.raises(SpecError, match="was submitted"):
        api._directory_to_resume(shell_job(), True)
    assert api.retry(interrupted.name).backend == "local"
    assert not is_foreground_job(interrupted)
    assert sorted(job.id for job in api.jobs()) == sorted([blocker, interrupted.name])


@pytest.mark.parametrize("state", ["running", "queued"])
def test_submitted_job_is_not_resumed_and_stays_as_it_is(local: MakeBackend, state: str) -> None:
    backend = local("sleep 600")
    ids = [backend.submit(shell_job("blocker")).id] if state == "queued" else []
    job = shell_job(train={"epochs": 7})
    ids.append(backend.submit(shell_job()).id)
    wait_for_state(backend, ids[0], "running")
    directory = Path(backend.status(ids[-1]).details["directory"])
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    for resume in (True, ids[-1]):
        with pytest.raises(SpecError, match=f"{ids[-1]}: was submitted, .*; use `farandole retry {ids[-1]}`"):
            api._directory_to_resume(job, resume)
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()} == before
    newest = api.jobs()[0]
    assert (newest.id, newest.state) == (ids[-1], state)


def test_cancel_ends_a_job_and_kills_one_that_ignores_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import signal, time; from farandole.jobdir.foreground import foreground_job\n"
    code += "from tests.support.queued import shell_job\n"
    code += "with foreground_job(shell_job(), print) as here:\n"
    code += "    signal.signal(signal.SIGTERM, signal.SIG_IGN); print(here.directory.name, flush=True); time.sleep(600)"
    monkeypatch.setattr("farandole.backends.foreground.backend.GRACE_S", 0.5)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        assert api.cancel(job_id).reason == f"its process {process.pid} was killed"
        assert process.wait() == -signal.SIGKILL
