"""Another number of workers for a job that trains: asked for by a file in its directory, honoured by its supervisor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from farandole.errors import SpecError
from farandole.jobdir.directory import find_job_directory, is_training
from farandole.jobdir.status import read_status, replace_text, resume_command
from farandole.spec import Job

_REQUEST = "scale.json"


def scale(job_id: str, workers: int) -> None:
    """Ask a running job to go on with another number of workers: from its next checkpoint on, which is made at once.

    Args:
        job_id: The job's id, which is the name of its folder.
        workers: How many there shall be.

    Raises:
        SpecError: There is no such job, it does not train, or it cannot have so many workers.
    """
    directory = find_job_directory(job_id)
    job = Job.model_validate(json.loads((directory / "job.json").read_text(encoding="utf-8")))
    least, rows = job.resources.effective_min_workers, job.train.global_batch_size
    if workers < least:
        raise SpecError(
            f"{job_id}: {workers} workers are fewer than resources.min_workers, {least}; ask for at least {least}, or"
            " start jobs that shall shrink with a smaller resources.min_workers"
        )
    if workers > rows:
        raise SpecError(
            f"{job_id}: {workers} workers are more than the {rows} rows of a global batch, so some would have none; ask"
            f" for at most {rows}"
        )
    if not is_training(directory):
        status = read_status(directory)
        state = status["state"] if status else "not training"
        said = "its supervisor has died" if state in ("queued", "running") else f"it is {state}"
        command = resume_command(directory)
        raise SpecError(f"{job_id}: only a running job changes its size, and {said}; use `{command}`")
    replace_text(directory / _REQUEST, json.dumps({"workers": workers}))


@dataclass(frozen=True)
class ScaleRequest:
    """What was last asked for.

    Args:
        workers: So many workers.
        number: Tells it from an equal one before it.
    """

    workers: int
    number: int = 0


def read_scale_request(directory: Path, otherwise: int) -> ScaleRequest:
    """What was last asked for; where nobody asked, the number that the spec says."""
    path = directory / _REQUEST
    try:
        return ScaleRequest(int(json.loads(path.read_text(encoding="utf-8"))["workers"]), path.stat().st_mtime_ns)
    except FileNotFoundError:
        return ScaleRequest(otherwise)


def requested_workers(directory: Path, otherwise: int) -> int:
    """For how many workers a job was last asked."""
    return read_scale_request(directory, otherwise).workers


def clear_scale_request(directory: Path) -> None:
    """A job that is started anew has the size that its spec says."""
    (directory / _REQUEST).unlink(missing_ok=True)
