"""Start of the processes that outlive this one: runners, jobs, finalizers; and the environment that jobs inherit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from farandole.errors import UnavailableError
from farandole.process.messages import GANG_VARIABLE
from farandole.tracking.run_link import read_run_link

START = "start.json"
"""What a waiting job is to be started with. Only its user may read it, and it is removed when the job starts."""
RUNNER_LOG = "runner.log"
"""The output of runners that fail themselves."""
_ABANDONED_S = 3600.0
"""No submission takes this long between saving the launch context and the entry in the queue."""
_FINALIZER_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class LaunchContext:
    """Surroundings of a job's process.

    Args:
        folder: The working directory.
        variables: The environment of the submitter, secrets among them.
    """

    folder: str
    variables: dict[str, str]


def save_launch_context(directory: Path, home: Path) -> None:
    """Save the surroundings of this process for a job that may wait for a long time."""
    path = directory / START
    path.unlink(missing_ok=True)
    context = {"folder": os.getcwd(), "variables": inherited_environment(home)}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(context, file)


def take_launch_context(directory: Path) -> LaunchContext:
    """Return the saved surroundings and remove them from the disk."""
    path = directory / START
    raw = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    folder = raw["folder"] if Path(raw["folder"]).is_dir() else str(directory)
    return LaunchContext(folder, raw["variables"])


def discard_launch_context(directory: Path) -> None:
    """Remove the saved surroundings of a job that will not start."""
    (directory / START).unlink(missing_ok=True)


def remove_abandoned_contexts(jobs: Path, submitted: set[str]) -> None:
    """Remove the surroundings saved by submitters that were killed before their job entered the queue.

    Args:
        jobs: The directory of all jobs' directories.
        submitted: The ids of all jobs in the database.
    """
    for path in jobs.glob(f"*/{START}"):
        with suppress(FileNotFoundError):  # its job has just started
            if path.parent.name not in submitted and time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()


def spawn_runner(home: Path, pool: str, wake_lock: int) -> None:
    """Start a runner that outlives this process, its terminal and its session.

    Args:
        home: The home whose queue it serves.
        pool: The pool that it takes jobs from.
        wake_lock: Descriptor of the lock that it holds until it looks into the queue.

    Raises:
        UnavailableError: The runner cannot be started.
    """
    command = [sys.executable, "-P", "-m", "farandole.backends.local.runner"]  # no module of the user's folder
    command += ["--home", str(home), "--pool", pool, "--wake-lock", str(wake_lock)]
    with (home / RUNNER_LOG).open("ab") as log:
        done = subprocess.run(  # it forks and returns at once: nobody has to wait for its child
            command,
            env=inherited_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[wake_lock],
            start_new_session=True,
            check=False,
        )
    if done.returncode != 0:
        raise UnavailableError(
            f"{home / RUNNER_LOG}: the process that runs jobs did not start (exit code {done.returncode}); the last"
            " lines of this file show why"
        )


def finalize_mlflow_run(directory: Path, variables: dict[str, str], *, cancelled: bool, job_is_locked: bool) -> None:
    """Close the MLflow run of a killed job in a process of its own, unless the job has recorded nothing.

    Args:
        directory: The job's directory.
        variables: The job's environment: where the store is, and the credentials.
        cancelled: Whether the job's cancellation was requested.
        job_is_locked: Whether the caller holds the job's lock while it waits for this call.
    """
    if read_run_link(directory) is None:
        return
    command = [sys.executable, "-P", "-m", "farandole.backends.local.mlflow_finalizer", "--directory", str(directory)]
    command += ["--status", "KILLED" if cancelled else "FAILED", *(["--job-is-locked"] if job_is_locked else [])]
    with suppress(subprocess.TimeoutExpired, OSError):  # what was not sent waits for `farandole sync`
        subprocess.run(
            command,
            env={**variables, GANG_VARIABLE: str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=_FINALIZER_TIMEOUT_S,
            check=False,
        )


def inherited_environment(home: Path) -> dict[str, str]:
    """Return this process's variables for a process that outlives it.

    The mark of the job that this process belongs to is left out: what it submits does not belong to that job.
    """
    own = {name: value for name, value in os.environ.items() if name != GANG_VARIABLE}
    return {**own, "FARANDOLE_HOME": str(home)}
