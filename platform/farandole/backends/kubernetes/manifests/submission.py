"""What a submission adds to a job's spec before objects are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from farandole.spec import Job
from farandole.spec.backend import Kubernetes

MAX_INLINE_BYTES = 900 * 1024
"""A job folder that packs into no more travels in the API; the API takes 1 MiB for one object."""


@dataclass(frozen=True)
class CodePackage:
    """The job's folder, packed.

    Args:
        digest: SHA-256 of the package, by which pods check it.
        content: The package, if it travels in a ConfigMap.
        place: Its URI or path, if it travels through the storage.
        size_bytes: Its size.
    """

    digest: str
    content: bytes | None = None
    place: str | None = None
    size_bytes: int = 0


@dataclass(frozen=True)
class SshKeys:
    """A job's own SSH keys, in OpenSSH's form. One pair lets the launcher in, the other one is the workers' proof of
    who they are.
    """

    user_private: str = ""
    user_public: str = ""
    host_private: str = ""
    host_public: str = ""


@dataclass(frozen=True)
class Submission:
    """One submission of a job.

    Args:
        id: The job's id.
        job: The job, as pods see it.
        namespace: Where the objects lie.
        code: The job's folder.
        keys: Its SSH keys; without them the objects are only for show.
        attempt: The number of the submission: a `retry` makes another one.
        mlflow_run_id: The MLflow run that was made for it.
        record: What the MLflow run is found by again.
        submitted_at: ISO 8601, UTC.
    """

    id: str
    job: Job
    namespace: str
    code: CodePackage
    keys: SshKeys = field(default_factory=SshKeys)
    attempt: int = 1
    mlflow_run_id: str | None = None
    record: str = ""
    submitted_at: str = ""

    @property
    def spec(self) -> Kubernetes:
        """The `backend.kubernetes` part of the job."""
        return self.job.backend.kubernetes

    def named(self, part: str) -> str:
        """The name of an object that all attempts share."""
        return f"{self.id}-{part}"

    def of_attempt(self, part: str) -> str:
        """The name of an object of this attempt alone."""
        return f"{self.id}-{part}-{self.attempt}"

    @property
    def pods(self) -> int:
        """How many worker pods there are at most."""
        return -(-self.job.resources.workers // self.spec.workers_per_pod)
