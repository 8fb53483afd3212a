"""Process that is one job: `python -m farandole.backends.local.job_process --directory DIR`.

It prepares and trains, as `farandole run` does, from the serialized spec in the job's directory. When its runner dies,
it saves the state of the training, ends, and wakes the queue.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farandole.backends.local.queue import Queue
from farandole.errors import FarandoleError
from farandole.events import EventHandler
from farandole.jobdir.outcome import EventLogger, write_outcome, write_result
from farandole.process.messages import PARENT_VARIABLE
from farandole.process.parent_death import signal_on_parent_death
from farandole.spec import Job, home, parse_job

JobFunction = Callable[[Job, Path, EventHandler], dict[str, Any]]
"""Runs a job in its directory, and returns its result document."""


class _Terminated(BaseException):
    """SIGTERM as an exception, so that every `finally` on the way out ends what it started."""


def main() -> None:
    """Run the job."""
    run_job_process(prepare_and_train)


def run_job_process(run: JobFunction) -> None:
    """Run this process as a job's process, from its start to its exit.

    Args:
        run: The work of the job.
    """
    signal.signal(signal.SIGTERM, _terminate)
    signal_on_parent_death(signal.SIGTERM)
    runner = int(os.environ.pop(PARENT_VARIABLE))
    directory = _directory()
    try:
        code = _run(run, directory) if os.getppid() == runner else 128 + signal.SIGTERM
    finally:
        if os.getppid() != runner:
            Queue(home()).reconcile()
    sys.exit(code)


def prepare_and_train(job: Job, directory: Path, on_event: EventHandler) -> dict[str, Any]:
    """Prepare and train as `farandole run` does. A retried job resumes from its last checkpoint."""
    from farandole.ingest.prepare import prepare
    from farandole.launch import train

    prepared = prepare(job, on_event)
    return train(job, on_event, register=True, directory=directory).document(job.name, prepared.to_dict())


def _run(run: JobFunction, directory: Path) -> int:
    try:
        spec = directory / "job.json"
        job = parse_job(json.loads(spec.read_text(encoding="utf-8")), place=str(spec))
        document = run(job, directory, EventLogger(directory))
    except FarandoleError as error:
        write_outcome(directory, str(error))
        if error.detail:
            print(error.detail, file=sys.stderr, flush=True)
        return error.exit_code
    except _Terminated:
        write_outcome(directory, "ended by SIGTERM")
        return 128 + signal.SIGTERM
    except Exception as error:  # noqa: BLE001 - an unexpected error, also of the user's code, fails the job
        write_outcome(directory, f"{type(error).__name__}: {error}; the log has the stack trace")
        traceback.print_exc()
        return 1
    write_result(directory, document)
    write_outcome(directory, f"trained {document['model']['uri']}")
    return 0


def _terminate(signal_number: int, frame: Any) -> None:
    raise _Terminated


def _directory() -> Path:
    parser = argparse.ArgumentParser(prog="farandole.backends.local.job_process")
    parser.add_argument("--directory", required=True, type=Path, help="the job's directory, with its spec")
    directory: Path = parser.parse_args().directory
    return directory


if __name__ == "__main__":
    main()
