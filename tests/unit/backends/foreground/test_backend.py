"""The backend `foreground` by itself: what happens to a job that the queue does not accept."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from farandole.backends.foreground.backend import ForegroundBackend
from farandole.errors import SpecError, UnavailableError
from farandole.jobdir.foreground import foreground_job
from tests.support.queued import shell_job


@pytest.fixture
def interrupted() -> Path:
    """Return the directory of a job in the foreground that was interrupted."""
    with suppress(KeyboardInterrupt), foreground_job(shell_job(), print) as here:
        raise KeyboardInterrupt
    return here.directory


def test_job_that_the_queue_does_not_accept_stays_in_the_foreground(interrupted: Path, farandole_home: Path) -> None:
    backend = ForegroundBackend()
    before = backend.status(interrupted.name)
    (farandole_home / "jobs.db").write_text("these are words\n" * 100)
    with pytest.raises(UnavailableError, match=r"jobs\.db: cannot be used"):
        backend.retry(interrupted.name)
    assert backend.list() == [backend.status(interrupted.name)] == [before]
    assert not (interrupted / "start.json").exists(), "it holds the environment, with secrets"


def test_job_whose_spec_cannot_be_read_stays_in_the_foreground(interrupted: Path) -> None:
    (interrupted / "job.json").write_text("{}")
    with pytest.raises(SpecError):
        ForegroundBackend().retry(interrupted.name)
    assert [job.id for job in ForegroundBackend().list()] == [interrupted.name]


def test_job_of_an_unknown_id_is_reported_with_the_closest_match(interrupted: Path) -> None:
    with pytest.raises(SpecError, match=f"no such job in the foreground; did you mean {interrupted.name}"):
        ForegroundBackend().status(f"{interrupted.name}x")


def test_nothing_is_submitted_to_the_foreground() -> None:
    with pytest.raises(SpecError, match="jobs are not submitted to it; use `farandole run`"):
        ForegroundBackend().submit(shell_job())
