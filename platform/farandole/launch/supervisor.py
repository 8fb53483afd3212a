"""The job's training from first attempt to last: starts gangs until one reaches the end."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.errors import FarandoleError, JobFailed, SpecError, TrainingFailed
from farandole.launch.gang import Attempt, run_gang
from farandole.progress import Noted, Watcher, ignore
from farandole.shards import open_key, read_manifest, require_policies
from farandole.spec import Job, home
from farandole.tracking.record import find_record


@dataclass(frozen=True)
class Trained:
    """A training that reached its end.

    Args:
        job_id: The job's id.
        directory: Where the job keeps its spec, checkpoints and logs.
        dataset: The `dataset` part of a result document, as the workers saw it.
        training: The `training` part of a result document.
        model_uri: The logged or registered model.
    """

    job_id: str
    directory: Path
    dataset: dict[str, Any]
    training: dict[str, Any]
    model_uri: str


def train(
    job: Job,
    watch: Watcher = ignore,
    *,
    register: bool = False,
    resume: bool = False,
    directory: Path | None = None,
) -> Trained:
    """Train the job's model on its dataset.

    Args:
        job: The job; its dataset lies ready.
        watch: Is told of progress.
        register: Whether to add a model version.
        resume: Go on with the newest job of this name instead of starting a new one.
        directory: Where the job keeps its spec, checkpoints and logs. Default: a new one in `$FARANDOLE_HOME/jobs`.

    Raises:
        DatasetError: There is no dataset, it was not protected as the job demands, or the key of its shards is missing.
        ModelError: The builder cannot be used.
        TrainingFailed: The training broke more often than `resources.max_restarts` allows, or the disk is full.
    """
    manifest = read_manifest(job.data.output)
    require_policies(job.data, manifest)
    open_key(manifest, job.data.output, job.data.shard_key)  # without which no worker gets far
    try:
        if directory is None:
            directory = _newest_directory(job) if resume else _new_directory(job)
        with _locked(directory):
            return _supervise(job, directory, register, watch)
    except OSError as error:
        place = error.filename or home() / "jobs"
        raise TrainingFailed(
            f"{place}: {error.strerror or error}; free some space, or set FARANDOLE_HOME to a place you may write to"
        ) from error


def _supervise(job: Job, directory: Path, register: bool, watch: Watcher) -> Trained:
    """Start gangs until one reaches the end; a later one goes on with the MLflow run of the first."""
    _write(directory / "job.json", job.model_dump_json(indent=1))
    attempt = Attempt(len(list(directory.glob("logs/attempt-*"))))
    last = attempt.number + 1 + job.resources.max_restarts
    while True:
        attempt = Attempt(attempt.number + 1)
        try:
            run_gang(job, directory, attempt, register=register, watch=watch)
            if attempt.result is not None and attempt.error is None:
                return _trained(directory, attempt, attempt.result)
            failure = attempt.error or TrainingFailed("train: the workers ended without a result")
            if not _worth_another(failure) or attempt.number == last:
                raise failure
        except BaseException as error:
            _close_run(job, directory, error, watch)
            raise
        text = f"attempt {attempt.number} failed: {failure}; starting again from the last checkpoint"
        watch(Noted(text, level="warning"))


def _trained(directory: Path, attempt: Attempt, result: dict[str, Any]) -> Trained:
    training = {**result["training"], "attempts": attempt.number}
    return Trained(directory.name, directory, result["dataset"], training, result["model"]["uri"])


def _worth_another(error: FarandoleError) -> bool:
    """Wrong input and a missing program stay what they are; only broken jobs may do better next time."""
    return isinstance(error, JobFailed)


def _close_run(job: Job, directory: Path, error: BaseException, watch: Watcher) -> None:
    """Say in MLflow that the job has ended: a chief that was killed could not."""
    if find_record(directory) is None:
        return
    from farandole.tracking.recorder import close_run  # seconds of import that a job which ends well does not need

    close_run(job.tracking, directory, "FAILED" if isinstance(error, FarandoleError) else "KILLED", watch)


def _new_directory(job: Job) -> Path:
    job_id = f"{job.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    directory = home() / "jobs" / job_id
    directory.mkdir(parents=True)
    return directory


def _newest_directory(job: Job) -> Path:
    found = [path.parent for path in (home() / "jobs").glob(f"{job.name}-*/job.json") if _name_in(path) == job.name]
    if not found:
        raise SpecError(f"--resume: no job named {job.name} has been started here; leave --resume out")
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def _name_in(spec: Path) -> str | None:
    try:
        return str(json.loads(spec.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not a spec of ours, so not the job that is looked for


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One training at a time in a job's directory; the lock ends with this process, however it ends."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError(f"--resume: {directory.name} is still training; wait for it, or end it first") from None
        yield
    finally:
        os.close(handle)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
