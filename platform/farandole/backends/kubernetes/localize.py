"""A job as the pods of a cluster see it: places of the submitter's machine become places that pods reach."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from farandole.backends.kubernetes.manifests.preparation import MASTER
from farandole.spec import Job
from farandole.storage import home, is_uri

CODE_FOLDER = "code"
"""Where in the home of the pods' user the job's folder lies."""
HOSTS_FILE = "hosts"
"""Where in it the launcher lists the workers that are ready."""
_WAIT_S = 30 * 86_400.0
"""How long a launcher waits for workers where no deadline says otherwise: the queue of a cluster may be long."""


@dataclass(frozen=True)
class LocalizedJob:
    """A job for pods.

    Args:
        job: The job.
        problems: What pods would not find.
    """

    job: Job
    problems: tuple[str, ...] = ()


@dataclass
class _Localizer:
    job: Job
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spec = self.job.backend.kubernetes
        self.storage = self.spec.storage.rstrip("/") if self.spec.storage else None
        self.folder = f"{self.spec.home}/{CODE_FOLDER}"

    def run(self) -> Job:
        job = self.job
        if self.storage is not None and not is_uri(self.storage) and not self.spec.is_shared(self.storage):
            self.problems.append(
                f"backend.kubernetes.storage: {self.storage} lies in none of backend.kubernetes.volumes, so pods would"
                " not share it; add the volume, or use a URI"
            )
        output = self.place("data.output", job.data.output)
        changes: dict[str, Any] = {
            "folder": self.folder,
            "data": self.data(output),
            "train": self.train(output),
            "tracking": self.tracking(),
            "resources": job.resources.model_copy(
                update={"hosts": None, "wait_s": float(self.spec.deadline_s or _WAIT_S)}
            ),
        }
        self.keys()
        return job.model_copy(update=changes)

    def data(self, output: str) -> Any:
        data = self.job.data
        sources = {
            name: source.model_copy(update={"path": self.source(name, source.path)})
            for name, source in data.sources.items()
        }
        return data.model_copy(update={"output": output, "sources": sources, "master": data.master or MASTER})

    def train(self, output: str) -> Any:
        checkpoint = self.job.train.checkpoint
        if checkpoint.directory is not None:
            place = self.place("train.checkpoint.directory", checkpoint.directory)
        else:  # never in a pod, which may be lost
            place = f"{self.storage or output.rpartition('/')[0]}/checkpoints"
        moved = checkpoint.model_copy(update={"directory": place})
        return self.job.train.model_copy(update={"checkpoint": moved})

    def tracking(self) -> Any:
        tracking = self.job.tracking
        uri = self.spec.tracking_uri or tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None and (self.spec.env_config_maps or "MLFLOW_TRACKING_URI" in self.spec.env):
            return tracking  # its pods have a variable that says it
        if uri is None or urlsplit(uri).scheme not in ("http", "https", "postgresql", "mysql", "mssql"):
            found = "there is none" if uri is None else f"{uri} is a file of this machine"
            self.problems.append(
                f"tracking.uri: {found}, and pods record over the network; give an MLflow server's address, or the one"
                " that pods see as backend.kubernetes.tracking_uri"
            )
        artifacts = tracking.artifacts and self.place("tracking.artifacts", tracking.artifacts)
        return tracking.model_copy(update={"uri": uri, "artifacts": artifacts})

    def place(self, name: str, path: str) -> str:
        """A directory that all pods write to."""
        if is_uri(path) or self.spec.is_shared(path):
            return path
        inside = _below(path, str(home()))
        if inside is not None and self.storage is not None:
            return f"{self.storage}/{inside}"
        self.problems.append(
            f"{name}: {path} is on this machine, and pods would not see it; set backend.kubernetes.storage, or give a"
            " URI such as s3://bucket/folder or a path in one of backend.kubernetes.volumes"
        )
        return path

    def source(self, name: str, path: str) -> str:
        """What a source reads."""
        if is_uri(path) or any(volume.contains(path) for volume in self.spec.volumes):
            return path
        inside = _below(path, self.job.folder or "")
        if inside is not None:
            return f"{self.folder}/{inside}"
        self.problems.append(
            f"data.sources.{name}.path: {path} is on this machine, and pods would not see it; put it into the job's"
            " folder, which travels with the job, into an object store (s3://…), or into a volume of"
            " backend.kubernetes.volumes"
        )
        return path

    def keys(self) -> None:
        """Keys lie in variables that pods get, or in files that they see."""
        data = self.job.data
        named = {"data.privacy.key": data.privacy.key, "data.shards.encryption.key": data.shard_key}
        for place, key in named.items():
            if key is None:
                continue
            if key.environment and not self.spec.env_from and key.environment not in self.spec.env_secrets:
                self.problems.append(
                    f"{place}.environment: pods have no variable {key.environment}; take it from a Secret by"
                    f" backend.kubernetes.env_secrets"
                )
            if key.file and not any(volume.contains(key.file) for volume in self.spec.volumes):
                self.problems.append(
                    f"{place}.file: {key.file} is on this machine; use `environment`, and"
                    " backend.kubernetes.env_secrets, or mount a Secret by backend.kubernetes.volumes"
                )


def localize(job: Job) -> LocalizedJob:
    """The job as pods see it, and what they would not find."""
    relocation = _Localizer(job)
    moved = relocation.run()
    return LocalizedJob(moved, tuple(relocation.problems))


def _below(path: str, folder: str) -> str | None:
    """The path seen from the folder; None: it does not lie in it."""
    if not folder or not PurePosixPath(path).is_relative_to(Path(folder).absolute()):
        return None
    return PurePosixPath(path).relative_to(Path(folder).absolute()).as_posix()
