"""Says in MLflow that a job has ended whose own processes were killed, and could not.

`python -m farandole.backends.local.mlflow_finalizer --directory DIR --status FAILED|KILLED [--held]`: a process, as MLflow takes
seconds to import. Where the store does not answer, this waits in the job's directory, with what the job itself has left
there, until `farandole sync`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from farandole.jobdir.locks import try_lock_job
from farandole.jobdir.outcome import append_log
from farandole.process.orphans import GANG_VARIABLE
from farandole.tracking.run_link import read_run_link

_PATIENCE_S = 120.0


def finalize_mlflow_run(directory: Path, variables: dict[str, str], *, cancelled: bool, held: bool) -> None:
    """Start that process, if the job was recorded at all.

    Args:
        directory: The job's directory.
        variables: Its environment: where the store is, and who asks.
        cancelled: Whether somebody wanted it to end.
        held: Whether the caller has the job in hand, and waits; otherwise nobody does.
    """
    if read_run_link(directory) is None:
        return
    command = [sys.executable, "-P", "-m", "farandole.backends.local.mlflow_finalizer", "--directory", str(directory)]
    command += ["--status", "KILLED" if cancelled else "FAILED", *(["--held"] if held else [])]
    with suppress(subprocess.TimeoutExpired, OSError):  # what was not sent waits
        subprocess.run(
            command,
            env={**variables, GANG_VARIABLE: str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=_PATIENCE_S,
            check=False,
        )


def main() -> None:
    """Close the job's MLflow run."""
    parser = argparse.ArgumentParser(prog="farandole.backends.local.mlflow_finalizer")
    parser.add_argument("--directory", required=True, type=Path, help="the job's directory")
    parser.add_argument("--status", required=True, choices=["FAILED", "KILLED"], help="how the job ended")
    parser.add_argument("--held", action="store_true", help="whoever waits for this has the job in hand")
    asked = parser.parse_args()
    if asked.held:
        _close(asked.directory, asked.status)
        return
    if os.fork():
        os._exit(0)  # nobody has to wait
    hold = try_lock_job(asked.directory)
    if hold is None:
        return  # it is tried again, and its MLflow run goes on
    try:
        _close(asked.directory, asked.status)
    finally:
        hold.release()
        _tend()


def _close(directory: Path, status: Any) -> None:
    from farandole.jobdir.directory import load_job
    from farandole.tracking.recorder import close_run

    job = load_job(directory)
    close_run(job.tracking, directory, status, lambda event: append_log(directory, str(event)))


def _tend() -> None:
    """Somebody may have wanted to start the job while it was in hand here."""
    from farandole.backends.local.queue import Queue
    from farandole.storage import home

    Queue(home()).reconcile()


if __name__ == "__main__":
    main()
