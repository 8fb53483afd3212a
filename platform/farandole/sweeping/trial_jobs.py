"""The trials of a sweep as jobs of the local queue, in a pool of their own whose slots are `sweep.parallel`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from farandole.backends.local.backend import LocalBackend
from farandole.backends.local.queue import Queue
from farandole.backends.local.submit import create_job
from farandole.events import Event
from farandole.jobdir.layout import jobs_folder
from farandole.jobdir.status import JobState
from farandole.jobdir.trial_events import TrialEventReader
from farandole.spec import Job
from farandole.storage import home
from farandole.tracking.run_link import open_run_link
from farandole.tracking.store import resolve_store

_RECONCILE_EVERY_S = 1.0


@dataclass(frozen=True)
class TrialEnded:
    """The end of a trial's job.

    Args:
        state: `succeeded`, `failed` or `cancelled`.
        reason: One sentence that explains the state.
    """

    state: JobState
    reason: str


@dataclass
class LocalTrialJobs:
    """Context manager that runs the trials of a sweep as jobs of the local queue; at its end, none is left running.

    The jobs have this process as their parent: they are cancelled when it dies, however it dies.

    Args:
        sweep: The sweep's directory.
        parallel: Number of trials that run at once.
    """

    sweep: Path
    parallel: int
    _readers: dict[int, TrialEventReader] = field(default_factory=dict, init=False)
    _reconciled_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._queue = Queue(home())

    def __enter__(self) -> Self:
        """Cancel what an earlier process of this sweep has left running."""
        self._cancel_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the trials that still run, and remove the pool."""
        self._cancel_all()
        self._queue.remove_pool(self.sweep.name)

    def directory(self, number: int) -> Path:
        """Return the directory of a trial's job."""
        return jobs_folder() / f"{self.sweep.name}-trial-{number:03d}"

    def submit(self, number: int, job: Job) -> None:
        """Submit a trial; it starts as soon as a slot is free."""
        directory = self.directory(number)
        _TrialBackend(self.sweep, directory.name, self.parallel).submit(job)
        self._readers[number] = TrialEventReader(directory)

    def poll(self) -> list[tuple[int, Event | TrialEnded]]:
        """Return what the trials have reported since the last call, in order: trial number and event."""
        now_s = time.monotonic()
        if now_s - self._reconciled_s >= _RECONCILE_EVERY_S:
            self._reconciled_s = now_s
            self._queue.reconcile()
        reported: list[tuple[int, Event | TrialEnded]] = []
        for number, reader in list(self._readers.items()):
            entry = self._queue.find(self.directory(number).name)
            assert entry is not None
            reported += [(number, event) for event in reader.read()]  # after the state: nothing is appended later
            if entry.ended:
                reported.append((number, TrialEnded(entry.state, entry.reason)))
                del self._readers[number]
        return reported

    def cancel(self, number: int) -> None:
        """Ask a trial to end; `poll` reports when it has ended."""
        self._queue.request_cancel(self.directory(number).name)

    def _cancel_all(self) -> None:
        """End all jobs of this sweep that have not ended, and wait for their end."""
        backend = LocalBackend()
        jobs = [entry for entry in self._queue.all(backend.name) if entry.parent == self.sweep.name]
        # A trial that the user has retried has no parent's process any more, and continues without the sweep.
        running = [entry for entry in jobs if entry.parent_process is not None and not entry.ended]
        for entry in running:
            self._queue.request_cancel(entry.id)
        for entry in running:
            backend.cancel(entry.id)


class _TrialBackend(LocalBackend):
    """The backend `local` for one trial.

    Args:
        sweep: The sweep's directory.
        job_id: The id of the trial's job.
        parallel: Number of trials that run at once.
    """

    module = "farandole.sweeping.trial_process"

    def __init__(self, sweep: Path, job_id: str, parallel: int) -> None:
        super().__init__(slots=parallel, pool=sweep.name, parent=sweep.name)
        self._sweep, self._job_id = sweep, job_id

    def create_directory(self, job: Job) -> Path:
        """Create the job's directory, and link its MLflow run to that of the sweep."""
        directory = create_job(job, home(), self._job_id)
        open_run_link(directory, resolve_store(job.tracking).shown, str(self._sweep))
        return directory
