"""State of a job on this machine: from the queue, from its process and from the supervisor of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farandole.backends.local.queue import Queue
from farandole.backends.local.queue_entry import QueueEntry
from farandole.backends.protocol import AnyBackend, JobStatus
from farandole.events import format_count
from farandole.jobdir.checkpoints import newest_checkpoint
from farandole.jobdir.foreground import next_step
from farandole.jobdir.outcome import JobProgress, read_progress
from farandole.jobdir.status import Status, read_history, read_status
from farandole.tracking.run_link import read_run_id


def job_status(queue: Queue, entry: QueueEntry, backend: AnyBackend) -> JobStatus:
    """Return the state of a job.

    Args:
        queue: The queue.
        entry: The job's entry in it.
        backend: The backend's name.
    """
    reason = entry.reason
    details: dict[str, Any] = {"directory": str(entry.directory), "starts": entry.starts}
    if entry.parent is not None:
        details["parent"] = entry.parent
    if entry.state in ("failed", "cancelled"):
        details["next"] = next_step(entry.directory, f"farandole retry {entry.id}")
    if entry.state == "queued":
        reason = _waiting_reason(queue, entry)
    elif entry.state == "running":
        details["runner"] = entry.runner.pid if entry.runner is not None else None
        reason = running_reason(read_progress(entry.directory), read_status(entry.directory))
    return JobStatus(
        id=entry.id,
        name=entry.name,
        backend=backend,
        state=entry.state,
        reason=reason,
        priority=entry.priority,
        submitted_at=entry.submitted_at,
        since=entry.since,
        **(training_fields(entry.directory, details) if entry.starts else {"details": details}),
    )


def training_fields(directory: Path, details: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a job's state that its directory holds: stage, progress, training, checkpoint, MLflow run.

    Args:
        directory: The job's directory.
        details: The field `details`, which is extended.
    """
    progress, training = read_progress(directory), read_status(directory)
    found: dict[str, Any] = {
        "stage": progress.stage if progress is not None else None,
        "progress": progress,
        "checkpoint": newest_checkpoint(directory),
        "mlflow_run_id": read_run_id(directory),
        "details": details,
    }
    if training is not None:
        details |= {"hosts": list(training.hosts), "recoveries": _recoveries(directory)}
        found |= {name: getattr(training, name) for name in ("attempt", "workers", "step", "epoch")}
    return found


def _waiting_reason(queue: Queue, entry: QueueEntry) -> str:
    position = queue.position(entry)
    ahead = f"{format_count(position.jobs_ahead, 'job')} ahead of it" if position.jobs_ahead else "it is next"
    taken = f"{len(position.running)} of {format_count(position.slots, 'slot')} taken"
    return f"waits: {ahead}; {taken}" + (f", by {', '.join(position.running)}" if position.running else "")


def running_reason(progress: JobProgress | None, training: Status | None) -> str:
    """Return the latest text of the job's process, or of the supervisor once the training has begun."""
    if progress is None:
        return "is starting"
    if progress.stage != "train" or training is None or training.state not in ("queued", "running"):
        return progress.text
    return training.reason


def _recoveries(directory: Path) -> int:
    """Return how often the training was restarted after a failure."""
    return sum(event["event"] == "restarted" for event in read_history(directory))
