"""The Python API around submitted jobs, with real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from farandole import api
from farandole.errors import ModelError, SpecError
from farandole.spec import Job
from tests.support.queued import MakeBackend, shell_job

MakeJob = Callable[..., Job]


def test_submitted_job_is_found_by_its_id_alone(home: Path, make_job: MakeJob) -> None:
    job = make_job(backend={"use": "local", "priority": 3})
    submitted = api.submit(job)
    lines = api.logs(submitted.id, follow=True)
    next(lines)  # it runs
    status = api.cancel(submitted.id)
    assert (status.state, status.name, status.priority) == ("cancelled", "small", 3)
    assert api.status(submitted.id) == status
    assert [found.id for found in api.jobs()] == [found.id for found in api.jobs(backend="local")] == [submitted.id]
    assert list(lines)[-1].endswith("cancelled: cancelled while it ran")
    assert api.retry(submitted.id).id == submitted.id
    assert api.cancel(submitted.id, backend="local").state == "cancelled"


def test_job_that_cannot_run_is_rejected(home: Path, make_job: MakeJob) -> None:
    with pytest.raises(ModelError, match="there is no module nowhere"):
        api.submit(make_job(model={"builder": "nowhere:build", "options": {}}))
    with pytest.raises(SpecError, match=r"--backend: lokal: there is no such backend; did you mean local\?"):
        api.jobs(backend="lokal")


def test_waiting_job_is_not_scaled(local: MakeBackend) -> None:
    backend = local("sleep 600")
    job_id = backend.submit(shell_job()).id
    with pytest.raises(SpecError, match=f"{job_id}: only a running job changes its size"):
        api.scale(job_id, 1)
    with pytest.raises(SpecError, match="nowhere-1: no job with this id was run or submitted here"):
        api.scale("nowhere-1", 1)
