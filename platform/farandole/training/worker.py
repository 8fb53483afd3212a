"""The process of one rank: `python -m farandole.training.worker --job JOB.json --directory DIR`.

It meets the launcher in two places only: the files that it is given, and the lines that it says on its standard
output. So it does not matter on which machine it runs.
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

from farandole.errors import FarandoleError, TrainingError
from farandole.process.messages import send_message
from farandole.process.parent_death import signal_on_parent_death
from farandole.process.signals import on_sigterm
from farandole.training import heartbeat
from farandole.training.stop import Stopped, StopSwitch


def main() -> None:
    """Be one rank, from start to end."""
    signal_on_parent_death(signal.SIGKILL)  # no orphan goes on training
    arguments = _arguments()
    switch = StopSwitch()
    on_sigterm(switch.ask)
    heartbeat.start(_rank())
    _show_where_it_stands()
    try:
        _enter_environment(arguments.environment)
        # Only now: torch and NumPy read their variables when they are imported.
        from farandole.spec import parse_job
        from farandole.training.rank import run_rank

        job = parse_job(json.loads(Path(arguments.job).read_text(encoding="utf-8")), place=arguments.job)
        run_rank(job, Path(arguments.directory), arguments.register, switch)
    except Stopped as stopped:
        send_message({"event": "stopped", "step": stopped.step})
    except BaseException as error:  # noqa: BLE001 - it is reported, and the process ends
        _report_failure(error)
        _leave(1)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End at once, in both cases: Horovod's background thread may wait for ranks that are gone, and taking a Python
    with torch and MLflow in it apart takes seconds in which no thread of it gives a sign of life."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _enter_environment(path: str | None) -> None:
    """Take over the variables of the launcher. They come in a file that only this user may read, because Horovod's
    launcher would write them on the workers' command lines, where everybody on the machine sees them."""
    if path is not None:
        for name, value in json.loads(Path(path).read_text(encoding="utf-8")).items():
            os.environ.setdefault(name, value)


def _show_where_it_stands() -> None:
    """Python's stacks go to the log when the process crashes, and when the launcher asks for them by SIGUSR1."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def _rank() -> int:
    return int(os.environ.get("HOROVOD_RANK", "0"))


def _report_failure(error: BaseException) -> None:
    """Say what happened, truthfully: a rank that lost a peer is a victim, not the cause."""
    failed_s = time.time()  # before what follows takes its time
    import torch

    from farandole.training.world import PeerLostError

    place = heartbeat.current_position()
    if isinstance(error, PeerLostError):
        failure: dict[str, str | None] = {"kind": "PeerLost", "message": "another rank ended"}
    elif isinstance(error, FarandoleError):
        failure = {"kind": type(error).__name__, "message": str(error), "detail": error.detail}
    elif isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        message = "train.global_batch_size: a worker ran out of memory; use a smaller batch or model"
        failure = {"kind": TrainingError.__name__, "message": message, "detail": traceback.format_exc()}
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename or 'the disk'}: {error.strerror}; free some space or mend the permissions"
        failure = {"kind": TrainingError.__name__, "message": message, "detail": traceback.format_exc()}
    else:
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} in {where.filename}, line {where.lineno}"
        failure = {"kind": TrainingError.__name__, "message": message, "detail": traceback.format_exc()}
    send_message(
        {
            "event": "failed",
            "rank": _rank(),
            "time_s": failed_s,
            "step": place[0] if place else None,
            **failure,
        }
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farandole.training.worker")
    parser.add_argument("--job", required=True, help="the serialized spec")
    parser.add_argument("--environment", help="a JSON file with environment variables, secrets among them")
    parser.add_argument("--directory", required=True, help="where the job keeps checkpoints and logs")
    parser.add_argument("--register", action="store_true", help="add a model version")
    return parser.parse_args()


if __name__ == "__main__":
    main()
