"""The backend `local`, and what every backend is made of whose jobs are processes of this machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from farandole.backends.local.queue import Queue, QueueEntry
from farandole.backends.local.spawn import remove_abandoned_contexts, save_launch_context
from farandole.backends.protocol import JobStatus, SubmittedJob
from farandole.backends.records import JobRecord
from farandole.errors import SpecError, UnavailableError, closest_match
from farandole.events import format_count
from farandole.jobdir.directory import create_job_directory, save_spec
from farandole.jobdir.layout import jobs_folder
from farandole.jobdir.logs import read_job_log, read_rank_log
from farandole.jobdir.outcome import read_progress
from farandole.jobdir.status import read_history, read_status
from farandole.spec import Job
from farandole.spec.backend import BackendName
from farandole.storage import home
from farandole.tracking.run_link import read_run_id

SLOTS_VARIABLE = "FARANDOLE_SLOTS"
_BEYOND_S = 30.0
"""How much longer than its workers a whole job may take to end: Spark, MLflow."""
_POLL_S = 0.1


class LocalBackend:
    """Each job is a detached process of this machine; a lane of the queue says when it begins.

    A backend whose jobs are launched from here in another way is a subclass with a `name`, which is its lane, and a
    `work`, a module whose `main` calls `be_job` of `work.py`; `check` and `render` say what is special about it.

    Args:
        slots: How many jobs run at once from now on. Default: FARANDOLE_SLOTS; where that is not set, as before, and
            at first one.
        command: What a runner starts for a job. Default: `work`.
    """

    name: BackendName = "local"
    work: str = "farandole.backends.local.job_process"

    def __init__(self, *, slots: int | None = None, command: Sequence[str] | None = None) -> None:
        self.place: dict[str, Any] = {}
        self._home = home()
        self._queue = Queue(self._home)
        self._slots = slots
        self._command = command

    def render(self, job: Job) -> list[dict[str, Any]]:
        """Nothing: a job is a process."""
        return []

    def check(self, job: Job) -> list[str]:
        """Nothing: what is missing on this machine is told by `farandole plan` and `farandole doctor`."""
        return []

    def submit(self, job: Job) -> SubmittedJob:
        """Take a job: when this returns, it is kept, and will run."""
        problems = self.check(job)
        if problems:
            raise SpecError("\n".join(problems))
        slots = self._slots or _asked_slots()
        if slots is not None:
            self._queue.set_slots(self.name, slots)
        remove_abandoned_contexts(jobs_folder(), set(self._queue.records.ids()))
        directory = self._new_directory(job)
        patience_s = job.resources.stop_timeout_s + _BEYOND_S
        record = JobRecord(directory.name, job.name, self.name)
        self._queue.submit(
            record, directory, self._command_for(directory), priority=job.backend.priority, patience_s=patience_s
        )
        self._queue.reconcile()
        return SubmittedJob(directory.name, self.name)

    def status(self, job_id: str) -> JobStatus:
        """Where a job stands."""
        self._queue.reconcile()
        return self._status(self._entry(job_id))

    def logs(self, job_id: str, *, rank: int | None = None, follow: bool = False) -> Iterator[str]:
        """Lines of a job's log, or of what one of its workers wrote."""
        directory = self._entry(job_id).directory

        def has_ended() -> bool:
            self._queue.reconcile()
            return self._entry(job_id).ended

        until = has_ended if follow else None
        return read_job_log(directory, until) if rank is None else read_rank_log(directory, rank, until)

    def cancel(self, job_id: str) -> None:
        """End a job and all that it started."""
        self._queue.reconcile()
        entry = self._entry(job_id)
        self._queue.request_cancel(job_id)
        kill_at_s = time.monotonic() + entry.patience_s + _BEYOND_S
        while not (entry := self._entry(job_id)).ended:
            if time.monotonic() > kill_at_s:  # its runner was stopped, or hangs: all of the job ends with it
                self._queue.kill_runner(entry)
            time.sleep(_POLL_S)
            self._queue.reconcile()

    def retry(self, job_id: str) -> SubmittedJob:
        """Let a job that failed or was cancelled go on from its last checkpoint, with the variables of this process."""
        self._queue.reconcile()
        entry = self._entry(job_id)
        if entry.state in ("failed", "cancelled"):
            save_launch_context(entry.directory, self._home)
        self._queue.retry(job_id)
        self._queue.reconcile()
        return SubmittedJob(job_id, self.name, read_run_id(entry.directory))

    def _new_directory(self, job: Job) -> Path:
        """The job's directory with the serialized spec, and the variables that it is to be started with."""
        try:
            directory = create_job_directory(job)
            save_spec(directory, job)
            save_launch_context(directory, self._home)
        except OSError as error:
            place = error.filename or jobs_folder()
            raise UnavailableError(
                f"{place}: {error.strerror or error}; free some space, or set FARANDOLE_HOME to a place that you may"
                " write to"
            ) from error
        return directory

    def _command_for(self, directory: Path) -> list[str]:
        if self._command is not None:
            return [*self._command]
        return [sys.executable, "-P", "-m", self.work, "--directory", str(directory)]

    def _entry(self, job_id: str) -> QueueEntry:
        entry = self._queue.find(job_id)
        if entry is None or entry.lane != self.name:
            known = [other.id for other in self._queue.all(self.name)]
            close = closest_match(job_id, known)
            hint = f"did you mean {close}?" if close else "`farandole jobs` lists them"
            raise SpecError(f"{job_id}: the backend {self.name} has no such job; {hint}")
        return entry

    def _status(self, entry: QueueEntry) -> JobStatus:
        trained = (read_status(entry.directory) or {}) if entry.starts else {}
        told = read_progress(entry.directory) if entry.starts else {}
        reason = entry.reason
        details: dict[str, Any] = {"directory": str(entry.directory), "starts": entry.starts}
        if trained:
            details |= {"hosts": trained["hosts"], "recoveries": _recoveries(entry.directory)}
        if entry.state == "queued":
            reason = self._why_it_waits(entry)
        elif entry.state == "running":
            details["runner"] = entry.pid
            reason = _what_it_does(told, trained)
        return JobStatus(
            id=entry.id,
            name=entry.name,
            backend=self.name,
            state=entry.state,
            reason=reason,
            stage=told.get("stage"),
            attempt=trained.get("attempt", 0),
            workers=trained.get("workers", 0),
            step=trained.get("step", 0),
            epoch=trained.get("epoch", 0),
            priority=entry.priority,
            submitted_at=entry.submitted_at,
            since=entry.since,
            mlflow_run_id=read_run_id(entry.directory),
            details=details,
        )

    def _why_it_waits(self, entry: QueueEntry) -> str:
        place = self._queue.place(entry)
        before = f"{format_count(place.before, 'job')} before it" if place.before else "it is next"
        taken = f"{len(place.running)} of {format_count(place.slots, 'slot')} taken"
        return f"waits: {before}; {taken}" + (f", by {', '.join(place.running)}" if place.running else "")

    def list(self) -> list[JobStatus]:
        """All jobs of this backend, the newest first."""
        self._queue.reconcile()
        return [self._status(entry) for entry in self._queue.all(self.name)]


def _what_it_does(told: dict[str, Any], trained: dict[str, Any]) -> str:
    """From what the job's process told last, and from the supervisor of its training, once that has begun."""
    if told.get("stage") != "train" or trained.get("state") not in ("queued", "running"):
        return str(told.get("text", "is starting"))
    return str(trained["reason"])


def _recoveries(directory: Path) -> int:
    """Return how often the training continued after a failure."""
    return sum(event["event"] == "restarted" for event in read_history(directory))


def _asked_slots() -> int | None:
    text = os.environ.get(SLOTS_VARIABLE)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise SpecError(f"{SLOTS_VARIABLE}: {text}: jobs that run at once; use a whole number from 1")
    return int(text)
