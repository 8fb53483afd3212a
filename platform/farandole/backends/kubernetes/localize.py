"""Translation of a job for the pods of a cluster: paths of the submitter's machine become locations that pods reach."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from farandole.backends.kubernetes.manifests.preparation import MASTER
from farandole.backends.protocol import LocalizedJob
from farandole.spec import Job
from farandole.storage import home, is_uri, join_location, split_location

CODE_FOLDER = "code"
"""The job's folder, below the home directory of the pods' user."""
HOSTS_FILE = "hosts"
"""The file, below the same home directory, in which the launcher lists the workers that are ready."""
_DATABASE_SCHEMES = ("http", "https", "postgresql", "mysql", "mssql")
_WAIT_S = 30 * 86_400.0
"""How long a launcher waits for workers without a deadline: a cluster's queue may be long."""


@dataclass
class _Localizer:
    job: Job
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spec = self.job.backend.kubernetes
        self.storage = self.spec.storage
        self.folder = f"{self.spec.home}/{CODE_FOLDER}"

    def run(self) -> Job:
        job = self.job
        if self.storage is not None and not is_uri(self.storage) and not self.spec.is_shared(self.storage):
            self.problems.append(
                f"backend.kubernetes.storage: {self.storage} is in none of backend.kubernetes.volumes, so pods would"
                " not share it; add the volume, or use a URI"
            )
        output = self.directory("data.output", job.data.output)
        changes: dict[str, Any] = {
            "folder": self.folder,
            "data": self.data(output),
            "train": self.train(output),
            "tracking": self.tracking(),
            "resources": job.resources.model_copy(
                update={"hosts": None, "wait_s": float(self.spec.deadline_s or _WAIT_S)}
            ),
        }
        self.check_keys()
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
            directory = self.directory("train.checkpoint.directory", checkpoint.directory)
        else:  # never in a pod, which may be lost
            directory = join_location(self.storage or split_location(output)[0], "checkpoints")
        localized = checkpoint.model_copy(update={"directory": directory})
        self.check_models()
        return self.job.train.model_copy(update={"checkpoint": localized})

    def check_models(self) -> None:
        """Add a problem for every trained model that is a directory which the launcher's pod would not see."""
        for name, part in self.job.train.trained_models.items():
            field_path, model = f"train.{name}.{'teacher' if name == 'distill' else 'model'}", part.model
            if model.startswith("/") and not any(volume.contains(model) for volume in self.spec.volumes):
                self.problems.append(
                    f"{field_path}: {model} is on this machine, and pods would not see it; name a registered model"
                    " (models:/NAME@ALIAS), or put the bundle into a volume of backend.kubernetes.volumes"
                )

    def tracking(self) -> Any:
        tracking = self.job.tracking
        uri = self.spec.tracking_uri or tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None and (self.spec.env_config_maps or "MLFLOW_TRACKING_URI" in self.spec.env):
            return tracking  # the pods have a variable with the URI
        if uri is None or urlsplit(uri).scheme not in _DATABASE_SCHEMES:
            found = "none is set" if uri is None else f"{uri} is a file of this machine"
            self.problems.append(
                f"tracking.uri: {found}, and pods record over the network; give an MLflow server's address, or the one"
                " that pods reach as backend.kubernetes.tracking_uri"
            )
        artifacts = tracking.artifacts and self.directory("tracking.artifacts", tracking.artifacts)
        return tracking.model_copy(update={"uri": uri, "artifacts": artifacts})

    def directory(self, name: str, path: str) -> str:
        """Return the location of a directory that all pods write to."""
        if is_uri(path) or self.spec.is_shared(path):
            return path
        inside = _relative_to(path, str(home()))
        if inside is not None and self.storage is not None:
            return join_location(self.storage, inside)
        self.problems.append(
            f"{name}: {path} is on this machine, and pods would not see it; set backend.kubernetes.storage, or give a"
            " URI such as s3://bucket/folder or a path in one of backend.kubernetes.volumes"
        )
        return path

    def source(self, name: str, path: str) -> str:
        """Return the location that a source reads."""
        if is_uri(path) or any(volume.contains(path) for volume in self.spec.volumes):
            return path
        inside = _relative_to(path, self.job.folder or "")
        if inside is not None:
            return f"{self.folder}/{inside}"
        self.problems.append(
            f"data.sources.{name}.path: {path} is on this machine, and pods would not see it; put it into the job's"
            " folder, which travels with the job, into an object store (s3://…), or into a volume of"
            " backend.kubernetes.volumes"
        )
        return path

    def check_keys(self) -> None:
        """Add a problem for every key that is neither in a variable nor in a file of the pods."""
        data = self.job.data
        keys = {"data.privacy.key": data.privacy.key, "data.shards.encryption.key": data.shard_key}
        for field_path, key in keys.items():
            if key is None:
                continue
            if key.environment and not self.spec.env_from and key.environment not in self.spec.env_secrets:
                self.problems.append(
                    f"{field_path}.environment: pods have no variable {key.environment}; take it from a Secret by"
                    f" backend.kubernetes.env_secrets"
                )
            if key.file and not any(volume.contains(key.file) for volume in self.spec.volumes):
                self.problems.append(
                    f"{field_path}.file: {key.file} is on this machine; use `environment`, and"
                    " backend.kubernetes.env_secrets, or mount a Secret by backend.kubernetes.volumes"
                )


def localize(job: Job) -> LocalizedJob:
    """Return the job as pods see it, and what they would not reach."""
    localizer = _Localizer(job)
    localized = localizer.run()
    volumes = job.backend.kubernetes.volumes
    remote = (
        name
        for name, source in job.data.sources.items()
        if any(volume.contains(source.path) for volume in volumes) and not Path(source.path).exists()
    )
    return LocalizedJob(localized, tuple(localizer.problems), frozenset(remote), prepares_here=False)


def _relative_to(path: str, folder: str) -> str | None:
    """Return the path relative to the folder; None: it is not below it."""
    if not folder or not PurePosixPath(path).is_relative_to(Path(folder).absolute()):
        return None
    return PurePosixPath(path).relative_to(Path(folder).absolute()).as_posix()
