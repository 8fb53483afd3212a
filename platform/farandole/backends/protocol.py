"""What every backend can do, and what it tells about a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from farandole.jobdir.status import JobState

if TYPE_CHECKING:  # the small processes that only run jobs know nothing of specs
    from farandole.spec import Job
    from farandole.spec.backend import BackendName

TERMINAL_STATES: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class SubmittedJob:
    """A job that a backend has taken; it is kept before the caller hears of it.

    Args:
        id: The job's id, by which every other command finds it.
        backend: The backend's name.
        mlflow_run_id: The job's one MLflow run; None: the first attempt makes it.
    """

    id: str
    backend: BackendName
    mlflow_run_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The result document of `submit`."""
        return asdict(self)


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands, as the backend sees it now and not as somebody noted it once.

    Args:
        id: The job's id.
        name: The job's name.
        backend: The backend's name.
        state: One of five.
        reason: In a sentence: why it waits, what it is doing, how it failed.
        stage: `prepare`, `train` or None: neither has begun.
        attempt: The number of the training's attempt; 0: none has begun.
        workers: Workers of this attempt.
        step: Steps made.
        epoch: Epochs done.
        priority: As submitted.
        submitted_at: ISO 8601, UTC.
        since: When the state began, likewise.
        mlflow_run_id: The job's MLflow run.
        details: What only this backend knows: process id, hosts, namespace, pods, position in a queue.
    """

    id: str
    name: str
    backend: BackendName
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
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen without a `retry`."""
        return self.state in TERMINAL_STATES

    def to_dict(self) -> dict[str, Any]:
        """The result document of `status`."""
        return asdict(self)


class Backend(Protocol):
    """Takes jobs and tells about them. The text of an error names the job, the rule and the remedy."""

    name: BackendName
    place: dict[str, Any]
    """What else than the name is needed to find its jobs again: a cluster's context and namespace."""

    def render(self, job: Job) -> list[dict[str, Any]]:
        """The objects that `submit` would make, without reaching for anything: what `farandole plan` lists."""

    def check(self, job: Job) -> list[str]:
        """What would keep the job from running here, found by asking the backend; nothing is changed."""

    def submit(self, job: Job) -> SubmittedJob:
        """Take a job; it goes on without the caller.

        Raises:
            SpecError: `check` finds something.
            EnvironmentLacking: The backend cannot be reached.
        """

    def status(self, job_id: str) -> JobStatus:
        """Where a job stands.

        Raises:
            SpecError: There is no such job here.
        """

    def logs(self, job_id: str, *, rank: int | None = None, follow: bool = False) -> Iterator[str]:
        """Lines of a job's log, over all attempts, without line ends.

        Args:
            job_id: The job.
            rank: Only what this worker wrote. Default: what the job itself says: stages, progress, failures.
            follow: Whether to go on until the job has ended.
        """

    def cancel(self, job_id: str) -> None:
        """End a job and all that it started; returns when nothing of it runs. One that has ended stays as it is."""

    def retry(self, job_id: str) -> SubmittedJob:
        """Let a job that failed or was cancelled go on: same id, same MLflow run, a new attempt from its last
        checkpoint.

        Raises:
            SpecError: It has not ended, or has succeeded.
        """

    def list(self) -> list[JobStatus]:
        """All jobs, newest first."""
