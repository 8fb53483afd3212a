"""State of a job on this machine: from the queue, from its process and from the supervisor of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farandole.backends.local.queue import Queue
from farandole.backends.local.queue_entry import QueueEntry
from farandole.backends.protocol import JobStatus
from farandole.events import format_count
from farandole.jobdir.outcome import JobProgress, read_progress
from farandole.jobdir.status import Status, read_history, read_status
from farandole.spec.backend import BackendName
from farandole.tracking.run_link import read_run_id


def job_status(queue: Queue, entry: QueueEntry, backend: BackendName) -> JobStatus:
    """Return the state of a job.

    Args:
        queue: The queue.
        entry: The job's entry in it.
        backend: The backend's name.
    """
    training = read_status(entry.directory) if entry.starts else None
    progress = read_progress(entry.directory) if entry.starts else None
    reason = entry.reason
    details: dict[str, Any] = {"directory": str(entry.directory), "starts": entry.starts}
    if entry.parent is not None:
        details["parent"] = entry.parent
    if training is not None:
        details |= {"hosts": list(training.hosts), "recoveries": _recoveries(entry.directory)}
    if entry.state == "queued":
        reason = _waiting_reason(queue, entry)
    elif entry.state == "running":
        details["runner"] = entry.runner.pid if entry.runner is not None else None
        reason = _running_reason(progress, training)
    return JobStatus(
        id=entry.id,
        name=entry.name,
        backend=backend,
        state=entry.state,
        reason=reason,
        stage=progress.stage if progress is not None else None,
        attempt=training.attempt if training is not None else 0,
        workers=training.workers if training is not None else 0,
        step=training.step if training is not None else 0,
        epoch=training.epoch if training is not None else 0,
        priority=entry.priority,
        submitted_at=entry.submitted_at,
        since=entry.since,
        mlflow_run_id=read_run_id(entry.directory),
        details=details,
    )


def _waiting_reason(queue: Queue, entry: QueueEntry) -> str:
    position = queue.position(entry)
    ahead = f"{format_count(position.jobs_ahead, 'job')} ahead of it" if position.jobs_ahead else "it is next"
    taken = f"{len(position.running)} of {format_count(position.slots, 'slot')} taken"
    return f"waits: {ahead}; {taken}" + (f", by {', '.join(position.running)}" if position.running else "")


def _running_reason(progress: JobProgress | None, training: Status | None) -> str:
    """Return the latest text of the job's process, or of the supervisor once the training has begun."""
    if progress is None:
        return "is starting"
    if progress.stage != "train" or training is None or training.state not in ("queued", "running"):
        return progress.text
    return training.reason


def _recoveries(directory: Path) -> int:
    """Return how often the training was restarted after a failure."""
    return sum(event["event"] == "restarted" for event in read_history(directory))
