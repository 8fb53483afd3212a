"""State of a job in the foreground: from its process's record, its progress, and the supervisor of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farandole.backends.local.spawn import finalize_mlflow_run, inherited_environment
from farandole.backends.local.status import running_reason, training_fields
from farandole.backends.protocol import JobStatus
from farandole.jobdir.foreground import ForegroundRecord, reconcile
from farandole.jobdir.outcome import read_progress
from farandole.jobdir.status import read_status
from farandole.storage import home


def job_status(directory: Path) -> JobStatus:
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
    if record.resume and record.state in ("failed", "cancelled"):
        details["resume"] = record.resume
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
