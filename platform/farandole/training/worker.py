"""Process of one rank: `python -m farandole.training.worker --job JOB.json --directory DIR`.

It communicates with the launcher in two ways only: by the files that it is given, and by the lines on its standard
output. So it may run on any machine.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from farandole.errors import FarandoleError, TrainingError, explain_os_error, remedy_of
from farandole.process import messages
from farandole.process.collection import paused_collection
from farandole.process.parent_death import signal_on_parent_death
from farandole.process.signals import on_sigterm
from farandole.training import heartbeat
from farandole.training.stop import Stopped, StopSwitch


def main() -> None:
    """Run one rank, from start to end."""
    signal_on_parent_death(signal.SIGKILL)  # no orphan continues training
    arguments = _parse_arguments()
    switch = StopSwitch()
    on_sigterm(switch.request)
    heartbeat.start(_rank())
    _enable_stack_dumps()
    try:
        _load_environment(arguments.environment)
        with paused_collection():
            # Not before: torch and NumPy read their variables when they are imported.
            from farandole.spec import parse_job

            job = parse_job(json.loads(Path(arguments.job).read_text(encoding="utf-8")), origin=arguments.job)
            if job.train.script is not None:
                from farandole.training.script_job import run_script
            else:
                from farandole.training.rank import run_rank
        directory = Path(arguments.directory)
        if job.train.script is not None:
            run_script(job, directory, switch)
        else:
            run_rank(job, directory, arguments.register, switch)
    except Stopped as stopped:
        messages.send_message(messages.Stopped(stopped.step))
    except BaseException as error:  # noqa: BLE001 - reported, then the process ends
        _report_failure(error)
        _exit(1)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """Exit at once, in both cases.

    Horovod's background thread may wait for ranks that are gone, and the regular exit of a Python with torch and MLflow
    takes seconds without a heartbeat.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _load_environment(path: str | None) -> None:
    """Set the variables of the launcher that are not set yet.

    They come in a file that only this user may read, because Horovod's launcher would put them on the workers' command
    lines, which every user of the machine can see.
    """
    if path is not None:
        for name, value in json.loads(Path(path).read_text(encoding="utf-8")).items():
            os.environ.setdefault(name, value)


def _enable_stack_dumps() -> None:
    """Write Python's stacks to the log when the process crashes, and when the launcher requests them by SIGUSR1."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def _rank() -> int:
    return int(os.environ.get("HOROVOD_RANK", "0"))


def _report_failure(error: BaseException) -> None:
    """Send the failure to the launcher. A rank that lost a peer is a victim, not the cause."""
    failed_s = time.time()  # before the rest takes its time
    position = heartbeat.current_position()
    kind, message, detail = _describe_failure(error)
    failed = messages.Failed(_rank(), failed_s, kind, message, detail, step=position[0] if position else None)
    messages.send_message(failed)


def _describe_failure(error: BaseException) -> tuple[str, str, str | None]:
    """Return the kind, the message and the detail of a failure."""
    import torch

    from farandole.training.world import PeerLostError

    if isinstance(error, PeerLostError):
        return "PeerLost", "another rank ended", None
    if isinstance(error, FarandoleError):
        return type(error).__name__, str(error), error.detail
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        message = "train.global_batch_size: a worker ran out of memory; use a smaller batch or model"
    elif isinstance(error, OSError) and error.filename:
        message = explain_os_error(error, error.filename)
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} in {frame.filename}, line {frame.lineno}"
        if isinstance(error, OSError) and (remedy := remedy_of(error)):
            message += f"; {remedy}"
    return TrainingError.__name__, message, traceback.format_exc()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farandole.training.worker")
    parser.add_argument("--job", required=True, help="file with the serialized job")
    parser.add_argument("--environment", help="JSON file with environment variables, including secrets")
    parser.add_argument("--directory", required=True, help="directory of the job's checkpoints and logs")
    parser.add_argument("--register", action="store_true", help="add a model version")
    return parser.parse_args()


if __name__ == "__main__":
    main()
