"""One submission of a job: everything that its objects are rendered from."""

from __future__ import annotations

from dataclasses import dataclass, field

from farandole.spec import Job
from farandole.spec.backend import Kubernetes

MAX_INLINE_BYTES = 900 * 1024
"""The largest packed folder that is sent in the API, which accepts 1 MiB for one object."""


@dataclass(frozen=True)
class CodePackage:
    """The packed folder of a job.

    Args:
        digest: SHA-256 of the package, by which pods verify it.
        content: The package, if it is in a ConfigMap.
        location: Its URI or path, if it is in the storage.
        size_bytes: Its size.
    """

    digest: str
    content: bytes | None = None
    location: str | None = None
    size_bytes: int = 0


@dataclass(frozen=True)
class SshKeys:
    """SSH keys of one job, in OpenSSH's format: a pair by which the launcher logs in, and the workers' host key."""

    user_private: str = ""
    user_public: str = ""
    host_private: str = ""
    host_public: str = ""

    @classmethod
    def generate(cls) -> SshKeys:
        """Generate two new pairs of Ed25519 keys."""
        return cls(*_generate_pair(), *_generate_pair())


@dataclass(frozen=True)
class Submission:
    """One submission of a job.

    Args:
        id: The job's id.
        job: The job, as pods see it.
        namespace: The namespace of the objects.
        code: The job's folder.
        keys: Its SSH keys; without them the objects are only for display.
        number: The number of the submission: a `retry` creates another one.
        mlflow_run_id: The MLflow run that was created for it.
        run_link: The serialized run link, by which pods find the MLflow run.
        submitted_at: Time of the first submission, ISO 8601, UTC.
    """

    id: str
    job: Job
    namespace: str
    code: CodePackage
    keys: SshKeys = field(default_factory=SshKeys)
    number: int = 1
    mlflow_run_id: str | None = None
    run_link: str = ""
    submitted_at: str = ""

    @property
    def spec(self) -> Kubernetes:
        """The `backend.kubernetes` part of the job."""
        return self.job.backend.kubernetes

    def shared_name(self, part: str) -> str:
        """Return the name of an object that all submissions share."""
        return f"{self.id}-{part}"

    def own_name(self, part: str) -> str:
        """Return the name of an object of this submission alone."""
        return f"{self.id}-{part}-{self.number}"

    @property
    def worker_pods(self) -> int:
        """The largest number of worker pods."""
        return -(-self.job.resources.workers // self.spec.workers_per_pod)


def _generate_pair() -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization  # slow to import, and `plan` generates no keys
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return text.decode(), public.decode() + "\n"
