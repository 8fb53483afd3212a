"""The Python API: what the commands do, as functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from farandole.backends.protocol import Backend, JobStatus, SubmittedJob
from farandole.backends.records import JobDatabase, JobRecord
from farandole.backends.registry import backend_for_job, get_backend
from farandole.errors import UnavailableError
from farandole.events import EventHandler, Message, ignore_event
from farandole.jobdir.foreground import (
    ForegroundJob,
    foreground_directory_of,
    foreground_job,
    newest_foreground_directory,
    was_submitted,
)
from farandole.jobdir.layout import job_directory
from farandole.jobdir.locks import is_foreground_job
from farandole.spec import CsvSource, Job
from farandole.storage import home

if TYPE_CHECKING:  # a stage imports what it needs when it starts; commands around submitted jobs need little
    from farandole.ingest.prepared import PreparedDataset
    from farandole.launch import TrainedModel
    from farandole.pipeline import RunResult
    from farandole.sweeping.sweep import SweepResult


def source_files(path: str) -> tuple[Path, ...]:
    """Return the files that the `path` of a source in a job file refers to; an archive is unpacked first.

    Args:
        path: A file, a directory, a glob, or `package://NAME/FILE`.

    Raises:
        DataError: There are none, or they cannot be read.
    """
    from farandole.ingest.sources.files import find_files

    return find_files("files", CsvSource(path=path)).fetch().paths


def init(
    data: str,
    *,
    label: str | None = None,
    kind: str | None = None,
    name: str | None = None,
    output: str | Path | None = None,
    force: bool = False,
) -> Path:
    """Look at data and write a job file that trains a first model on them.

    Args:
        data: A CSV, Parquet or JSON file, a folder of such files or of images, a glob, or a URI.
        label: The column to predict. Default: the likeliest one.
        kind: `binary`, `multiclass` or `regression`. Default: by the values of the label.
        name: The job's name. Default: that of the data.
        output: The folder of the job file. Default: one in the current directory, named like the job.
        force: Whether to replace a job file that is there.

    Returns:
        The job file.

    Raises:
        UserError: The data cannot be read, nothing can be learned from them, or there is a job file already.
    """
    from farandole.guessing.guess import guess, look
    from farandole.guessing.job_text import default_directory, write_job_file

    found = guess(look(data), label=label, kind=kind, name=name)
    return write_job_file(found, default_directory(found) if output is None else Path(output), force=force)


def prepare(job: Job, on_event: EventHandler = ignore_event, *, force: bool = False) -> PreparedDataset:
    """Create the job's dataset, or reuse it where nothing has changed.

    Args:
        job: The job.
        on_event: Receives each step.
        force: Prepare even if nothing has changed.

    Raises:
        UserError: The job, its sources, its query or its declared features are wrong.
        JobFailedError: Spark could not finish, or an object store does not answer.
        UnavailableError: Java is missing, or Spark does not start.
    """
    from farandole import pipeline

    return pipeline.prepare(pipeline.check(job, ["prepare"]), on_event, force=force)


def train(
    job: Job,
    on_event: EventHandler = ignore_event,
    *,
    register: bool = False,
    resume: bool | str = False,
    resume_command: str = "",
) -> TrainedModel:
    """Train the job's model on the dataset that `data.output` holds.

    Args:
        job: The job.
        on_event: Receives the progress of the training, and a warning where the dataset is out of date.
        register: Whether to add a version to the registered model.
        resume: Continue a job instead of starting a new one: True for the newest of this name, or an id.
        resume_command: The command that continues the job, for `farandole status`; the job's id is appended.

    Raises:
        UserError: The job, its dataset or its model cannot be used.
        JobFailedError: The training failed more often than `resources.max_restarts` allows.
        UnavailableError: Too few hosts answered, or the MLflow server rejected the credentials.
    """
    from farandole import pipeline

    checked = pipeline.check(job, ["train"])
    prepared = pipeline.load_prepared(checked, on_event)
    with _foreground_job(job, on_event, resume, resume_command) as here:
        trained = pipeline.train(checked, prepared, here.on_event, register=register, directory=here.directory)
        here.write_result(trained.to_dict())
    return trained


def run(
    job: Job,
    on_event: EventHandler = ignore_event,
    *,
    force: bool = False,
    resume: bool | str = False,
    resume_command: str = "",
) -> RunResult:
    """Prepare the dataset, train, evaluate, and register the model; for errors see `prepare` and `train`.

    Args:
        job: The job.
        on_event: Receives the events of all stages.
        force: Prepare the dataset even if nothing has changed.
        resume: Continue a job instead of starting a new one: True for the newest of this name, or an id.
        resume_command: The command that continues the job, for `farandole status`; the job's id is appended.
    """
    from farandole import pipeline

    checked = pipeline.check(job)
    with _foreground_job(job, on_event, resume, resume_command) as here:
        result = pipeline.run(checked, here.on_event, force=force, directory=here.directory)
        here.write_result(result.to_dict())
    return result


def _foreground_job(
    job: Job, on_event: EventHandler, resume: bool | str, resume_command: str
) -> AbstractContextManager[ForegroundJob]:
    directory = _directory_to_resume(job, resume) if resume else None
    return foreground_job(job, on_event, directory=directory, resume=resume_command)


def _directory_to_resume(job: Job, resume: bool | str) -> Path:
    job_id = newest_foreground_directory(job.name).name if isinstance(resume, bool) else resume
    records = JobDatabase(home())
    if records.path.exists() and job_id in records.ids():
        raise was_submitted(job_id)
    return foreground_directory_of(job_id, job.name)


def sweep(job: Job, on_event: EventHandler = ignore_event, *, resume: bool = False) -> SweepResult:
    """Prepare the dataset once, train with many values, and write the best job file.

    Args:
        job: The job, with `sweep`.
        on_event: Receives the events of the sweep.
        resume: Continue the newest sweep of this job.

    Raises:
        SpecError: The job has no sweep, or the sweep to resume is a different one.
        TrainingError: No trial reached its end.
    """
    from farandole import pipeline
    from farandole.sweeping.sweep import require_sweep, run_sweep

    require_sweep(job)
    checked = pipeline.resolve_features(pipeline.check(job), on_event)
    return run_sweep(checked, pipeline.prepare(checked, on_event), on_event, resume=resume)


def submit(job: Job, *, slots: int | None = None) -> SubmittedJob:
    """Hand a job to the backend that its `backend.use` names; the job does not depend on this process any more.

    Args:
        job: The job.
        slots: For a backend with a queue on this machine: how many jobs run at once from now on.

    Raises:
        SpecError: The job cannot run there.
        UnavailableError: The backend cannot be reached.
    """
    from farandole import pipeline

    backend = backend_for_job(job, slots=slots)
    pipeline.check(job, opens_models=backend.localize(job).prepares_here)
    submitted = backend.submit(job)
    JobDatabase(home()).remember(JobRecord(submitted.id, job.name, backend.name, backend.location))
    return submitted


class JobAddress(TypedDict, total=False):
    """Address of a job that was not run or submitted here: arguments of every function for one job.

    Args:
        backend: The backend's name. Default: `foreground` for a job that was run on this machine, and otherwise the one
            that it was submitted to from here.
        location: Where a backend that is named is (`context`, `namespace`).
    """

    backend: str | None
    location: dict[str, Any] | None


def find_backend(job_id: str, **address: Unpack[JobAddress]) -> Backend:
    """Return the backend that has a job.

    Args:
        job_id: The job.
        **address: See `JobAddress`.

    Raises:
        SpecError: No backend is named, and no job with this id was run or submitted here.
    """
    named = _named_backend(**address)
    if named is not None:
        return named
    if is_foreground_job(job_directory(job_id)):
        return get_backend("foreground")
    record = JobDatabase(home()).find(job_id)
    return get_backend(record.backend, record.location)


def _named_backend(backend: str | None = None, location: dict[str, Any] | None = None) -> Backend | None:
    return None if backend is None else get_backend(backend, location)


def status(job_id: str, **address: Unpack[JobAddress]) -> JobStatus:
    """Return the status of a job; for the other arguments see `JobAddress`."""
    return find_backend(job_id, **address).status(job_id)


def jobs(on_event: EventHandler = ignore_event, **address: Unpack[JobAddress]) -> list[JobStatus]:
    """Return the jobs, newest first: of one backend, or of all to which jobs were submitted from here.

    Jobs that were run in the foreground of this machine are among them.

    Args:
        on_event: Receives a warning for each backend that does not answer, where several are asked.
        **address: The one backend to ask; see `JobAddress`.
    """
    named = _named_backend(**address)
    if named is not None:
        return named.list()
    found: list[JobStatus] = []
    for name, where in [("foreground", {}), *JobDatabase(home()).locations()]:
        try:
            found += get_backend(name, where).list()
        except UnavailableError as error:
            on_event(Message(f"{error}; the jobs of {name} are missing from the list", level="warning"))
    return sorted(found, key=lambda job: job.submitted_at, reverse=True)


def logs(job_id: str, *, rank: int | None = None, follow: bool = False, **address: Unpack[JobAddress]) -> Iterator[str]:
    """Yield the lines of a job's log; see `farandole.backends.protocol.Backend.logs`."""
    return find_backend(job_id, **address).logs(job_id, rank=rank, follow=follow)


def cancel(job_id: str, **address: Unpack[JobAddress]) -> JobStatus:
    """End a job and everything that it started; a training saves a checkpoint first. Return its status."""
    chosen = find_backend(job_id, **address)
    chosen.cancel(job_id)
    return chosen.status(job_id)


def retry(job_id: str, **address: Unpack[JobAddress]) -> SubmittedJob:
    """Continue a job that failed or was cancelled from its last checkpoint, under the same id and MLflow run."""
    return find_backend(job_id, **address).retry(job_id)


def scale(job_id: str, workers: int, **address: Unpack[JobAddress]) -> None:
    """Ask a running job, submitted or in the foreground, to continue with another number of workers.

    Args:
        job_id: The job.
        workers: The new number of workers, from the next checkpoint on.
        **address: See `JobAddress`.

    Raises:
        SpecError: The job is not training, cannot have this number of workers, or its backend cannot scale it.
    """
    find_backend(job_id, **address).scale(job_id, workers)
