"""The job's training from first attempt to last: starts gangs until one reaches the end."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.errors import FarandoleError, JobFailed, SpecError, TrainingFailed
from farandole.launch.gang import run_gang
from farandole.progress import Noted, Watcher, ignore
from farandole.shards import read_manifest
from farandole.spec import Job, home


@dataclass(frozen=True)
class Trained:
    """A training that reached its end.

    Args:
        job_id: The job's id.
        directory: Where the job keeps its spec, checkpoints and logs.
        training: The `training` part of a result document.
        model_uri: The logged or registered model.
    """

    job_id: str
    directory: Path
    training: dict[str, Any]
    model_uri: str


def train(job: Job, watch: Watcher = ignore, *, register: bool = False, resume: bool = False) -> Trained:
    """Train the job's model on its dataset.

    Args:
        job: The job; its dataset lies ready.
        watch: Is told of progress.
        register: Whether to add a model version.
        resume: Go on with the newest job of this name instead of starting a new one.

    Raises:
        DatasetError: There is no dataset.
        ModelError: The builder cannot be used.
        TrainingFailed: The training broke more often than `resources.max_restarts` allows.
    """
    read_manifest(job.data.output)
    directory = _newest_directory(job) if resume else _new_directory(job)
    (directory / "job.json").write_text(job.model_dump_json(indent=1), encoding="utf-8")
    known = directory / "mlflow_run_id"
    mlflow_run_id = known.read_text(encoding="utf-8") if known.exists() else None
    for number in range(1, job.resources.max_restarts + 2):
        attempt = run_gang(job, directory, number, mlflow_run_id=mlflow_run_id, register=register, watch=watch)
        mlflow_run_id = attempt.mlflow_run_id
        if mlflow_run_id:
            known.write_text(mlflow_run_id, encoding="utf-8")
        if attempt.result is not None and attempt.error is None:
            training = {**attempt.result["training"], "attempts": number}
            return Trained(directory.name, directory, training, attempt.result["model"]["uri"])
        error = attempt.error or TrainingFailed("train: the workers ended without a result")
        if not _worth_another(error) or number > job.resources.max_restarts:
            raise error
        watch(Noted(f"attempt {number} failed: {error}; starting again from the last checkpoint", level="warning"))
    raise AssertionError("the loop returns or raises")


def _worth_another(error: FarandoleError) -> bool:
    """Wrong input and a missing program stay what they are; only broken jobs may do better next time."""
    return isinstance(error, JobFailed)


def _new_directory(job: Job) -> Path:
    job_id = f"{job.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    directory = home() / "jobs" / job_id
    directory.mkdir(parents=True)
    return directory


def _newest_directory(job: Job) -> Path:
    specs = (home() / "jobs").glob(f"{job.name}-*/job.json")
    found = [path.parent for path in specs if json.loads(path.read_text(encoding="utf-8"))["name"] == job.name]
    if not found:
        raise SpecError(f"--resume: no job named {job.name} has been started here; leave --resume out")
    return max(found, key=lambda path: path.stat().st_mtime_ns)
