"""The protocol that every backend implements, and what it returns about a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from farandole.jobdir.checkpoints import SavedCheckpoint
from farandole.jobdir.outcome import JobProgress
from farandole.jobdir.status import JobState

if TYPE_CHECKING:  # the small processes that only run jobs do not import specs
    from farandole.spec import Job

AnyBackend = Literal["local", "hosts", "kubernetes", "foreground"]
"""The names of a job file's `backend.use`, and that of jobs which were not submitted."""
TERMINAL_STATES: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class SubmittedJob:
    """A job that a backend has accepted and stored.

    Args:
        id: The job's id, which every other command takes.
        backend: The backend's name.
        mlflow_run_id: The job's MLflow run; None: the first attempt creates it.
    """

    id: str
    backend: AnyBackend
    mlflow_run_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result document of `submit`."""
        return asdict(self)


@dataclass(frozen=True)
class JobStatus:
    """The state of a job, as the backend observes it at the time of the call.

    Args:
        id: The job's id.
        name: The job's name.
        backend: The backend's name.
        state: One of five states.
        reason: One sentence: why the job waits, what it is doing, or how it failed.
        stage: `prepare` or `train`; None: neither has begun.
        attempt: The number of the training's attempt; 0: none has begun.
        workers: Number of workers of this attempt.
        step: Number of completed steps.
        epoch: Number of completed epochs.
        priority: The priority at submission.
        submitted_at: Time of the submission, ISO 8601, UTC.
        since: Time at which the job entered this state, ISO 8601, UTC.
        mlflow_run_id: The job's MLflow run.
        progress: The newest event of the job's process, and how far it is; None where that is unknown.
        checkpoint: The newest checkpoint; None: there is none, or it is not on this machine.
        details: Facts that only this backend knows: process id, hosts, namespace, pods.
    """

    id: str
    name: str
    backend: AnyBackend
    state: JobState
    reason: str
    stage: str | None = None
    attempt: int = 0
    workers: int = 0
    step: int = 0
    epoch: int = 0
    priority: int = 0
    submitted_at: str = ""
    since: str = ""
    mlflow_run_id: str | None = None
    progress: JobProgress | None = None
    checkpoint: SavedCheckpoint | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True if nothing more happens without a `retry`."""
        return self.state in TERMINAL_STATES

    def to_dict(self) -> dict[str, Any]:
        """Return the result document of `status`."""
        return asdict(self)


@dataclass(frozen=True)
class LocalizedJob:
    """A job as the processes of a backend see it.

    Args:
        job: The job with paths and URIs that its processes reach.
        problems: What its processes would not reach, one message each.
        remote_sources: Names of the sources that only its processes can read.
        prepares_here: Whether this machine prepares the dataset, and can therefore inspect it.
    """

    job: Job
    problems: tuple[str, ...] = ()
    remote_sources: frozenset[str] = frozenset()
    prepares_here: bool = True


class Backend(Protocol):
    """Accepts jobs, runs them and reports on them. Every error names the job, the rule and the remedy."""

    name: AnyBackend

    @classmethod
    def connect(cls, location: Mapping[str, Any], *, slots: int | None = None) -> Self:
        """Return the backend at a location.

        Args:
            location: Where it is: `context` and `namespace` of a cluster. A missing or empty entry is the default.
            slots: For a backend with a queue on this machine: the number of jobs that run at once from now on.
        """

    @classmethod
    def location_of(cls, job: Job) -> dict[str, Any]:
        """Return the location that a job file names."""

    @property
    def location(self) -> dict[str, Any]:
        """Everything besides the name that finds the backend's jobs again: a cluster's context and namespace."""

    def localize(self, job: Job) -> LocalizedJob:
        """Return the job as the backend's processes see it, without contacting the backend."""

    def render(self, job: Job) -> list[dict[str, Any]]:
        """Return the objects that `submit` would create, without contacting the backend, for `farandole plan`.

        Raises:
            SpecError: The backend's processes would not reach something that the job names.
        """

    def check(self, job: Job) -> list[str]:
        """Ask the backend what would prevent the job from running; change nothing."""

    def submit(self, job: Job) -> SubmittedJob:
        """Accept a job, which then runs independently of the caller.

        Raises:
            SpecError: `check` finds a problem.
            UnavailableError: The backend cannot be reached.
        """

    def status(self, job_id: str) -> JobStatus:
        """Return the state of a job.

        Raises:
            SpecError: The backend has no such job.
        """

    def logs(self, job_id: str, *, rank: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines of a job's log over all attempts, without line ends.

        Args:
            job_id: The job.
            rank: Only the output of this worker. Default: the job's own lines: stages, progress, failures.
            follow: Whether to continue until the job has ended.
        """

    def cancel(self, job_id: str) -> None:
        """End a job and everything that it started; return when nothing of it runs.

        A job that has already ended keeps its state.
        """

    def retry(self, job_id: str) -> SubmittedJob:
        """Resume a failed or cancelled job from its last checkpoint, with the same id and the same MLflow run.

        Raises:
            SpecError: The job has not ended, or has succeeded.
        """

    def scale(self, job_id: str, workers: int) -> None:
        """Ask a running job to continue with another number of workers.

        Raises:
            SpecError: The job is not training, cannot have this number of workers, or cannot be scaled here.
        """

    def list(self) -> list[JobStatus]:
        """Return all jobs, newest first."""
