"""Process that closes the MLflow run of a job whose own processes were killed and could not.

Run as `python -m farandole.backends.local.mlflow_finalizer --directory DIR --status STATUS [--job-is-locked]`. It is a
separate process, since MLflow takes seconds to import. If the store does not answer, the status waits in the job's
directory, with the job's other pending operations, until `farandole sync`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from farandole.backends.local.queue import Queue
from farandole.jobdir.locks import try_lock_ended
from farandole.jobdir.outcome import append_log
from farandole.storage import home


def main() -> None:
    """Close the job's MLflow run."""
    parser = argparse.ArgumentParser(prog="farandole.backends.local.mlflow_finalizer")
    parser.add_argument("--directory", required=True, type=Path, help="the job's directory")
    parser.add_argument("--status", required=True, choices=["FAILED", "KILLED"], help="how the job ended")
    parser.add_argument("--job-is-locked", action="store_true", help="the caller holds the job's lock, and waits")
    arguments = parser.parse_args()
    if arguments.job_is_locked:
        _close(arguments.directory, arguments.status)
        return
    lock = try_lock_ended(arguments.directory)
    if lock is None:
        return  # the job is being continued, and its MLflow run with it
    if os.fork():
        os._exit(0)  # the caller does not have to wait; the child holds the lock
    try:
        _close(arguments.directory, arguments.status)
    finally:
        lock.release()
        Queue(home()).reconcile()  # a runner may have wanted the job while it was locked here


def _close(directory: Path, status: Any) -> None:
    from farandole.jobdir.directory import load_job
    from farandole.tracking.recorder import close_run

    close_run(load_job(directory).tracking, directory, status, lambda event: append_log(directory, str(event)))


if __name__ == "__main__":
    main()
