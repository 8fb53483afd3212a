"""Start of the processes that outlive this one: runners and finalizers; and the environment that they inherit."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from farandole.errors import UnavailableError
from farandole.process.orphans import GANG_VARIABLE
from farandole.tracking.run_link import read_run_link

RUNNER_LOG = "runner.log"
"""The output of runners, if they fail themselves."""
_FINALIZER_TIMEOUT_S = 120.0


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
    """Close the MLflow run of a killed job in a separate process, unless the job has recorded nothing.

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
