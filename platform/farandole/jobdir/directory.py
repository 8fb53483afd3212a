"""The directories of jobs: made, found by id or name, held by one supervisor at a time."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from farandole.errors import SpecError, closest_match
from farandole.spec import Job, home


def create_job_directory(job: Job) -> Path:
    """A directory for a new submission of a job; its name is the id."""
    jobs = home() / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    while True:
        directory = jobs / f"{job.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        with suppress(FileExistsError):  # many submissions in one second may draw the same four digits
            directory.mkdir()
            return directory


def newest_job_directory(job: Job) -> Path:
    """The directory of the newest submission of a job of this name.

    Raises:
        SpecError: There is none.
    """
    found = [path.parent for path in (home() / "jobs").glob(f"{job.name}-*/job.json") if _name_in(path) == job.name]
    if not found:
        raise SpecError(f"--resume: no job named {job.name} has been started here; leave --resume out")
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def find_job_directory(job_id: str) -> Path:
    """The directory of a job.

    Raises:
        SpecError: There is no such job.
    """
    jobs = home() / "jobs"
    known = sorted(path.parent.name for path in jobs.glob("*/job.json"))
    if job_id not in known:
        close = closest_match(job_id, known)
        hint = f"did you mean {close}?" if close else f"the jobs are the folders of {jobs}"
        raise SpecError(f"{job_id}: there is no such job here; {hint}")
    return jobs / job_id


def _name_in(spec: Path) -> str | None:
    try:
        return str(json.loads(spec.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not a spec of ours, so not the job that is looked for


@contextmanager
def training_lock(directory: Path) -> Iterator[None]:
    """One training at a time in a job's directory; the lock ends with this process, however it ends.

    Raises:
        SpecError: Another process holds it.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        if not _lock(handle):
            raise SpecError(f"--resume: {directory.name} is still training; wait for it, or end it first")
        yield
    finally:
        os.close(handle)


def is_training(directory: Path) -> bool:
    """Whether a supervisor lives that trains in this directory."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
