"""Creation of a job on this machine: its directory, its spec and its launch context."""

from __future__ import annotations

import os
from pathlib import Path

from farandole.backends.local.spawn import inherited_environment
from farandole.errors import SpecError, UnavailableError, is_disk_full
from farandole.jobdir.directory import create_job_directory, save_spec
from farandole.jobdir.launch_context import save_launch_context
from farandole.jobdir.layout import jobs_folder
from farandole.spec import Job

SLOTS_VARIABLE = "FARANDOLE_SLOTS"


def create_job(job: Job, home: Path, job_id: str | None = None) -> Path:
    """Create the directory of a job, with its spec and its launch context.

    Args:
        job: The job.
        home: The `$FARANDOLE_HOME` of its queue.
        job_id: Its id. Default: a new one, from its name and the time.

    Raises:
        UnavailableError: It cannot be written.
    """
    try:
        if job_id is None:
            directory = create_job_directory(job)
        else:
            directory = jobs_folder() / job_id
            directory.mkdir(parents=True)
        save_spec(directory, job)
        save_launch_context(directory, inherited_environment(home))
    except OSError as error:
        path = error.filename or jobs_folder()
        remedy = "free some space" if is_disk_full(error) else "make sure that you may write there"
        raise UnavailableError(
            f"{path}: cannot be written ({error.strerror or error}); {remedy}, or set FARANDOLE_HOME to another"
            " directory"
        ) from error
    return directory


def requested_slots() -> int | None:
    """Return the number of jobs that FARANDOLE_SLOTS lets run at once; None: it is not set.

    Raises:
        SpecError: It is not a positive whole number.
    """
    text = os.environ.get(SLOTS_VARIABLE)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise SpecError(f"{SLOTS_VARIABLE}: {text}: the number of jobs that run at once; use a whole number from 1")
    return int(text)
