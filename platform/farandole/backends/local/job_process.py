"""Process that is one job: `python -m farandole.backends.local.job_process --directory DIR`.

It prepares and trains, as `farandole run` does, from the serialized spec in the job's directory. When its runner dies,
it saves the state of the training, ends, and wakes the queue.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farandole.backends.local.queue import Queue
from farandole.errors import FarandoleError
from farandole.events import EventHandler
from farandole.jobdir.directory import load_job
from farandole.jobdir.outcome import EventLogger, write_outcome, write_result
from farandole.process.parent_death import named_parent, signal_on_parent_death
from farandole.process.signals import TERMINATED_EXIT_CODE, Terminated, raise_on_sigterm
from farandole.spec import Job
from farandole.storage import home

JobFunction = Callable[[Job, Path, EventHandler], dict[str, Any]]
"""Runs a job in its directory, and returns its result document."""


def main() -> None:
    """Run the job."""
    run_job_process(prepare_and_train)


def run_job_process(run: JobFunction) -> None:
    """Run this process as a job's process, from its start to its exit.

    Args:
        run: The work of the job.
    """
    raise_on_sigterm()
    signal_on_parent_death(signal.SIGTERM)
    runner = named_parent()
    directory = _directory()
    try:
        code = _run(run, directory) if runner.is_alive else TERMINATED_EXIT_CODE
    finally:
        if not runner.is_alive:
            Queue(home()).reconcile()
    sys.exit(code)


def prepare_and_train(job: Job, directory: Path, on_event: EventHandler) -> dict[str, Any]:
    """Prepare and train as `farandole run` does. A retried job resumes from its last checkpoint."""
    from farandole import pipeline

    return pipeline.run(pipeline.check(job), on_event, directory=directory).to_dict()


def _run(run: JobFunction, directory: Path) -> int:
    try:
        document = run(load_job(directory), directory, EventLogger(directory))
    except FarandoleError as error:
        write_outcome(directory, str(error))
        if error.detail:
            print(error.detail, file=sys.stderr, flush=True)
        return error.exit_code
    except Terminated:
        write_outcome(directory, "ended by SIGTERM")
        return TERMINATED_EXIT_CODE
    except Exception as error:  # noqa: BLE001 - an unexpected error, also of the user's code, fails the job
        write_outcome(directory, f"{type(error).__name__}: {error}; the log has the stack trace")
        traceback.print_exc()
        return 1
    write_result(directory, document)
    model = document["model"]["uri"]
    write_outcome(directory, f"trained {model}" if model else "the script reached its end")
    return 0


def _directory() -> Path:
    parser = argparse.ArgumentParser(prog="farandole.backends.local.job_process")
    parser.add_argument("--directory", required=True, type=Path, help="the job's directory, with its spec")
    directory: Path = parser.parse_args().directory
    return directory


if __name__ == "__main__":
    main()
