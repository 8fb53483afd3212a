"""Requests for another number of workers: a file in the job's directory, which the job's supervisor reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from farandole.errors import SpecError
from farandole.jobdir.directory import find_job_directory, load_job
from farandole.jobdir.layout import SCALE_REQUEST
from farandole.jobdir.locks import is_training
from farandole.jobdir.status import read_status, resume_command
from farandole.process.atomic import write_json


def scale(job_id: str, workers: int) -> None:
    """Ask a running job to continue with another number of workers, from a checkpoint that it saves at once.

    Args:
        job_id: The job's id, which is the name of its folder.
        workers: The number of workers.

    Raises:
        SpecError: There is no such job, it does not train, or it cannot have that number of workers.
    """
    directory = find_job_directory(job_id)
    job = load_job(directory)
    least, rows = job.resources.effective_min_workers, job.train.batch_rows
    if workers < least:
        raise SpecError(
            f"{job_id}: {workers} workers are fewer than resources.min_workers, {least}; ask for at least {least}, or"
            " submit jobs that may shrink with a smaller resources.min_workers"
        )
    if workers > rows:
        raise SpecError(
            f"{job_id}: {workers} workers are more than the {rows} rows of a global batch, so some would have none; ask"
            f" for at most {rows}"
        )
    if not is_training(directory):
        status = read_status(directory)
        if status is None:
            found = "it is not training"
        elif status.state in ("queued", "running"):
            found = "its supervisor has died"
        else:
            found = f"its state is {status.state}"
        command = resume_command(directory)
        raise SpecError(f"{job_id}: only a running job changes its size, and {found}; use `{command}`")
    write_json(directory / SCALE_REQUEST, {"workers": workers})


@dataclass(frozen=True)
class ScaleRequest:
    """The newest request.

    Args:
        workers: The number of workers.
        number: Distinguishes the request from an earlier one for as many workers.
    """

    workers: int
    number: int = 0


def read_scale_request(directory: Path, default: int) -> ScaleRequest:
    """Return the newest request; if nobody asked, one for the `default` number of workers."""
    path = directory / SCALE_REQUEST
    try:
        return ScaleRequest(int(json.loads(path.read_text(encoding="utf-8"))["workers"]), path.stat().st_mtime_ns)
    except FileNotFoundError:
        return ScaleRequest(default)


def requested_workers(directory: Path, default: int) -> int:
    """Return the number of workers that was requested last; if nobody asked, `default`."""
    return read_scale_request(directory, default).workers


def clear_scale_request(directory: Path) -> None:
    """Remove the request: a job that is started again has the size of its spec."""
    (directory / SCALE_REQUEST).unlink(missing_ok=True)
