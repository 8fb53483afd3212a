"""The backend `local`, and the base class of every backend whose jobs are processes of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from farandole.backends.local.queue import Queue
from farandole.backends.local.queue_entry import QueueEntry
from farandole.backends.local.spawn import inherited_environment
from farandole.backends.local.status import job_status
from farandole.backends.local.submit import create_job, requested_slots
from farandole.backends.machine import GRACE_S, MachineBackend, wait_for_end
from farandole.backends.protocol import AnyBackend, JobStatus, SubmittedJob
from farandole.backends.records import JobRecord
from farandole.errors import SpecError, closest_match
from farandole.jobdir.directory import load_job
from farandole.jobdir.foreground import handed_over
from farandole.jobdir.launch_context import remove_abandoned_contexts, remove_launch_context, save_launch_context
from farandole.jobdir.layout import jobs_folder
from farandole.jobdir.logs import read_job_log, read_rank_log
from farandole.jobdir.scaling import scale
from farandole.spec import Job
from farandole.storage import home
from farandole.tracking.run_link import read_run_id


class LocalBackend(MachineBackend):
    """Backend that runs each job as a detached process of this machine, when a slot of the queue is free.

    A backend that launches its jobs from here in another way is a subclass with a `name`, and perhaps a `module`, whose
    `main` calls `run_job_process`; `check` and `create_directory` hold what is special about it.

    Args:
        slots: Number of jobs that run at once from now on. Default: FARANDOLE_SLOTS; if that is not set,
            the number stays as it is, which is one at first.
        pool: The pool whose slots its jobs take. Default: the backend's own.
        parent: The id of the sweep that submits the jobs: they end when this process does.
        command: What a runner starts for a job. Default: `module`, with the job's directory and `arguments`.
        arguments: Further arguments of the module.
    """

    name: AnyBackend = "local"
    module: str = "farandole.backends.local.job_process"

    def __init__(
        self,
        *,
        slots: int | None = None,
        pool: str | None = None,
        parent: str | None = None,
        command: Sequence[str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self._home = home()
        self._queue = Queue(self._home)
        self._slots = slots
        self._pool, self._parent = pool or self.name, parent
        self._command, self._arguments = command, arguments

    @classmethod
    def connect(cls, location: Mapping[str, Any], *, slots: int | None = None) -> Self:
        """Return the backend of this machine; its location is always empty."""
        return cls(slots=slots)

    def check(self, job: Job) -> list[str]:
        """Return no problems: `farandole plan` and `farandole doctor` report what this machine lacks."""
        return []

    def submit(self, job: Job) -> SubmittedJob:
        """Store a job in the queue, which starts it when a slot is free."""
        problems = self.check(job)
        if problems:
            raise SpecError("\n".join(problems))
        slots = self._slots or requested_slots()
        if slots is not None:
            self._queue.set_slots(self._pool, slots)
        remove_abandoned_contexts(jobs_folder(), set(self._queue.database.ids()))
        directory = self.create_directory(job)
        self._enqueue(directory, job)
        self._queue.reconcile()
        return SubmittedJob(directory.name, self.name)

    def adopt(self, directory: Path) -> SubmittedJob:
        """Store a job in the queue that was started in the foreground, with the environment of this process.

        If that fails, the job stays in the foreground.

        Raises:
            SpecError: It is still running, or has succeeded.
            UnavailableError: The queue cannot be used.
        """
        job = load_job(directory)
        with handed_over(directory):
            if self._queue.find(directory.name) is None:  # otherwise an earlier retry was killed in between
                save_launch_context(directory, inherited_environment(self._home))
                try:
                    self._enqueue(directory, job)
                except BaseException:
                    remove_launch_context(directory)
                    raise
        self._queue.reconcile()
        return SubmittedJob(directory.name, self.name, read_run_id(directory))

    def _enqueue(self, directory: Path, job: Job) -> None:
        self._queue.submit(
            JobRecord(directory.name, job.name, self.name),
            directory,
            self._command_for(directory),
            priority=job.backend.priority,
            stop_timeout_s=job.resources.stop_timeout_s + GRACE_S,
            pool=self._pool,
            parent=self._parent,
        )

    def status(self, job_id: str) -> JobStatus:
        """Return the state of a job."""
        self._queue.reconcile()
        return job_status(self._queue, self._entry(job_id), self.name)

    def logs(self, job_id: str, *, rank: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines of a job's log, or of the output of one of its workers."""
        directory = self._entry(job_id).directory

        until = (lambda: self._has_ended(job_id)) if follow else None
        return read_job_log(directory, until) if rank is None else read_rank_log(directory, rank, until)

    def cancel(self, job_id: str) -> None:
        """End a job and everything that it started."""
        self._queue.reconcile()
        entry = self._entry(job_id)
        self._queue.request_cancel(job_id)
        wait_for_end(
            lambda: self._has_ended(job_id),
            lambda: self._queue.kill_runner(self._entry(job_id)),  # the whole job ends with it
            entry.stop_timeout_s + GRACE_S,
        )

    def retry(self, job_id: str) -> SubmittedJob:
        """Resume a failed or cancelled job from its last checkpoint, with the environment of this process."""
        self._queue.reconcile()
        entry = self._entry(job_id)
        if entry.state in ("failed", "cancelled"):
            save_launch_context(entry.directory, inherited_environment(self._home))
        self._queue.retry(job_id)
        self._queue.reconcile()
        return SubmittedJob(job_id, self.name, read_run_id(entry.directory))

    def scale(self, job_id: str, workers: int) -> None:
        """Ask a running job to continue with another number of workers, from its next checkpoint on."""
        scale(job_id, workers)

    def list(self) -> list[JobStatus]:
        """Return all jobs of this backend, newest first."""
        self._queue.reconcile()
        return [job_status(self._queue, entry, self.name) for entry in self._queue.all(self.name)]

    def create_directory(self, job: Job) -> Path:
        """Create the job's directory, with its spec and its launch context."""
        return create_job(job, self._home)

    def _has_ended(self, job_id: str) -> bool:
        self._queue.reconcile()
        return self._entry(job_id).ended

    def _command_for(self, directory: Path) -> Sequence[str]:
        if self._command is not None:
            return self._command
        return [sys.executable, "-P", "-m", self.module, "--directory", str(directory), *self._arguments]

    def _entry(self, job_id: str) -> QueueEntry:
        entry = self._queue.find(job_id)
        if entry is None or entry.backend != self.name:
            known = [other.id for other in self._queue.all(self.name)]
            close = closest_match(job_id, known)
            hint = f"did you mean {close}?" if close else "`farandole jobs` lists them"
            raise SpecError(f"{job_id}: the backend {self.name} has no such job; {hint}")
        return entry
