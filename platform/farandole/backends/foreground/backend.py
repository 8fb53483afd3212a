"""The backend `foreground`: jobs that were not submitted, but run by somebody who watches them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from farandole.backends.local.backend import LocalBackend
from farandole.backends.local.spawn import finalize_mlflow_run, inherited_environment
from farandole.backends.local.status import running_reason, training_fields
from farandole.backends.machine import GRACE_S, MachineBackend, wait_for_end
from farandole.backends.protocol import AnyBackend, JobStatus, SubmittedJob
from farandole.errors import SpecError
from farandole.jobdir.directory import load_job
from farandole.jobdir.foreground import (
    ForegroundRecord,
    find_foreground_directory,
    is_running,
    next_step,
    read_foreground,
    reconcile,
)
from farandole.jobdir.locks import foreground_directories
from farandole.jobdir.logs import read_job_log, read_rank_log
from farandole.jobdir.outcome import read_progress
from farandole.jobdir.scaling import scale
from farandole.jobdir.status import read_status
from farandole.spec import Job
from farandole.storage import home


class ForegroundBackend(MachineBackend):
    """Backend that lists and controls the jobs in the foreground of this machine; nothing can be submitted to it."""

    name: AnyBackend = "foreground"

    @classmethod
    def connect(cls, location: Mapping[str, Any], *, slots: int | None = None) -> Self:
        """Return the backend of this machine; its location is always empty."""
        return cls()

    def check(self, job: Job) -> list[str]:
        """Return that nothing can be submitted here."""
        return ["backend.use: foreground: jobs are not submitted to it; use `farandole run`, or the backend local"]

    def submit(self, job: Job) -> SubmittedJob:
        """Refuse the job.

        Raises:
            SpecError: Always.
        """
        raise SpecError(self.check(job)[0])

    def status(self, job_id: str) -> JobStatus:
        """Return the state of a job."""
        return _job_status(find_foreground_directory(job_id))

    def logs(self, job_id: str, *, rank: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines of a job's log, or of the output of one of its workers."""
        directory = find_foreground_directory(job_id)
        until = (lambda: not is_running(directory)) if follow else None
        return read_job_log(directory, until) if rank is None else read_rank_log(directory, rank, until)

    def cancel(self, job_id: str) -> None:
        """End a job as Ctrl-C does: the training saves a checkpoint."""
        directory = find_foreground_directory(job_id)
        record = read_foreground(directory)
        if record is None or not is_running(directory):
            return
        within_s = load_job(directory).resources.stop_timeout_s + GRACE_S
        self._signal(directory, signal.SIGTERM)
        wait_for_end(lambda: not is_running(directory), lambda: self._signal(directory, signal.SIGKILL), within_s)

    def _signal(self, directory: Path, number: signal.Signals) -> None:
        record = read_foreground(directory)
        if record is not None and record.process.is_alive:
            with suppress(ProcessLookupError):
                os.kill(record.process.pid, number)

    def retry(self, job_id: str) -> SubmittedJob:
        """Resume a failed or cancelled job from its last checkpoint, as a job of the backend `local`."""
        directory = find_foreground_directory(job_id)
        _job_status(directory)  # its process may have been killed
        return LocalBackend().adopt(directory)

    def scale(self, job_id: str, workers: int) -> None:
        """Ask a running job to continue with another number of workers, from its next checkpoint on."""
        scale(job_id, workers)

    def list(self) -> list[JobStatus]:
        """Return all jobs in the foreground, newest first."""
        found = [_job_status(directory) for directory in foreground_directories()]
        return sorted(found, key=lambda job: job.submitted_at, reverse=True)


def _job_status(directory: Path) -> JobStatus:
    """Return the state of a job; close its MLflow run if its process was killed.

    Raises:
        FileNotFoundError: It was not started in the foreground.
    """
    try:
        record, has_died = reconcile(directory)
    except (ValueError, TypeError, KeyError) as error:
        return _unreadable(directory, error)
    if has_died:
        finalize_mlflow_run(directory, inherited_environment(home()), cancelled=False, job_is_locked=False)
    details: dict[str, Any] = {"directory": str(directory), "starts": record.starts}
    if record.state == "running":
        details["process"] = record.process.pid
    if record.state in ("failed", "cancelled"):
        details["next"] = next_step(directory, record.resume)
    return JobStatus(
        id=directory.name,
        name=record.name,
        backend="foreground",
        state=record.state,
        reason=_reason(directory, record),
        submitted_at=record.started_at,
        since=record.since,
        **training_fields(directory, details),
    )


def _reason(directory: Path, record: ForegroundRecord) -> str:
    training = read_status(directory)
    if record.state == "running":
        return running_reason(read_progress(directory), training)
    if record.state == "cancelled" and training is not None and training.state == "cancelled":
        return training.reason  # it says which step was saved
    return record.reason


def _unreadable(directory: Path, error: Exception) -> JobStatus:
    reason = f"its record in {directory} cannot be read ({error}); remove the folder if the job is no longer needed"
    return JobStatus(directory.name, directory.name, "foreground", "failed", reason)
