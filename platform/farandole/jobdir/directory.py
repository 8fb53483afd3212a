"""Directories of jobs: created, found by id or name, locked, and read."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from farandole.errors import SpecError, TrainingError, closest_match, remedy_of
from farandole.jobdir.layout import SPEC, jobs_folder
from farandole.process.atomic import write_atomic
from farandole.spec import Job, parse_job


def create_directory(folder: Path, name: str) -> Path:
    """Create the directory of a new job or sweep; its name is the id: `NAME-DATE-TIME-RANDOM`.

    Args:
        folder: The folder of all jobs, or of all sweeps.
        name: The name in the job file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        directory = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        with suppress(FileExistsError):  # many jobs in one second may draw the same four digits
            directory.mkdir()
            return directory


def create_job_directory(job: Job) -> Path:
    """Create the directory of a new job."""
    return create_directory(jobs_folder(), job.name)


def require_job_directory(job: Job) -> Path:
    """Create the directory of a job that starts now.

    Raises:
        TrainingError: It cannot be created.
    """
    try:
        return create_job_directory(job)
    except OSError as error:
        path, remedy = error.filename or jobs_folder(), remedy_of(error) or "make sure that you may write there"
        raise TrainingError(
            f"{path}: {error.strerror or error}; {remedy}, or set FARANDOLE_HOME to another directory"
        ) from error


def newest_directory(folder: Path, name: str) -> Path | None:
    """Return the directory of the newest job or sweep of a name; None if there is none.

    Args:
        folder: The folder of all jobs, or of all sweeps.
        name: The name in the job file.
    """
    return max(_directories(folder, name), key=lambda directory: (directory / SPEC).stat().st_mtime_ns, default=None)


def previous_job(directory: Path, name: str) -> Job | None:
    """Return the job of this name that was started before the one of a directory; None if there is none.

    Args:
        directory: The job's directory.
        name: The name in the job file.
    """
    earlier = [path for path in _directories(directory.parent, name) if path.name < directory.name]
    for path in sorted(earlier, reverse=True)[:1]:
        with suppress(SpecError, OSError, ValueError):  # written by another version
            return load_job(path)
    return None


def _directories(folder: Path, name: str) -> list[Path]:
    return [path.parent for path in folder.glob(f"{name}-*/{SPEC}") if _name_in(path) == name]


def find_job_directory(job_id: str) -> Path:
    """Return the directory of a job.

    Raises:
        SpecError: There is no such job.
    """
    folder = jobs_folder()
    known = sorted(path.parent.name for path in folder.glob(f"*/{SPEC}"))
    if job_id not in known:
        close = closest_match(job_id, known)
        hint = f"did you mean {close}?" if close else f"the jobs are the folders of {folder}"
        raise SpecError(f"{job_id}: there is no such job here; {hint}")
    return folder / job_id


def save_spec(directory: Path, job: Job) -> Path:
    """Write the serialized spec into a job's directory; return its path."""
    path = directory / SPEC
    write_atomic(path, job.model_dump_json(indent=1))
    return path


def load_job(directory: Path) -> Job:
    """Read the job from its directory.

    Raises:
        FileNotFoundError: There is no serialized spec.
        SpecError: The spec breaks a rule.
    """
    return load_spec(directory / SPEC)


def load_spec(path: Path) -> Job:
    """Read a job from its serialized spec.

    Raises:
        FileNotFoundError: There is no such file.
        SpecError: The spec breaks a rule.
    """
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return parse_job(raw, origin=str(path))


def _name_in(spec: Path) -> str | None:
    try:
        return str(json.loads(spec.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not a serialized spec, so not the requested job
