"""The Python API: what the commands do, as functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.backends.protocol import Backend, JobStatus, SubmittedJob
from farandole.backends.records import JobDatabase, JobRecord
from farandole.backends.registry import backend_for_job, get_backend
from farandole.errors import UnavailableError
from farandole.events import EventHandler, Message, ignore_event
from farandole.spec import CsvSource, Job, home

if TYPE_CHECKING:  # a stage imports what it needs when it starts; commands around submitted jobs need little
    from farandole.ingest.prepare import PreparedDataset
    from farandole.launch import TrainedModel
    from farandole.sweeping.sweep import SweepResult


@dataclass(frozen=True)
class RunResult:
    """All that a job produced.

    Args:
        job: The job.
        dataset: The dataset.
        trained: The training and its model.
    """

    job: Job
    dataset: PreparedDataset
    trained: TrainedModel

    def to_dict(self) -> dict[str, Any]:
        """The result document."""
        return self.trained.document(self.job.name, self.dataset.to_dict())


def source_files(path: str) -> tuple[Path, ...]:
    """The files that a source's `path` in a job file stands for; an archive is unpacked first.

    Args:
        path: A file, a directory, a glob, or `package://NAME/FILE`.

    Raises:
        DataError: There are none, or they cannot be read.
    """
    from farandole.ingest.sources.files import find_files

    return find_files("files", CsvSource(path=path)).paths


def prepare(job: Job, on_event: EventHandler = ignore_event, *, force: bool = False) -> PreparedDataset:
    """Make the job's dataset, unless it is there already; see `farandole.ingest.prepare.prepare`."""
    from farandole.ingest.prepare import prepare as prepare_dataset
    from farandole.planning import check_builder, check_transform

    check_builder(job)
    check_transform(job)
    return prepare_dataset(job, on_event, force=force)


def train(
    job: Job, on_event: EventHandler = ignore_event, *, register: bool = False, resume: bool = False
) -> TrainedModel:
    """Train on the job's dataset; see `farandole.launch.supervisor.train`."""
    from farandole.launch import train as train_model
    from farandole.planning import check_builder, check_trainable, stale_dataset

    check_trainable(job)
    check_builder(job)
    if stale_dataset(job):
        text = f"{job.data.output}: was made of other sources, features or code; `farandole prepare` renews it"
        on_event(Message(text, level="warning"))
    return train_model(job, on_event, register=register, resume=resume)


def run(job: Job, on_event: EventHandler = ignore_event, *, force: bool = False) -> RunResult:
    """Prepare, train, evaluate, register."""
    from farandole.planning import check_trainable

    check_trainable(job)
    dataset = prepare(job, on_event, force=force)
    return RunResult(job, dataset, train(job, on_event, register=True))


def submit(job: Job, *, slots: int | None = None) -> SubmittedJob:
    """Hand a job to the backend that its `backend.use` names; it goes on without this process.

    Args:
        job: The job.
        slots: For a backend with a queue on this machine: how many jobs run at once from now on.

    Raises:
        SpecError: The job cannot run there.
        EnvironmentLacking: The backend cannot be reached.
    """
    from farandole.planning import check_builder, check_trainable, check_transform

    check_trainable(job)
    check_builder(job)
    check_transform(job)
    backend = backend_for_job(job, slots=slots)
    submitted = backend.submit(job)
    JobDatabase(home()).remember(JobRecord(submitted.id, job.name, backend.name, backend.location))
    return submitted


def backend_of(job_id: str, backend: str | None = None, location: dict[str, Any] | None = None) -> Backend:
    """The backend that has a job.

    Args:
        job_id: The job.
        backend: The backend's name. Default: where it was submitted to from this machine.
        location: Of a backend that is named: where it is (`context`, `namespace`).

    Raises:
        SpecError: No backend is named, and nothing of this id was submitted from here.
    """
    if backend is not None:
        return get_backend(backend, location)
    record = JobDatabase(home()).find(job_id)
    return get_backend(record.backend, record.location)


def status(job_id: str, *, backend: str | None = None, location: dict[str, Any] | None = None) -> JobStatus:
    """Where a submitted job stands; for the other arguments see `backend_of`."""
    return backend_of(job_id, backend, location).status(job_id)


def jobs(
    on_event: EventHandler = ignore_event, *, backend: str | None = None, location: dict[str, Any] | None = None
) -> list[JobStatus]:
    """The submitted jobs, the newest first: of one backend, or of all to which something was submitted from here.

    Args:
        on_event: Is warned of a backend that does not answer, where several are asked.
        backend: The one backend to ask.
        location: Where that is (`context`, `namespace`).
    """
    if backend is not None:
        return get_backend(backend, location).list()
    found: list[JobStatus] = []
    for name, where in JobDatabase(home()).locations():
        try:
            found += get_backend(name, where).list()
        except UnavailableError as error:
            on_event(Message(f"{error}; the jobs of {name} are left out", level="warning"))
    return sorted(found, key=lambda job: job.submitted_at, reverse=True)


def logs(
    job_id: str,
    *,
    rank: int | None = None,
    follow: bool = False,
    backend: str | None = None,
    location: dict[str, Any] | None = None,
) -> Iterator[str]:
    """Lines of a submitted job's log; see `farandole.backends.protocol.Backend.logs`."""
    return backend_of(job_id, backend, location).logs(job_id, rank=rank, follow=follow)


def cancel(job_id: str, *, backend: str | None = None, location: dict[str, Any] | None = None) -> JobStatus:
    """End a submitted job and all that it started, with a checkpoint where it trains; returns how it stands then."""
    chosen = backend_of(job_id, backend, location)
    chosen.cancel(job_id)
    return chosen.status(job_id)


def retry(job_id: str, *, backend: str | None = None, location: dict[str, Any] | None = None) -> SubmittedJob:
    """Let a job that failed or was cancelled go on from its last checkpoint, under the same id and MLflow run."""
    return backend_of(job_id, backend, location).retry(job_id)


def scale(job_id: str, workers: int) -> None:
    """Ask a running job to go on with another number of workers; see `farandole.jobdir.scaling.scale`."""
    from farandole.launch import scale as scale_job

    scale_job(job_id, workers)


def sweep(job: Job, on_event: EventHandler = ignore_event, *, resume: bool = False) -> SweepResult:
    """Prepare once, train with many values, write the best job file; see `farandole.sweeping.sweep.sweep`."""
    from farandole.planning import check_trainable
    from farandole.sweeping.sweep import spec_of
    from farandole.sweeping.sweep import sweep as sweep_job

    spec_of(job)
    check_trainable(job)
    prepare(job, on_event)
    return sweep_job(job, on_event, resume=resume)


def train_document(job: Job, trained: TrainedModel) -> dict[str, Any]:
    """The result document of a training on a dataset that lay ready."""
    return trained.document(job.name)
